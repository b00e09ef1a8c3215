"""Recipes, and the one call that follows them: `train`.

A recipe is how to train, and says neither what nor on which images. Updates are made by `VAE.fit`;
this module adds the schedule, the history, and the folder from which a stopped run goes on.
"""

import csv
import dataclasses

import keras
import numpy as np

from .data import DATASET, Dataset
from .engine import atomic, checks
from .engine.course import Course
from .engine.run_folder import identity_of, open_run
from .model import LARGEST_BETA, VAE


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train: Adam, its rate warmed up linearly, then falling to 0 along a cosine.

    `Recipe()` is the writeup's number of updates, on all training images.

    Args:
        updates: weight updates in all.
        batch_size: images in each.
        learning_rate: at its peak.
        warmup: share of the updates that it takes to get there.
        images_per_class: training images of each class; None takes them all.
        num_samples: draws of z per image in each update; None is the model's own.
        beta: weight of the KL term in the loss; None is the model's own.
        kl_warmup: share of the updates over which that weight rises from 0; None is the model's.
        averaging: decay of the running average of weights that training ends with; None for none.
        evaluate_every: updates between evaluations for the history.

    Raises:
        TypeError, ValueError: if an argument is no number of its kind, or outside its range.
    """

    updates: int = 5_947
    batch_size: int = 32
    learning_rate: float = 1e-2
    warmup: float = 0.05
    images_per_class: int | None = None
    num_samples: int | None = None
    beta: float | None = None
    kl_warmup: float | None = None
    averaging: float | None = None
    evaluate_every: int = 100

    def __post_init__(self):
        for name in ("updates", "batch_size", "num_samples", "evaluate_every", "images_per_class"):
            self._check(name, checks.integer, 1)
        self._check("learning_rate", checks.positive)
        self._check("beta", checks.number, 0, LARGEST_BETA)
        for name in ("warmup", "kl_warmup", "averaging"):
            self._check(name, checks.number, 0, 1)

    def _check(self, name, check, *limits):
        """Has a field hold the plain number that a check returns, unless it is None and may be."""
        value = getattr(self, name)
        if value is not None or type(self).__dataclass_fields__[name].default is not None:
            object.__setattr__(self, name, check(name, value, *limits))

    @classmethod
    def writeup(cls):
        """The writeup's protocol: 10,000 digits, batches of 32, 5,947 updates. Seconds."""
        return cls(images_per_class=1_000)

    @classmethod
    def full(cls):
        """All 60,000 digits, for the same architecture. Two minutes or three on two cores."""
        return cls(
            updates=120_000,
            batch_size=256,
            num_samples=2,
            kl_warmup=0.2,
            evaluate_every=1_000,
        )

    @classmethod
    def literature(cls):
        """For 28×28 digits and two layers of 200 units each way. Half an hour."""
        return cls(updates=2_000_000, batch_size=50, learning_rate=2e-3, evaluate_every=1_000)

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
        # TensorFlow never lets go of the names that Keras numbers.
        return keras.optimizers.Adam(schedule, **average, name="adam")

    def compile(self, vae):
        """Compiles a model for this recipe, and sets what the recipe says of its objective."""
        for name in ("beta", "num_samples"):
            if (value := getattr(self, name)) is not None:
                setattr(vae, name, value)
        if self.kl_warmup is not None:
            vae.kl_warmup = round(self.kl_warmup * self.updates)
        vae.compile(self.optimizer(), steps_per_execution=min(self.evaluate_every, self.updates))


@dataclasses.dataclass(frozen=True)
class History:
    """What happened in training: both terms of the ELBO, in nats per image.

    Attributes:
        log_likelihood, kl: of each update's own batch, before the update: [updates].
        evaluated: the numbers of the updates after which whole sets were evaluated: [E].
        training, validation: both terms on training images and on validation images, equally many
            and with the same noise: dicts of `log_likelihood` and `kl`, each [E].
    """

    log_likelihood: np.ndarray
    kl: np.ndarray
    evaluated: np.ndarray
    training: dict
    validation: dict

    @classmethod
    def of(cls, columns):
        """Returns the history in a dict of the arrays that `Course.columns` has."""
        sets = (
            {term: columns[f"{kind}_{term}"] for term in ("log_likelihood", "kl")}
            for kind in ("training", "validation")
        )
        return cls(columns["log_likelihood"], columns["kl"], columns["evaluated"], *sets)

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
        with atomic.replacing(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["update", "log_likelihood", "kl", *columns])
            for update, *terms in zip(self.updates, self.log_likelihood, self.kl, strict=True):
                writer.writerow([update, *terms, *evaluations.get(int(update), ())])


def train(data, recipe=None, vae=None, seed=None, verbose="auto", directory=None):
    """Trains a VAE by a recipe.

    Args:
        data: a `Dataset`, such as `load_mnist` or `from_arrays` returns.
        recipe: a `Recipe`. None is `Recipe.writeup()` for MNIST, else `Recipe()`, which takes all
            images.
        vae: the `VAE` to train, of whatever class; if None, a new one of the writeup's
            architecture, for images of this size.
        seed: of noise and order of the images, and of a new model's weights, an int in [0, 2³¹).
            None is the model's own, 0 for a new one. The same seed on the same kind of machine,
            with as many threads, gives the same weights, to the last bit.
        verbose: as in `keras.Model.fit`; 0 is silent.
        directory: a folder for this run alone, made if there is none. Once a second at most it
            takes what the run needs to go on: stopped at any moment, and called again with the
            same arguments, a model in its first state among them, `train` goes on, and ends with
            the same bits as if it had not been stopped. Finished, it holds `model.keras` and
            `history.csv` too, and calling again returns what was trained at once.

    Returns:
        `(vae, history)`: the compiled model, and a `History`.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if there are fewer images than one batch takes, if they do not fit the model,
            if its first loss is not finite, or if the directory holds another run (model, recipe,
            seed or images), or is damaged; it is left as it was.
        OSError: if the directory cannot be written to, or another process is training in it.
        DivergenceError: if a loss is not finite, or exceeds the loss before training by more than
            ten times its size (or ten times what a coin toss for every pixel costs, if that is
            more). The error names the update; its `vae` holds the last good weights, and so does
            the directory's `last_good.keras`.
    """
    checks.instance("data", data, Dataset, DATASET)
    checks.instance("recipe", recipe, Recipe | None, "a Recipe, such as Recipe.writeup()")
    checks.instance("vae", vae, VAE | None, "a vae_tf.VAE or None")
    split = data.train
    if recipe is None:
        recipe = Recipe.writeup() if data.is_mnist else Recipe()
    if recipe.images_per_class is not None:
        split = split.balanced(recipe.images_per_class)
    if len(split) < recipe.batch_size:
        raise ValueError(
            f"a batch takes {recipe.batch_size} images; received {len(split)} training images, "
            f"with images_per_class={recipe.images_per_class}. Choose a smaller batch_size, or "
            "more images of each class."
        )
    seed = None if seed is None else checks.integer("seed", seed, 0)
    if vae is None:
        is_dynamic = data.binarization == "dynamic"
        vae = VAE(
            image_shape=split.images.shape[1:], dynamic_binarization=is_dynamic, seed=seed or 0
        )
    elif seed is not None:
        vae.seed = seed
    recipe.compile(vae)
    sets = vae.trained_images(split.images), vae.trained_images(data.validation.images)

    def fit(updates, **kwargs):
        vae.fit(sets[0], batch_size=recipe.batch_size, steps_per_epoch=updates, **kwargs)

    identity = identity_of(vae, VAE, dataclasses.asdict(recipe), *sets)
    with open_run(directory, identity, vae.distribute_strategy) as folder:
        course = Course(vae, sets, recipe.updates, folder)
        if course.left:
            if folder and verbose:
                made = recipe.updates - course.left
                print(f"{folder.directory}: {made:,} updates made, {course.left:,} to make")
            with course.watched(lambda updates: fit(updates, verbose=0)):
                fit(course.left, callbacks=[course], verbose=verbose)
        history = History.of(course.columns)
        if folder:
            folder.finish(vae, history)
    return vae, history
