"""Keras: `fit` of the same layers, subclassed as its guides show, as Keras's defaults run it.

That is: one `tf.function` call per update, no XLA on a CPU.
"""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from vae_tf import VAE

from . import ours

tfd = tfp.distributions


class PlainVAE(VAE):
    """The same model with a training step of nothing but Keras and TensorFlow Probability."""

    def train_step(self, data):
        """Makes one weight update; returns the metrics' results."""
        images, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            own = self.posterior(images).distribution
            posterior = tfd.Independent(tfd.Normal(own.loc, own.scale), 1)  # with TFP's own noise
            log_likelihood = self.likelihood(posterior.sample()).log_prob(images)
            kl = tfd.kl_divergence(posterior, self.prior())
            losses = kl - log_likelihood
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return self.report(None, losses, log_likelihood, kl)


class Peer(ours.Peer):
    """`keras.Model.fit` with arrays."""

    model = PlainVAE

    def __init__(self, images, batch_size, seed, hidden_units=128):
        options = {"jit_compile": False, "steps_per_execution": 1}
        super().__init__(images, batch_size, seed, hidden_units, **options)
