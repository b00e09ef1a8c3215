"""`fit` and `evaluate` for arrays: blocks of batches, each block a call of one XLA program.

A weight update of a small model costs far less than what Python and TensorFlow's runtime add to
it. `BlockTrainer` is a `keras.Model` whose `fit`, given arrays, runs `train_step` in a compiled
loop over a block of batches, and whose `evaluate` does the same with `test_step`. These stay the
definitions of an update and of a test; epochs, callbacks, the progress bar, validation and
stopping stay Keras's.

What cannot run that way takes Keras's own path, without being told to: `tf.data` pipelines, a
`tf.distribute` strategy, class weights, `run_eagerly=True`, `jit_compile=False`.
"""

import math

import keras
import numpy as np
import tensorflow as tf

from . import checks
from .programs import shared

ROWS_PER_BLOCK = 2**15  # of `x`, in a call of the program: long beside the 3 ms that it costs


class DivergenceError(ArithmeticError):
    """Training went wrong: the loss of an update is not finite, or far too large.

    Attributes:
        update: that update's number, as the optimizer counts them, from 1.
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
        self.update, self.loss = update, loss


class BlockTrainer(keras.Model):
    """A Keras model that trains on arrays in compiled blocks.

    A subclass gives `seed`, an int, and a `train_step(data)` that takes `x` or
    `(x, None, sample_weight)`, updates `keras.metrics.Mean` metrics, one of them `loss`, and
    returns their results, and draws its noise from the seed and `optimizer.iterations` alone;
    and a `test_step(data)` that takes the same, updates the metrics, and draws its noise from the
    seed and the metrics.
    """

    largest_loss = math.inf  # `fit` on arrays raises `DivergenceError` where a loss is not below it
    _feed = None  # of the `fit` that runs
    _test_feed = None  # of the `evaluate` that runs, maybe inside `fit`
    _tested_with = None  # batches in a call of `test_function`, which Keras keeps

    def compile(self, optimizer="adam", *, steps_per_execution="auto", jit_compile=True, **kwargs):
        """Configures training, as `keras.Model.compile` does.

        Args:
            optimizer: any Keras optimizer, or its name.
            steps_per_execution: updates in a block. "auto" is as many as 32,768 images make, one
                at least, and just one where a callback wants every batch. Results do not depend
                on it.
            jit_compile: False takes Keras's own path.
            **kwargs: as in Keras.
        """
        self._automatic = steps_per_execution == "auto"
        super().compile(
            optimizer=optimizer,
            steps_per_execution=1 if self._automatic else steps_per_execution,
            jit_compile=jit_compile and not kwargs.get("run_eagerly"),
            **kwargs,
        )

    def get_compile_config(self):
        """Returns the arguments of `compile`, to be saved with the model."""
        config = super().get_compile_config()
        if config and self._automatic:
            config["steps_per_execution"] = "auto"
        return config

    def compile_from_config(self, config):
        """Compiles as `get_compile_config` says."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(self, x=None, y=None, batch_size=None, epochs=1, **kwargs):
        """Trains as `keras.Model.fit` does; arrays train in compiled blocks.

        Every pass over an array is in an order of its own, which depends on the model's seed and
        the number of updates before it, and on nothing else. With `steps_per_epoch`, an epoch is
        that many updates; passes then go on from epoch to epoch, and from one `fit` to the next.

        Returns:
            Keras's `History`. For arrays its `updates` holds what `train_step` returned at every
            single update: a dict of arrays [updates].

        Raises:
            DivergenceError: if an update's loss on arrays is not below `largest_loss`, infinity
                unless it is set; not where the callback `TerminateOnNaN` is to stop instead.
        """
        self.train_function = None
        validation = kwargs.get("validation_data")
        if isinstance(validation, tuple | list) and len(validation) == 3:
            held_out, targets, weights = validation
            kwargs["validation_data"] = held_out, _targets(held_out, targets, weights), weights
        if not self._runs_in_blocks(x) or kwargs.get("class_weight") is not None:
            y = _targets(x, y, kwargs.get("sample_weight"))
            return super().fit(x, y, batch_size, epochs, **kwargs)
        batch_size = 32 if batch_size is None else checks.integer("batch_size", batch_size, 1)
        weights, split = kwargs.pop("sample_weight", None), kwargs.pop("validation_split", 0.0)
        if split and kwargs.get("validation_data") is None:
            cut = int(len(x) * (1 - split))
            held, weights = (None, None) if weights is None else (weights[cut:], weights[:cut])
            kwargs["validation_data"], x = (x[cut:], _targets(x, None, held), held), x[:cut]
        kwargs.setdefault("validation_batch_size", batch_size)
        feed = _Feed(self, x, weights, batch_size, kwargs.pop("shuffle", True))
        steps = kwargs.pop("steps_per_epoch", None)
        if endless := steps is not None:
            checks.integer("steps_per_epoch", steps, 1)
        else:
            steps = feed.batches_per_pass
        callbacks = _listed(kwargs.get("callbacks"))
        if any(isinstance(callback, keras.callbacks.TerminateOnNaN) for callback in callbacks):
            feed.largest_loss = None
        per_call = self.steps_per_execution
        if self._automatic and not _wants_every_batch(callbacks, "train_batch", "batch"):
            per_call = min(feed.window, steps)
        feed.begin(steps, per_call, endless)
        self._feed, self.steps_per_execution, kept = feed, per_call, self.steps_per_execution
        try:
            # Keras counts single updates; the dataset says where in the epoch each block begins.
            starts = _starts(steps, per_call)
            history = super().fit(
                starts, epochs=epochs, steps_per_epoch=steps, shuffle=False, **kwargs
            )
        finally:
            self._feed, self.steps_per_execution, self.train_function = None, kept, None
        history.updates = feed.updates()
        return history

    def evaluate(
        self,
        x=None,
        y=None,
        batch_size=None,
        verbose="auto",
        sample_weight=None,
        steps=None,
        callbacks=None,
        **kwargs,
    ):
        """Evaluates as `keras.Model.evaluate` does; arrays are tested in compiled blocks."""
        kwargs |= {"verbose": verbose, "callbacks": callbacks}
        if steps is not None or not self._runs_in_blocks(x):
            y = _targets(x, y, sample_weight)
            kwargs |= {"sample_weight": sample_weight, "steps": steps}
            return super().evaluate(x, y, batch_size, **kwargs)
        kwargs.pop("_use_cached_eval_dataset", None)  # batches that Keras made of them, for `fit`
        batch_size = 32 if batch_size is None else checks.integer("batch_size", batch_size, 1)
        feed = _TestFeed(self, x, sample_weight, batch_size)
        feed.per_call = min(feed.window, feed.batches)
        if _wants_every_batch(_listed(callbacks), "test_batch"):
            feed.per_call = 1 if self._automatic else min(feed.window, self.steps_per_execution)
        starts = _starts(feed.batches, feed.per_call)
        kept = self.steps_per_execution, self.test_function
        self._test_feed, self.steps_per_execution, self.test_function = feed, feed.per_call, None
        try:
            return super().evaluate(starts, steps=feed.batches, **kwargs)
        finally:
            self._test_feed, (self.steps_per_execution, self.test_function) = None, kept

    def updates_so_far(self):
        """Returns the logs of every update that the running `fit` has made: as its `updates`."""
        return self._feed.updates()

    def make_train_function(self, force=False):
        """Lets `fit` call a compiled block where it would call a compiled `train_step`."""
        if self._feed is None:
            super().make_train_function(force)
        else:
            self.train_function = self._feed.train_block

    def make_test_function(self, force=False):
        """Lets `evaluate` call a compiled block, as `make_train_function` does.

        Keras's own is made anew when it is to take more or fewer batches in a call than before.
        """
        if self._test_feed is not None:
            self.test_function = self._test_feed.test_block
            return
        stale = self._tested_with != self.steps_per_execution
        self._tested_with = self.steps_per_execution
        super().make_test_function(force or stale)

    def _runs_in_blocks(self, x):
        return (
            isinstance(x, np.ndarray | tf.Tensor)
            and self.jit_compile
            and not self.run_eagerly
            and not tf.distribute.has_strategy()
            and self._distribute_strategy is None
        )


def _wants_every_batch(callbacks, *kinds):
    """Tells whether a callback of the user's own listens to single batches of one of the kinds."""
    base = keras.callbacks.Callback
    hooks = [f"on_{kind}_{side}" for kind in kinds for side in ("begin", "end")]
    return any(
        hook in vars(callback)  # where a `LambdaCallback` has it
        or (
            getattr(type(callback), hook) is not getattr(base, hook)
            and not callback.__module__.startswith("keras.")
        )
        for callback in callbacks
        if isinstance(callback, base)
        for hook in hooks
    )


def _targets(x, targets, sample_weight):
    """Returns targets, nowhere looked at, to go with weights: without, Keras would drop these."""
    if targets is None and isinstance(x, np.ndarray | tf.Tensor):  # a pipeline brings its own
        return sample_weight
    return targets


def _listed(callbacks):
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks = callbacks.callbacks
    return callbacks if isinstance(callbacks, list | tuple) else [callbacks]


def _starts(steps, per_call):
    """Returns a dataset of where the blocks of an epoch begin, epoch after epoch."""
    options = tf.data.Options()
    # Nothing to tune, and the thread that tunes can keep the end of a `fit` waiting: it sleeps
    # twice as long every time, at last as long as the whole `fit` has taken.
    options.autotune.enabled = False
    return tf.data.Dataset.range(0, steps, per_call).repeat().with_options(options)


class _Feed:
    """The batches of one call of `fit`, and the record of its updates."""

    def __init__(self, model, x, sample_weight, batch_size, shuffle):
        self.model, self.shuffle, self.batch_size = model, shuffle, batch_size
        self.size = len(x)
        self.batches_per_pass = -(-self.size // batch_size)
        self.window = max(1, ROWS_PER_BLOCK // batch_size)  # updates whose rows are known at once
        self.x = tf.convert_to_tensor(x)  # on the device, once
        # Only a short last batch, or weights of the user's own, make batches carry weights.
        self.weights = None
        if sample_weight is not None or self.size % batch_size:
            weights = _weights(sample_weight, self.size)
            # One more, of weight 0: the padding of a short batch points at it, and in `x`, where
            # XLA keeps positions within bounds, at the last image.
            self.weights = tf.constant(np.append(weights, 0), tf.float32)
        self.records, self.pass_key, self.window_key = [], None, None
        self.largest_loss = model.largest_loss

    def begin(self, steps, per_call, endless):
        """Sets how updates are counted.

        Args:
            steps: updates in an epoch.
            per_call: updates in a call of `train_block`.
            endless: whether passes go on over epochs, counted from the optimizer's first update.
                Else each epoch begins one.
        """
        self.steps, self.per_call, self.endless = steps, per_call, endless
        self.run_block = run_block.of(self.model)

    def train_block(self, starts):
        """Makes the next block's updates; returns the epoch's logs up to and including them."""
        start = int(next(starts))
        if start == 0:
            made = int(self.model.optimizer.iterations)
            # The update that passes are counted from, and where this epoch begins, from there.
            self.origin, self.epoch_start = (0, made) if self.endless else (made, 0)
        first = self.epoch_start + start
        last = self.epoch_start + min(start + self.per_call, self.steps)
        while first < last:
            number, place = divmod(first, self.window)
            count = min(last - first, self.window - place)
            logs, records = self.run_block(
                self.x, self.weights, self._rows(number), tf.constant(place), tf.constant(count)
            )
            columns = records.numpy()[:count].T.copy()
            names = [metric.name for metric in self.model.metrics]
            self.records.append(dict(zip(names, columns, strict=False)))
            self._check(self.records[-1]["loss"], self.origin + first + 1)
            first += count
        return logs

    def _check(self, losses, first):
        """Raises `DivergenceError` where a loss, of update `first` and on, is not small enough."""
        if self.largest_loss is not None and not (fine := losses < self.largest_loss).all():
            bad = int(np.argmin(fine))
            raise DivergenceError(first + bad, float(losses[bad]), self.largest_loss)

    def _rows(self, number):
        """Returns the positions in `x` of the digits of a window's updates: [window, batch_size].

        Always as many rows, used or not: one program, so the same bits, for blocks of any length.
        """
        if self.window_key != (key := (self.origin, number)):
            rows = np.zeros([self.window, self.batch_size], np.int32)
            first, filled = number * self.window, 0
            wanted = self.window if self.endless else min(self.window, self.steps - first)
            while filled < wanted:
                part = self._rest_of_pass(first + filled)[: wanted - filled]
                rows[filled : filled + len(part)] = part
                filled += len(part)
            self.window_key, self.window_rows = key, tf.constant(rows)
        return self.window_rows

    def _rest_of_pass(self, update):
        """Returns the positions of the digits from this update, counted from the origin, on."""
        number, batch = divmod(update, self.batches_per_pass)
        key = (self.model.seed, self.origin + number * self.batches_per_pass)
        if self.pass_key != key:
            order = np.full(self.batches_per_pass * self.batch_size, self.size, np.int32)
            rng = np.random.default_rng(key)
            order[: self.size] = rng.permutation(self.size) if self.shuffle else range(self.size)
            self.pass_key, self.order = key, order.reshape(-1, self.batch_size)
        return self.order[batch:]

    def updates(self):
        """Returns the logs of every update: a dict of arrays [updates]."""
        names = self.records[0] if self.records else ()
        return {name: np.concatenate([block[name] for block in self.records]) for name in names}


class _TestFeed:
    """The batches of one call of `evaluate`; `per_call` of them are tested in a call, at most."""

    def __init__(self, model, x, sample_weight, batch_size):
        self.model, self.batch_size = model, batch_size
        self.arrays = x, _weights(sample_weight, len(x))
        self.batches = -(-len(x) // batch_size)
        self.window = max(1, ROWS_PER_BLOCK // batch_size)
        self.program = test_block.of(model)

    def test_block(self, starts):
        """Tests the next batches; returns the logs of all that were tested."""
        first = int(next(starts))
        count = min(self.per_call, self.batches - first)
        block = [self._cut(array, first, count) for array in self.arrays]
        variables = self.model.metrics_variables
        state = [tf.convert_to_tensor(variable) for variable in variables]
        state = self.program(state, *block, tf.constant(count))
        for variable, value in zip(variables, state, strict=True):
            variable.assign(value)
        return self.model.get_metrics_result()

    def _cut(self, array, first, count):
        """Returns batches, [window, batch_size, ...]: always as many, whatever the array's size.

        Zeros pad them, which give images no weight.
        """
        rows = array[first * self.batch_size : (first + count) * self.batch_size]
        missing = self.window * self.batch_size - len(rows)
        padded = tf.pad(rows, [[0, missing], *[[0, 0]] * (rows.ndim - 1)])
        return tf.reshape(padded, [self.window, self.batch_size, *rows.shape[1:]])


def _weights(sample_weight, size):
    """Returns the weights of images, [size]: ones where there are none.

    Raises:
        ValueError: if they are of another shape.
    """
    weights = np.ones(size) if sample_weight is None else np.asarray(sample_weight)
    if weights.shape != (size,):
        raise ValueError(f"sample_weight must be [{size}]; received {weights.shape}.")
    return weights.astype(np.float32)


@shared
def test_block(model, state, batches, weights, count):
    """Tests the first `count` batches, [window, batch_size, ...], weights [window, batch_size].

    Args and Returns: the values of the model's metrics, before and after.
    """

    def test(i, state):
        for variable, value in zip(model.metrics_variables, state, strict=True):
            variable.assign(value)
        model.test_step((tf.gather(batches, i), None, tf.gather(weights, i)))
        return i + 1, [tf.identity(variable.value) for variable in model.metrics_variables]

    return tf.while_loop(lambda i, _: i < count, test, (tf.constant(0), state))[1]


@shared(trains=True)
def run_block(model, x, weights, rows, first, count):
    """Makes `count` weight updates on batches `first` and on of `rows`, [updates, batch_size].

    Returns:
        The model's metrics, and a row for every update, zero beyond `count`: what the metrics were,
        and the weight of its images in their means.
    """
    epoch_so_far = [tf.identity(variable) for variable in model.metrics_variables]
    names = [metric.name for metric in model.metrics]

    def write(records, i, row):
        return tf.tensor_scatter_nd_update(records, [[i]], [tf.stack(row)])

    def update(i, positions, records, last_row):
        for metric in model.metrics:
            metric.reset_state()  # so that the logs are this batch's alone
        batch = tf.reshape(tf.gather(flat, positions), [positions.shape[0], *x.shape[1:]])
        if weights is not None:
            batch = (batch, None, tf.gather(weights, positions))
        logs = model.train_step(batch)
        # Written an update late: XLA would else fuse the sums over the batch into the writing,
        # and add them up anew for every number in the row, in plain loops.
        row = [*(logs[name] for name in names), tf.identity(model.metrics[0].count.value)]
        # Looked up an update early: XLA would else look them up anew for every pixel. There is no
        # row after the last, and XLA takes the last again.
        after = tf.gather(rows, first + i + 1)
        return i + 1, after, write(records, tf.maximum(i - 1, 0), last_row), row

    flat = tf.reshape(x, [x.shape[0], -1])  # XLA gathers long rows faster than many short ones
    positions = tf.gather(rows, first)  # `rows[first]` would compile for each `first`
    records = tf.zeros([rows.shape[0], len(names) + 1])
    last_row = [tf.zeros([])] * (len(names) + 1)
    loop = (tf.constant(0), positions, records, last_row)
    _, _, records, last_row = tf.while_loop(lambda i, *_: i < count, update, loop)
    records = write(records, count - 1, last_row)
    for variable, value in zip(model.metrics_variables, epoch_so_far, strict=True):
        variable.assign(value)
    # As `update_state` of every column would do, whose many small sums take long to compile.
    # A sum and not a product of matrices, which a GPU would round to ten bits.
    weighed = tf.concat([records[:, :-1], tf.ones_like(records[:, -1:])], axis=1) * records[:, -1:]
    *totals, weight = tf.unstack(tf.reduce_sum(weighed, axis=0))  # over updates
    for metric, total in zip(model.metrics, totals, strict=True):
        metric.total.assign_add(total)
        metric.count.assign_add(weight)
    return model.get_metrics_result(), records
