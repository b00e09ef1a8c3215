"""Solutions of the exercises of 09_rate_distortion; `python notebooks/solve.py 09` runs them."""

import dataclasses
import functools

import numpy as np

from vae_tf import VAE, Recipe
from vae_tf.analysis import latent, sweeps
from vae_tf.evaluation import Estimate

RECIPE = dataclasses.replace(Recipe.writeup(), evaluate_every=Recipe.writeup().updates)


def train_with(digits, betas, recipe=RECIPE, seeds=(0,), **settings):
    """Trains a VAE for each β and seed; returns a list of `TrainedModel` for each β."""
    models = [functools.partial(VAE, beta=beta, **settings) for beta in betas]
    return sweeps.train_all(digits, models, recipe, seeds, num_samples=100)


def exercise_1(digits):
    """Trains with β of 0, 0.1 and 1, and splits each rate in two."""
    images, found = digits.train.images, {}
    for beta, (model,) in zip((0.0, 0.1, 1.0), train_with(digits, (0.0, 0.1, 1.0)), strict=True):
        posterior = model.vae.posterior(images)
        together = latent.AggregatePosterior(posterior.mean(), posterior.stddev())
        rate = float(np.mean(posterior.kl_divergence(model.vae.prior())))
        distance = together.kl(num_samples=1_000)
        found[f"beta {beta:g}"] = {
            "elbo": Estimate.of(model.evaluation.elbo)._asdict(),
            "distortion": Estimate.of(-model.evaluation.log_likelihood)._asdict(),
            "active": model.active,
            "rate, training digits": rate,
            "of it from the prior": distance._asdict(),
            "of it mutual information": rate - distance.mean,
        }
    found["log N"] = np.log(len(images))
    return found | {"num_images": len(images), "updates": RECIPE.updates, "training_seed": 0}


def exercise_2(digits):
    """Trains with β of 1, 2 and 3 on 100 and on 1,000 digits, two seeds each."""
    betas, seeds, counts = (1.0, 2.0, 3.0), (0, 1), (10, 100)  # counts of each class
    found = {"training_digits": [10 * count for count in counts]}
    for per_class in counts:
        few = Recipe(updates=2_000, images_per_class=per_class, evaluate_every=2_000)
        for beta, models in zip(betas, train_with(digits, betas, few, seeds), strict=True):
            elbo = np.mean([model.evaluation.elbo for model in models], axis=0)  # over seeds
            of_seed = [model.evaluation.elbo.mean() for model in models]
            name = f"{10 * per_class} digits, beta {beta:g}"
            found[name] = {"elbo": Estimate.of(elbo)._asdict(), "of each seed": of_seed}
    return found | {"updates": 2_000, "training_seeds": seeds}


def exercise_3(digits):
    """Trains with β = 4 without KL warm-up, and with two lengths of it, two seeds each."""
    percents, seeds = (0, 20, 90), (0, 1)
    found = {"kl_warmup (%)": percents, "updates": RECIPE.updates, "training_seeds": seeds}
    for percent in percents:
        recipe = dataclasses.replace(RECIPE, kl_warmup=percent / 100)
        (models,) = train_with(digits, [4.0], recipe, seeds)
        terms = {
            name: np.mean([getattr(model.evaluation, name) for model in models], axis=0)
            for name in ("elbo", "kl", "log_likelihood")
        }  # [N] each, the mean over seeds
        found[f"over {percent} % of the updates"] = {
            "elbo": Estimate.of(terms["elbo"])._asdict(),
            "rate": Estimate.of(terms["kl"])._asdict(),
            "loss, D + 4 R": Estimate.of(4 * terms["kl"] - terms["log_likelihood"])._asdict(),
            "loss of each seed": [
                float(np.mean(4 * each.evaluation.kl - each.evaluation.log_likelihood))
                for each in models
            ],
            "active": [model.active for model in models],
        }
    return found
