"""A `keras.Model` whose `fit` and `evaluate`, given arrays, run compiled blocks of batches.

Each call traces the model as it then is; validation is traced once in a `fit`. The batches, epochs,
callbacks, progress bar, validation and stopping are Keras's. Without being told to, pipelines, and
what cannot be traced, take Keras's own path, as with `run_eagerly=True` and `jit_compile=False`.
Under a `tf.distribute` strategy arrays run batch by batch, uncompiled.
"""

import contextlib
import functools
import inspect
import math
import numbers
import types
import warnings

import keras
import numpy as np
import tensorflow as tf

from . import checks, private, replicas
from .batches import (
    Batches,
    as_target,
    block_starts,
    digest,
    each_array,
    is_pipeline,
    weighted_by_class,
)
from .blocks import PACKAGE, BlockRunner, treats_images_apart
from .noise import draw_pixels
from .state import BatchMean, Setting, weighted_mean

LARGEST_WEIGHT = 1e10  # gradients have three factors of that size, and float32 ends at 3e38


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


class Trainer(keras.Model):
    """What `VAE` stands on: seed, noise, metrics, and training in compiled blocks.

    A subclass gives `latent_dim`, `prior()` and `likelihood(latents)`; a `train_step(data)` as
    Keras has it, that draws its noise from `batch_seed()` alone; and a `test_step(data)`. Of its
    metrics, those that are a `BatchMean` are recorded for every update.
    """

    dynamic_binarization = False  # whether `fit` and `evaluate` take grey levels in [0, 1]
    largest_loss = math.inf  # `fit` on arrays raises `DivergenceError` where a loss is not below it
    _own_steps = 1  # batches in a call of Keras's own functions

    seed = Setting(checks.integer, 0, dtype="int64", doc="Of noise and order, an int in [0, 2³¹).")

    def __init__(self, image_shape, seed, reported, **kwargs):
        super().__init__(**kwargs)
        # Sums of hundreds of logarithms, and what is near them, need the precision of float32.
        self.float_type = "float64" if self.compute_dtype == "float64" else "float32"
        self.image_shape = checks.image_shape("image_shape", image_shape)
        self._settings = types.SimpleNamespace()  # which Keras does not look into
        self.seed = seed
        self.keras_functions = {}  # Keras's own train and test function, once made
        self._reported = [BatchMean(name, self.float_type) for name in reported]
        self._tested = types.SimpleNamespace(images=keras.metrics.Sum(dtype="int64"))

    def __setattr__(self, name, value):
        """Sets an attribute; a layer that was there, and is nowhere else, is no longer part."""
        private.let_go(self, name)
        super().__setattr__(name, value)

    @property
    def variables(self):
        """All weights and state: Keras's, with the numbers that can be set."""
        settings = vars(self._settings).values() if hasattr(self, "_settings") else ()
        return [*super().variables, *(variable for _, variable in settings)]

    @property
    def metrics(self):
        """The running means of what is reported, over the images seen so far, and others set."""
        # Keras has a `loss` of its own before them, for losses that are given to `compile`.
        return list({metric.name: metric for metric in super().metrics}.values())

    def reset_metrics(self):
        """Has the metrics, and the noise of tests, begin anew; Keras calls it."""
        super().reset_metrics()
        self._tested.images.reset_state()

    def setting(self, name):
        """Returns the value, as a tensor, of a number that can be set."""
        return tf.identity(getattr(self._settings, name)[1].value)

    def unpack(self, data):
        """Returns images [B, height, width] and weights, [B] or None, that Keras gives a step."""
        images, _, weights = keras.utils.unpack_x_y_sample_weight(data)
        return checks.batch_of_images(images, self.image_shape), weights

    def observed(self, images, seed):
        """Returns images as the likelihood sees them: drawn from grey levels, or as they are."""
        return draw_pixels(images, seed) if self.dynamic_binarization else images

    def batches_trained(self):
        """Returns how many batches the optimizer was given so far, an int64 tensor."""
        return tf.identity(private.batches_taken(self.optimizer).value)

    def batch_seed(self, number):
        """Returns the two integers that noise number `number` comes from; replicas differ."""
        pair = tf.stack([tf.cast(self.setting("seed"), tf.int32), tf.cast(number, tf.int32)])
        return replicas.told_apart(pair)

    def test_seed(self, images):
        """Returns the two integers that the noise of a test batch comes from."""
        # Images seen so far tell the batches apart; the bits are flipped to stay clear of training.
        tested = replicas.total(tf.identity(self._tested.images.total.value))
        seed = tf.bitwise.invert(self.batch_seed(tested))
        self._tested.images.update_state(tf.shape(images, tf.int64)[0])
        return seed

    def with_layer_losses(self, losses):
        """Returns losses per image, [B], with what layers add to each, such as regularizers."""
        return losses + sum(tf.cast(tf.reduce_sum(each), self.float_type) for each in self.losses)

    def scaled_mean(self, losses, weights):
        """Returns the mean over images, of a replica its share, scaled as the optimizer wants."""
        return self.optimizer.scale_loss(weighted_mean(losses, weights))

    def apply_gradients(self, tape, loss):
        """Makes the optimizer's update for a scaled loss that a tape has recorded."""
        if weights := self.trainable_variables:
            gradients = _in_turn(tape.gradient(loss, weights))
            self.optimizer.apply_gradients(zip(gradients, weights, strict=True))

    def report(self, weights, *values):
        """Takes the values of a batch's images, [B] each, in the order of the reported metrics."""
        for metric, each in zip(self._reported, values, strict=True):
            metric.update_state(each, sample_weight=weights)
        return {metric.name: metric.result() for metric in self._reported}

    def compile(self, optimizer="adam", *args, **kwargs):
        """Configures training, as `keras.Model.compile` does, but for two defaults.

        Args:
            optimizer: any Keras optimizer, or its name.
            steps_per_execution: batches in a call; callbacks that hear batches hear one of each
                call. "auto", the default, is as many as 32,768 images make, or fewer large ones,
                and just one where a callback is to hear every batch. Results do not depend on it.
            jit_compile: False takes Keras's own path; "auto", the default, takes XLA wherever it
                can.
            *args, **kwargs: as in Keras.

        Raises:
            TypeError, ValueError: if `steps_per_execution` is no int >= 1, or a loss or metrics
                are given to a model that has its own.
        """
        signature = inspect.signature(keras.Model.compile)
        given = signature.bind(self, optimizer, *args, **kwargs).arguments
        del given["self"]
        steps, jit = given.get("steps_per_execution", "auto"), given.get("jit_compile", "auto")
        own = type(self).train_step.__module__.partition(".")[0] != PACKAGE
        for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
            if given.get(name) and not own:
                raise ValueError(
                    f"{name} must not be given, as the model has its own loss and metrics; "
                    f"received {given[name]!r}. Override train_step and test_step to use it."
                )
        is_auto = isinstance(steps, str) and steps == "auto"
        self._automatic = {"steps_per_execution": is_auto, "jit_compile": jit == "auto"}
        self._own_steps = 1 if is_auto else checks.integer("steps_per_execution", steps, 1)
        self.keras_functions = {}  # Keras's own train and test function, once made
        if jit == "auto":
            jit = not given.get("run_eagerly") and self._has_default_strategy()
            jit = jit and not private.ops_are_watched()
        super().compile(**given | {"steps_per_execution": self._own_steps, "jit_compile": jit})

    def make_train_function(self, force=False):
        """Makes what Keras calls for a step of training: of replicas ours, else Keras's own."""
        self._make_function_of("train", force)

    def make_test_function(self, force=False):
        """Makes what Keras calls for a step of a test: of replicas ours, else Keras's own."""
        self._make_function_of("test", force)

    def _make_function_of(self, kind, force):
        if force:
            self._forget_functions(f"{kind}_function")
        if not self._has_replicas():
            getattr(super(), f"make_{kind}_function")(force)
        elif force or getattr(self, f"{kind}_function") is None:
            if self.jit_compile:
                raise ValueError(
                    "jit_compile must be 'auto' or False under a strategy with replicas, which XLA "
                    "cannot compile; received True."
                )
            function = replicas.step_function(self, getattr(self, f"{kind}_step"))
            setattr(self, f"{kind}_function", function)

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
                with values that it takes, or another argument is of the wrong kind or range.
            DivergenceError: if an update's loss on arrays is not below `largest_loss`, infinity
                unless it is set; not where the callback `TerminateOnNaN` is to stop instead.
        """
        kwargs["epochs"] = checks.integer("epochs", kwargs["epochs"], 1)
        for name in ("validation_steps", "validation_batch_size", "validation_freq"):
            if isinstance(value := kwargs[name], numbers.Number | str):
                kwargs[name] = checks.integer(name, value, 1)
        strategy, callbacks = self.distribute_strategy, kwargs["callbacks"]
        x, validation = (
            replicas.as_numbers(strategy, each) for each in (x, kwargs["validation_data"])
        )
        kwargs["validation_data"] = validation
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
            kwargs["validation_data"] = each_array(lambda array: array[kept:], arrays)
            arrays = each_array(lambda array: array[:kept], arrays)
        arrays = weighted_by_class(arrays, kwargs.pop("class_weight"))
        kwargs["validation_batch_size"] = kwargs["validation_batch_size"] or batch_size
        batches = Batches(self, arrays, batch_size, kwargs["shuffle"], self._may_pad())
        kwargs["shuffle"] = False  # Keras is given them in order
        if (steps := kwargs["steps_per_epoch"]) is not None:
            batches.is_endless, steps = True, checks.integer("steps_per_epoch", steps, 1)
        kwargs["steps_per_epoch"] = steps = steps or batches.per_pass
        if replicas.are_processes(strategy):
            facts = {"seed": self.seed, "batch_size": batch_size, "steps": steps}
            facts["SHA-256 of arrays"] = digest(tf.nest.flatten(arrays))
            replicas.check_same(strategy, facts | {"epochs": kwargs["epochs"]})
        kinds = ["train_batch", "batch", *["test_batch"] * is_pipeline(validation)]
        per_call = self._batches_per_call(batches, steps, callbacks, kinds)
        with self._calling("train_function", per_call):
            self.train_function = runner = BlockRunner(self, "train", batches, steps, per_call)
            if any(isinstance(each, keras.callbacks.TerminateOnNaN) for each in _listed(callbacks)):
                runner.largest_loss = None
            # Keras counts single updates; the dataset says where in the epoch each block begins.
            history = super().fit(self._starts(steps, per_call), **kwargs)
        history.updates = runner.updates()
        return history

    @arguments_as_in_keras
    def evaluate(self, x, y, batch_size, sample_weight, steps, callbacks, **kwargs):
        """Evaluates as `keras.Model.evaluate` does; arrays are tested in compiled blocks.

        It gives the means of the model's own metrics; `vae_tf.evaluate` gives bounds with errors.

        Raises:
            TypeError, ValueError: if arrays or other arguments are not as `fit` takes them.
        """
        kwargs["callbacks"] = callbacks
        x = replicas.as_numbers(self.distribute_strategy, x)
        if is_pipeline(x) or not self.compiled:
            # What `fit` validates on comes in as many batches a call as `fit` has set.
            inside = kwargs.get("_use_cached_eval_dataset")
            with self._calling("test_function", self.steps_per_execution if inside else None):
                kwargs |= {"sample_weight": sample_weight, "steps": steps}
                return super().evaluate(x, y, batch_size, **kwargs)
        is_validation = kwargs.pop("_use_cached_eval_dataset", False)  # `fit` has checked it
        known = getattr(self.train_function, "traced", {}) if is_validation else None
        arrays = (x, y, sample_weight) if is_validation else self._checked(x, y, sample_weight)
        batch_size = 32 if batch_size is None else checks.integer("batch_size", batch_size, 1)
        batches = Batches(self, arrays, batch_size, False, self._may_pad())
        most = batches.per_pass
        steps = most if steps is None else checks.integer("steps", steps, 1)
        if steps > most:
            warnings.warn(f"{steps} steps run out of data: {most} are made", stacklevel=3)
        kwargs["steps"] = steps = min(steps, most)
        per_call = self._batches_per_call(batches, steps, callbacks, ["test_batch"])
        with self._calling("test_function", per_call):
            self.test_function = BlockRunner(self, "test", batches, steps, per_call, known)
            return super().evaluate(self._starts(steps, per_call), **kwargs)

    @arguments_as_in_keras
    def predict(self, x, **kwargs):
        """Predicts as `keras.Model.predict` does; arrays are checked first: `checked_images`."""
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
        """Predicts one batch as in Keras; arrays are checked first: `checked_images`."""
        return super().predict_on_batch(self.checked_images(x))

    def checked_images(self, images):
        """Returns images as the likelihood takes them, [N, height, width]: uint8, or floats.

        [N, height, width, 1] is taken as well.

        Raises:
            TypeError: if they are not numbers.
            ValueError: if they are of another shape, N is 0, or the likelihood does not take them;
                or if the model's prior or likelihood is itself of another shape.
        """
        images = checks.images("images", images, self.image_shape)
        checks.distribution_shape("prior", self.prior(), [], [self.latent_dim])
        zeros = tf.zeros([1, self.latent_dim])
        return checks.supported_images("images", images, self.likelihood(zeros))

    def trained_images(self, images):
        """Returns images as `fit` and `evaluate` take them: as `checked_images`, or grey levels.

        Raises:
            TypeError, ValueError: as `checked_images`, or if a level is outside [0, 1].
        """
        if not self.dynamic_binarization:
            return self.checked_images(images)
        levels = checks.grey_levels("images", images, self.image_shape)
        self.checked_images((levels[:1] > 0.5).astype(np.uint8))  # the model takes what is drawn
        return levels

    def check_weights(self):
        """Does nothing, if all weights are numbers within ±1e10.

        Raises:
            ValueError: if one is beyond, infinite or NaN: there float32 may fail.
        """
        if not tf.executing_eagerly():  # being traced, weights have no values yet
            return
        largest = float(np.max([np.abs(weight).max() for weight in self.get_weights()]))
        if not largest <= LARGEST_WEIGHT:  # so NaN is caught as well
            raise ValueError(
                f"vae must have weights within ±{LARGEST_WEIGHT:g}; received one of size "
                f"{largest:g}. Train it again, with a lower learning rate."
            )

    @arguments_as_in_keras
    def export(self, filepath, input_signature, **kwargs):
        """Exports as `keras.Model.export` does; as `call`, for float32 images, unless told else."""
        if input_signature is None:
            input_signature = [tf.TensorSpec([None, *self.image_shape], tf.float32)]
        return super().export(filepath, input_signature=input_signature, **kwargs)

    def _checked(self, x, y, sample_weight):
        """Returns images, targets and weights, the last two maybe None, as arrays of one length."""
        x = self.trained_images(x)
        if sample_weight is not None:
            sample_weight = checks.image_weights("sample_weight", sample_weight, len(x))
        if y is None:
            return x, y, sample_weight
        if isinstance(y, list):  # several targets, as Keras has them, or one, number by number
            are_arrays = [np.ndim(each) and hasattr(each, "shape") for each in y]
            y = tuple(y) if all(are_arrays) else np.array(y)
        for array in tf.nest.flatten(y):
            if not np.ndim(array) or len(array) != len(x):
                raise ValueError(f"y must be as long as x, {len(x)}; received {np.shape(array)}.")
        return x, tf.nest.map_structure(as_target, y), sample_weight

    @contextlib.contextmanager
    def _calling(self, name, steps):
        """Sets what Keras calls as `name`, and how many batches a call of it takes; then sets back.

        It is Keras's own, kept for each number of batches, unless it is set meanwhile. None is the
        number that `compile` was given. What was set before may belong to a `fit` that still runs.
        """
        outer, own = (getattr(self, name), self.steps_per_execution), self.keras_functions
        if outer[0] is None:  # as whoever wants it made anew sets it
            self._forget_functions(name)
        self.steps_per_execution = steps = steps or self._own_steps
        setattr(self, name, own.get((name, steps)))
        try:
            with replicas.told_when_gone(self.distribute_strategy):
                yield
        finally:
            if not isinstance(function := getattr(self, name), BlockRunner):
                own[name, steps] = function
            made = [function for (kept, _), function in own.items() if kept == name]
            setattr(self, name, outer[0] or next(filter(None, made), None))
            self.steps_per_execution = outer[1]

    def _forget_functions(self, name):
        for key in [key for key in self.keras_functions if key[0] == name]:
            del self.keras_functions[key]

    def _has_default_strategy(self):
        is_current = self.distribute_strategy is tf.distribute.get_strategy()
        return is_current and not tf.distribute.has_strategy()

    def _has_replicas(self):
        return replicas.are_several(self.distribute_strategy)

    def _starts(self, steps, per_call):
        return replicas.to_each(self.distribute_strategy, block_starts(steps, per_call))

    def runs_in_blocks(self):
        """Tells whether batches of arrays may run in compiled blocks."""
        return self.jit_compile and not self.run_eagerly and self._has_default_strategy()

    def _may_pad(self):
        return self.runs_in_blocks() and treats_images_apart(self)

    def _batches_per_call(self, batches, steps, callbacks, kinds):
        if not self._automatic["steps_per_execution"]:
            return self._own_steps
        listens = any(_listens(each, kinds) for each in _listed(callbacks))
        return 1 if listens else min(batches.per_block, steps)


def _in_turn(gradients):
    """Returns the gradients, each of which waits for the one before.

    XLA could else update weights that the gradient of a lower layer still needs, and would keep a
    copy of their old values for it, at every update.
    """
    in_turn, zero = [], None
    for gradient in gradients:  # None, of weights that the loss does not depend on, stays None
        if isinstance(gradient, tf.Tensor) and gradient.shape.num_elements():
            in_turn.append(gradient if zero is None else gradient + tf.cast(zero, gradient.dtype))
            first = tf.reshape(gradient, [-1])[0]
            zero = tf.where(tf.math.is_finite(first), 0.0 * first, 0.0)
        else:
            in_turn.append(gradient)
    return in_turn


def _listens(callback, kinds):
    """Tells whether a callback is to hear single batches of one of the kinds."""
    base = keras.callbacks.Callback
    if type(callback).__module__.startswith("keras."):
        writes = getattr(callback, "save_freq", getattr(callback, "update_freq", None))
        by_epoch = writes == "epoch" and not private.profiles_batches(callback)
        if by_epoch or isinstance(callback, keras.callbacks.ProgbarLogger):
            return False
    hooks = [f"on_{kind}_{side}" for kind in kinds for side in ("begin", "end")]
    methods = [(getattr(callback, hook, None), getattr(base, hook)) for hook in hooks]
    return any(getattr(method, "__func__", method) not in (None, own) for method, own in methods)


def _listed(callbacks):
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks = callbacks.callbacks
    return callbacks if isinstance(callbacks, list | tuple) else [callbacks]
