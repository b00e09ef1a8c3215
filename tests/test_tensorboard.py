"""What TensorBoard's own reader finds of a training, against SciPy, NumPy and the model."""

import io
import math
from pathlib import Path

import keras
import numpy as np
import PIL.Image
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

import vae_tf
from vae_tf import summaries

pytest.importorskip("tensorboard")

EPOCHS, SAMPLES = 3, 10


class Weights(keras.callbacks.Callback):
    """Keeps the weights after every epoch."""

    def on_train_begin(self, logs=None):
        self.found = []

    def on_epoch_end(self, epoch, logs=None):
        self.found.append(self.model.get_weights())


def fit(digits, *callbacks, epochs=EPOCHS, **kwargs):
    """Returns a model that was trained, and Keras's history."""
    vae = vae_tf.VAE(seed=1)
    vae.compile(keras.optimizers.Adam(5e-3), **kwargs)
    history = vae.fit(
        digits.train.images,
        batch_size=64,
        epochs=epochs,
        validation_data=(digits.validation.images,),
        callbacks=list(callbacks),
        verbose=0,
    )
    return vae, history.history


def read(folder):
    """Returns what is written in a folder, by tag: steps, and values as TensorFlow stores them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    found.Reload()
    return {
        tag: {each.step: tf.make_ndarray(each.tensor_proto) for each in found.Tensors(tag)}
        for tag in found.Tags()["tensors"]
    }, {tag: found.SummaryMetadata(tag).plugin_data.plugin_name for tag in found.Tags()["tensors"]}


def decoded(value):
    """Returns the one PNG of an image summary as an array; its size stands before it."""
    width, height, *pngs = value.tolist()
    (png,) = pngs
    image = np.asarray(PIL.Image.open(io.BytesIO(png)))
    assert image.shape == (int(height), int(width))
    return image


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """A training with both callbacks: model, history, weights by epoch, and what each run holds."""
    folder, weights = tmp_path_factory.mktemp("logs"), Weights()
    vae, history = fit(
        digits,
        keras.callbacks.TensorBoard(folder, histogram_freq=1),
        vae_tf.VAESummaries(folder, digits.validation.images, SAMPLES, seed=3),
        weights,
    )
    runs = {path.name: read(path) for path in sorted(Path(folder).iterdir())}
    assert set(runs) == {"train", "validation", "model"}
    return vae, history, weights.found, runs


def test_keras_writes_the_loss_and_both_terms(trained):
    _, history, _, runs = trained
    for run, prefix in {"train": "", "validation": "val_"}.items():
        values, plugins = runs[run]
        for name in ("loss", "log_likelihood", "kl"):
            assert plugins[f"epoch_{name}"] == "scalars"
            found = [values[f"epoch_{name}"][epoch] for epoch in range(EPOCHS)]
            np.testing.assert_allclose(found, history[prefix + name], rtol=1e-6)
        terms = [values[f"epoch_{name}"][EPOCHS - 1] for name in ("kl", "log_likelihood", "loss")]
        assert terms[0] - terms[1] == pytest.approx(terms[2], rel=1e-5)
    assert any(plugin == "histograms" for plugin in runs["train"][1].values())  # of the weights


def test_ours_writes_nothing_that_keras_writes(trained):
    *_, runs = trained
    kinds = {"kl_per_dimension": "histograms", "samples": "images"}
    kinds |= {f"kl_per_dimension/{dimension}": "scalars" for dimension in range(8)}
    values, plugins = runs["model"]
    assert plugins == kinds
    for each in values.values():
        assert sorted(each) == list(range(EPOCHS))


def kl_per_dimension(weights, images):
    """Returns the means over images of the KL of each latent, by NumPy and SciPy."""
    kernel, bias, last, last_bias = (np.float64(each) for each in weights[:4])
    hidden = np.tanh(images.reshape(len(images), -1) @ kernel + bias)
    loc, raw = np.split(hidden @ last + last_bias, 2, axis=1)
    scale = np.logaddexp(0, raw) + 1e-6
    # E_q[log q] − E_q[log p] of normals: minus the entropy, and the cross-entropy of N(0, 1).
    cross = 0.5 * math.log(2 * math.pi) + 0.5 * (loc**2 + scale**2)
    return (cross - scipy.stats.norm(loc, scale).entropy()).mean(axis=0)


def test_the_kl_of_each_dimension(trained, digits):
    _, history, weights, runs = trained
    values, _ = runs["model"]
    for epoch in range(EPOCHS):
        expected = kl_per_dimension(weights[epoch], digits.validation.images)
        found = np.array([values[f"kl_per_dimension/{latent}"][epoch] for latent in range(8)])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        assert found.sum() == pytest.approx(history["val_kl"][epoch], rel=1e-5)
        left, right, counts = values["kl_per_dimension"][epoch].T
        assert counts.sum() == 8
        assert left[0] == pytest.approx(found.min())
        assert right[-1] == pytest.approx(found.max())
        for low, high, count in list(zip(left, right, counts, strict=True))[1:-1]:
            assert ((found > low + 1e-6) & (found < high - 1e-6)).sum() <= count


def test_the_grid_of_samples(trained):
    vae, _, weights, runs = trained
    values, _ = runs["model"]
    other = vae_tf.VAE()
    images = []
    for epoch in range(EPOCHS):
        image = decoded(values["samples"][epoch])
        other.set_weights(weights[epoch])
        samples = other.sample(SAMPLES, seed=3).numpy()
        assert image.dtype == np.uint8
        assert image.shape == (3 * 14 + 2 * 2, 4 * 14 + 3 * 2)  # ten of twelve places
        expected = np.full_like(image, 255)
        for number, sample in enumerate(samples):
            top, left = 16 * (number // 4), 16 * (number % 4)
            for row, column in zip(*np.nonzero(sample), strict=True):
                expected[top + row, left + column] = 0  # ink is dark
        np.testing.assert_array_equal(image, expected)
        images.append(image)
    assert (images[0] != images[-1]).any()
    np.testing.assert_array_equal(vae.get_weights()[0], other.get_weights()[0])


def test_means_are_grey(digits, tmp_path):
    callback = vae_tf.VAESummaries(tmp_path, num_samples=1, mean=True)
    vae, _ = fit(digits, callback, epochs=1)
    values, plugins = read(tmp_path / "model")
    assert set(plugins) == {"samples"}  # no images were given, so no KL
    (latents,) = vae.prior().sample(1, seed=[0, 0]).numpy()
    arrays = [np.float64(each) for each in vae.get_weights()[4:8]]
    logits = np.tanh(latents @ arrays[0] + arrays[1]) @ arrays[2] + arrays[3]
    expected = 255 * (1 - scipy.special.expit(logits).reshape(14, 14))
    np.testing.assert_allclose(decoded(values["samples"][0]), expected, atol=0.51)


def test_training_is_the_same_with_it_as_without(trained, digits):
    vae, history, *_ = trained
    other, others = fit(digits)
    assert history == others
    for found, expected in zip(vae.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_it_hears_epochs_only():
    kinds = ("train_batch", "test_batch", "predict_batch", "batch")
    for hook in [f"on_{kind}_{side}" for kind in kinds for side in ("begin", "end")]:
        assert getattr(vae_tf.VAESummaries, hook) is getattr(keras.callbacks.Callback, hook)


@pytest.mark.slow
def test_keras_asking_for_some_steps_only_leaves_ours_whole(digits, tmp_path):
    """Keras's callback sets that for all who write, while it counts batches."""
    keras_callback = keras.callbacks.TensorBoard(tmp_path, update_freq=1_000, write_graph=False)
    callback = vae_tf.VAESummaries(tmp_path, digits.validation.images)
    fit(digits, keras_callback, callback, epochs=2)
    values, _ = read(tmp_path / "model")
    assert {tuple(sorted(each)) for each in values.values()} == {(0, 1)}


def test_a_training_that_diverges_ends_as_without_it(digits, tmp_path):
    class Break(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                weights = self.model.get_weights()
                self.model.set_weights([np.full_like(weight, np.nan) for weight in weights])

    images = digits.validation.images
    callbacks = keras.callbacks.TerminateOnNaN(), Break(), vae_tf.VAESummaries(tmp_path, images)
    _, history = fit(digits, *callbacks)
    assert np.isnan(history["loss"][-1])
    values, _ = read(tmp_path / "model")
    assert {tuple(each) for each in values.values()} == {(0,)}  # what was good is written


def test_what_was_written_is_there_if_training_fails(digits, tmp_path):
    class Fail(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(digits, vae_tf.VAESummaries(tmp_path, num_samples=2), Fail())
    assert list(read(tmp_path / "model")[0]["samples"]) == [0]


def test_a_grid_of_any_number_and_shape():
    rng = np.random.default_rng(0)
    for count, rows, columns in ((1, 1, 1), (2, 1, 2), (5, 2, 3), (9, 3, 3)):
        images = rng.random((count, 5, 3))
        image = summaries.grid(images)
        assert image.shape == (7 * rows - 2, 5 * columns - 2)
        for number in range(rows * columns):
            top, left = 7 * (number // columns), 5 * (number % columns)
            found = image[top : top + 5, left : left + 3]
            expected = 255 * (1 - images[number]) if number < count else np.full((5, 3), 255)
            np.testing.assert_allclose(found, expected, atol=0.51)
    assert summaries.grid(np.array([[[-1.0, 2.0]]])).tolist() == [[255, 0]]


def test_bad_arguments_are_refused():
    for error, message, arguments in (
        (TypeError, "log_dir must be .*received 3", {"log_dir": 3}),
        (ValueError, "num_samples must be .*received 0", {"num_samples": 0}),
        (TypeError, "mean must be True or False", {"mean": 1}),
        (ValueError, "seed must be .*received -1", {"seed": -1}),
    ):
        with pytest.raises(error, match=message):
            vae_tf.VAESummaries(**{"log_dir": "logs"} | arguments)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(summaries.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "vae_tf\[tensorboard\]"'):
        vae_tf.VAESummaries("logs")


def test_models_that_do_not_fit_are_refused_before_training(tmp_path, images):
    cases = (
        (vae_tf.MixtureVAE(components=2), images, "needs a posterior and a prior.*MixtureSame"),
        (vae_tf.VAE(), images[:, 1:], "images must be"),
        (vae_tf.VAE(), images * 0.5, "0 and 1"),
    )
    for vae, given, message in cases:
        vae.compile(run_eagerly=True)  # so that nothing is traced before
        before = vae.get_weights()
        with pytest.raises(ValueError, match=message):
            vae.fit(images, callbacks=[vae_tf.VAESummaries(tmp_path, given)], verbose=0)
        for found, expected in zip(vae.get_weights(), before, strict=True):
            np.testing.assert_array_equal(found, expected)
    other = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    other.compile("sgd", "mse")
    with pytest.raises(TypeError, match="the model must be a VAE; received Sequential"):
        other.fit(np.ones((4, 2)), np.ones(4), callbacks=[vae_tf.VAESummaries(tmp_path)], verbose=0)
    assert not list(tmp_path.iterdir())


def test_a_learned_prior_gives_samples(tmp_path, images):
    vae = vae_tf.MixtureVAE(components=2)
    vae.compile(run_eagerly=True)
    vae.fit(images, callbacks=[vae_tf.VAESummaries(tmp_path, num_samples=4)], verbose=0)
    image = decoded(read(tmp_path / "model")[0]["samples"][0])
    np.testing.assert_array_equal(image, summaries.grid(vae.sample(4)))


@pytest.mark.slow
def test_kerass_callback_leaves_batches_in_blocks_where_it_writes_by_epoch(digits, tmp_path):
    """It then hears one batch of each block, and writes what it writes of single batches."""
    heard, found = [], []
    for steps in ("auto", 1):
        folder = tmp_path / str(steps)
        vae = vae_tf.VAE(latent_dim=2, hidden_units=8)
        vae.compile(keras.optimizers.SGD(0.01), steps_per_execution=steps)
        callback = keras.callbacks.TensorBoard(folder, write_graph=False)
        vae.fit(digits.train.images, epochs=2, verbose=0, callbacks=[callback])
        heard.append(callback._global_train_batch)
        found.append(read(folder / "train")[0])
    assert heard == [2, 40]  # epochs of 20 batches
    assert found[0].keys() == found[1].keys()
    for tag, values in found[0].items():
        for step, value in values.items():
            assert value == pytest.approx(found[1][tag][step], rel=1e-6)
