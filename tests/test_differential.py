"""Blocks against Keras's own path: other models, optimizers, data, callbacks and arguments.

Each combination is trained in blocks; with `jit_compile=False`, which takes Keras's functions batch
by batch; and eagerly, by a class whose every method that trains is Keras's own, to which nothing of
blocks is known. Weights, histories, what callbacks hear and what they write agree.
"""

import csv
import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from vae_tf import VAE
from vae_tf.engine import blocks

SHAPE, LATENTS = (4, 5), 2
PENALTY = 0.0  # read by a model below
METHODS = ("compile", "fit", "evaluate", "get_compile_config", "compile_from_config")
layers = keras.layers


def networks(*encoder, last=None):
    last = last or layers.Dense(2 * LATENTS, kernel_initializer=start(1))
    return keras.Sequential([keras.Input(SHAPE), layers.Flatten(), *encoder, last])


def start(seed):
    return keras.initializers.GlorotUniform(seed=seed)


def dense(*args, **kwargs):
    return layers.Dense(*args, kernel_initializer=start(2), **kwargs)


def made(change=lambda vae: None, **kwargs):
    """Returns what makes a model of a class, and changes it."""

    def make(base):
        vae = base(LATENTS, 5, SHAPE, seed=3, **kwargs)
        change(vae)
        return vae

    return make


def set_layer(name, index, attribute, value):
    return made(lambda vae: setattr(getattr(vae, name).layers[index], attribute, value))


def of_class(**methods):
    """Returns what makes a model of a class with other methods and attributes."""
    return lambda base: made()(type("Own", (base,), methods))


def twice_the_kl(vae):
    terms = vae.elbo_terms
    vae.elbo_terms = lambda *args: (found := terms(*args))._replace(kl=2 * found.kl)


def with_a_variable(vae):
    vae.offset = keras.Variable(0.3, dtype=vae.float_type, name="offset")
    decode = vae.decode
    vae.decode = lambda latents: decode(latents) + vae.offset


def own_step(self, data):
    images, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
    logs = VAE.train_step(self, images)
    extra = {} if labels is None else {"labels": tf.reduce_mean(tf.cast(labels, tf.float32))}
    return logs | extra | {"brightness": tf.reduce_mean(tf.cast(images, tf.float32))}


def penalized(self, images, seed, num_samples=1):
    terms = VAE.elbo_terms(self, images, seed, num_samples)
    return terms._replace(kl=terms.kl + PENALTY + self.extra)


def own_init(self, *args, needed=0.7, **kwargs):
    super(type(self), self).__init__(*args, **kwargs)
    self.extra = needed


MODELS = {
    "plain": made(),
    "three draws, beta and warm-up": made(beta=2.0, kl_warmup=6, num_samples=3),
    "another activation": set_layer("decoder", 0, "activation", keras.activations.relu),
    "an activation of one's own": set_layer("encoder", 1, "activation", tf.math.softsign),
    "an activation over the batch": set_layer(
        "encoder", 1, "activation", lambda x: tf.nn.tanh(x - tf.reduce_mean(x, axis=0))
    ),
    "a layer frozen": set_layer("encoder", 1, "trainable", False),
    "the encoder frozen": made(lambda vae: setattr(vae.encoder, "trainable", False)),
    "a deeper encoder": made(lambda vae: setattr(vae, "encoder", networks(dense(6, "elu")))),
    "batch normalization": made(
        lambda vae: setattr(vae, "encoder", networks(dense(6), layers.BatchNormalization()))
    ),
    "regularized": made(
        lambda vae: setattr(
            vae, "encoder", networks(dense(6, kernel_regularizer="l2", activity_regularizer="l1"))
        )
    ),
    "a variable beside": made(with_a_variable),
    "a method replaced on the instance": made(twice_the_kl),
    "an attribute, an argument, a global": of_class(__init__=own_init, elbo_terms=penalized),
    "a train_step with labels and logs": of_class(train_step=own_step),
}


class OwnSchedule(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.02 / (1 + tf.cast(step, tf.float32))


class OwnOptimizer(keras.optimizers.SGD):
    def update_step(self, gradient, variable, learning_rate):
        super().update_step(tf.sign(gradient) * 0.1, variable, learning_rate)


optimizers = keras.optimizers
OPTIMIZERS = {
    "SGD": lambda: optimizers.SGD(0.02),
    "Adam": lambda: optimizers.Adam(0.01),
    "momentum and decay": lambda: optimizers.SGD(0.01, 0.9, nesterov=True, weight_decay=0.1),
    "AdamW, an exclusion": lambda: excluding(optimizers.AdamW(0.01, weight_decay=0.5)),
    "a cosine": lambda: optimizers.Adam(optimizers.schedules.CosineDecay(0.02, 6)),
    "a schedule of one's own": lambda: optimizers.Adam(OwnSchedule()),
    "an optimizer of one's own": lambda: OwnOptimizer(0.02),
    "clipped": lambda: optimizers.SGD(0.05, global_clipnorm=0.5),
    "averaged": lambda: optimizers.SGD(0.02, use_ema=True, ema_momentum=0.7),
    "overwritten by averages": lambda: optimizers.SGD(
        0.02, use_ema=True, ema_momentum=0.7, ema_overwrite_frequency=3
    ),
    "accumulating": lambda: optimizers.SGD(0.02, gradient_accumulation_steps=3),
    "loss scaled": lambda: optimizers.SGD(0.02, loss_scale_factor=128.0),
    "loss scaled dynamically": lambda: optimizers.LossScaleOptimizer(
        optimizers.SGD(0.02, gradient_accumulation_steps=2), 64.0, dynamic_growth_steps=3
    ),
}


def excluding(optimizer):
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


LABELS, WEIGHTS = np.arange(64) % 3, np.linspace(0, 2, 64, dtype=np.float32) ** 2
DATA = {
    "whole batches": {},
    "a short last batch": {"count": 60},
    "one batch, short": {"count": 9},
    "labels": {"y": LABELS},
    "labels and a short last batch": {"y": LABELS, "count": 57},
    "weights": {"y": LABELS, "sample_weight": WEIGHTS},
    "weights and a short last batch": {"y": LABELS, "sample_weight": WEIGHTS, "count": 60},
    "weights without labels": {"sample_weight": WEIGHTS},
    "weights of classes": {"y": LABELS, "class_weight": {0: 1.0, 1: 2.0, 2: 0.0}},
    "weights of some classes, a part held out": {
        "y": LABELS,
        "class_weight": {1: 0.0, 5: 9.0},
        "validation_split": 0.3,
    },
    "a part held out": {"y": LABELS, "validation_split": 0.3},
    "validation": {"validation_data": "images"},
    "validation every other epoch": {"validation_data": "images", "validation_freq": 2},
    "validation on a pipeline": {"validation_data": "pipeline"},
    "epochs of five": {"steps_per_epoch": 5},
    "epochs of five, a short last batch": {"steps_per_epoch": 5, "count": 60},
    "shuffled": {"shuffle": True, "count": 60},
}


class Heard(keras.callbacks.Callback):
    """What a callback hears; a subclass hears batches as well."""

    def __init__(self):
        super().__init__()
        self.heard = []

    def on_epoch_begin(self, epoch, logs=None):
        self.heard.append(("epoch begins", epoch))

    def on_epoch_end(self, epoch, logs=None):
        self.heard.append(("epoch", epoch, sorted(logs)))


class HeardBatches(Heard):
    def on_train_batch_begin(self, batch, logs=None):
        self.heard.append(("batch begins", batch))

    def on_train_batch_end(self, batch, logs=None):
        self.heard.append(("batch", batch, {name: float(log) for name, log in logs.items()}))

    def on_test_batch_end(self, batch, logs=None):
        self.heard.append(("test batch", batch))


callbacks = keras.callbacks
CALLBACKS = {
    "none": lambda folder: [],
    "hearing batches": lambda folder: [HeardBatches()],
    "hearing batches by a function": lambda folder: [
        callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: (folder / f"heard {batch}").touch()
        )
    ],
    "a checkpoint every third batch": lambda folder: [
        callbacks.ModelCheckpoint(
            folder / "{epoch}-{batch}.weights.h5", save_freq=3, save_weights_only=True
        )
    ],
    "a checkpoint every epoch": lambda folder: [
        callbacks.ModelCheckpoint(folder / "{epoch}.weights.h5", save_weights_only=True)
    ],
    "a backup every second batch": lambda folder: [
        callbacks.BackupAndRestore(folder / "backup", save_freq=2, delete_checkpoint=False)
    ],
    "TensorBoard every second batch": lambda folder: [
        callbacks.TensorBoard(folder, update_freq=2, write_graph=False)
    ],
    "a file of logs": lambda folder: [callbacks.CSVLogger(folder / "log.csv")],
    "other rates": lambda folder: [
        callbacks.LearningRateScheduler(lambda epoch: 0.01 / (1 + epoch))
    ],
    "stopping early": lambda folder: [callbacks.EarlyStopping("loss", patience=0, min_delta=1e9)],
    "stopping in an epoch": lambda folder: [Stop()],
    "stopping at NaN": lambda folder: [callbacks.TerminateOnNaN()],
}


class Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = batch >= 1


ARGUMENTS = {
    "as it comes": {},
    "one batch an execution": {"steps_per_execution": 1},
    "three batches an execution": {"steps_per_execution": 3},
}
POLICIES = {"float32": 1, "float64": 1, "mixed_bfloat16": 400}  # of tolerance
USUAL = ("plain", "SGD", "whole batches", "none", "as it comes", "float32")
FACTORS = (MODELS, OPTIMIZERS, DATA, CALLBACKS, ARGUMENTS, POLICIES)


def trained(base, folder, jit, model, optimizer, data, callback, arguments, policy):
    """Trains twice two epochs; returns all that is to agree, and Keras's history."""
    images = (np.random.default_rng(5).random((64, *SHAPE)) < 0.4).astype(np.uint8)
    fit = {"shuffle": False, "batch_size": 16} | DATA[data]
    count = fit.pop("count", 64)
    held_out = {"images": (images[:21],), "pipeline": dataset(images[:21])}
    if "validation_data" in fit:
        fit["validation_data"] = held_out[fit["validation_data"]]
    fit |= {name: fit[name][:count] for name in ("y", "sample_weight") if name in fit}
    keras.config.set_dtype_policy(policy)
    try:
        vae = MODELS[model](base)
    finally:
        keras.config.set_dtype_policy("float32")
    folder.mkdir()
    heard = Heard()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "PENALTY", 0.4)
        eager = base is not VAE  # what Keras itself runs, it runs sooner than it traces
        how = {"jit_compile": jit, "run_eagerly": eager} | ARGUMENTS[arguments]
        vae.compile(OPTIMIZERS[optimizer](), **how)
        used = [*CALLBACKS[callback](folder), heard]
        history = vae.fit(images[:count], epochs=2, callbacks=used, verbose=0, **fit)
        tested = {}
        if (optimizer, callback, arguments) == (USUAL[1], USUAL[3], USUAL[4]):  # no others matter
            tested = vae.evaluate(images[:count], batch_size=16, verbose=0, return_dict=True)
    heard = [each for callback in used for each in getattr(callback, "heard", ())]
    files = sorted(path.name for path in folder.rglob("*") if "tfevents" not in path.name)
    weights = [np.asarray(each) for each in (*vae.variables, *vae.optimizer.variables)]
    logs = [list(csv.reader(path.open())) for path in folder.glob("*.csv")]
    found = {"weights": weights, "tested": tested, "heard": heard, "files": files, "logs": logs}
    return found, history


def dataset(images):
    return tf.data.Dataset.from_tensor_slices(images).batch(16)


def assert_alike(first, second, tolerance):
    rtol, atol = 2e-4 * tolerance, 2e-5 * tolerance
    if isinstance(first, dict):
        assert sorted(first) == sorted(second)
        for name in first:
            assert_alike(first[name], second[name], tolerance)
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), (first, second)
        for a, b in zip(first, second, strict=True):
            assert_alike(a, b, tolerance)
    elif isinstance(first, str) and first.replace(".", "").replace("-", "").isdigit():
        np.testing.assert_allclose(float(first), float(second), rtol=rtol, atol=atol)
    elif isinstance(first, str):
        assert first == second
    else:
        np.testing.assert_allclose(first, second, rtol=rtol, atol=atol)


def compare(folder, caplog, combination, every_way=True):
    tolerance = POLICIES[combination[-1]]
    only = type("OnlyKeras", (VAE,), {name: getattr(keras.Model, name) for name in METHODS})
    ways = {"blocks": (VAE, "auto"), "batches": (VAE, False)}
    data = combination[2]
    # Keras runs out of arrays after a pass, drops weights without labels, shuffles as it likes, and
    # would have steps_per_execution be a number.
    if not ({"steps_per_epoch", "shuffle"} & set(DATA[data]) or data == "weights without labels"):
        ways["Keras"] = only, False
        if not every_way:
            del ways["batches"]
    found = {}
    with caplog.at_level(logging.INFO, "vae_tf"):
        for name, (base, jit) in ways.items():
            found[name], history = trained(base, folder / name, jit, *combination)
            if name == "blocks":
                in_blocks = history
            elif name == "batches":
                assert_alike(history.updates, in_blocks.updates, tolerance)
            assert_alike(history.history, in_blocks.history, tolerance)
    assert not [each for each in caplog.records if each.name.startswith("vae_tf")]  # so in blocks
    for way in set(found) - {"blocks"}:
        assert_alike(found["blocks"], found[way], tolerance)


LISTED = [
    (*USUAL[:place], name, *USUAL[place + 1 :])
    for place, factor in enumerate(FACTORS)
    for name in factor
    if name != USUAL[place] or place == 0
]
LISTED += [
    ("plain", "SGD", "weights of classes", "none", "three batches an execution", "float32"),
    ("batch normalization", "Adam", "a short last batch", "none", "as it comes", "float32"),
    ("an activation over the batch", "SGD", "epochs of five, a short last batch", *USUAL[3:]),
    ("a train_step with labels and logs", "SGD", "labels and a short last batch", *USUAL[3:]),
    ("three draws, beta and warm-up", "accumulating", "epochs of five", *USUAL[3:]),
    ("regularized", "clipped", "a part held out", "other rates", *USUAL[4:]),
    ("a variable beside", "a cosine", "one batch, short", "a checkpoint every epoch", *USUAL[4:]),
    ("another activation", "SGD", "weights without labels", *USUAL[3:5], "mixed_bfloat16"),
    (
        "a deeper encoder",
        "overwritten by averages",
        "validation on a pipeline",
        "a file of logs",
        *USUAL[4:],
    ),
    (
        "an attribute, an argument, a global",
        "loss scaled",
        "shuffled",
        "TensorBoard every second batch",
        *USUAL[4:],
    ),
    (
        "an activation of one's own",
        "averaged",
        "epochs of five",
        "hearing batches by a function",
        *USUAL[4:],
    ),
]


# Each takes seconds, so `make test` tries these, in which most things come up once. Nearly all that
# is listed above differs from the usual in one thing: `make test-slow` tells which is at fault.
WOVEN = [
    (
        "three draws, beta and warm-up",
        "accumulating",
        "epochs of five, a short last batch",
        *USUAL[3:],
    ),
    (
        "batch normalization",
        "AdamW, an exclusion",
        "a short last batch",
        "hearing batches",
        "three batches an execution",
        "float64",
    ),
    (
        "a train_step with labels and logs",
        "a schedule of one's own",
        "labels and a short last batch",
        "a checkpoint every third batch",
        "one batch an execution",
        "float32",
    ),
    (
        "a method replaced on the instance",
        "loss scaled dynamically",
        "weights",
        "stopping early",
        *USUAL[4:],
    ),
    (
        "an activation over the batch",
        "momentum and decay",
        "weights of classes",
        "a backup every second batch",
        *USUAL[4:],
    ),
    (
        "the encoder frozen",
        "an optimizer of one's own",
        "validation every other epoch",
        "stopping in an epoch",
        "three batches an execution",
        "float32",
    ),
]
MARKED = [
    pytest.param(each, marks=[pytest.mark.slow] * (each in LISTED), id=", ".join(each))
    for each in WOVEN + LISTED
]


@pytest.mark.parametrize("combination", MARKED)
def test_blocks_are_keras_own_path(tmp_path, caplog, combination):
    differs = [a != b for a, b in zip(combination, USUAL, strict=True)]
    every_way = any(differs[2:5]) and combination in LISTED
    compare(tmp_path, caplog, combination, every_way)


@pytest.mark.parametrize("count", [1, pytest.param(21, marks=pytest.mark.slow)])
def test_blocks_are_keras_own_path_in_combinations(
    tmp_path_factory, caplog, record_property, count
):
    # Adam makes steps of what bfloat16 rounds to either sign: that policy is listed, with SGD.
    factors = (*FACTORS[:-1], ["float32", "float64"])
    tried, combinations = set(), st.tuples(*(st.sampled_from(list(factor)) for factor in factors))
    combinations = combinations.filter(lambda drawn: len(set(drawn) - set(USUAL)) > 2)
    # Under that activation some gradients are zero but for rounding, and that optimizer goes by
    # their signs.
    by_signs = {"an activation over the batch", "an optimizer of one's own"}
    combinations = combinations.filter(lambda drawn: not by_signs <= set(drawn))

    # Nothing is made simpler: a combination says enough, and each takes seconds.
    @settings(
        max_examples=count, deadline=None, derandomize=True, database=None, phases=[Phase.generate]
    )
    @given(combinations)
    def check(combination):
        compare(tmp_path_factory.mktemp("tried"), caplog, combination)
        tried.add(combination)

    check()
    listed = len(WOVEN) if count == 1 else len(LISTED)
    counts = f"{listed} combinations listed and {len(tried)} drawn"
    record_property("count", f"{counts} train in blocks as by Keras's own path")


def test_the_oracle_knows_nothing_of_blocks():
    assert not {"fit", "evaluate", "compile"} - set(METHODS)
    for name in METHODS:
        assert not getattr(keras.Model, name).__module__.startswith(blocks.__package__)
