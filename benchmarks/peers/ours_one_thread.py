"""vae_tf with TensorFlow held to one thread, as its README advises for training alone.

Waking another thread takes longer than most steps of a small model: measured 0.85 of the time.
"""

import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(1)  # before TensorFlow does anything

from .ours import Peer  # noqa: E402, F401 - TensorFlow has to be told first
