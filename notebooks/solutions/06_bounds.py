"""Solutions of the exercises of `06_bounds.ipynb`."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import vae_tf
from vae_tf.analysis import baselines, bounds
from vae_tf.evaluation import Estimate

tfd = tfp.distributions


def exercise_1(digits, repeats=20):
    """Averages 1 to 64 draws of the code before decoding, and compares with the bound."""
    vae, images = vae_tf.load_pretrained("writeup"), digits.validation.images
    evaluation = vae_tf.evaluate(vae, images, num_samples=1_000)
    bound = evaluation.marginal_log_likelihood
    found = {"bound": Estimate.of(bound)._asdict(), "num_samples": 1_000, "num_images": len(images)}
    for averaged in (1, 2, 4, 8, 64):
        values = []
        for repeat in range(repeats):
            draws = vae.posterior(images).sample(averaged, seed=[0, repeat])  # [averaged, N, 8]
            z = tf.reduce_mean(draws, axis=0)  # before decoding: the mistake
            values.append(vae.likelihood(z).log_prob(images) - evaluation.kl)
        number = np.mean(values, axis=0)  # over repeats: [N]
        found[f"{averaged} averaged"] = {
            "draws": averaged,
            "number": Estimate.of(number)._asdict(),
            "number less bound": Estimate.of(number - bound)._asdict(),
            "digits above their bound, %": 100 * np.mean(number > bound),
        }
    return found


def exercise_2(digits):
    """Multiplies all scales of the posterior by 0.5 to 4, and evaluates ELBO and bound."""
    vae, images = vae_tf.load_pretrained("full"), digits.validation.images
    found = {"num_samples": 1_000, "num_images": len(images), "seed": 0}
    for factor in (0.25, 0.5, 1, 2, 4):

        def scaled(images, factor=factor):
            posterior = vae.posterior(images)
            normal = tfd.Normal(posterior.mean(), factor * posterior.stddev())
            return tfd.Independent(normal, 1)

        evaluation = vae_tf.evaluate(vae, images, num_samples=1_000, posterior=scaled)
        found[f"scale times {factor}"] = {
            "factor": factor,
            "elbo": evaluation.estimates["elbo"]._asdict(),
            "bound": evaluation.estimates["marginal_log_likelihood"]._asdict(),
        }
    return found


def exercise_3(digits):
    """Raises K to 100,000 for 50 digits, with two seeds."""
    vae, images = vae_tf.load_pretrained("full"), digits.validation.images[:50]
    counts = [1, 10, 100, 1_000, 10_000, 100_000]
    one, other = (bounds.bound_curve(vae, images, counts, seed=seed) for seed in (0, 1))
    found = {"num_images": len(images), "seeds": 2}
    for k, count in enumerate(counts):
        found[f"K = {count}"] = {
            "K": count,
            "bound": np.mean([one[k], other[k]]),
            "spread of one digit's bound": np.sqrt(np.mean((one[k] - other[k]) ** 2) / 2),
        }
    gain = (one[-1] + other[-1] - one[3] - other[3]) / 2  # from 1,000 to 100,000 draws: [50]
    return found | {"gain": Estimate.of(gain)._asdict(), "largest gain": gain.max()}


def exercise_4(digits):
    """Fits mixtures to the 10,000 digits of `Recipe.writeup()`, and compares with its bound."""
    fitted, test = digits.train.balanced(1_000).images, digits.test.images
    vae = vae_tf.load_pretrained("writeup")
    bound = vae_tf.evaluate(vae, test, num_samples=100).marginal_log_likelihood
    found = {"num_samples": 100, "num_images": len(test), "digits": len(fitted)}
    for components in (100, 500):
        mixture, _ = baselines.fit_mixture(fitted, components)
        exact = mixture.log_likelihood(test)
        found[f"mixture of {components}"] = {
            "components": components,
            "training digits": Estimate.of(mixture.log_likelihood(fitted))._asdict(),
            "test digits": Estimate.of(exact)._asdict(),
            "Recipe.writeup() less mixture": Estimate.of(bound - exact)._asdict(),
        }
    return found
