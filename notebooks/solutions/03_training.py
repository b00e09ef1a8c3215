"""Solutions of the exercises of `03_training.ipynb`."""

import dataclasses
import math

import numpy as np

import vae_tf
from vae_tf.evaluation import Estimate

RECIPE = vae_tf.Recipe.writeup()


def exercise_1(digits):
    """Starts the decoder's last biases at the logits of each pixel's share of ink."""
    ink = digits.train.balanced(1_000).images.mean(axis=0)  # [14, 14]
    ink = np.clip(ink, 0.001, 0.999).ravel()  # some pixels are never ink, and log 0 is −∞
    found = {"updates": RECIPE.updates, "training_seed": 0, "num_samples": 100, "early update": 40}
    for name, start in {"biases 0": 0 * ink, "biases of ink": np.log(ink / (1 - ink))}.items():
        vae = vae_tf.VAE(seed=0)
        vae.decoder.layers[-2].bias.assign(start)  # the last layer but `Reshape`
        _, history = vae_tf.train(digits, RECIPE, vae, verbose=0)
        evaluation = vae_tf.evaluate(vae, digits.validation.images, num_samples=100)
        found[name] = {
            "KL at update 1": history.kl[0],
            "KL at update 40": history.kl[39],
            "log-likelihood at update 1": history.log_likelihood[0],
            "ELBO": evaluation.estimates["elbo"]._asdict(),
        }
    return found


def exercise_2(digits):
    """Trains with β = 0, and evaluates the ELBO of that model."""
    recipe, images = dataclasses.replace(RECIPE, beta=0.0), digits.validation.images
    vae, _ = vae_tf.train(digits, recipe, seed=0, verbose=0)
    evaluation, posterior = vae_tf.evaluate(vae, images, num_samples=1_000), vae.posterior(images)
    return {
        **evaluation.summary(),
        "mean scale": posterior.stddev().numpy().mean(),
        "spread of the means": posterior.mean().numpy().std(axis=0).mean(),
        "fair coins": {"pixels": 196, "nats": 196 * math.log(2)},
        "updates": recipe.updates,
    }


def exercise_3(digits):
    """Compares the 10,000 training digits with the 50,000 that the recipe left out."""
    vae, _ = vae_tf.train(digits, RECIPE, seed=0, verbose=0)
    evaluation = vae_tf.evaluate(vae, digits.train.images, num_samples=10)
    labels, found = digits.train.labels, {"num_samples": 10, "updates": RECIPE.updates}
    for name in ("log_likelihood", "elbo"):
        values, differences = getattr(evaluation, name), []
        for label in range(10):
            of_class = values[labels == label]
            # `balanced` takes the first 1,000 of each class.
            seen, unseen = Estimate.of(of_class[:1_000]), Estimate.of(of_class[1_000:])
            error = math.hypot(seen.standard_error, unseen.standard_error)
            differences.append((seen.mean - unseen.mean, error))
        means, errors = np.transpose(differences)  # [10] each
        error = np.sqrt((errors**2).sum()) / 10
        found[f"{name}, seen less unseen"] = Estimate(means.mean(), error)._asdict()
    return found | {"seen": 10_000, "unseen": len(labels) - 10_000}


def exercise_4(digits):
    """Trains at learning rates from 1e-4 to 1, each ten times the one before."""
    found = {"updates": RECIPE.updates, "training_seed": 0, "num_samples": 100}
    for rate in (1e-4, 1e-3, 1e-2, 1e-1, 1.0):
        recipe = dataclasses.replace(RECIPE, learning_rate=rate)
        try:
            vae, _ = vae_tf.train(digits, recipe, seed=0, verbose=0)
        except vae_tf.DivergenceError as error:
            found[f"rate {rate:g}"] = {"rate": rate, "diverged at update": error.update}
        else:
            evaluation = vae_tf.evaluate(vae, digits.validation.images, num_samples=100)
            found[f"rate {rate:g}"] = {"rate": rate} | evaluation.estimates["elbo"]._asdict()
    return found


def exercise_5(digits):
    """Trains with four times the digits, or four times the draws, in each update; two seeds."""
    found = {"updates": RECIPE.updates, "training_seeds": 2, "num_samples": 100}
    for size, draws in ((32, 1), (32, 4), (128, 1)):
        recipe, elbos = dataclasses.replace(RECIPE, batch_size=size, num_samples=draws), []
        for seed in (0, 1):
            vae, _ = vae_tf.train(digits, recipe, seed=seed, verbose=0)
            evaluation = vae_tf.evaluate(vae, digits.validation.images, num_samples=100)
            elbos.append(evaluation.elbo.mean())
        found[f"{size} × {draws}"] = {
            "digits": size,
            "draws": draws,
            "ELBO": np.mean(elbos),
            "lower": min(elbos),
            "higher": max(elbos),
        }
    return found
