"""The course of a training run: evaluations on the way, going on, and what to do if it diverges."""

import collections
import contextlib
import functools
import math
import time

import keras
import numpy as np
import tensorflow as tf

from . import replicas, run_folder
from .blocks import DivergenceError
from .compiled import CompiledFunction
from .noise import HISTORY

FEW = 2  # so few evaluations of a run take less time than to compile what makes them
SAVE_EVERY = 1.0  # seconds at least between two savings of a run; results do not depend on it
DIVERGED = 10.0  # so many times its own size, or that of coin tosses, the first loss may grow by

TERMS = ("log_likelihood", "kl")
OF_UPDATES = {name: np.zeros(0, np.float32) for name in TERMS}
SETS = ("training", "validation")
OF_SETS = {f"{kind}_{name}": np.zeros(0, np.float32) for kind in SETS for name in TERMS}
NO_HISTORY = {**OF_UPDATES, "evaluated": np.zeros(0, int), **OF_SETS}  # of a run without an update


class Course(keras.callbacks.Callback):
    """Evaluates both sets after every block of updates, and now and then keeps the run's state.

    Args:
        vae: a compiled model, whose weights become those of the folder's run, if there is one.
        sets: training and validation images.
        updates: how many the run has in all.
        folder: a `RunFolder`, or None.

    Attributes:
        columns: the history so far, a dict of arrays, as `NO_HISTORY` names them.
    """

    def __init__(self, vae, sets, updates, folder):
        super().__init__()
        self.vae, self.updates, self.folder = vae, updates, folder
        size = min(map(len, sets))  # so that the two curves can be compared
        # One draw of the pixels, where images are grey levels.
        sets = [tf.constant(images[:size]) for images in sets]
        self.sets = [vae.observed(images, tf.constant([0, HISTORY])) for images in sets]
        self.largest_loss = _largest_loss(vae, self.sets[1])
        self.snapshots = collections.deque([run_folder.snapshot(vae, NO_HISTORY)], maxlen=2)
        if folder:
            if (stored := folder.read()) is None:
                folder.write(self.snapshots[-1])
            else:
                self.snapshots.append(stored)
                run_folder.restore(vae, stored)
        self.before = self.columns = {name: self.snapshots[-1][name] for name in NO_HISTORY}
        self.rows, self.saved = [], time.monotonic()

    @property
    def left(self):
        """How many updates are to be made."""
        return self.updates - len(self.columns["kl"])

    @contextlib.contextmanager
    def watched(self, fit):
        """Has a `fit` with this callback stop where the loss is too high; keeps what it ends with.

        Args:
            fit: makes so many updates: the same ones again, if the model is as it was before.

        Raises:
            DivergenceError: its `vae` is the model with the last good weights.
        """
        self.vae.largest_loss = self.largest_loss
        try:
            yield
        except DivergenceError as error:
            # A loss tells of the weights that the update before it left: those are bad as well.
            good = max(error.update - 2, 0)
            snapshots = reversed(self.snapshots)
            snapshot = next(each for each in snapshots if len(each["kl"]) <= good)
            run_folder.restore(self.vae, snapshot)
            if left := good - len(snapshot["kl"]):
                fit(left)
            elif good:  # as `fit` ends: with averaging, where there is any
                self.vae.optimizer.finalize_variable_values(self.vae.trainable_weights)
            error.vae = self.vae
            if self.folder:
                self.folder.keep(self.vae)
            raise
        finally:
            self.vae.largest_loss = math.inf
        if self.folder:
            self.folder.write(run_folder.snapshot(self.vae, self.columns))

    def on_train_begin(self, logs=None):
        """Traces the evaluation of a set."""
        self.mean_terms = CompiledFunction(functools.partial(_mean_terms, self.vae), self.sets[0])

    def on_train_batch_end(self, batch, logs=None):
        """Evaluates both sets, after a block of updates."""
        update = min(len(self.before["kl"]) + batch + 1, self.updates)
        many = self.updates > FEW * self.vae.steps_per_execution
        training, validation = (
            self.mean_terms(images, compiled=many).numpy() for images in self.sets
        )
        self.rows.append((update, [*training[1:], *validation[1:]]))
        if update == self.updates:
            # What the last update left shows in no later one.
            if not (loss := float(training[0])) < self.largest_loss:
                raise DivergenceError(update + 1, loss, self.largest_loss)
        # The last update's state is not for here: with averaging, `fit` has yet to end with it.
        elif replicas.from_chief(self.vae.distribute_strategy, self._is_due):
            self.snapshots.append(run_folder.snapshot(self.vae, self._columns()))
            if self.folder:
                self.folder.write(self.snapshots[-1])
            self.saved = time.monotonic()

    def _is_due(self):
        return b"due" if time.monotonic() - self.saved >= SAVE_EVERY else b""

    def on_train_end(self, logs=None):
        """Takes the history of the `fit` that ends."""
        self.columns = self._columns()

    def _columns(self):
        """Returns the history so far, of the updates before this `fit` too: a dict of arrays."""
        made = self.vae.train_function.updates()
        evaluated = np.array([update for update, _ in self.rows])
        terms = np.array([terms for _, terms in self.rows]).reshape(-1, len(OF_SETS))
        new = [*(made[name] for name in TERMS), evaluated, *terms.T]
        pairs = zip(NO_HISTORY, new, strict=True)
        return {name: np.concatenate([self.before[name], values]) for name, values in pairs}


def _largest_loss(vae, images):
    """Returns the loss from which on a run of a new model has diverged."""
    loss = float(_mean_terms(vae, images)[0])
    if not np.isfinite(loss):
        raise ValueError(f"vae must have a finite loss before training; its loss is {loss}.")
    coin_tosses = math.prod(vae.image_shape) * math.log(2)
    return loss + DIVERGED * max(abs(loss), coin_tosses)


def _mean_terms(vae, images):
    """Returns the means over images of the loss and both terms, always with the same noise."""
    losses, terms = vae.loss_per_image(images, [0, HISTORY], vae.setting("beta"))
    return tf.stack([tf.reduce_mean(each) for each in (losses, *terms)])
