"""Keras, tuned by its own means: XLA, an epoch per execution, a `tf.data` pipeline.

Batches have one shape, so that XLA compiles once: the last, short one is dropped.
"""

import tensorflow as tf

from . import ours


class Peer(ours.Peer):
    """`keras.Model.fit` with a `tf.data` pipeline; vae_tf leaves those to Keras."""

    def __init__(self, images, batch_size, seed):
        steps = len(images) // batch_size
        self.compile_options = {"jit_compile": True, "steps_per_execution": steps}
        super().__init__(images, batch_size, seed)
        self.updates_per_epoch = steps
        self.batches = (
            tf.data.Dataset.from_tensor_slices(images)
            .shuffle(len(images), seed=seed)
            .batch(batch_size, drop_remainder=True)
            .prefetch(tf.data.AUTOTUNE)
        )

    def train(self, epochs, after_epoch):
        """Trains for `epochs` epochs, or until `after_epoch()` is true."""
        options = self.fit_options(epochs, after_epoch)
        self.vae.fit(self.batches, **(options | {"batch_size": None}))
