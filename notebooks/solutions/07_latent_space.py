"""Solutions of the exercises of 07_latent_space; `python notebooks/solve.py 07` runs them."""

import numpy as np
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

import vae_tf
from vae_tf.analysis import classifier, latent
from vae_tf.evaluation import Estimate

tfd = tfp.distributions


def exercise_1(digits):
    """Turns all codes about the origin, and undoes it in the decoder's first layer."""
    images, vae = digits.validation.images, vae_tf.load_pretrained("full")
    turn = scipy.stats.special_ortho_group.rvs(8, random_state=0).astype(np.float32)  # [8, 8]
    turned = vae_tf.load_pretrained("full")
    kernel = turned.decoder.layers[0].kernel  # [8, 128]; z becomes turn · z
    kernel.assign(turn @ kernel)

    def means_and_covariances(images):
        posterior = vae.posterior(images)
        scales = turn * posterior.stddev()[:, None]  # [N, 8, 8], the covariance is scales · scalesᵀ
        return posterior.mean() @ turn.T, scales @ tf.linalg.matrix_transpose(scales)

    def with_covariance(images):
        means, covariances = means_and_covariances(images)
        return tfd.MultivariateNormalTriL(means, tf.linalg.cholesky(covariances))

    def diagonal(images):  # the nearest in KL: its precisions are those of the full covariance
        means, covariances = means_and_covariances(images)
        precisions = tf.linalg.diag_part(tf.linalg.inv(covariances))
        return tfd.MultivariateNormalDiag(means, 1 / tf.sqrt(precisions))

    as_it_was = vae_tf.evaluate(vae, images, num_samples=200)
    found = {"num_images": len(images), "num_samples": 200}
    found["elbo as it was"] = as_it_was.estimates["elbo"]._asdict()
    found["kl as it was, from and to"] = sorted(as_it_was.kl_per_dimension[[5, 4]])
    for name, posterior in {"with covariance": with_covariance, "diagonal": diagonal}.items():
        evaluation = vae_tf.evaluate(turned, images, num_samples=200, posterior=posterior)
        gain = Estimate.of(evaluation.elbo - as_it_was.elbo)
        found[f"elbo gained, {name}"] = gain._asdict()
    each = evaluation.kl_per_dimension
    return found | {"kl turned, from and to": [each.min(), each.max()]}


def exercise_2(digits):
    """Fits linear probes to few labelled digits, by their codes and by their pixels."""
    vae, rng = vae_tf.load_pretrained("full"), np.random.default_rng(0)
    counts, draws = (1, 10, 100), 10
    found = {"of each class": counts, "draws of labelled digits": draws, "seed": 0}
    found["num_images"] = len(digits.test)
    splits = digits.train, digits.validation, digits.test
    features = {
        "latents": [vae.posterior(split.images).mean().numpy() for split in splits],
        "pixels": [split.images.reshape(len(split), -1) for split in splits],
    }
    classes = [split.labels for split in splits]
    for count in counts:
        accuracy = {name: [] for name in features}
        for _ in range(draws):
            of_class = [np.flatnonzero(classes[0] == label) for label in range(10)]
            rows = np.concatenate([rng.choice(each, count, replace=False) for each in of_class])
            for name, (train, *others) in features.items():
                labels = [classes[0][rows], *classes[1:]]
                probe = latent.linear_probe([train[rows], *others], labels, strengths=(0.1,))
                accuracy[name].append(100 * probe.accuracy.mean)
        found[f"{count} of each class"] = {
            name: Estimate.of(values)._asdict() for name, values in accuracy.items()
        }
    return found


def exercise_3(digits):
    """Decodes the middle between two codes of the prior, on a line and on an arc."""
    vae, judge, count = vae_tf.load_pretrained("full"), classifier.load_classifier(), 2_000
    start, end = np.random.default_rng(0).standard_normal([2, count, 8], np.float32)

    def length(codes):
        return np.linalg.norm(codes, axis=1, keepdims=True)

    directions = start / length(start), end / length(end)
    angle = np.arccos((directions[0] * directions[1]).sum(axis=1, keepdims=True))
    middles = {
        "codes of the prior": start,
        "middle of a line": (start + end) / 2,
        "middle of an arc": np.sin(angle / 2) * (start + end) / np.sin(angle),
    }
    found = {"num_images": count, "seed": 0}
    for name, codes in middles.items():
        likelihood = vae.likelihood(codes)
        cut = (likelihood.mean().numpy() > 0.5).astype(np.uint8)
        found[name] = {"length": float(length(codes).mean())}
        for kind, images in {"draws": likelihood.sample(seed=[0, 1]).numpy(), "cut": cut}.items():
            share = classifier.recognition(judge(images).probabilities).confident
            percent = Estimate(100 * share.mean, 100 * share.standard_error)
            found[name][f"{kind}, recognised (%)"] = percent._asdict()
    return found


def exercise_4(digits):
    """Lets the nearest digits vote by more and more principal components of the pixels."""
    splits = digits.train, digits.validation, digits.test
    pixels = [split.images.reshape(len(split), -1) for split in splits]
    classes = [split.labels for split in splits]
    counts = (8, 12, 16, 32)
    found = {"components": counts, "num_images": len(digits.test)}
    for count in counts:
        components, explained = latent.principal_components(pixels, count)
        score = latent.nearest_neighbours(components, classes, neighbours=(10,))
        found[f"{count} components"] = {
            "accuracy (%)": Estimate(*(100 * value for value in score.accuracy))._asdict(),
            "variance (%)": 100 * explained.sum(),
        }
    return found
