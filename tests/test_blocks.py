"""Compiled blocks of updates against Keras's own, update by update."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from vae_tf import VAE, DivergenceError
from vae_tf.engine import batches, blocks


@pytest.fixture(autouse=True)
def tests_in_blocks(monkeypatch):
    """Has few batches tested in blocks too."""
    monkeypatch.setattr(blocks, "FEW", 0)


def weights(vae):
    return [variable.numpy() for variable in (*vae.trainable_variables, *vae.optimizer.variables)]


def assert_same(first, second, **tolerance):
    for a, b in zip(weights(first), weights(second), strict=True):
        np.testing.assert_allclose(a, b, **(tolerance or {"rtol": 0, "atol": 0}))


def fitted(images, seed=0, compiled=None, **fit):
    vae = VAE(latent_dim=3, hidden_units=6, seed=seed)
    vae.compile(keras.optimizers.Adam(0.01), **(compiled or {}))
    history = vae.fit(images, **({"batch_size": 16, "epochs": 3, "verbose": 0} | fit))
    return vae, history


@pytest.mark.slow
@pytest.mark.parametrize("count", [64, 60], ids=["whole batches", "a short last batch"])
@pytest.mark.parametrize("sample_weight", [False, True])
def test_blocks_agree_with_single_uncompiled_updates(images, count, sample_weight):
    x = images[:count]
    weight = np.linspace(0.1, 2, count).astype(np.float32) if sample_weight else None
    blocks, history = fitted(x, shuffle=False, epochs=2, sample_weight=weight)
    single = VAE(latent_dim=3, hidden_units=6)
    single.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    logs = []
    for i in [*range(0, count, 16)] * 2:
        part = None if weight is None else weight[i : i + 16]
        single.reset_metrics()  # Keras 3.13 would go on averaging
        logs.append(single.train_on_batch(x[i : i + 16], sample_weight=part, return_dict=True))
    assert_same(blocks, single, rtol=2e-4, atol=2e-5)
    for name, values in history.updates.items():
        np.testing.assert_allclose(values, [log[name] for log in logs], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("length", [1, 3, 7, 250])
def test_block_length_changes_nothing(images, length, monkeypatch):
    monkeypatch.setattr(batches, "ROWS_PER_BLOCK", 16 * 40)  # 130 updates need four windows
    expected, history = fitted(images[:60], steps_per_epoch=130)
    vae, other = fitted(images[:60], steps_per_epoch=130, compiled={"steps_per_execution": length})
    assert_same(vae, expected)
    np.testing.assert_array_equal(other.updates["loss"], history.updates["loss"])
    np.testing.assert_allclose(other.history["loss"], history.history["loss"], rtol=1e-6)


@pytest.mark.slow
def test_same_seed_same_weights_whatever_runs_beside(images):
    class Listener(keras.callbacks.Callback):
        batches = tested = 0

        def on_train_batch_end(self, batch, logs=None):
            self.batches += 1

        def on_test_batch_end(self, batch, logs=None):
            self.tested += 1

    listener = Listener()
    expected, _ = fitted(images)
    observed, history = fitted(images, validation_data=(images[:40],), callbacks=[listener])
    assert_same(observed, expected)
    assert listener.batches == 3 * 4  # who listens to batches hears every one
    assert listener.tested == 3 * 3
    assert len(history.history["val_loss"]) == 3
    other, _ = fitted(images, seed=1)
    assert any((a != b).any() for a, b in zip(weights(other), weights(expected), strict=True))


@pytest.mark.slow
def test_fitting_on_is_fitting_once_in_epochs(images):
    once, _ = fitted(images, epochs=4)
    twice, _ = fitted(images, epochs=2)
    twice.fit(images, batch_size=16, epochs=4, initial_epoch=2, verbose=0)
    assert_same(twice, once)


@pytest.fixture
def taken(monkeypatch):
    """The positions of the digits of every update that blocks make: a list that grows."""
    rows, take = [], batches.Batches.take

    def recording(self, count):
        rows.extend((found := take(self, count)).reshape(-1, self.batch_size))
        return found

    monkeypatch.setattr(batches.Batches, "take", recording)
    return rows


def test_every_digit_is_seen_once_a_pass_and_in_a_new_order(images, taken):
    fitted(images, epochs=3)
    passes = np.concatenate(taken).reshape(3, 64)
    for order in passes:
        np.testing.assert_array_equal(np.sort(order), np.arange(64))
    assert (passes[0] != passes[1]).any()
    assert (passes[1] != passes[2]).any()


def test_epoch_logs_are_means_over_the_epochs_images(images):
    _, history = fitted(images[:60], epochs=2)
    sizes = [16, 16, 16, 12]
    per_epoch = history.updates["loss"].reshape(2, 4)
    expected = np.average(per_epoch, axis=1, weights=sizes)
    np.testing.assert_allclose(history.history["loss"], expected, rtol=1e-5)
    assert history.updates["loss"].dtype == np.float32


def test_updates_depend_on_their_number_alone_not_on_epochs_or_calls_of_fit(images, taken):
    in_passes, _ = fitted(images, epochs=3)
    np.testing.assert_array_equal(  # 3 passes of 4 updates, each of them over every digit
        np.sort(np.reshape(taken, [3, 64])), np.tile(np.arange(64), [3, 1])
    )
    in_epochs, history = fitted(images, epochs=4, steps_per_epoch=3)
    assert int(in_epochs.optimizer.iterations) == len(history.updates["loss"]) == 12
    in_calls, _ = fitted(images, epochs=1, steps_per_epoch=3)
    for epochs in (1, 2):
        in_calls.fit(images, batch_size=16, steps_per_epoch=3, epochs=epochs, verbose=0)
    assert_same(in_epochs, in_passes)
    assert_same(in_calls, in_passes)


@pytest.mark.slow
def test_one_long_epoch_is_many_passes(images, taken):
    once, _ = fitted(images, epochs=1, steps_per_epoch=33)
    np.testing.assert_array_equal(  # 8 passes of 4 updates, each of them over every digit
        np.sort(np.reshape(taken[:32], [8, 64])), np.tile(np.arange(64), [8, 1])
    )
    in_epochs, _ = fitted(images, epochs=3, steps_per_epoch=11)
    assert_same(in_epochs, once)


@pytest.mark.slow
def test_passes_in_sequence_go_on_from_fit_to_fit(images, taken):
    vae, _ = fitted(images[:60], steps_per_epoch=3, epochs=1, shuffle=False)
    vae.fit(images[:60], batch_size=16, steps_per_epoch=3, epochs=2, shuffle=False, verbose=0)
    first = np.concatenate(taken).reshape(-1, 16)[:, 0]
    np.testing.assert_array_equal(first, np.arange(9) % 4 * 16)


def test_models_of_one_shape_share_a_program(images, compilations):
    counts = []
    for seed in range(2):
        vae = VAE(latent_dim=5, hidden_units=7, seed=seed)
        vae.compile(keras.optimizers.Adam(0.01 * (1 + seed), beta_1=0.9 - 0.01 * seed))
        vae.fit(images, verbose=0)
        counts.append(len(compilations))
    assert counts == [1, 1]


@pytest.mark.slow
def test_testing_shares_a_program_too(images, compilations):
    for seed, count in enumerate([64, 40, 64]):
        vae = VAE(latent_dim=5, hidden_units=7, seed=seed)
        vae.compile(keras.optimizers.SGD(0.01 * (1 + seed)))
        vae.evaluate(images[:count], batch_size=16, verbose=0)
    assert len(compilations) == 2  # one for each number of images, 64 in whole batches


def test_tests_in_blocks_agree_with_single_uncompiled_ones(images, monkeypatch):
    images, weight = images[:60], np.linspace(0.1, 2, 60).astype(np.float32)
    vae = VAE(latent_dim=3, hidden_units=6)
    for i in range(0, 60, 16):
        logs = vae.test_step((images[i : i + 16], None, weight[i : i + 16]))
    vae.compile()
    whole = {"batch_size": 16, "sample_weight": weight, "verbose": 0, "return_dict": True}
    found = vae.evaluate(images, **whole)
    assert found == pytest.approx({name: float(log) for name, log in logs.items()}, rel=1e-5)
    heard = []
    listener = keras.callbacks.LambdaCallback(
        on_test_batch_end=lambda batch, logs: heard.append(logs["loss"])
    )
    assert vae.evaluate(images, callbacks=[listener], **whole) == found
    assert len(heard) == 4  # who listens to batches hears every one
    monkeypatch.setattr(batches, "ROWS_PER_BLOCK", 16 * 3)
    assert vae.evaluate(images, **whole) == pytest.approx(found, rel=1e-6)
    first = vae.evaluate(images, batch_size=16, steps=2, verbose=0, return_dict=True)
    again = vae.evaluate(images[:32], batch_size=16, verbose=0, return_dict=True)
    assert first == pytest.approx(again, rel=1e-5)


@pytest.mark.slow
def test_pipelines_of_unequal_batches_train_as_well(images):
    vae = VAE(latent_dim=3, hidden_units=6)
    vae.compile(keras.optimizers.Adam(0.01))
    batches = tf.data.Dataset.from_tensor_slices(images).batch(20)  # and the last four
    history = vae.fit(batches, epochs=5, verbose=0).history["loss"]
    assert history[-1] < history[0] - 5


@pytest.mark.slow
def test_no_thread_tunes_the_datasets_that_keras_is_given(images, monkeypatch):
    # TensorFlow's would keep the end of a `fit` waiting, at worst as long as it had taken.
    given = []
    for method in ("fit", "evaluate"):
        original = getattr(keras.Model, method)

        def noted(self, x, *args, original=original, **kwargs):
            given.append(x)
            return original(self, x, *args, **kwargs)

        monkeypatch.setattr(keras.Model, method, noted)
    vae, _ = fitted(images)
    vae.evaluate(images, verbose=0)
    assert [dataset.options().autotune.enabled for dataset in given] == [False, False]


@pytest.mark.slow
def test_callbacks_work_as_in_keras(images, tmp_path):
    keras.utils.set_random_seed(0)
    rates = []
    callbacks = [
        keras.callbacks.LearningRateScheduler(lambda epoch: 0.01 * 0.5**epoch),
        keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: rates.append(float(vae.optimizer.learning_rate))
        ),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True),
        keras.callbacks.EarlyStopping("val_loss", patience=1, min_delta=1e9),
        keras.callbacks.TerminateOnNaN(),
    ]
    vae = VAE(latent_dim=3, hidden_units=6)
    vae.compile("adam")
    fit = {"validation_data": (images[:9],), "callbacks": callbacks, "epochs": 9, "verbose": 0}
    history = vae.fit(images, batch_size=16, **fit)
    assert rates == pytest.approx([0.01, 0.005])  # stopped early, after two epochs
    assert len(history.history["val_loss"]) == 2
    assert (tmp_path / "log.csv").read_text().count("\n") == 3
    best = keras.saving.load_model(tmp_path / "best.keras")
    assert int(best.optimizer.iterations) == 4 * 2  # two epochs, each the best yet


@pytest.mark.slow
def test_backup_and_restore_goes_on_where_it_was(images, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    expected, _ = fitted(images, epochs=4)
    vae = VAE(latent_dim=3, hidden_units=6)
    vae.compile(keras.optimizers.Adam(0.01))
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        vae.fit(images, batch_size=16, epochs=4, callbacks=[backup, Stop()], verbose=0)
    fresh = VAE(latent_dim=3, hidden_units=6)
    fresh.compile(keras.optimizers.Adam(0.01))
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    fresh.fit(images, batch_size=16, epochs=4, callbacks=[backup], verbose=0)
    assert_same(fresh, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy", [tf.distribute.OneDeviceStrategy, tf.distribute.MirroredStrategy]
)
def test_a_strategy_of_one_device_trains_as_without(images, strategy):
    with strategy(["/cpu:0"] if strategy is tf.distribute.MirroredStrategy else "/cpu:0").scope():
        vae = VAE(latent_dim=3, hidden_units=6)
        vae.compile(keras.optimizers.Adam(0.01))
    history = vae.fit(images[:60], batch_size=16, epochs=3, validation_split=0.2, verbose=0)
    alone, expected = fitted(images[:60], validation_split=0.2)
    assert_same(vae, alone, rtol=2e-4, atol=2e-5)
    for name, values in expected.history.items():
        np.testing.assert_allclose(history.history[name], values, rtol=1e-4)
    tested = [each.evaluate(images[:60], batch_size=16, verbose=0) for each in (vae, alone)]
    np.testing.assert_allclose(*tested, rtol=1e-4)


@pytest.mark.parametrize("how", [{}, {"jit_compile": False}], ids=["blocks", "batches"])
def test_so_many_steps_are_tested_and_too_many_are_warned_of(images, how):
    vae = VAE(latent_dim=3, hidden_units=6)
    vae.compile(keras.optimizers.Adam(0.01), **how)
    few = vae.evaluate(images[:60], batch_size=16, steps=2, verbose=0)
    np.testing.assert_allclose(few, vae.evaluate(images[:32], batch_size=16, verbose=0), rtol=1e-5)
    with pytest.warns(UserWarning, match="9 steps run out of data: 4 are made"):
        many = vae.evaluate(images[:60], batch_size=16, steps=9, verbose=0)
    np.testing.assert_allclose(many, vae.evaluate(images[:60], batch_size=16, verbose=0), rtol=1e-5)
    with pytest.raises(ValueError, match=r"steps must be in .* received 0"):
        vae.evaluate(images, steps=0)


@pytest.mark.parametrize("length", [100, pytest.param(1, marks=pytest.mark.slow)])
def test_a_loss_that_is_not_finite_stops_fitting_and_is_named(images, length):
    vae = VAE(latent_dim=3, hidden_units=6)
    vae.compile(keras.optimizers.Adam(0.01), steps_per_execution=length)
    vae.fit(images, batch_size=16, epochs=2, verbose=0)
    vae.optimizer.learning_rate = 1e38
    with pytest.raises(DivergenceError, match=r"update 10 is (nan|inf), .* finite") as error:
        vae.fit(images, batch_size=16, epochs=90, verbose=0)
    assert error.value.update == 10  # the ninth ruined the weights
    assert int(vae.optimizer.iterations) <= 9 + length
    vae.set_weights([np.full_like(weight, np.nan) for weight in vae.get_weights()])
    nan = {"epochs": 3, "callbacks": [keras.callbacks.TerminateOnNaN()], "verbose": 0}
    assert len(vae.fit(images, batch_size=16, **nan).epoch) == 1  # Keras's own way to stop


def test_a_largest_loss_can_be_set(images):
    vae = VAE(latent_dim=3, hidden_units=6)
    vae.compile(keras.optimizers.Adam(0.01))
    vae.largest_loss = 1.0
    with pytest.raises(DivergenceError, match=r"update 1 is 1\d\d.* has to be below 1\."):
        vae.fit(images, batch_size=16, verbose=0)


@pytest.mark.slow
def test_frozen_layers_stay(images):
    vae = VAE(latent_dim=3, hidden_units=6)
    vae.encoder.trainable = False
    vae.compile(keras.optimizers.Adam(0.01))
    before = vae.encoder.get_weights(), vae.decoder.get_weights()
    vae.fit(images, batch_size=16, verbose=0)
    for old, new in zip(before[0], vae.encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert all((o != n).any() for o, n in zip(before[1], vae.decoder.get_weights(), strict=True))


@pytest.mark.slow
def test_fitting_with_averaging_ends_with_the_running_average(images):
    seen = []
    record = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(vae.get_weights())
    )
    vae = VAE(latent_dim=3, hidden_units=6)
    vae.compile(keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9))
    vae.fit(images, batch_size=16, epochs=3, callbacks=[record], verbose=0)
    expected = seen[0]
    for weights_then in seen[1:]:
        pairs = zip(expected, weights_then, strict=True)
        expected = [0.9 * average + 0.1 * weight for average, weight in pairs]
    assert len(seen) == 12
    for found, average in zip(vae.get_weights(), expected, strict=True):
        np.testing.assert_allclose(found, average, rtol=1e-4, atol=1e-6)


def mean_kl(vae, images, weight=None):
    """Returns what is to be the mean of KL[q‖p] over images with these weights, by NumPy."""
    posterior = vae.posterior(images)
    loc, scale = posterior.mean().numpy().astype(float), posterior.stddev().numpy().astype(float)
    kl = (0.5 * (loc**2 + scale**2 - 1) - np.log(scale)).sum(axis=1)
    return pytest.approx(np.average(kl, weights=weight), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["arrays", "tf.data"])
def test_validation_is_of_all_batches_whatever_ran_before(images, kind):
    x, held_out, sizes = images, (images,), {"batch_size": 16}
    if kind == "tf.data":
        x = held_out = tf.data.Dataset.from_tensor_slices(images).batch(16)
        sizes = {}
    vae = VAE(latent_dim=3, hidden_units=6)
    vae.compile(keras.optimizers.Adam(0.01))
    vae.evaluate(x, **sizes, verbose=0)
    history = vae.fit(images, batch_size=16, validation_data=held_out, verbose=0).history
    assert history["val_kl"] == [mean_kl(vae, images)]


@pytest.mark.slow
def test_held_out_digits_take_their_weights_along(images):
    weight = np.linspace(0.1, 2, 64).astype(np.float32)
    fit = {"epochs": 2, "sample_weight": weight}
    expected, _ = fitted(images[:60], epochs=2, sample_weight=weight[:60])
    vae, history = fitted(images, **fit, validation_split=1 / 16)
    assert_same(vae, expected)
    assert history.history["val_kl"][-1] == mean_kl(vae, images[60:], weight[60:])
    vae, history = fitted(images, **fit, validation_split=1 / 16, validation_steps=1)
    assert history.history["val_kl"][-1] == mean_kl(vae, images[60:], weight[60:])


@pytest.mark.slow
@pytest.mark.parametrize("how", ["blocks", "uncompiled", "eager"])
def test_weights_count_whichever_way(images, how):
    compiled = {} if how == "blocks" else {"jit_compile": False, "run_eagerly": how == "eager"}
    weight = np.linspace(0, 1, 64).astype(np.float32) ** 4
    held_out = {"validation_data": (images, None, weight)}
    vae, history = fitted(images, 0, compiled, shuffle=False, sample_weight=weight, **held_out)
    expected = mean_kl(vae, images, weight)
    assert history.history["val_kl"][-1] == expected
    test = {"sample_weight": weight, "verbose": 0, "return_dict": True}
    assert vae.evaluate(images, **test)["kl"] == expected
    in_blocks, _ = fitted(images, shuffle=False, sample_weight=weight)
    assert_same(vae, in_blocks, rtol=2e-4, atol=2e-5)
    unweighted, _ = fitted(images, shuffle=False)
    assert np.abs(weights(vae)[0] - weights(unweighted)[0]).max() > 1e-3


def test_a_block_of_large_images_stays_small():
    images = np.zeros((300, 100, 100), np.float32)
    vae = VAE(1, 2, (100, 100))
    vae.compile()
    block = batches.Batches(vae, (images, None, None), 10, False, False)
    assert block.per_block * 10 * 40_000 <= 2**23 < (block.per_block + 1) * 10 * 40_000
    assert batches.Batches(vae, (images, None, None), 300, False, False).per_block == 1
