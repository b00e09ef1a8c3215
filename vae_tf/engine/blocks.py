"""Blocks of batches, each block a call of one XLA program.

A weight update of a small model costs far less than what Python and TensorFlow's runtime add to it.
So a block is a compiled loop around the model's own step. What cannot be traced for batches of any
size runs batch by batch, by the function that Keras makes.
"""

import functools
import logging
import math

import keras
import numpy as np
import tensorflow as tf

from . import private, replicas
from .batches import as_in_keras, rounded_up
from .compiled import CompiledFunction
from .state import BatchMean

FEW = 2  # so few batches are tested in less time than it takes to trace a test
PACKAGE = __package__.partition(".")[0]

logger = logging.getLogger(__name__)


class DivergenceError(ArithmeticError):
    """Training went wrong: the loss of an update is not finite, or far too large.

    Attributes:
        update: the number of that update's batch, as the optimizer counts them, from 1; one more
            than there were, if the last update left a loss that is too high.
        loss: its loss, before the update.
        vae: from `train`: the model after update − 2 updates, the last whose loss was fine.
    """

    vae = None

    def __init__(self, update, loss, largest):
        allowed = "finite" if largest == math.inf else f"below {largest:,.0f}"
        super().__init__(
            f"training diverged: the loss of update {update:,} is {loss:g}, and has to be "
            f"{allowed}. Choose a smaller learning rate."
        )
        self.update, self.loss, self.largest = update, loss, largest

    def __reduce__(self):  # so that it comes out of another process as it was
        return type(self), (self.update, self.loss, self.largest), vars(self)


class BlockRunner:
    """What Keras calls in place of its train or test function: it runs the next batches.

    Args:
        model: a `Trainer`.
        kind: "train" or "test".
        batches: `Batches`.
        steps: batches in an epoch.
        per_call: batches in a call.
        known: of a validation, what those before it have traced, a dict to which this adds.
    """

    def __init__(self, model, kind, batches, steps, per_call, known=None):
        self.model, self.kind, self.batches = model, kind, batches
        self.steps, self.per_call = steps, per_call
        self.window = min(batches.per_block, rounded_up(per_call))
        self.recorded = [each for each in model.metrics if isinstance(each, BatchMean)]
        self.records = [np.zeros([0, len(self.recorded)], np.float32)]
        self.largest_loss = model.largest_loss
        self.known = known
        self.traced = {}  # what its validation has traced while this `fit` runs
        self.strategy = model.distribute_strategy
        self.record = replicas.reader(self.strategy, [metric.last for metric in self.recorded])
        self.single, self.block = self._traced() or (self._keras_own(), None)

    def __call__(self, starts):
        """Runs the batches of a call; returns the logs of the last."""
        start = replicas.first(self.strategy, next(starts))
        count = min(self.per_call, self.steps - int(start))
        while count > 0:
            logs, records = self._run(min(count, self.window))
            count -= len(records)
            if self.kind == "train":
                self.records.append(records)
                self._check(records)
        return logs

    def updates(self):
        """Returns what is recorded of every batch so far: a dict of arrays [batches]."""
        columns = np.concatenate(self.records).T.copy()
        return {metric.name: column for metric, column in zip(self.recorded, columns, strict=True)}

    def _run(self, count):
        """Runs `count` batches or fewer; returns the logs of the last, and a record of each."""
        positions = self.batches.take(count if self.block else 1)
        size = self.batches.batch_size
        if self.block is None or len(positions) < size:
            logs = self.single(self.batches.gather(positions))
            return logs, self.record()[None]
        rows = np.zeros([self.window, size], np.int32)  # `count` of them are looked at
        rows.flat[: len(positions)], count = positions, len(positions) // size
        logs, records = self.block(self.batches.arrays, tf.constant(rows), tf.constant(count))
        return logs, records.numpy()[:count]

    def _check(self, records):
        """Raises `DivergenceError` where a loss, of the updates just made, is not small enough."""
        names = [metric.name for metric in self.recorded]
        if self.largest_loss is None or "loss" not in names:
            return
        losses = records[:, names.index("loss")]
        if not (fine := losses < self.largest_loss).all():
            bad = int(np.argmin(fine))
            made = int(private.batches_taken(self.model.optimizer).value.numpy())
            update = made - len(losses) + bad + 1
            raise DivergenceError(update, float(losses[bad]), self.largest_loss)

    def _keras_own(self):
        """Returns what runs one batch by the function that Keras makes of the model's step."""
        model, name = self.model, f"{self.kind}_function"
        one = name, "one batch, given"  # whatever `steps_per_execution` is
        if one not in (own := model.keras_functions):
            getattr(model, f"make_{name}")()
            own[one] = getattr(model, name)
        deal = functools.partial(replicas.shares, self.strategy)
        return lambda batch: own[one](iter([as_in_keras(**deal(batch))]))

    def _traced(self):
        """Returns what runs one batch, plainly, and what runs a block of them, if there are many.

        None, if they cannot be run so.
        """
        model = self.model
        if not model.runs_in_blocks():
            return None
        if self.kind == "test" and self.known is None and self.steps <= FEW:
            return lambda batch: model.test_step(as_in_keras(**batch)), None
        whole = tf.nest.map_structure(
            lambda array: tf.TensorSpec(array.shape, array.dtype), self.batches.arrays
        )
        batch = tf.nest.map_structure(
            lambda spec: tf.TensorSpec([None, *spec.shape[1:]], spec.dtype), whole
        )
        rows = tf.TensorSpec([self.window, self.batches.batch_size], tf.int32)
        known, key = {} if self.known is None else self.known, (str(whole), str(rows))
        if key in known:
            return known[key]
        try:
            if self.kind == "train" and not model.optimizer.built:
                model.optimizer.build(model.trainable_variables)
            step = getattr(model, f"{self.kind}_step")
            step = CompiledFunction(lambda batch: step(as_in_keras(**batch)), batch)
            block = functools.partial(_block, step, self.recorded)
            block = CompiledFunction(block, whole, rows, tf.TensorSpec([], tf.int32))
            made = functools.partial(step, compiled=False), block
        except Exception as error:
            private.raise_interrupt(error)
            logger.info(
                "%s_step goes Keras's own way, as it cannot be traced: %s", self.kind, error
            )
            made = None
        known[key] = made
        return made


def _block(step, recorded, arrays, rows, count):
    """Runs the first `count` of batches, whose images have these rows in arrays.

    Args:
        arrays: a structure of [N, ...].
        rows: [window, batch_size].

    Returns:
        The logs of the last, and the record of each, [window, metrics], zero beyond `count`.
    """
    dtype = recorded[0].dtype if recorded else "float32"
    size = rows.shape[0]

    def at(i):
        return tf.nest.map_structure(lambda each: _rows(each, tf.gather(rows, i)), arrays)

    def write(record, i, row):
        return tf.tensor_scatter_nd_update(record, [[i]], [tf.stack(row)]) if row else record

    def run(i, batch, record, row, logs):
        logs = step(batch)
        # Written a batch late: XLA would else fuse the sums over the batch into the writing, and
        # add them up anew for every number in the row, in plain loops.
        record = write(record, tf.maximum(i - 1, 0), row)
        row = [tf.cast(each.last, dtype) for each in recorded]
        return i + 1, at(tf.minimum(i + 1, size - 1)), record, row, logs

    row = [tf.zeros([], dtype) for _ in recorded]
    record = tf.zeros([size, len(recorded)], dtype)
    logs = tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), step.outputs)
    start = tf.constant(0), at(0), record, row, logs
    _, _, record, row, logs = tf.while_loop(lambda i, *_: i < count, run, start)
    return logs, write(record, tf.maximum(count - 1, 0), row)


def _rows(array, places):
    """Returns rows of an array: XLA finds long ones faster than many short ones."""
    found = tf.gather(tf.reshape(array, [array.shape[0], -1]), places)
    return tf.reshape(found, [places.shape[0], *array.shape[1:]])


def treats_images_apart(model):
    """Tells whether images of weight 0 in a batch change nothing, as far as one can know.

    One knows it of this package's methods, and of layers that look at one image at a time.
    """
    classes = [each for each in type(model).__mro__ if issubclass(each, keras.Model)]
    classes = [each for each in classes if each.__module__.partition(".")[0] != "keras"]
    places = [vars(each) for each in classes]
    places.append({name: it for name, it in vars(model).items() if hasattr(type(model), name)})
    methods = [it for place in places for it in place.values() if callable(it)]
    layers = [layer for part in model.layers for layer in getattr(part, "layers", [part])]
    simple = [keras.layers.Flatten, keras.layers.Dense, keras.layers.Reshape]
    known = [*classes, *methods, *(getattr(layer, "activation", None) for layer in layers)]
    homes = [(getattr(it, "__module__", None) or "").partition(".")[0] for it in known if it]
    return (
        set(homes) <= {PACKAGE, "keras"}
        and all(type(part) is keras.Sequential for part in model.layers)
        and all(type(layer) in simple and not layer.activity_regularizer for layer in layers)
    )
