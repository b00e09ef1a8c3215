"""Arrays as `fit` and `evaluate` walk through them: batch after batch, pass after pass."""

import functools
import hashlib

import keras
import numpy as np
import tensorflow as tf

from . import checks, private

# What a call of the program is given at most. The first makes the millisecond that a call costs a
# small share of it; the second keeps memory small where images are large.
ROWS_PER_BLOCK, BYTES_PER_BLOCK = 2**15, 2**23


class Batches:
    """Arrays, and the order in which their images come, batch after batch and pass after pass.

    Args:
        model: its seed, and the batches that it was trained on, decide the order.
        arrays: images, targets and weights; the last two may be None.
        batch_size: an int.
        shuffle: whether every pass is in an order of its own.
        is_padded: whether a short last batch may be filled up.
    """

    def __init__(self, model, arrays, batch_size, shuffle, is_padded):
        self.model, self.shuffle, self.size = model, shuffle, len(arrays[0])
        self.batch_size = min(batch_size, self.size)
        self.per_pass = -(-self.size // self.batch_size)
        # A short last batch is filled up with an image of weight 0; else it is a batch of its own.
        self.is_padded = is_padded and bool(self.size % self.batch_size)
        named = zip(("x", "y", "weights"), arrays, strict=True)
        arrays = {name: array for name, array in named if array is not None}
        if self.is_padded:
            arrays = {"weights": np.ones(self.size, np.float32)} | arrays
        # On the device, once, with zeros behind: a row of weight 0 at least.
        fill_up = functools.partial(_filled_up, length=rounded_up(self.size + 1))
        self.arrays = tf.nest.map_structure(fill_up, arrays)
        arrays = tf.nest.flatten(self.arrays)
        row = sum(np.prod(each.shape[1:]) * each.dtype.size for each in arrays)  # bytes
        rows = min(ROWS_PER_BLOCK, BYTES_PER_BLOCK // max(int(row), 1))
        self.per_block = max(1, rows // self.batch_size)
        self.is_endless = False  # True begins within the pass where the last `fit` stopped
        self.rest = None  # of the pass, as positions

    def take(self, count):
        """Returns the positions of the next images: of `count` batches at most, or a short one."""
        if self.rest is None:
            made, place = 0, 0
            if self.shuffle or self.is_endless:
                made = int(private.batches_taken(self.model.optimizer).value.numpy())
            if self.is_endless:
                place = made % self.per_pass
            self._begin_pass(made - place)
            self.rest = self.rest[place * self.batch_size :]
        elif not len(self.rest):
            self._begin_pass(self.first + self.per_pass)
        whole = min(count, len(self.rest) // self.batch_size) * self.batch_size
        taken, self.rest = np.split(self.rest, [whole or len(self.rest)])
        return taken

    def _begin_pass(self, first):
        """Begins the pass whose first batch has this number, counted from the model's first."""
        rng = np.random.default_rng((self.model.seed, first))
        order = rng.permutation(self.size) if self.shuffle else np.arange(self.size)
        missing = -self.size % self.batch_size if self.is_padded else 0
        self.first, self.rest = first, np.append(order, [self.size] * missing).astype(np.int32)

    def gather(self, positions):
        """Returns what stands at these positions: a dict of images, and targets and weights."""
        return tf.nest.map_structure(lambda array: tf.gather(array, positions), self.arrays)


def rounded_up(count):
    """Returns one of a few sizes, a quarter too large at most, so that few programs serve all."""
    step = 1 << max(count.bit_length() - 3, 0)
    return -(-count // step) * step


def _filled_up(array, length):
    array = tf.convert_to_tensor(array)
    zeros = tf.zeros([length - len(array), *array.shape[1:]], array.dtype)
    return tf.concat([array, zeros], axis=0)


def as_in_keras(x, y=None, weights=None):
    """Returns a batch as Keras gives it to `train_step`."""
    return (x, y, weights) if weights is not None else x if y is None else (x, y)


def is_pipeline(x):
    """Tells whatever yields batches, such as a `tf.data.Dataset`, from arrays and from mistakes."""
    if isinstance(x, keras.utils.PyDataset):
        return True
    arrays = list | tuple | dict | set | str | bytes
    return hasattr(x, "__iter__") and not hasattr(x, "__array__") and not isinstance(x, arrays)


def each_array(function, arrays):
    """Applies a function to every array in a structure, and leaves None where there is none."""
    return tf.nest.map_structure(lambda each: None if each is None else function(each), arrays)


def as_target(array):
    """Returns an array of targets as Keras gives it to `train_step`: floats are of its own type."""
    array = tf.convert_to_tensor(array)
    return tf.cast(array, keras.config.floatx()) if array.dtype.is_floating else array


def weighted_by_class(arrays, weights):
    """Returns images, targets and weights, these by the targets' classes, if such are given.

    Raises:
        ValueError: if there are no targets, several, or other weights already.
    """
    x, y, others = arrays
    if weights is None:
        return arrays
    if y is None or tf.nest.is_nested(y) or others is not None:
        raise ValueError("class_weight needs classes, as y, and no sample_weight beside it.")
    weights = private.weights_of_classes(y, weights)
    return x, y, checks.image_weights("class_weight", weights, len(x))


def block_starts(steps, per_call):
    """Returns a dataset of where the blocks of an epoch begin, epoch after epoch."""
    options = tf.data.Options()
    # Nothing to tune, and the thread that tunes can keep the end of a `fit` waiting: it sleeps
    # twice as long every time, at last as long as the whole `fit` has taken.
    options.autotune.enabled = False
    return tf.data.Dataset.range(0, steps, per_call).repeat().with_options(options)


def digest(arrays):
    """Returns the SHA-256 of arrays, one after the other, as a text; None is left out."""
    found = hashlib.sha256()
    for array in arrays:
        if array is not None:
            found.update(np.ascontiguousarray(array))
    return found.hexdigest()
