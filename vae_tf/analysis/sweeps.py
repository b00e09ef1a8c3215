"""Many models at once: how a bound depends on a choice, such as β, the latents, or the width.

Every model of a list is trained with every seed, all in one process: models that differ in β, KL
warm-up and seed alone share one compiled program and train one after another; other shapes compile
beside them. To find the best of many settings is another task, which takes processes that may be
killed, on many machines: `search`.
"""

import concurrent.futures
import dataclasses

import numpy as np

from ..data import DATASET, Dataset
from ..engine import checks
from ..evaluation import Evaluation, evaluate
from ..model import VAE
from ..training import Recipe, train
from .bounds import active_units


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedModel:
    """One trained model and what it is worth.

    Attributes:
        seed: what it was trained by.
        vae, history: what `train` returned.
        evaluation: of the validation images; the true bound, whatever beta was.
        active: how many latents are active on them.
    """

    seed: int
    vae: VAE
    history: object
    evaluation: Evaluation
    active: int

    def summary(self):
        """Returns the numbers worth keeping: a dict of plain numbers, for `results.json`."""
        return self.evaluation.summary() | {"active_units": self.active, "training_seed": self.seed}


def train_all(data, models, recipe=None, seeds=(0,), num_samples=500, workers=2):
    """Trains models by a recipe with every seed, and evaluates them on the validation images.

    Every model meets the same noise in evaluation, so differences by image are paired.

    Args:
        data: a `Dataset`.
        models: functions that return a new `VAE` when called as `model(seed=seed)`, such as `VAE`,
            a subclass of it, or `functools.partial(VAE, latent_dim=2)`; one or more.
        recipe: a `Recipe`; `Recipe.writeup()` if None. What it says of β, warm-up and draws counts
            for all; what it leaves at None is each model's own.
        seeds: of weights, noise and order of the images, ints; one or more.
        num_samples: K of the importance-weighted bound, an int >= 1.
        workers: how many models are in work at once, an int >= 1. Results do not depend on it.

    Returns:
        A list for each model, in it a `TrainedModel` for each seed.

    Raises:
        TypeError, ValueError: if an argument is of the wrong kind or range, or as `train`.
    """
    models, seeds = list(models), [checks.integer("seeds", seed, 0) for seed in seeds]
    if not models or not seeds:
        raise ValueError(f"models and seeds are needed; received {models} and {seeds}.")
    recipe = Recipe.writeup() if recipe is None else recipe
    num_samples = checks.integer("num_samples", num_samples, 1)
    workers = checks.integer("workers", workers, 1)
    if len(checks.instance("data", data, Dataset, DATASET).validation) < 2:
        raise ValueError(f"two validation images are needed, or more; {data.validation} has fewer.")
    groups = {}
    for place, model in enumerate(models):
        groups.setdefault(_shape(_new(model, seeds[0])), []).append(place)

    def follow(places):
        return {place: [trained(models[place], seed) for seed in seeds] for place in places}

    def trained(model, seed):
        vae, history = train(data, recipe, _new(model, seed), verbose=0)
        images = data.validation.images
        evaluation, active = evaluate(vae, images, num_samples), active_units(vae, images)
        return TrainedModel(seed, vae, history, evaluation, int(active.sum()))

    # By shape: two threads in one program would wait for each other.
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        found = {}
        for group in pool.map(follow, groups.values()):
            found |= group
    return [found[place] for place in range(len(models))]


def by_image(trained, name):
    """Returns one of the evaluation's arrays, the mean over seeds, for each model.

    Args:
        trained: what `train_all` returned.
        name: "elbo", "log_likelihood", "kl" or "marginal_log_likelihood".

    Returns:
        [models, N], N validation images, in nats.
    """
    return np.array(
        [np.mean([getattr(each.evaluation, name) for each in row], axis=0) for row in trained]
    )


def _new(model, seed):
    """Returns a new model with this seed."""
    is_function = callable(model) and not isinstance(model, VAE)  # a VAE is called with images
    vae = model(seed=seed) if is_function else model
    if not is_function or not isinstance(vae, VAE):
        raise TypeError(
            "models must be functions of a seed that return a new vae_tf.VAE, such as "
            f"functools.partial(VAE, latent_dim=2); received {model!r}."
        )
    if vae.seed != seed:
        raise ValueError(f"models must take their seed, {seed}; {model!r} has {vae.seed}.")
    return vae


def _shape(vae):
    """Returns what models that may share a compiled program have in common, as a text."""
    numbers = ("name", "beta", "kl_warmup", "seed")
    config = {name: value for name, value in vae.get_config().items() if name not in numbers}
    return f"{type(vae).__qualname__} {config}"
