"""Recipes, and the one call that follows them: `train`.

A recipe is everything about training that is neither the digits nor the seed. Updates are made by
`VAE.fit`; this module adds the schedule, the evaluations in between and the history.
"""

import csv
import dataclasses

import keras
import numpy as np
import tensorflow as tf

from . import checks
from .model import VAE
from .programs import shared


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
    averaging: float | None = None
    evaluate_every: int = 100

    def __post_init__(self):
        for name in ("updates", "batch_size", "num_samples", "evaluate_every"):
            checks.integer(name, getattr(self, name), 1)
        checks.number("learning_rate", self.learning_rate, 0)
        checks.number("warmup", self.warmup, 0, 1)
        if self.digits_per_class is not None:
            checks.integer("digits_per_class", self.digits_per_class, 1)
        if self.averaging is not None:
            checks.number("averaging", self.averaging, 0, 1)

    @classmethod
    def writeup(cls):
        """The writeup's protocol: 10,000 digits, batches of 32, 5,947 updates. Seconds."""
        return cls(updates=5_947, batch_size=32, learning_rate=1e-2, digits_per_class=1_000)

    @classmethod
    def full(cls):
        """All 60,000 digits, the same architecture. Under three minutes on two cores."""
        return cls(
            updates=100_000, batch_size=256, learning_rate=1e-2, num_samples=2, evaluate_every=1_000
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
        return keras.optimizers.Adam(schedule, **average)


@dataclasses.dataclass(frozen=True)
class History:
    """What happened in training: both terms of the ELBO, in nats per digit.

    Attributes:
        log_likelihood, kl: of each update's own batch, before the update: [updates].
        evaluated: the numbers of the updates after which whole sets were evaluated: [E].
        training, validation: both terms on training digits and on validation digits, equally many
            and with the same noise: dicts of `log_likelihood` and `kl`, each [E].
    """

    log_likelihood: np.ndarray
    kl: np.ndarray
    evaluated: np.ndarray
    training: dict
    validation: dict

    @property
    def updates(self):
        """The updates' numbers, from 1: [updates]."""
        return np.arange(1, len(self.kl) + 1)

    def to_csv(self, path):
        """Writes a row per update; evaluations stand in the rows of their updates."""
        sets = {"training": self.training, "validation": self.validation}
        columns = [f"{name}_{term}" for name, terms in sets.items() for term in terms]
        rows = zip(*(values for terms in sets.values() for values in terms.values()), strict=True)
        evaluations = dict(zip(self.evaluated.tolist(), rows, strict=True))
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["update", "log_likelihood", "kl", *columns])
            for update, *terms in zip(self.updates, self.log_likelihood, self.kl, strict=True):
                writer.writerow([update, *terms, *evaluations.get(int(update), ())])


def train(digits, recipe=None, seed=0, verbose="auto"):
    """Trains a new VAE.

    Args:
        digits: what `load_mnist` returns.
        recipe: a `Recipe`; `Recipe.writeup()` if None.
        seed: of weights, noise and order of the digits. The same seed on the same kind of machine
            gives the same weights, to the last bit.
        verbose: as in `keras.Model.fit`; 0 is silent.

    Returns:
        `(vae, history)`: a compiled `VAE` and a `History`.

    Raises:
        ValueError: if there are fewer digits than one batch takes.
    """
    recipe = recipe or Recipe.writeup()
    split = digits.train
    if recipe.digits_per_class is not None:
        split = split.balanced(recipe.digits_per_class)
    if len(split) < recipe.batch_size:
        raise ValueError(
            f"a batch takes {recipe.batch_size} digits; received {len(split)} training digits. "
            "Choose a smaller batch_size."
        )
    vae = VAE(image_shape=split.images.shape[1:], num_samples=recipe.num_samples, seed=seed)
    vae.compile(recipe.optimizer(), steps_per_execution=min(recipe.evaluate_every, recipe.updates))
    evaluations = _Evaluations(split.images, digits.validation.images, recipe.updates)
    fitted = vae.fit(
        split.images,
        batch_size=recipe.batch_size,
        steps_per_epoch=recipe.updates,
        callbacks=[evaluations],
        verbose=verbose,
    )
    terms = fitted.updates
    return vae, History(terms["log_likelihood"], terms["kl"], *evaluations.results())


class _Evaluations(keras.callbacks.Callback):
    """Evaluates both sets after every block of updates."""

    def __init__(self, training, validation, updates):
        super().__init__()
        size = min(len(training), len(validation))  # so that the two curves can be compared
        self.sets = [tf.constant(training[:size]), tf.constant(validation[:size])]
        self.updates, self.rows = updates, []

    def on_train_batch_end(self, batch, logs=None):
        terms = [_mean_terms(self.model, images) for images in self.sets]
        self.rows.append((min(batch + 1, self.updates), terms))

    def results(self):
        evaluated = np.array([update for update, _ in self.rows])
        terms = np.array([terms for _, terms in self.rows])  # [E, set, term]
        names = ("log_likelihood", "kl")
        return evaluated, *(dict(zip(names, terms[:, i].T, strict=True)) for i in range(2))


@shared
def _mean_terms(vae, images):
    """Returns the means over images of both terms, [2], with the same noise at every call."""
    return tf.stack([tf.reduce_mean(term) for term in vae.elbo_terms(images, seed=[0, -1])])
