"""Solutions of the exercises of notebook 12."""

import numpy as np

import vae_tf
from vae_tf.analysis import quality
from vae_tf.evaluation import Estimate

KEPT = ("confident_percent", "no_digit_percent", "frechet", "precision", "recall")


def exercise_1(digits):
    """Divides the logits of pixels by a temperature, and measures the draws."""
    test, train, values = digits.test.images, digits.train.images, {"num_draws": len(digits.test)}
    for temperature in (1.0, 0.8, 0.6):
        vae = vae_tf.load_pretrained("pixel")
        for weight in (vae.kernels[-1], vae.biases[-1]):
            weight.assign(weight / temperature)
        found = quality.measure(np.asarray(vae.sample(len(test), seed=8)), test, train)
        values[f"temperature {temperature}"] = {key: found[key]._asdict() for key in KEPT}
    return values


def exercise_2(digits):
    """Draws from codes of training digits in place of the prior's."""
    vae, test, train = vae_tf.load_pretrained("pixel"), digits.test.images, digits.train.images
    count = min(len(test), len(train))
    sets = {
        "codes of the prior": vae.sample(count, seed=8),
        "codes of digits": vae.reconstruct(train[:count], seed=8),
    }
    values = {"num_draws": count}
    for name, images in sets.items():
        found = quality.measure(np.asarray(images), test, train)
        values[name] = {key: found[key]._asdict() for key in KEPT}
    return values


def exercise_3(digits):
    """Gives each digit the code of another one, and sees what its likelihood loses."""
    images, values = digits.test.images[:1_000], {"num_images": 1_000}
    order = np.random.default_rng(0).permutation(len(images))
    for name, stored in (("plain VAE", "full"), ("PixelVAE", "pixel")):
        vae = vae_tf.load_pretrained(stored)
        codes = vae.posterior(images).sample(seed=[3, 0]).numpy()
        own, other = (
            vae.likelihood(each).log_prob(images).numpy() for each in (codes, codes[order])
        )
        kl = vae_tf.evaluate(vae, images, num_samples=20).kl
        values[name] = {
            "own code": Estimate.of(own)._asdict(),
            "another's": Estimate.of(other)._asdict(),
            "lost": Estimate.of(own - other)._asdict(),
            "kl": Estimate.of(kl)._asdict(),
        }
    return values
