"""What is used of Keras and TensorFlow that they do not offer: each thing is there, and needed."""

import random
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.autograph.utils import ag_logging
from tensorflow.python.framework import ops

import vae_tf
from vae_tf import VAE
from vae_tf.engine import compiled, private, trainer
from vae_tf.engine.compiled import CompiledFunction

PACKAGE = Path(vae_tf.__file__).parent


def test_batches_taken_counts_those_that_are_accumulated(images):
    for make in (lambda inner: inner, keras.optimizers.LossScaleOptimizer):
        vae = VAE(latent_dim=2, hidden_units=3)
        optimizer = make(keras.optimizers.SGD(0.1, gradient_accumulation_steps=4))
        vae.compile(optimizer, run_eagerly=True)  # which counts the same, and compiles nothing
        vae.fit(images, batch_size=8, verbose=0)
        assert int(private.batches_taken(vae.optimizer)) == 8
        assert int(vae.optimizer.iterations) == 2  # Keras's own count would not do


def test_tensorboard_alone_knows_whether_it_profiles(tmp_path):
    board = keras.callbacks.TensorBoard(tmp_path)
    assert private.profiles_batches(board) is False  # not for want of what is asked
    assert "_should_trace" in vars(board)
    board._should_trace = True  # as a `profile_batch` makes it, once the profiler has started
    assert private.profiles_batches(board)
    assert trainer._listens(board, ["train_batch"])


def captured_numbers(function):
    with private.numbers_as_inputs():
        traced = tf.function(function).get_concrete_function(tf.TensorSpec([3]))
    return sorted(float(each) for each in traced.captured_inputs)


def test_numbers_become_inputs_once_for_all_their_places():
    found = captured_numbers(lambda x: 0.3 * x + 0.7 / (x + 0.3) + 2.0 * x - 1.0)
    assert found == pytest.approx([0.3, 0.7])
    assert not captured_numbers(lambda x: x + tf.constant([0.3, 0.7, 0.1]))
    traced = tf.function(lambda x: 0.3 * x).get_concrete_function(tf.TensorSpec([3]))
    assert not traced.captured_inputs  # so it is over


@pytest.mark.slow
def test_gradients_of_graphs_are_forgotten_but_not_those_of_others(images):
    @tf.function(autograph=False)
    def users(x):
        return tf.grad_pass_through(tf.round)(x) * x

    class Using(VAE):
        def elbo_terms(self, images, seed, num_samples=1):
            found = super().elbo_terms(images, seed, num_samples)
            return found._replace(kl=found.kl + users(found.kl))

    vae = Using(latent_dim=2, hidden_units=3)
    vae.compile(keras.optimizers.Adam(0.01))
    before = set(ops.gradient_registry.list())
    vae.fit(images, verbose=0)
    left = set(ops.gradient_registry.list()) - before
    assert len(left) <= 2  # those of the user's function: of its own trace, and what it calls
    with tf.GradientTape() as tape:
        x = tf.constant(1.4)
        tape.watch(x)
        value = users(x)
    assert float(tape.gradient(value, x)) == pytest.approx(1.4 + 1.0)
    plain = tf.function(vae.train_step).get_concrete_function(tf.TensorSpec([8, 14, 14], tf.uint8))
    assert len(set(ops.gradient_registry.list()) - before) > len(left)  # TensorFlow keeps its own
    many = len(ops.gradient_registry.list())
    private.forget_gradients(plain.graph)
    assert len(ops.gradient_registry.list()) < many


def test_a_layer_let_go_is_no_longer_counted():
    class Holder(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = self.second = keras.layers.Dense(2)
            self.third = keras.layers.Dense(3)

    holder = Holder()
    for name, left in (("first", 2), ("third", 1), ("nothing", 1)):
        private.let_go(holder, name)
        assert len(holder.layers) == left
    holder.other = keras.layers.Dense(2)
    holder.other = keras.layers.Dense(2)
    assert len(holder.layers) == 3  # what Keras does


FUNCTIONS = {
    "a product": lambda x: x * x,
    "a sum": lambda x: x + x,
    "another axis": lambda x: tf.reduce_sum(x, axis=0) + x,
    "axis 1": lambda x: tf.reduce_sum(x, axis=1) + x,
    "numbers": lambda x: x * tf.range(3.0),
    "other numbers": lambda x: x * tf.range(1.0, 4.0),
    "an int": lambda x: tf.roll(x, 1, 0),
    "another int": lambda x: tf.roll(x, 2, 0),
    "another order": lambda x: tf.roll(x, 2, 0) - x,
    "the other order": lambda x: x - tf.roll(x, 2, 0),
    "a branch": lambda x: tf.cond(x[0, 0] > 0, lambda: x, lambda: -x),
    "the other branch": lambda x: tf.cond(x[0, 0] > 0, lambda: -x, lambda: x),
    "a loop": lambda x: tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, 2 * x), (0, x))[1],
    "a longer loop": lambda x: tf.while_loop(
        lambda i, x: i < 4, lambda i, x: (i + 1, 2 * x), (0, x)
    )[1],
    "a loop of sums": lambda x: tf.while_loop(
        lambda i, x: i < 3, lambda i, x: (i + 1, 2 + x), (0, x)
    )[1],
    "a simple number": lambda x: 2.0 * x,
    "minus": lambda x: -2.0 * x,
    "half": lambda x: 0.5 * x,
}


def test_programs_are_shared_by_equal_graphs_alone(compilations, monkeypatch):
    monkeypatch.setattr(compiled, "KEPT", len(FUNCTIONS))
    x = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    for _ in range(2):
        for function in FUNCTIONS.values():
            found = CompiledFunction(function, tf.TensorSpec([3, 3]))(x)
            np.testing.assert_allclose(found, function(tf.constant(x)), rtol=1e-6)
    assert len(compilations) == len(FUNCTIONS)
    monkeypatch.setattr(compiled, "KEPT", 2)
    for name in ("a loop", "minus", "half"):
        CompiledFunction(FUNCTIONS[name], tf.TensorSpec([3, 3]))(x)
    CompiledFunction(lambda x: x - 3 * x, tf.TensorSpec([3, 3]))(x)
    assert len(compiled._kept) == 2


def test_numbers_differ_and_programs_do_not(compilations):
    variables = [tf.Variable(2.0), tf.Variable(5.0), tf.Variable([1.0, 3.0])]
    for factor in (0.3, 0.7):
        for variable in variables:

            def function(x, variable=variable, factor=factor):
                variable.assign_add(factor * x * tf.ones_like(variable))
                return {"sum": factor * x + variable, "old": (x,)}

            before = variable.numpy()
            found = CompiledFunction(function, tf.TensorSpec([]))(tf.constant(4.0))
            np.testing.assert_allclose(variable, before + 4 * factor, rtol=1e-6)
            np.testing.assert_allclose(found["sum"], before + 8 * factor, rtol=1e-6)
            assert float(found["old"][0]) == 4.0
    assert len(compilations) == 2  # one for each shape of the variable


def test_a_function_within_another_brings_its_numbers_along(monkeypatch):
    tried, spec = [], tf.TensorSpec([])
    tracing = compiled._traced
    monkeypatch.setattr(compiled, "_traced", lambda *each: tried.append(each) or tracing(*each))
    inner = CompiledFunction(lambda x: 0.3 * x + 0.7, spec)
    outer = CompiledFunction(
        lambda x: tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, inner(x) + 0.3), (0, x))[
            1
        ],
        spec,
    )
    assert len(tried) == 2  # so neither was traced a second time, without this
    assert sorted(map(float, outer.traced.captured_inputs)) == pytest.approx([0.3, 0.7])
    monkeypatch.undo()
    assert float(outer(tf.constant(4.0))) == pytest.approx(0.3**3 * 4 + 1.0 * (1 + 0.3 + 0.09))


def test_a_program_that_fails_raises_what_tensorflow_raises():
    program = CompiledFunction(
        lambda x: tf.debugging.check_numerics(1 / x, "bad"), tf.TensorSpec([])
    )
    assert float(program(tf.constant(4.0))) == 0.25
    with pytest.raises(tf.errors.InvalidArgumentError, match="bad"):
        program(tf.constant(0.0), compiled=False)


def test_programs_of_many_shapes_bring_no_warning(caplog, monkeypatch):
    monkeypatch.setattr(tf.get_logger(), "propagate", True)
    for size in range(1, 13):
        vae = VAE(latent_dim=size, hidden_units=1, image_shape=(2, 2))
        assert (
            CompiledFunction(lambda _, vae=vae: vae.prior().mean(), tf.TensorSpec([]))(0.0).shape
            == size
        )
    assert not [record for record in caplog.records if "retracing" in record.getMessage()]


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_private_names_stand_in_one_place(path):
    text = path.read_text()
    if path.stem != "private":
        assert not re.search(
            r"tensorflow\.python|keras\.src|\boptimizer\._|\b(tf|keras)\.[\w.]*\._", text
        )
        assert "_call_flat" not in text


def test_layers_without_seeds_have_weights_of_the_models_seed():
    class Own(VAE):
        def make_decoder(self):
            layers = [keras.layers.Dense(196), keras.layers.Reshape((14, 14))]
            return keras.Sequential([keras.Input([self.latent_dim]), *layers])

    state = random.getstate()
    first, same, other = (Own(seed=seed).decoder.get_weights()[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()
    assert random.getstate() == state


def test_an_interrupt_that_tracing_wraps_is_one(images):
    class Interrupted(VAE):
        def elbo_terms(self, images, seed, num_samples=1):
            try:
                raise KeyboardInterrupt
            except KeyboardInterrupt as error:
                raise RuntimeError("wrapped") from error

    vae = Interrupted()
    vae.compile()
    with pytest.raises(KeyboardInterrupt):
        vae.fit(images, verbose=0)


@pytest.mark.parametrize("kind", [vae_tf.VAE, vae_tf.PixelVAE])
def test_a_function_of_ones_own_may_reach_the_model(kind, monkeypatch):
    """AutoGraph goes through all that a `tf.function` reaches, and warns of what it cannot read."""
    warned = []
    monkeypatch.setattr(ag_logging, "warning", lambda message, *args: warned.append(message % args))
    vae = kind()

    @tf.function
    def terms(images):
        posterior = vae.posterior(images)
        latents = posterior.sample(2, seed=[0, 1])
        loss, _ = vae.loss_per_image(images, [0, 1], 1.0)
        return vae.likelihood(latents).log_prob(images), vae.elbo_terms(images, [0, 1]).elbo, loss

    terms(np.zeros([3, 14, 14], np.float32))
    assert not warned
