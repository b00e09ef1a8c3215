"""Many models at once: how a bound depends on a choice, such as β, the latents, or the width.

Models whose recipes differ in β and KL warm-up alone, or in the seed, share one compiled program
and train one after another; other shapes compile beside them.
"""

import concurrent.futures
import dataclasses

import numpy as np

from . import checks
from .evaluation import Evaluation, active_units, evaluate
from .model import VAE
from .training import Recipe, train


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One trained model and what it is worth.

    Attributes:
        recipe, seed: what it was trained by.
        vae, history: what `train` returned.
        evaluation: of the validation digits; the true bound, whatever beta was.
        active: how many latents are active on them.
    """

    recipe: Recipe
    seed: int
    vae: VAE
    history: object
    evaluation: Evaluation
    active: int

    def summary(self):
        """Returns the numbers worth keeping: a dict of plain numbers, for `results.json`."""
        return self.evaluation.summary() | {"active_units": self.active, "training_seed": self.seed}


def train_all(digits, recipes, seeds=(0,), num_samples=500, workers=2):
    """Trains a VAE by every recipe with every seed, and evaluates it on the validation digits.

    Every model meets the same noise in evaluation, so differences of `Run`s by digit are paired.

    Args:
        digits: what `load_mnist` returns.
        recipes: `Recipe`s, one or more; one that stands there twice is followed once.
        seeds: of weights, noise and order of the digits, ints; one or more.
        num_samples: K of the importance-weighted bound, an int >= 1.
        workers: how many models are in work at once, an int >= 1. Results do not depend on it.

    Returns:
        A list for each recipe, in it a `Run` for each seed.

    Raises:
        TypeError, ValueError: if an argument is of the wrong kind or range, or as `train`.
    """
    recipes, seeds = list(recipes), list(seeds)
    for recipe in recipes:
        if not isinstance(recipe, Recipe):
            raise TypeError(f"recipes must be Recipes; received {type(recipe).__name__}.")
    seeds = [checks.integer("seeds", seed, 0) for seed in seeds]
    if not recipes or not seeds:
        raise ValueError(f"recipes and seeds are needed; received {recipes} and {seeds}.")
    num_samples = checks.integer("num_samples", num_samples, 1)
    workers = checks.integer("workers", workers, 1)

    def follow(recipe):
        runs = []
        for seed in seeds:
            vae, history = train(digits, recipe, seed, verbose=0)
            images = digits.validation.images
            evaluation, active = evaluate(vae, images, num_samples), active_units(vae, images)
            runs.append(Run(recipe, seed, vae, history, evaluation, int(active.sum())))
        return runs

    # By program: two threads in one program would wait for each other.
    programs = {}
    for recipe in dict.fromkeys(recipes):
        alike = dataclasses.replace(recipe, beta=1.0, kl_warmup=0.0)
        programs.setdefault(alike, []).append(recipe)
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        groups = pool.map(lambda group: {r: follow(r) for r in group}, programs.values())
        found = {recipe: runs for group in groups for recipe, runs in group.items()}
    return [found[recipe] for recipe in recipes]


def by_digit(runs, name):
    """Returns one of the evaluation's arrays, the mean over seeds, for each recipe.

    Args:
        runs: what `train_all` returned.
        name: "elbo", "log_likelihood", "kl" or "marginal_log_likelihood".

    Returns:
        [recipes, N], N validation digits, in nats.
    """
    return np.array(
        [np.mean([getattr(run.evaluation, name) for run in row], axis=0) for row in runs]
    )
