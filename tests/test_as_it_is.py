"""What is trained and evaluated is the model as it is, whatever is set, changed or beside it."""

import concurrent.futures
import inspect
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import vae_tf
from vae_tf import VAE, DivergenceError, Recipe, train
from vae_tf.analysis import classifier, sweeps
from vae_tf.engine import blocks
from vae_tf.engine.blocks import treats_images_apart

SMALL = {"latent_dim": 3, "hidden_units": 6}
RECIPE = Recipe(updates=8, batch_size=32, learning_rate=0.01, evaluate_every=4)


@pytest.fixture(autouse=True)
def tests_in_blocks(monkeypatch):
    """Has few batches tested in blocks too."""
    monkeypatch.setattr(blocks, "FEW", 0)


def slow(*each):
    """Returns a case of a parametrized test that `make test-slow` runs."""
    return pytest.param(*each, marks=pytest.mark.slow)


def fitted(images, vae=None, optimizer=None, **fit):
    vae = VAE(**SMALL) if vae is None else vae
    vae.compile(optimizer or keras.optimizers.SGD(0.02))
    return vae, vae.fit(images, **({"batch_size": 16, "verbose": 0} | fit))


def assert_same_weights(first, second, **tolerance):
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, **(tolerance or {"rtol": 2e-4, "atol": 2e-5}))


def assert_same_logs(history, expected):
    assert sorted(history.history) == sorted(expected.history)
    for name, values in expected.history.items():
        np.testing.assert_allclose(history.history[name], values, rtol=1e-4)


def in_a_new_python(script, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


# Changes after a first fit, without another `compile`; each has an effect on the bound.
CHANGES = {
    "activation": lambda vae: setattr(vae.decoder.layers[0], "activation", keras.activations.relu),
    "decoder": lambda vae: setattr(
        vae,
        "decoder",
        keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(196), keras.layers.Reshape((14, 14))]
        ),
    ),
    "method": lambda vae: setattr(
        vae, "likelihood", lambda latents: VAE.likelihood(vae, 2 * latents)
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_model_is_tested_and_evaluated_as_it_is(images, change):
    vae, _ = fitted(images)
    vae.evaluate(images, verbose=0)
    before = vae_tf.evaluate(vae, images, 5).log_likelihood
    CHANGES[change](vae)
    found = vae.evaluate(images, batch_size=64, verbose=0, return_dict=True)
    vae.reset_metrics()
    expected = {name: float(log) for name, log in vae.test_step(images).items()}  # eagerly
    assert found == pytest.approx(expected, rel=1e-5)
    after = vae_tf.evaluate(vae, images, 5).log_likelihood
    assert np.abs(after - before).min() > 1e-3


@pytest.mark.parametrize("change", ["activation", slow("method")])  # the decoder's optimizer is new
def test_a_changed_model_is_trained_as_it_is(images, change):
    vae, _ = fitted(images)
    CHANGES[change](vae)
    other = VAE(**SMALL)
    other.set_weights(vae.get_weights())
    CHANGES[change](other)
    other.compile(keras.optimizers.SGD(0.02), run_eagerly=True)
    vae.optimizer.iterations.assign(0)
    vae.fit(images, batch_size=16, verbose=0, shuffle=False)
    other.fit(images, batch_size=16, verbose=0, shuffle=False)
    assert_same_weights(vae, other)


@pytest.mark.slow
def test_layers_frozen_between_fits_stay(images):
    vae, _ = fitted(images)
    vae.encoder.layers[1].trainable = False
    frozen, rest = vae.encoder.layers[1].get_weights(), vae.decoder.get_weights()
    vae.fit(images, batch_size=16, verbose=0)
    for old, new in zip(frozen, vae.encoder.layers[1].get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert all((a != b).any() for a, b in zip(rest, vae.decoder.get_weights(), strict=True))


def test_a_layer_that_was_replaced_is_no_part(images):
    class Deeper(VAE):
        def __init__(self, depth, **kwargs):  # required, and not in `get_config`
            super().__init__(**kwargs)
            dense = [keras.layers.Dense(5, "relu") for _ in range(depth)]
            last = keras.layers.Dense(2 * self.latent_dim)
            flat = [keras.Input((14, 14)), keras.layers.Flatten()]
            self.encoder = keras.Sequential([*flat, *dense, last])

    vae = Deeper(2, **SMALL)
    assert vae.count_params() == vae.encoder.count_params() + vae.decoder.count_params()
    before = vae.get_weights()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as "gradients do not exist"
        vae.compile(keras.optimizers.SGD(0.02), run_eagerly=True)
        vae.train_on_batch(images)
    assert all((a != b).any() for a, b in zip(before, vae.get_weights(), strict=True))
    vae.kept = vae.encoder  # also held elsewhere, so it is a part still
    vae.encoder = keras.Sequential([*vae.encoder.layers])
    assert vae.kept in vae.layers


@pytest.mark.slow
def test_one_optimizer_in_two_models_is_keras_error(images):
    vae, _ = fitted(images)
    other = VAE(**SMALL)
    other.compile(vae.optimizer)
    with pytest.raises(ValueError, match="Unknown variable"):
        other.fit(images, verbose=0)
    with pytest.raises(ValueError, match="Unknown variable"):
        keras.Model.fit(other, images, verbose=0)


@pytest.mark.parametrize("optimizer", [keras.optimizers.SGD, keras.optimizers.Adam])
@pytest.mark.parametrize("how", ["eager", slow("blocks"), slow("uncompiled")])
def test_scaled_losses_give_the_weights_of_others(images, optimizer, how):
    found = []
    for scaled in (
        optimizer(0.02),
        optimizer(0.02, loss_scale_factor=256.0),
        keras.optimizers.LossScaleOptimizer(optimizer(0.02), 1024.0, dynamic_growth_steps=2),
    ):
        vae = VAE(**SMALL)
        vae.compile(scaled, jit_compile=how == "blocks", run_eagerly=how == "eager")
        vae.fit(images, batch_size=16, verbose=0)
        found.append(vae)
    assert_same_weights(found[1], found[0], rtol=1e-4, atol=1e-6)
    assert_same_weights(found[2], found[0], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_accumulated_batches_have_images_noise_and_warm_up_of_their_own(images, monkeypatch):
    taken, take = [], vae_tf.engine.batches.Batches.take
    monkeypatch.setattr(
        vae_tf.engine.batches.Batches,
        "take",
        lambda self, count: taken.append(found := take(self, count)) or found,
    )
    vae = VAE(**SMALL, beta=2.0, kl_warmup=16)

    def still():
        return keras.optimizers.SGD(0.0, gradient_accumulation_steps=4)

    _, history = fitted(images, vae, still(), steps_per_epoch=5, epochs=4, batch_size=16)
    np.testing.assert_array_equal(np.bincount(np.concatenate(taken)), np.full(64, 5))
    logs = history.updates
    share = (logs["loss"] + logs["log_likelihood"]) / logs["kl"]
    np.testing.assert_allclose(share, np.minimum(np.arange(20) / 8, 2), atol=1e-3)
    one = fitted(images, VAE(**SMALL), still(), epochs=8, batch_size=64)[1].updates
    assert len(np.unique(one["log_likelihood"])) == 8  # of the same images by the same weights
    assert np.ptp(one["kl"]) < 1e-4


NUMBERS = {
    name: np.float32(value) if isinstance(value, float) else np.int64(value)
    for name, value in vars(RECIPE).items()
    if value is not None
}


def test_numbers_are_plain_from_the_moment_they_are_checked(images):
    recipe = Recipe(**NUMBERS)
    assert {type(value) for value in vars(recipe).values()} <= {int, float, type(None)}
    json.dumps(vars(recipe))
    vae = VAE(np.int64(3), np.int32(6), np.array([14, 14]), np.float32(0.5), np.int64(2))
    json.dumps(vae.get_config())
    vae.compile(steps_per_execution=np.int64(2))
    vae.fit(
        images, steps_per_epoch=np.int64(3), epochs=np.int32(2), batch_size=np.int16(16), verbose=0
    )
    assert int(vae.optimizer.iterations) == 6


@pytest.mark.slow
def test_numbers_of_folders_and_results_are_plain(images, digits, tmp_path):
    run = {"verbose": 0, "directory": tmp_path / "run"}
    train(digits, Recipe(**NUMBERS), seed=np.int64(3), **run)
    for change in ({"learning_rate": np.float32(0.3)}, {"beta": np.float32(0.5)}):
        with pytest.raises(ValueError, match="holds another run"):
            train(digits, Recipe(**NUMBERS | change), seed=3, **run)
    (found,) = sweeps.train_all(digits, [VAE], RECIPE, [np.int64(1)], num_samples=np.int32(3))[0]
    json.dumps(found.summary())
    json.dumps(vae_tf.evaluate(found.vae, images, np.int64(3), np.int16(2)).summary())


@pytest.mark.slow
def test_fitting_a_pipeline_again_traces_nothing(images, monkeypatch):
    traces, step = [], VAE.train_step
    monkeypatch.setattr(VAE, "train_step", lambda self, data: traces.append(1) or step(self, data))
    pipeline = tf.data.Dataset.from_tensor_slices(images).batch(16)
    vae, _ = fitted(pipeline, batch_size=None)
    once = len(traces)
    for _ in range(3):
        vae.fit(pipeline, verbose=0)
        vae.train_on_batch(images[:16])
    assert len(traces) <= once + 1  # `train_on_batch` brings weights, which are None


@pytest.mark.parametrize("after", ["nothing", "a call", "a fit", "a load"])
def test_export_works_without_a_signature(images, tmp_path, after):
    vae = VAE(**SMALL)
    if after == "a call":
        vae(images)
    elif after == "a fit":
        fitted(images, vae)
    elif after == "a load":
        vae.save(tmp_path / "vae.keras")
        vae = vae_tf.load_model(tmp_path / "vae.keras")
    vae.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    found = exported.serve(tf.constant(images, tf.float32))
    np.testing.assert_allclose(found, vae(images), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "tolerance"),
    [
        ("float64", 1e-6),
        ("float16", 0.5),
        ("mixed_float16", 0.05),
        ("bfloat16", 3),
        ("mixed_bfloat16", 0.3),
    ],
)
def test_policies_train_and_give_bounds_within_their_precision(images, policy, tolerance):
    keras.config.set_dtype_policy(policy)
    try:
        vae = VAE(**SMALL)
    finally:
        keras.config.set_dtype_policy("float32")
    assert vae.compute_dtype == policy.removeprefix("mixed_")
    # Adam's 1e-7 is 0 in float16, and Keras has it divide by that; steps of SGD are large enough.
    _, history = fitted(images, vae, keras.optimizers.SGD(0.02), epochs=12)
    assert history.history["loss"][-1] < history.history["loss"][0] - 1
    exact = VAE(**SMALL)
    exact.set_weights([np.asarray(weight, np.float32) for weight in vae.get_weights()])
    found, expected = (vae_tf.evaluate(each, images, 20) for each in (vae, exact))
    np.testing.assert_allclose(found.elbo, expected.elbo, atol=tolerance)
    np.testing.assert_allclose(
        found.marginal_log_likelihood, expected.marginal_log_likelihood, atol=tolerance
    )
    assert found.elbo.mean() != expected.elbo.mean() or policy == "float64"


@pytest.mark.slow
def test_no_setting_of_keras_changes_a_result(images, tmp_path):
    settings = {"image_data_format": "channels_first", "floatx": "float64", "epsilon": 1e-3}
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "tensorflow"} | settings))
    script = """
import sys, keras, numpy as np, vae_tf
from vae_tf.analysis import classifier
assert keras.config.image_data_format() == "channels_first" and keras.config.floatx() == "float64"
images = np.load(sys.argv[1])
found = vae_tf.evaluate(vae_tf.load_pretrained("full"), images, 5)
np.savez(sys.argv[2], elbo=found.elbo, bound=found.marginal_log_likelihood,
         classes=classifier.load_classifier()(images).probabilities)
"""
    np.save(tmp_path / "images.npy", images)
    paths = tmp_path / "images.npy", tmp_path / "found.npz"
    result = in_a_new_python(script, *paths, KERAS_HOME=str(tmp_path))
    assert not result.returncode, result.stderr
    found, expected = np.load(paths[1]), vae_tf.evaluate(vae_tf.load_pretrained("full"), images, 5)
    np.testing.assert_allclose(found["elbo"], expected.elbo, rtol=1e-5)
    np.testing.assert_allclose(found["bound"], expected.marginal_log_likelihood, rtol=1e-5)
    classes = classifier.load_classifier()(images).probabilities
    np.testing.assert_allclose(found["classes"], classes, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("backend", ["jax", slow("numpy")])
def test_another_backend_is_refused_at_import(backend):
    result = in_a_new_python("import vae_tf", KERAS_BACKEND=backend)
    assert result.returncode
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: vae_tf needs Keras's backend to be tensorflow; received")
    assert "Set KERAS_BACKEND" in last


def diverge(digits):
    train(digits, Recipe(**vars(RECIPE) | {"learning_rate": 1e30, "warmup": 0.0}), verbose=0)


def assert_same_divergence(found, expected):
    assert type(found) is DivergenceError
    assert (str(found), found.update) == (str(expected), expected.update)
    assert_same_weights(found.vae, expected.vae, rtol=0, atol=0)


def test_divergence_can_be_pickled(images):
    error = DivergenceError(3, np.inf, 100.0)
    error.vae = VAE(**SMALL, seed=5)
    assert_same_divergence(pickle.loads(pickle.dumps(error)), error)


@pytest.mark.slow
def test_divergence_arrives_whole_from_another_process(digits):
    with pytest.raises(DivergenceError) as error:
        diverge(digits)
    assert_same_divergence(pickle.loads(pickle.dumps(error.value)), error.value)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        other = pool.submit(diverge, digits).exception()
    assert_same_divergence(other, error.value)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float16", "int32"])
def test_weights_in_a_pipeline_may_be_of_any_type(images, dtype):
    weights = (np.arange(64) % 3).astype(dtype)
    elements = images, np.zeros(64), weights
    pipeline = tf.data.Dataset.from_tensor_slices(elements).batch(16)
    vae, history = fitted(pipeline, batch_size=None, validation_data=pipeline)
    other, expected = fitted(
        images, shuffle=False, sample_weight=weights, validation_data=(images, None, weights)
    )
    assert_same_weights(vae, other)
    assert_same_logs(history, expected)


def test_what_xla_refuses_tensorflow_runs(images):
    class Calling(VAE):
        def elbo_terms(self, images, seed, num_samples=1):
            found = super().elbo_terms(images, seed, num_samples)
            doubled = tf.numpy_function(lambda kl: 2 * kl, [found.kl], tf.float32)
            return found._replace(kl=found.kl + tf.stop_gradient(tf.ensure_shape(doubled, [None])))

    vae, history = fitted(images, Calling(**SMALL), shuffle=False)
    other = Calling(**SMALL)
    other.compile(keras.optimizers.SGD(0.02), run_eagerly=True)
    expected = other.fit(images, batch_size=16, shuffle=False, verbose=0)
    assert_same_weights(vae, other)
    assert_same_logs(history, expected)


def test_what_cannot_be_traced_goes_keras_way(images, caplog):
    class Looking(VAE):
        def train_step(self, data):
            if tf.inside_function() and data.shape[0] is None:
                raise TypeError("batches of unknown size are not for me")
            return super().train_step(data)

    with caplog.at_level("INFO", "vae_tf"):
        vae, history = fitted(images, Looking(**SMALL))
    assert "not for me" in caplog.text
    other, expected = fitted(images)
    assert_same_weights(vae, other)
    for name, values in expected.updates.items():
        np.testing.assert_allclose(history.updates[name], values, rtol=1e-4)


@pytest.mark.slow
def test_checks_of_numerics_go_keras_way(images):
    expected, _ = fitted(images, shuffle=False)
    pipeline = tf.data.Dataset.from_tensor_slices(images).batch(16)
    early = VAE(**SMALL)
    early.compile(keras.optimizers.SGD(0.02))
    tf.debugging.enable_check_numerics()
    try:
        early.fit(images, batch_size=16, shuffle=False, verbose=0)  # compiled before
        found = [early, fitted(images, shuffle=False)[0], fitted(pipeline, batch_size=None)[0]]
        found[1].set_weights([np.full_like(weight, np.nan) for weight in found[1].get_weights()])
        with pytest.raises(tf.errors.InvalidArgumentError, match="NaN"):
            found[1].fit(images, batch_size=16, verbose=0)
    finally:
        tf.debugging.disable_check_numerics()
    for vae in (found[0], found[2]):
        assert_same_weights(vae, expected)


@pytest.mark.slow
def test_losses_that_layers_add_count_as_in_keras(images):
    def made():
        keras.utils.set_random_seed(1)
        vae = VAE(**SMALL)
        dense = keras.layers.Dense(6, kernel_regularizer="l2", activity_regularizer="l1")
        flat = [keras.Input((14, 14)), keras.layers.Flatten()]
        vae.encoder = keras.Sequential([*flat, dense, keras.layers.Dense(6)])
        return vae

    vae = made()
    vae.compile(keras.optimizers.SGD(0.0))
    found = vae.evaluate(images, batch_size=64, verbose=0, return_dict=True)
    kernel, bias = (np.asarray(each, np.float64) for each in vae.encoder.layers[1].variables)
    outputs = images.reshape(64, -1) @ kernel + bias
    added = 0.01 * (kernel**2).sum() + 0.01 * np.abs(outputs).sum() / 64
    assert found["loss"] == pytest.approx(found["kl"] - found["log_likelihood"] + added, rel=1e-5)
    logs = vae.fit(images, batch_size=64, verbose=0).history
    total = logs["kl"][0] - logs["log_likelihood"][0] + added
    assert logs["loss"][0] == pytest.approx(total, rel=1e-5)
    assert not treats_images_apart(vae)
    assert treats_images_apart(VAE())


@pytest.mark.slow
def test_fitting_inside_a_fit(images):
    other, tests = VAE(**SMALL), []
    other.compile(keras.optimizers.SGD(0.02))

    class Inside(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            other.fit(images, batch_size=16, verbose=0)
            self.model.fit(images[:32], batch_size=16, verbose=0)
            self.model.train_on_batch(images[:16])
            tests.append(self.model.evaluate(images, verbose=0))
            tests.append(self.model.test_on_batch(images))

    vae, history = fitted(images, epochs=3, callbacks=[Inside()])
    assert len(history.updates["loss"]) == 12
    assert len(history.history["loss"]) == 3
    assert int(vae.optimizer.iterations) == 3 * (4 + 2 + 1)
    assert int(other.optimizer.iterations) == 12
    assert len(vae.fit(images, verbose=0).updates["loss"]) == 2


METHODS = [
    "fit",
    "evaluate",
    "predict",
    "train_on_batch",
    "test_on_batch",
    "predict_on_batch",
    "export",
]


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_called_as_keras(name):
    assert inspect.signature(getattr(VAE, name)) == inspect.signature(getattr(keras.Model, name))


def test_tests_within_a_fit_are_of_any_length_and_of_the_model_as_it_then_is(images):
    vae, found = VAE(latent_dim=3, hidden_units=6), []
    vae.compile("sgd")
    how = {"batch_size": 16, "verbose": 0}

    def test(epoch, logs):
        for count in (50, 60, 50):  # with one window for all
            found.append(vae.evaluate(images[:count], callbacks=[hears], **how))
        vae.num_samples, vae.objective = 50, "iwae"
        found.append(vae.evaluate(images[:50], callbacks=[hears], **how))

    hears = keras.callbacks.LambdaCallback(on_test_batch_end=lambda batch, logs: None)
    after = keras.callbacks.LambdaCallback(on_epoch_end=test)
    vae.fit(images, verbose=0, callbacks=[after])
    assert found[0] == found[2] != found[1]
    assert found[3] == pytest.approx(vae.evaluate(images[:50], **how))
    assert found[3][0] < found[0][0] - 0.1  # the bound of fifty draws is a better one


def test_few_batches_are_tested_without_tracing_to_the_same_numbers(images, monkeypatch):
    traced, vae = [], VAE(latent_dim=3, hidden_units=6)
    function = blocks.CompiledFunction
    monkeypatch.setattr(
        blocks, "CompiledFunction", lambda *each: traced.append(each) or function(*each)
    )
    vae.compile("sgd")
    monkeypatch.setattr(blocks, "FEW", 2)
    few = vae.evaluate(images[:60], batch_size=32, verbose=0)  # the second batch is short
    assert not traced
    monkeypatch.setattr(blocks, "FEW", 1)
    np.testing.assert_allclose(few, vae.evaluate(images[:60], verbose=0), rtol=1e-5)
    assert len(traced) == 2  # one batch, and a block of them


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("arrays", "unset"),
        ("a pipeline", "forced"),
        pytest.param("arrays", "forced", marks=pytest.mark.slow),
        pytest.param("a pipeline", "unset", marks=pytest.mark.slow),
    ],
)
def test_keras_functions_are_made_anew_when_asked(images, kind, how):
    vae = VAE(latent_dim=3, hidden_units=6)
    vae.compile("sgd", jit_compile=False)
    data = {"x": images} if kind == "arrays" else {"x": tf.data.Dataset.from_tensors(images)}
    vae.fit(**data, verbose=0)
    kept = dict(vae.keras_functions)
    vae.fit(**data, verbose=0)
    assert vae.keras_functions == kept  # nothing was made anew
    vae.encoder.trainable = False
    before = vae.encoder.get_weights()
    if how == "forced":
        vae.make_train_function(force=True)
    else:
        vae.train_function = None
    vae.fit(**data, verbose=0)
    for old, new in zip(before, vae.encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


TARGETS = {
    "float64": np.eye(3)[np.arange(64) % 3],
    "float16": np.linspace(0, 1, 64, dtype=np.float16),
    "a tensor": tf.linspace(tf.zeros([], tf.float64), 1.0, 64),
    "ints": np.arange(64),
    "a list of numbers": np.linspace(0, 1, 64).tolist(),
    "two": [np.arange(64), np.linspace(0, 1, 64)],
    "named": {"a": np.arange(64), "b": np.linspace(0, 1, 64)},
}


@pytest.mark.parametrize(
    "y",
    [
        pytest.param(y, marks=[pytest.mark.slow] * (name not in ("float64", "two")), id=name)
        for name, y in TARGETS.items()
    ],
)
@pytest.mark.parametrize(
    "how",
    [pytest.param({}, marks=pytest.mark.slow), {"jit_compile": False}],
    ids=["blocks", "batches"],
)
def test_targets_are_those_that_keras_gives(images, y, how):
    seen = []

    class Sees(VAE):
        def train_step(self, data):
            _, y, _ = keras.utils.unpack_x_y_sample_weight(data)
            seen.append(tf.nest.map_structure(lambda each: f"{each.dtype} {each.shape[1:]}", y))
            return super().train_step(data)

    vae = Sees(latent_dim=2, hidden_units=4)
    vae.compile("sgd", **how)
    vae.fit(images, y, batch_size=16, verbose=0)
    if isinstance(y, list) and np.ndim(y) == 1:  # Keras takes no list of numbers
        y = np.array(y)
    keras.Model.fit(vae, images, y, batch_size=16, verbose=0)
    assert seen[0] == seen[-1]


def test_arguments_may_stand_in_keras_order(images):
    vae = VAE(**SMALL)
    vae.compile("sgd", None, None, None, None, False, 2, True)
    assert (vae.steps_per_execution, vae.jit_compile) == (2, True)
    history = vae.fit(images, None, 16, 2, 0)
    assert len(history.history["loss"]) == 2
    assert len(vae.evaluate(images, None, 16, 0)) == 3


def test_a_seed_that_is_set_is_that_of_noise_and_order(images):
    vae = VAE(**SMALL, seed=4)
    vae.set_weights(VAE(**SMALL).get_weights())
    vae.seed = 0
    assert_same_weights(fitted(images, vae)[0], fitted(images)[0], rtol=0, atol=0)
