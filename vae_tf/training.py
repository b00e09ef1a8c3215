"""Recipes, and the one call that follows them: `train`.

A recipe is everything about training that is neither the digits nor the seed. Updates are made by
`VAE.fit`; this module adds the schedule, the evaluations in between and the history.
"""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import math
import time

import keras
import numpy as np
import tensorflow as tf

from . import checks, runs
from .blocks import DivergenceError
from .data import Digits
from .model import LARGEST_BETA, VAE
from .noise import HISTORY
from .programs import Program

SAVE_EVERY = 1.0  # seconds at least between two savings of a run; results do not depend on it
DIVERGED = 10.0  # a loss so many times as high as a coin toss for every pixel would cost


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train: Adam, its rate warmed up linearly, then falling to 0 along a cosine.

    Args:
        updates: weight updates in all.
        batch_size: digits in each.
        learning_rate: at its peak.
        warmup: share of the updates that it takes to get there.
        digits_per_class: training digits of each class; None takes them all.
        num_samples: draws of z per digit in each update.
        beta: weight of the KL term in the loss; only with 1 is the loss −ELBO.
        kl_warmup: share of the updates over which that weight rises from 0 to beta.
        latent_dim, hidden_units: the model's size, as in `VAE`.
        averaging: decay of the running average of weights that training ends with; None for none.
        evaluate_every: updates between evaluations for the history.

    Raises:
        TypeError, ValueError: if an argument is no number of its kind, or outside its range.
    """

    updates: int
    batch_size: int
    learning_rate: float
    warmup: float = 0.05
    digits_per_class: int | None = None
    num_samples: int = 1
    beta: float = 1.0
    kl_warmup: float = 0.0
    latent_dim: int = 8
    hidden_units: int = 128
    averaging: float | None = None
    evaluate_every: int = 100

    def __post_init__(self):
        ints = ("updates", "batch_size", "num_samples", "evaluate_every", "digits_per_class")
        for name in (*ints, "latent_dim", "hidden_units"):
            self._set(name, lambda *number: checks.integer(*number, 1))
        self._set("learning_rate", checks.positive)
        self._set("beta", lambda *number: checks.number(*number, 0, LARGEST_BETA))
        for name in ("warmup", "kl_warmup", "averaging"):
            self._set(name, lambda *number: checks.number(*number, 0, 1))

    def _set(self, name, check):
        """Has a field hold the plain number that a check returns, where it may not be None."""
        value = getattr(self, name)
        if value is not None or name not in ("digits_per_class", "averaging"):
            object.__setattr__(self, name, check(name, value))

    @classmethod
    def writeup(cls):
        """The writeup's protocol: 10,000 digits, batches of 32, 5,947 updates. Seconds."""
        return cls(updates=5_947, batch_size=32, learning_rate=1e-2, digits_per_class=1_000)

    @classmethod
    def full(cls):
        """All 60,000 digits, the same architecture. Some three minutes on two cores."""
        return cls(
            updates=120_000,
            batch_size=256,
            learning_rate=1e-2,
            num_samples=2,
            kl_warmup=0.2,
            evaluate_every=1_000,
        )

    def optimizer(self):
        """Returns a new Keras optimizer that follows this recipe."""
        warmup_steps = round(self.warmup * self.updates)
        schedule = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup_steps else self.learning_rate,
            decay_steps=max(1, self.updates - warmup_steps),
            warmup_target=self.learning_rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
        average = {} if self.averaging is None else dict(use_ema=True, ema_momentum=self.averaging)
        return keras.optimizers.Adam(schedule, **average, name="adam")  # not numbered: see `VAE`


def train(digits, recipe=None, seed=0, verbose="auto", directory=None):
    """Trains a new VAE.

    Args:
        digits: what `load_mnist` returns.
        recipe: a `Recipe`; `Recipe.writeup()` if None.
        seed: of weights, noise and order of the digits. The same seed on the same kind of machine,
            with as many threads, gives the same weights, to the last bit.
        verbose: as in `keras.Model.fit`; 0 is silent.
        directory: a folder for this run alone, made if there is none. Once a second at most it
            takes what the run needs to go on: stopped at any moment, and called again with the
            same arguments, `train` goes on, and ends with the same bits as if it had not been
            stopped. Finished, it holds `model.keras` and `history.csv` too, and calling again
            returns what was trained at once. See `vae_tf.runs`.

    Returns:
        `(vae, history)`: a compiled `VAE` and a `runs.History`.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if there are fewer digits than one batch takes, or if the directory holds
            another run (recipe, seed or digits), or is damaged; nothing is changed then.
        OSError: if the directory cannot be written to, or another process is training in it.
        DivergenceError: if a loss is not finite, or above ten times the cost of a coin toss for
            every pixel, as too high a learning rate makes it. The error names the update; its
            `vae` holds the last good weights, and so does the directory's `last_good.keras`.
    """
    recipe = Recipe.writeup() if recipe is None else recipe
    if not isinstance(recipe, Recipe):
        found = recipe if isinstance(recipe, str) else type(recipe).__name__
        raise TypeError(f"recipe must be a Recipe, such as Recipe.writeup(); received {found!r}.")
    if not isinstance(digits, Digits):
        raise TypeError(
            f"digits must be what vae_tf.load_mnist returns; received {type(digits).__name__}."
        )
    seed, split = checks.integer("seed", seed, 0), digits.train
    if recipe.digits_per_class is not None:
        split = split.balanced(recipe.digits_per_class)
    if len(split) < recipe.batch_size:
        raise ValueError(
            f"a batch takes {recipe.batch_size} digits; received {len(split)} training digits. "
            "Choose a smaller batch_size."
        )
    vae = VAE(
        recipe.latent_dim,
        recipe.hidden_units,
        split.images.shape[1:],
        recipe.beta,
        round(recipe.kl_warmup * recipe.updates),
        recipe.num_samples,
        seed,
    )
    vae.compile(recipe.optimizer(), steps_per_execution=min(recipe.evaluate_every, recipe.updates))
    sets = split.images, digits.validation.images
    with contextlib.ExitStack() as stack:
        folder = None
        if directory is not None:
            folder = stack.enter_context(runs.opened(directory, _identity(recipe, seed, sets)))
        return vae, _follow(recipe, vae, sets, folder, verbose)


def _identity(recipe, seed, sets):
    """Returns what the course of a training run depends on, as names and plain values."""
    hashes = [hashlib.sha256(np.ascontiguousarray(images)).hexdigest() for images in sets]
    names = ("SHA-256 of training digits", "SHA-256 of validation digits")
    return {**dataclasses.asdict(recipe), "seed": seed, **dict(zip(names, hashes, strict=True))}


def _follow(recipe, vae, sets, folder, verbose):
    """Trains a new model to the recipe's end, from where the folder's run is; returns its history.

    Args:
        sets: training and validation images.
        folder: a `runs.Folder`, or None.
    """
    states = collections.deque([runs.state(vae, runs.NOTHING)], maxlen=2)
    if folder:
        if (stored := folder.read()) is None:
            folder.write(states[-1])
        else:
            states.append(stored)
            runs.restore(vae, stored)
    columns = {name: states[-1][name] for name in runs.NOTHING}
    if (left := recipe.updates - len(columns["kl"])) > 0:
        if folder and verbose:
            print(f"{folder.directory}: {len(columns['kl']):,} updates made, {left:,} to make")
        course = _Course(sets, recipe.updates, states, folder)
        fit = {"x": sets[0], "batch_size": recipe.batch_size}
        vae.largest_loss = DIVERGED * max(1.0, vae.beta) * math.prod(vae.image_shape) * math.log(2)
        try:
            vae.fit(**fit, steps_per_epoch=left, callbacks=[course], verbose=verbose)
        except DivergenceError as error:
            # A loss tells of the weights that the update before it left: those are bad as well.
            good = max(error.update - 2, 0)
            state = next(state for state in reversed(states) if len(state["kl"]) <= good)
            runs.restore(vae, state)
            if left := good - len(state["kl"]):  # the same updates again, to the same bits
                vae.fit(**fit, steps_per_epoch=left, verbose=0)
            elif good:  # as `fit` ends: with averaging, where there is any
                vae.optimizer.finalize_variable_values(vae.trainable_weights)
            error.vae = vae
            if folder:
                folder.keep(vae)
            raise
        finally:
            vae.largest_loss = math.inf
        columns = course.columns
        if folder:
            folder.write(runs.state(vae, columns))
    history = runs.History.of(columns)
    if folder:
        folder.finish(vae, history)
    return history


class _Course(keras.callbacks.Callback):
    """Evaluates both sets after every block of updates, and now and then keeps the run's state."""

    def __init__(self, sets, updates, states, folder):
        super().__init__()
        size = min(map(len, sets))  # so that the two curves can be compared
        self.sets = [tf.constant(images[:size]) for images in sets]
        self.updates, self.states, self.folder = updates, states, folder
        self.before, self.rows, self.saved = states[-1], [], time.monotonic()

    def on_train_begin(self, logs=None):
        self.mean_terms = Program(functools.partial(_mean_terms, self.model), self.sets[0])

    def on_train_batch_end(self, batch, logs=None):
        update = min(len(self.before["kl"]) + batch + 1, self.updates)
        self.rows.append((update, [self.mean_terms(images) for images in self.sets]))
        if update == self.updates:
            self._check_the_end(*self.rows[-1][1][0])
        # The last update's state is not for here: with averaging, `fit` has yet to end with it.
        elif time.monotonic() - self.saved >= SAVE_EVERY:
            self.states.append(runs.state(self.model, self._columns()))
            if self.folder:
                self.folder.write(self.states[-1])
            self.saved = time.monotonic()

    def _check_the_end(self, log_likelihood, kl):
        """Raises `DivergenceError` if the last update left bad weights: no other would tell."""
        loss = float(self.model.beta * kl - log_likelihood)
        if not loss < self.model.largest_loss:
            raise DivergenceError(self.updates + 1, loss, self.model.largest_loss)

    def on_train_end(self, logs=None):
        self.columns = self._columns()

    def _columns(self):
        """Returns the history so far, of the updates before this `fit` too: a dict of arrays."""
        made = self.model.updates_so_far()
        evaluated = np.array([update for update, _ in self.rows])
        terms = np.array([terms for _, terms in self.rows]).reshape(-1, 4)  # [E, set and term]
        new = (made["log_likelihood"], made["kl"], evaluated, *terms.T)
        pairs = zip(runs.NOTHING, new, strict=True)
        return {name: np.concatenate([self.before[name], values]) for name, values in pairs}


def _mean_terms(vae, images):
    """Returns the means over images of both terms, [2], with the same noise at every call."""
    return tf.stack([tf.reduce_mean(term) for term in vae.elbo_terms(images, seed=[0, HISTORY])])
