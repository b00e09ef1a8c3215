"""Solutions of the exercises of `02_model.ipynb`."""

import math

import numpy as np
import scipy.integrate
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

import vae_tf
from vae_tf.evaluation import Estimate
from vae_tf.model import ElboTerms

tfd = tfp.distributions


def exercise_1(digits):
    """Integrates the KL from N(0, 1) of three normal distributions, in nats and in bits."""
    found = {}
    for loc, scale in ((0, 0.1), (2, 1), (0, 3)):
        z = np.linspace(loc - 10 * scale, loc + 10 * scale, 10_001)
        log_q, log_p = scipy.stats.norm(loc, scale).logpdf(z), scipy.stats.norm.logpdf(z)
        kl = float(scipy.integrate.trapezoid(np.exp(log_q) * (log_q - log_p), z))
        found[f"loc {loc}, scale {scale}"] = {"nats": kl, "bits": kl / math.log(2)}
    return found


class MeanDecoded(vae_tf.VAE):
    """Decodes the posterior's mean in training, so that its two terms make no bound."""

    def elbo_terms(self, images, seed, num_samples=1):
        """Returns log p(x|loc), and the KL as it was: [B] each."""
        kl = super().elbo_terms(images, seed, num_samples).kl
        return ElboTerms(self.likelihood(self.posterior(images).mean()).log_prob(images), kl)


def exercise_2(digits):
    """Trains with the mean decoded and with a draw decoded, and evaluates both with draws."""
    recipe = vae_tf.Recipe(updates=2_000, batch_size=100, learning_rate=5e-3)
    images, found = digits.validation.images, {"updates": recipe.updates}
    for name, vae in {"draw": vae_tf.VAE(), "mean": MeanDecoded()}.items():
        vae_tf.train(digits, recipe, vae, verbose=0)
        evaluation = vae_tf.evaluate(vae, images, num_samples=100)
        printed = Estimate.of(vae.elbo_terms(images, seed=[0, 0]).elbo)
        found[f"{name} decoded"] = {
            "its own number": printed._asdict(),
            "ELBO": evaluation.estimates["elbo"]._asdict(),
            "mean scale": float(tf.reduce_mean(vae.posterior(images).stddev())),
        }
    return found | {"num_images": len(images), "num_samples": 100, "seed": 0}


def exercise_3(digits, draws=1_000):
    """Estimates the gradient of E_q[log p(x|z)] with respect to loc in three ways."""
    vae, images = vae_tf.load_pretrained("full"), digits.validation.images[:100]
    q = vae.posterior(images)
    loc, scale = q.mean(), q.stddev()  # [N, L] each
    z = q.sample(draws, seed=[0, 0])  # [draws, N, L]
    with tf.GradientTape() as tape:
        tape.watch(z)
        values = vae.likelihood(z).log_prob(images)  # log p(x|z), [draws, N]
    slopes = tape.gradient(values, z).numpy()  # by z, and so by loc, as z = loc + scale · ε
    score = ((z - loc) / scale**2).numpy()  # d log q(z|x) / d loc, [draws, N, L]
    values = values.numpy()[..., None]  # [draws, N, 1]
    estimates = {
        "reparametrized": slopes,
        "score function": values * score,
        "score function, less the mean": (values - values.mean(axis=0)) * score,
    }
    spread = {name: float(np.sqrt(each.var(axis=0).mean())) for name, each in estimates.items()}
    draws_for_one = {name: (each / spread["reparametrized"]) ** 2 for name, each in spread.items()}
    gap = estimates["score function"].mean(axis=0) - slopes.mean(axis=0)  # [N, L]
    errors = estimates["score function"].std(axis=0) / np.sqrt(draws)
    return {
        "standard deviation of one draw": spread,
        "draws that are as good as one reparametrized": draws_for_one,
        "agree within 2 standard errors, in %": 100 * float((np.abs(gap) < 2 * errors).mean()),
        "num_images": len(images),
        "num_samples": draws,
    }


def with_class(split):
    """Returns digits with a fifteenth row, in which the pixel of the class is ink: [N, 15, 14]."""
    row = np.eye(14, dtype=np.uint8)[split.labels]  # [N, 14]
    return vae_tf.data.Split(np.concatenate([split.images, row[:, None]], axis=1), split.labels)


class SeesTheClass(vae_tf.VAE):
    """Its encoder sees the fifteenth row. Its decoder takes that row for 14 fair coins."""

    def likelihood(self, latents):
        """Returns p(x|z) with probabilities of 0.5 in the last row."""
        rows = tf.concat([tf.ones([14, 1]), tf.zeros([1, 1])], axis=0)  # [15, 1]
        return tfd.Independent(tfd.Bernoulli(self.decode(latents) * rows, dtype=tf.uint8), 2)


def exercise_4(digits):
    """Trains on digits alone, with the class for the encoder to see, and with it to be drawn."""
    splits = digits.train, digits.validation, digits.test
    marked = vae_tf.data.Dataset(*map(with_class, splits), digits.source, "digits with a class")
    recipe, shape = vae_tf.Recipe.writeup(), {"image_shape": (15, 14)}
    models = {
        "digits alone": (digits, vae_tf.VAE, {}),
        "class seen": (marked, SeesTheClass, shape),
        "class seen and drawn": (marked, vae_tf.VAE, shape),
    }
    elbo = {name: [] for name in models}
    for name, (data, make, arguments) in models.items():
        for seed in range(3):
            vae, _ = vae_tf.train(data, recipe, make(seed=seed, **arguments), verbose=0)
            elbo[name].append(vae_tf.evaluate(vae, data.validation.images, num_samples=50).elbo)
    elbo = {name: np.mean(each, axis=1) for name, each in elbo.items()}  # over digits: [seeds]
    elbo["class seen"] += 14 * np.log(2)  # the coins
    found = {name: Estimate.of(each)._asdict() for name, each in elbo.items()}  # over seeds
    for name in ("class seen", "class seen and drawn"):
        difference = Estimate.of(elbo[name] - elbo["digits alone"])
        found[f"{name}, less digits alone"] = difference._asdict()
    found["log 10"] = math.log(10)  # what a class costs that the code tells nothing of
    return found | {"num_images": len(digits.validation), "num_samples": 50, "seeds": [0, 1, 2]}
