"""Keras, tuned by its own means: XLA, an epoch per execution, a `tf.data` pipeline.

Batches have one shape, so that XLA compiles once: the last, short one is dropped. All digits are
shuffled at once; `Dataset.shuffle`, one digit at a time, makes an update a fifth slower.
"""

import tensorflow as tf

from . import ours
from .keras_plain import PlainVAE


class Peer(ours.Peer):
    """`keras.Model.fit` with a `tf.data` pipeline; vae_tf leaves those to Keras."""

    model = PlainVAE

    def __init__(self, images, batch_size, seed, hidden_units=128):
        steps = len(images) // batch_size
        options = {"jit_compile": True, "steps_per_execution": steps}
        super().__init__(images, batch_size, seed, hidden_units, **options)
        self.updates_per_epoch = steps
        digits = tf.constant(images)

        def one_pass(number):
            order = tf.random.experimental.stateless_shuffle(tf.range(len(images)), [seed, number])
            order = tf.reshape(order[: steps * batch_size], [steps, batch_size])
            return tf.data.Dataset.from_tensor_slices(tf.gather(digits, order))

        numbers = tf.data.Dataset.random(seed, rerandomize_each_iteration=True).take(1)
        self.batches = numbers.flat_map(one_pass).prefetch(tf.data.AUTOTUNE)

    def train(self, epochs, after_epoch):
        """Trains for `epochs` epochs, or until `after_epoch()` is true."""
        options = self.fit_options(epochs, after_epoch)
        self.vae.fit(self.batches, **(options | {"batch_size": None}))
