"""Images of which the upper rows are given, and the rest is drawn.

symbol      meaning                                                     shape
g           the given rows                                              [rows, width]
z_s         codes from the prior, the same for all images               [S, L]
w_s         p(g | z_s), which says how well a code fits what is given   [S, N]
effective   (Σ_s w_s)² / Σ_s w_s²: how many codes share the choice      [N]

A code is chosen with a probability in proportion to w_s, and the rest of the image is drawn given
that code, and, with pixels in turn, given the rows above. As S grows these become draws from
p(rest | g), the model's own answer. With few effective codes they are a guess at it.
Source: Rubin (1987), on sampling/importance resampling, in The Calculation of Posterior
Distributions by Data Augmentation: Comment.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ..engine import checks
from ..engine.distributions import IndependentBernoulli
from ..engine.pixels_in_turn import PixelsInTurn
from ..evaluation import checked_images

CODES_PER_CHUNK, IMAGES_PER_CHUNK = 50, 100  # weighed at once: 330 MB, of a `PixelVAE`'s own size


class Completion(NamedTuple):
    """What `complete` returns."""

    images: np.ndarray  # [N, height, width], uint8; the given rows as they were
    effective: np.ndarray  # [N], between 1 and S


def complete(vae, images, rows, num_codes=2_000, seed=0):
    """Draws all but the upper rows of images, given these.

    Args:
        vae: a `VAE` or `PixelVAE` of binary images.
        images: [N, height, width], 0 or 1; what is below the given rows is not looked at.
        rows: how many are given, an int in [1, height).
        num_codes: S, an int >= 1.
        seed: an int in [0, 2³¹). With another one, other codes and pixels are drawn.

    Returns:
        `Completion`.

    Raises:
        TypeError, ValueError: if an argument is of the wrong kind, shape or range, or the model's
            likelihood is of neither kind.
    """
    images = checked_images(vae, images)
    rows = checks.integer("rows", rows, 1, images.shape[1] - 1)
    num_codes = checks.integer("num_codes", num_codes, 1)
    seed = checks.integer("seed", seed, 0)
    latents = vae.prior().sample(num_codes, seed=[seed, 0])  # [S, L]
    log_weights = np.concatenate(
        [_log_weights(vae, latents, some) for some in _parts(images[:, :rows], IMAGES_PER_CHUNK)],
        axis=1,
    )  # [S, N]
    chosen = tf.random.stateless_categorical(log_weights.T, 1, seed=[seed, 1])[:, 0]  # [N]
    likelihood = vae.likelihood(tf.gather(latents, chosen))
    is_given = np.arange(images.shape[1])[:, None] < rows + np.zeros(images.shape[2])
    if isinstance(likelihood, PixelsInTurn):
        drawn = likelihood.complete(images, is_given, [seed, 2])
    else:  # pixels are independent given the code
        drawn = tf.where(is_given, images, likelihood.sample(seed=[seed, 2]))
    weights = np.exp(log_weights - log_weights.max(axis=0))
    effective = weights.sum(axis=0) ** 2 / np.sum(weights**2, axis=0)
    return Completion(np.asarray(drawn), effective)


def _log_weights(vae, latents, given):
    """Returns log p(g | z_s), [S, N], of codes [S, L] and given rows [N, rows, width]."""
    rows = given.shape[1]
    return np.concatenate(
        [
            _upper(vae.likelihood(some[:, None]), rows).log_prob(given)
            for some in _parts(latents, CODES_PER_CHUNK)
        ]
    )


def _parts(values, size):
    return [values[start : start + size] for start in range(0, len(values), size)]


def _upper(likelihood, rows):
    """Returns the distribution of the upper rows.

    Raises:
        ValueError: if it is not known how it follows from that of the whole image.
    """
    if isinstance(likelihood, PixelsInTurn):
        return likelihood.upper(rows)
    if isinstance(likelihood, IndependentBernoulli):
        return IndependentBernoulli(likelihood.distribution.logits[..., :rows, :])
    raise ValueError(
        "vae must have a VAE's own likelihood, or a PixelVAE's; "
        f"received {type(likelihood).__name__}."
    )
