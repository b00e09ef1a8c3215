"""Keras: `fit` of the same subclassed model as Keras's defaults run it.

That is: one `tf.function` call per update, no XLA on a CPU. A model of the same layers written by
hand, without TensorFlow Probability, took the same time per update.
"""

from . import ours


class Peer(ours.Peer):
    """`keras.Model.fit` with arrays."""

    def __init__(self, images, batch_size, seed):
        super().__init__(images, batch_size, seed, jit_compile=False, steps_per_execution=1)
