"""Solutions of the exercises of `04_reconstructions.ipynb`."""

import numpy as np

import vae_tf
from vae_tf.analysis import bounds, classifier
from vae_tf.evaluation import Estimate


def cut(means):
    """Returns the likelier value of each pixel, 0 or 1."""
    return (np.asarray(means) > 0.5).astype(np.uint8)


def percent_right(pictures, labels):
    """Returns the share of pictures that are read as their digit's class, in per cent."""
    right = classifier.load_classifier()(pictures).classes == labels
    return Estimate.of(100 * right)._asdict()


def wrong_pixels(pictures, images):
    """Returns the mean number of pixels in which pictures differ from the digits."""
    return Estimate.of((pictures != images).sum(axis=(1, 2)))._asdict()


def exercise_1(digits):
    """Puts the mean code into the ELBO's first term, and holds the number against the bounds."""
    images, found = digits.validation.images, {}
    for name in ("writeup", "full"):
        vae = vae_tf.load_pretrained(name)
        evaluation = vae_tf.evaluate(vae, images, num_samples=1_000)
        at_mean = vae.likelihood(vae.posterior(images).mean()).log_prob(images).numpy()
        number = at_mean - evaluation.kl  # looks like an ELBO
        found[name] = {
            "log p(x|loc)": Estimate.of(at_mean)._asdict(),
            "log p(x|loc) - KL": Estimate.of(number)._asdict(),
            "above the ELBO": Estimate.of(number - evaluation.elbo)._asdict(),
            "above the bound": Estimate.of(number - evaluation.marginal_log_likelihood)._asdict(),
        } | {key: value._asdict() for key, value in evaluation.estimates.items()}
    return found | {"num_images": len(images), "num_samples": 1_000, "seed": 0}


def exercise_2(digits):
    """Trains models with 2, 8 and 32 latents, and reads their reconstructions."""
    images, labels = digits.validation.images, digits.validation.labels
    found = {"latents": [2, 8, 32], "num_images": len(images), "seed": 0}
    for latents in found["latents"]:
        vae, _ = vae_tf.train(digits, vae=vae_tf.VAE(latent_dim=latents), seed=0, verbose=0)
        reconstructions = cut(vae.reconstruct(images, mean=True))
        found[f"{latents} latents"] = {
            "right_percent": percent_right(reconstructions, labels),
            "wrong_pixels": wrong_pixels(reconstructions, images),
            "kl": Estimate.of(vae_tf.evaluate(vae, images, num_samples=1).kl)._asdict(),
            "active": int(bounds.active_units(vae, images).sum()),
        }
    return found


def exercise_3(digits):
    """Reconstructs digits that were moved by one pixel to the right."""
    vae, labels = vae_tf.load_pretrained("writeup"), digits.validation.labels
    images, found = digits.validation.images, {}
    for name, each in {"as they are": images, "moved": np.roll(images, 1, axis=2)}.items():
        reconstructions = cut(vae.reconstruct(each, mean=True))
        evaluation = vae_tf.evaluate(vae, each, num_samples=100)
        found[name] = {
            "right_percent, digits": percent_right(each, labels),
            "right_percent, reconstructions": percent_right(reconstructions, labels),
            "wrong_pixels": wrong_pixels(reconstructions, each),
            "elbo": Estimate.of(evaluation.elbo)._asdict(),
        }
    return found | {"num_images": len(images), "num_samples": 100, "seed": 0}


def exercise_4(digits):
    """Flips 5 % of all pixels, and lets both models reconstruct the digits from what is left."""
    images, labels = digits.validation.images, digits.validation.labels
    flips = np.random.default_rng(0).random(images.shape) < 0.05
    noisy = images ^ flips.astype(np.uint8)
    found = {
        "noisy digits": {
            "right_percent": percent_right(noisy, labels),
            "wrong_pixels": wrong_pixels(noisy, images),
        }
    }
    for name in ("writeup", "full"):
        vae = vae_tf.load_pretrained(name)
        before, after = vae.posterior(images), vae.posterior(noisy)
        reconstructions = cut(vae.likelihood(after.mean()).mean())
        moved = np.abs((after.mean() - before.mean()) / before.stddev())  # [N, L]
        found[f"reconstructed by {name}"] = {
            "right_percent": percent_right(reconstructions, labels),
            "wrong_pixels": wrong_pixels(reconstructions, images),
            "scales that a latent moved": Estimate.of(moved.mean(axis=1))._asdict(),
        }
    return found | {"flipped_percent": 5, "num_images": len(images), "seed": 0}
