"""`fit` and `evaluate` for arrays: blocks of batches, each block a call of one XLA program.

A weight update of a small model costs far less than what Python and TensorFlow's runtime add to
it. `BlockTrainer` is a `keras.Model` whose `fit`, given arrays, runs its `train_step` in a compiled
loop over a block of batches, and whose `evaluate` does the same with its `test_step`. Each call
traces the model as it then is. The batches, epochs, callbacks, progress bar, validation and
stopping are Keras's.

What cannot run that way takes Keras's own path, without being told to: pipelines, a
`tf.distribute` strategy, class weights, `run_eagerly=True`, `jit_compile=False`, a `train_step`
that cannot be traced for batches of any size. A short last batch is filled up with images of weight
0 where it is known that these change nothing; elsewhere it runs by itself, uncompiled.
"""

import contextlib
import functools
import inspect
import logging
import math

import keras
import numpy as np
import tensorflow as tf

from . import checks, internals
from .programs import Program

ROWS_PER_BLOCK = 2**15  # images in a call of the program: long beside the 1 ms that a call costs

logger = logging.getLogger(__name__)


class DivergenceError(ArithmeticError):
    """Training went wrong: the loss of an update is not finite, or far too large.

    Attributes:
        update: the number of that update's batch, as the optimizer counts them, from 1.
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


class BatchMean(keras.metrics.Mean):
    """A mean over images that also knows the mean over those of the last batch, `last`."""

    def __init__(self, name, dtype=None):
        super().__init__(name, dtype)
        self.last = self.add_variable((), "zeros", dtype=self.dtype, name="last")

    def update_state(self, values, sample_weight=None):
        """Takes the values of a batch's images, [B], with their weights, [B] or None."""
        super().update_state(values, sample_weight)
        self.last.assign(tf.cast(weighted_mean(values, sample_weight), self.dtype))


def weighted_mean(values, weights):
    """Returns the mean over images, of values [B] with weights [B] or None."""
    if weights is None:
        return tf.reduce_mean(values)
    weights = tf.cast(weights, values.dtype)
    # A batch in which no image has weight has no mean: it changes nothing.
    return tf.math.divide_no_nan(tf.reduce_sum(weights * values), tf.reduce_sum(weights))


def arguments_as_in_keras(method):
    """Gives a method of a model the signature of Keras's, and all its arguments by name."""
    signature = inspect.signature(getattr(keras.Model, method.__name__))

    @functools.wraps(method)
    def call(self, *args, **kwargs):
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        _, *arguments = bound.arguments.items()
        arguments = dict(arguments)
        return method(self, **arguments.pop("kwargs", {}), **arguments)

    call.__signature__ = signature
    return call


class BlockTrainer(keras.Model):
    """A Keras model that trains on arrays in compiled blocks.

    A subclass gives `seed`, an int; `checked_images(x)`, which refuses arrays that it cannot train
    on; a `train_step(data)` as Keras has it, that draws its noise from the seed and
    `internals.batches_taken(optimizer)` alone; and a `test_step(data)`. Of its metrics, those that
    are a `BatchMean` are recorded for every update.
    """

    largest_loss = math.inf  # `fit` on arrays raises `DivergenceError` where a loss is not below it
    _feed = None  # of the `fit` that runs
    _programs = None  # what is traced while that `fit` runs, also to validate
    _own_steps, _own_functions = 1, {}  # a call of Keras's own train and test functions; and these

    def compile(self, optimizer="adam", *args, **kwargs):
        """Configures training, as `keras.Model.compile` does, but for two defaults.

        Args:
            optimizer: any Keras optimizer, or its name.
            steps_per_execution: batches in a block; callbacks that hear batches hear one of each
                block. "auto", the default, is as many as 32,768 images make, and just one where a
                callback is to hear every batch. Results do not depend on it.
            jit_compile: False takes Keras's own path; "auto", the default, takes XLA wherever it
                can.
            *args, **kwargs: as in Keras.

        Raises:
            TypeError, ValueError: if `steps_per_execution` is no int >= 1.
        """
        signature = inspect.signature(keras.Model.compile)
        given = signature.bind(self, optimizer, *args, **kwargs).arguments
        del given["self"]
        steps, jit = given.get("steps_per_execution", "auto"), given.get("jit_compile", "auto")
        own = type(self).train_step.__module__.partition(".")[0] != __package__
        for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
            if given.get(name) and not own:
                raise ValueError(
                    f"{name} must not be given, as the model has its own loss and metrics; "
                    f"received {given[name]!r}. Override train_step and test_step to use it."
                )
        is_auto = isinstance(steps, str) and steps == "auto"
        self._automatic = {"steps_per_execution": is_auto, "jit_compile": jit == "auto"}
        self._own_steps = 1 if is_auto else checks.integer("steps_per_execution", steps, 1)
        self._own_functions = {}  # Keras's own train and test function, once made
        if jit == "auto":
            jit = not given.get("run_eagerly") and self._has_default_strategy()
            jit = jit and not internals.ops_are_watched()
        super().compile(**given | {"steps_per_execution": self._own_steps, "jit_compile": jit})

    def get_compile_config(self):
        """Returns the arguments of `compile`, to be saved with the model."""
        config = super().get_compile_config()
        return config and config | {
            name: "auto" for name, is_automatic in self._automatic.items() if is_automatic
        }

    def compile_from_config(self, config):
        """Compiles as `get_compile_config` says."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    @arguments_as_in_keras
    def fit(self, x, y, batch_size, sample_weight, **kwargs):
        """Trains as `keras.Model.fit` does; arrays are checked, and train in compiled blocks.

        Every pass over an array is in an order of its own, which depends on the model's seed and
        the number of batches before it, and on nothing else. With `steps_per_epoch`, an epoch is
        that many updates; passes then go on from epoch to epoch, and from one `fit` to the next.

        Returns:
            Keras's `History`. For arrays its `updates` holds the metrics of every single update's
            own batch: a dict of arrays [updates].

        Raises:
            TypeError, ValueError: before any work, if arrays are not images of this model's shape
                with values 0 and 1, or another argument is of the wrong kind, shape or range.
            DivergenceError: if an update's loss on arrays is not below `largest_loss`, infinity
                unless it is set; not where the callback `TerminateOnNaN` is to stop instead.
        """
        kwargs["epochs"] = checks.integer("epochs", kwargs["epochs"], 1)
        validation, callbacks = kwargs["validation_data"], kwargs["callbacks"]
        if validation is not None and not is_pipeline(validation):
            held_out = keras.utils.unpack_x_y_sample_weight(validation)
            kwargs["validation_data"] = self._checked(*held_out)
        if is_pipeline(x) or not self.compiled:
            with self._calling("train_function", None):
                return super().fit(x, y, batch_size, sample_weight=sample_weight, **kwargs)
        arrays = self._checked(x, y, sample_weight)
        batch_size = 32 if batch_size is None else checks.integer("batch_size", batch_size, 1)
        split = checks.number("validation_split", kwargs.pop("validation_split"), 0, 1)
        kept = int(len(arrays[0]) * (1 - split))
        if not kept:
            raise ValueError(
                f"validation_split must leave images to train on; received {split} of {len(x)}."
            )
        if split and validation is None:
            kwargs["validation_data"] = _each(lambda array: array[kept:], arrays)
            arrays = _each(lambda array: array[:kept], arrays)
        kwargs["validation_batch_size"] = kwargs["validation_batch_size"] or batch_size
        batches = _Batches(self, arrays, batch_size, kwargs["shuffle"])
        kwargs["shuffle"] = False  # Keras is given them in order
        if (steps := kwargs["steps_per_epoch"]) is not None:
            batches.is_endless, steps = True, checks.integer("steps_per_epoch", steps, 1)
        kwargs["steps_per_epoch"] = steps = steps or batches.per_pass
        if kwargs["class_weight"] is not None or not self._has_default_strategy():
            with self._calling("train_function", None):
                return super().fit(batches.as_dataset(), **kwargs)
        kinds = ["train_batch", "batch", *["test_batch"] * is_pipeline(validation)]
        per_call = self._batches_per_call(batches, steps, callbacks, kinds)
        with self._calling("train_function", per_call):
            self._programs = {}
            self._feed = feed = _Feed(self, "train", batches, steps, per_call)
            if any(isinstance(each, keras.callbacks.TerminateOnNaN) for each in _listed(callbacks)):
                feed.largest_loss = None
            self.train_function = feed
            # Keras counts single updates; the dataset says where in the epoch each block begins.
            history = super().fit(_starts(steps, per_call), **kwargs)
        history.updates = feed.updates()
        return history

    @arguments_as_in_keras
    def evaluate(self, x, y, batch_size, sample_weight, steps, callbacks, **kwargs):
        """Evaluates as `keras.Model.evaluate` does; arrays are tested in compiled blocks.

        It gives the means of the model's own metrics; `vae_tf.evaluate` gives bounds with errors.

        Raises:
            TypeError, ValueError: if arrays or other arguments are not as `fit` takes them.
        """
        kwargs |= {"steps": steps, "callbacks": callbacks}
        if is_pipeline(x) or not self.compiled:
            # What `fit` validates on comes in as many batches a call as `fit` has set.
            inside = kwargs.get("_use_cached_eval_dataset")
            with self._calling("test_function", self.steps_per_execution if inside else None):
                return super().evaluate(x, y, batch_size, sample_weight=sample_weight, **kwargs)
        is_checked = kwargs.pop("_use_cached_eval_dataset", False)
        arrays = (x, y, sample_weight) if is_checked else self._checked(x, y, sample_weight)
        batch_size = 32 if batch_size is None else checks.integer("batch_size", batch_size, 1)
        if steps is not None or not self._runs_in_blocks():
            x, y, weights = arrays
            y = weights if y is None else y  # Keras drops weights that come without targets
            with self._calling("test_function", None):
                return super().evaluate(x, y, batch_size, sample_weight=weights, **kwargs)
        batches = _Batches(self, arrays, batch_size, shuffle=False)
        kwargs["steps"] = steps = batches.per_pass
        per_call = self._batches_per_call(batches, steps, callbacks, ["test_batch"])
        with self._calling("test_function", per_call):
            self.test_function = _Feed(self, "test", batches, steps, per_call)
            return super().evaluate(_starts(steps, per_call), **kwargs)

    @arguments_as_in_keras
    def predict(self, x, **kwargs):
        """Predicts as `keras.Model.predict` does; arrays are checked first, as in `fit`."""
        return super().predict(x if is_pipeline(x) else self.checked_images(x), **kwargs)

    @arguments_as_in_keras
    def train_on_batch(self, x, y, sample_weight, **kwargs):
        """Makes one update as in Keras; arrays are checked first, as in `fit`."""
        x, y, sample_weight = self._checked(x, y, sample_weight)
        with self._calling("train_function", None):
            return super().train_on_batch(x, y, sample_weight, **kwargs)

    @arguments_as_in_keras
    def test_on_batch(self, x, y, sample_weight, **kwargs):
        """Tests one batch as in Keras; arrays are checked first, as in `fit`."""
        x, y, sample_weight = self._checked(x, y, sample_weight)
        with self._calling("test_function", None):
            return super().test_on_batch(x, y, sample_weight, **kwargs)

    @arguments_as_in_keras
    def predict_on_batch(self, x):
        """Predicts one batch as in Keras; arrays are checked first, as in `fit`."""
        return super().predict_on_batch(self.checked_images(x))

    def updates_so_far(self):
        """Returns the metrics of every update that the running `fit` has made: as its `updates`."""
        return self._feed.updates()

    def _checked(self, x, y, sample_weight):
        """Returns images, targets and weights, the last two maybe None, as arrays of one length."""
        x = self.checked_images(x)
        if sample_weight is not None:
            sample_weight = checks.image_weights("sample_weight", sample_weight, len(x))
        y = np.asarray(y) if isinstance(y, list) else y
        for array in tf.nest.flatten(y):
            if array is not None and (not np.ndim(array) or len(array) != len(x)):
                raise ValueError(f"y must be as long as x, {len(x)}; received {np.shape(array)}.")
        return x, y, sample_weight

    @contextlib.contextmanager
    def _calling(self, name, steps):
        """Lets Keras call one of its functions meanwhile, for so many batches at once.

        It is to be set, or is Keras's own, made once for every number; None is that of `compile`.
        What is set here was set for a `fit` that may still run, and is set again.
        """
        names = name, "steps_per_execution", "_feed", "_programs"
        outer = {each: getattr(self, each, None) for each in names}
        self.steps_per_execution = steps = steps or self._own_steps
        own, before = self._own_functions, self._own_functions.get((name, steps))
        setattr(self, name, before)
        try:
            yield
        finally:
            if not isinstance(function := getattr(self, name), _Feed):
                own[name, steps] = function
            for each, value in outer.items():
                setattr(self, each, value)

    def _has_default_strategy(self):
        is_current = self.distribute_strategy is tf.distribute.get_strategy()
        return is_current and not tf.distribute.has_strategy()

    def _runs_in_blocks(self):
        return self.jit_compile and not self.run_eagerly and self._has_default_strategy()

    def _batches_per_call(self, batches, steps, callbacks, kinds):
        if not self._automatic["steps_per_execution"]:
            return self._own_steps
        listens = any(_listens(each, kinds) for each in _listed(callbacks))
        return 1 if listens else min(batches.per_block, steps)


def _treats_images_apart(model):
    """Tells whether images of weight 0 in a batch change nothing, as far as one can know.

    One knows it of this package's methods, and of layers that look at one image at a time.
    """
    classes = [each for each in type(model).__mro__ if issubclass(each, BlockTrainer)]
    places = [vars(each) for each in classes]
    places.append({name: it for name, it in vars(model).items() if hasattr(type(model), name)})
    methods = [it for place in places for it in place.values() if callable(it)]
    layers = [layer for part in model.layers for layer in getattr(part, "layers", [part])]
    simple = [keras.layers.Flatten, keras.layers.Dense, keras.layers.Reshape]
    known = [*classes, *methods, *(getattr(layer, "activation", None) for layer in layers)]
    homes = [(getattr(it, "__module__", None) or "").partition(".")[0] for it in known if it]
    return (
        set(homes) <= {__package__, "keras"}
        and all(type(part) is keras.Sequential for part in model.layers)
        and all(type(layer) in simple and not layer.activity_regularizer for layer in layers)
    )


def is_pipeline(x):
    """Tells whatever yields batches, such as a `tf.data.Dataset`, from arrays and from mistakes."""
    if isinstance(x, keras.utils.PyDataset):
        return True
    arrays = list | tuple | dict | set | str | bytes
    return hasattr(x, "__iter__") and not hasattr(x, "__array__") and not isinstance(x, arrays)


def _listens(callback, kinds):
    """Tells whether a callback is to hear single batches of one of the kinds."""
    base = keras.callbacks.Callback
    if type(callback).__module__.startswith("keras."):
        saves = getattr(callback, "save_freq", None)
        if saves == "epoch" or isinstance(callback, keras.callbacks.ProgbarLogger):
            return False
    hooks = [f"on_{kind}_{side}" for kind in kinds for side in ("begin", "end")]
    methods = [(getattr(callback, hook, None), getattr(base, hook)) for hook in hooks]
    return any(getattr(method, "__func__", method) not in (None, own) for method, own in methods)


def _listed(callbacks):
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks = callbacks.callbacks
    return callbacks if isinstance(callbacks, list | tuple) else [callbacks]


def _each(function, arrays):
    return tf.nest.map_structure(lambda each: None if each is None else function(each), arrays)


def _starts(steps, per_call):
    """Returns a dataset of where the blocks of an epoch begin, epoch after epoch."""
    options = tf.data.Options()
    # Nothing to tune, and the thread that tunes can keep the end of a `fit` waiting: it sleeps
    # twice as long every time, at last as long as the whole `fit` has taken.
    options.autotune.enabled = False
    return tf.data.Dataset.range(0, steps, per_call).repeat().with_options(options)


class _Batches:
    """Arrays, and the order in which their images come, batch after batch and pass after pass."""

    def __init__(self, model, arrays, batch_size, shuffle):
        self.model, self.shuffle, self.size = model, shuffle, len(arrays[0])
        named = zip(("x", "y", "weights"), arrays, strict=True)
        self.arrays = {  # on the device, once
            name: tf.nest.map_structure(tf.convert_to_tensor, array)
            for name, array in named
            if array is not None
        }
        self.batch_size = min(batch_size, self.size)
        # Of weight 0; else a short last batch is a batch of its own.
        self.is_padded = (
            bool(self.size % self.batch_size)
            and model._runs_in_blocks()
            and _treats_images_apart(model)
        )
        if self.is_padded:
            arrays = {"weights": tf.ones(self.size)} | self.arrays
            row = tf.nest.map_structure(lambda array: tf.zeros_like(array[:1]), arrays)
            self.arrays = tf.nest.map_structure(lambda *pair: tf.concat(pair, 0), arrays, row)
        self.per_pass = -(-self.size // self.batch_size)
        self.per_block = max(1, ROWS_PER_BLOCK // self.batch_size)
        self.is_endless = False  # else the first pass begins with the first batch that is taken
        self.rest = None  # of the pass, as positions

    def take(self, count):
        """Returns the positions of the next images: of `count` batches at most, or a short one."""
        if self.rest is None:
            made, place = 0, 0
            if self.shuffle or self.is_endless:
                made = int(internals.batches_taken(self.model.optimizer).value.numpy())
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

    def as_dataset(self):
        """Returns a dataset of single batches as Keras takes them, without end."""

        def positions():
            while True:
                yield self.take(1)

        def batch(positions):
            found = self.gather(positions)
            targets = {"y": found["weights"]} if "weights" in found else {}
            return _data(**targets | found)  # Keras drops weights that come without targets

        rows = tf.TensorSpec([None], tf.int32)
        return tf.data.Dataset.from_generator(positions, output_signature=rows).map(batch)


def _data(x, y=None, weights=None):
    """Returns a batch as Keras gives it to `train_step`."""
    return (x, y, weights) if weights is not None else x if y is None else (x, y)


class _Feed:
    """What Keras calls in place of its train or test function: it runs the next batches.

    Args:
        model: a `BlockTrainer`.
        kind: "train" or "test".
        batches: a `_Batches`.
        steps: batches in an epoch.
        per_call: batches in a call.
    """

    def __init__(self, model, kind, batches, steps, per_call):
        self.model, self.kind, self.batches = model, kind, batches
        self.steps, self.per_call = steps, per_call
        # A few sizes, an eighth too large at most, so that calls of any length need few programs.
        step = 1 << max(per_call.bit_length() - 3, 0)
        self.window = min(batches.per_block, -(-per_call // step) * step)
        self.recorded = [each for each in model.metrics if isinstance(each, BatchMean)]
        self.records = [np.zeros([0, len(self.recorded)], np.float32)]
        self.largest_loss = model.largest_loss
        self.single, self.block = self._traced() or (self._keras_own(), None)

    def __call__(self, starts):
        """Runs the batches of a call; returns the logs of the last."""
        count = min(self.per_call, self.steps - int(next(starts)))
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
            return logs, np.array([[metric.last.value.numpy() for metric in self.recorded]])
        rows = np.zeros([self.window, size], np.int32)  # `count` of them are looked at
        rows.flat[: len(positions)], count = positions, len(positions) // size
        logs, records = self.block(self.batches.gather(rows), tf.constant(count))
        return logs, records.numpy()[:count]

    def _check(self, records):
        """Raises `DivergenceError` where a loss, of the updates just made, is not small enough."""
        names = [metric.name for metric in self.recorded]
        if self.largest_loss is None or "loss" not in names:
            return
        losses = records[:, names.index("loss")]
        if not (fine := losses < self.largest_loss).all():
            bad = int(np.argmin(fine))
            made = int(internals.batches_taken(self.model.optimizer).value.numpy())
            update = made - len(losses) + bad + 1
            raise DivergenceError(update, float(losses[bad]), self.largest_loss)

    def _keras_own(self):
        """Returns what runs one batch by the function that Keras makes of the model's step."""
        model, name = self.model, f"{self.kind}_function"
        if name not in (own := model._own_functions):
            getattr(model, f"make_{name}")()
            own[name] = getattr(model, name)
        return lambda batch: own[name](iter([_data(**batch)]))

    def _traced(self):
        """Returns what runs one batch, plainly, and what runs a block of them, or None."""
        model, arrays, size = self.model, self.batches.arrays, self.batches.batch_size
        if not model._runs_in_blocks():
            return None

        def specs(*batch):
            return tf.nest.map_structure(
                lambda array: tf.TensorSpec([*batch, *array.shape[1:]], array.dtype), arrays
            )

        known, key = model._programs, (self.kind, str(specs(self.window, size)))
        if known is not None and key in known:
            return known[key]
        try:
            if self.kind == "train" and not model.optimizer.built:
                model.optimizer.build(model.trainable_variables)
            step = getattr(model, f"{self.kind}_step")
            step = Program(lambda batch: step(_data(**batch)), specs(None))
            block = functools.partial(_block, step, self.recorded)
            block = Program(block, specs(self.window, size), tf.TensorSpec([], tf.int32))
            made = functools.partial(step, compiled=False), block
        except Exception as error:
            logger.info(
                "%s_step goes Keras's own way, as it cannot be traced: %s", self.kind, error
            )
            made = None
        if known is not None:
            known[key] = made
        return made


def _block(step, recorded, batches, count):
    """Runs the first `count` of batches, [window, batch_size, ...].

    Returns:
        The logs of the last, and the record of each, [window, metrics], zero beyond `count`.
    """
    dtype = recorded[0].dtype if recorded else "float32"
    size = tf.nest.flatten(batches)[0].shape[0]

    def at(i):
        return tf.nest.map_structure(lambda each: tf.gather(each, i), batches)

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
