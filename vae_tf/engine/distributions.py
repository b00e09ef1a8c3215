"""TFP's distributions with the project's noise, and with formulas that XLA runs fast.

A seed is two integers, as TFP takes them. For `Normal` it may be four: the two, the number of the
first row and that of the first draw, counted from 0. Draws are then those that a larger call would
have at these places, so that work can be cut into chunks and results do not depend on the cut.
"""

import contextlib

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from . import replicas
from .noise import normals

tfd = tfp.distributions


class Normal(tfd.Normal):
    """`tfd.Normal` of loc and scale [B, L], whose draws are loc + scale · `noise.normals`."""

    def _sample_n(self, n, seed=None):
        return self.loc + self.scale * self._noise(n, seed)

    def _sample_and_log_prob(self, sample_shape, seed):
        noise = self._noise(tf.reduce_prod(sample_shape), seed)
        draws = self.loc + self.scale * noise
        # Not from the draws: (draw − loc) / scale would lose digits where scale is tiny.
        log_prob = tfd.Normal(tf.zeros([], self.dtype), 1.0).log_prob(noise)
        shape = tf.concat([sample_shape, tf.shape(draws)[1:]], axis=0)
        return tf.reshape(draws, shape), tf.reshape(log_prob - tf.math.log(self.scale), shape)

    def _noise(self, n, seed):
        """Returns standard normal noise, [n, B, L]."""
        rows, dimensions = tf.reduce_prod(tf.shape(self.loc)[:-1]), self.loc.shape[-1]
        if getattr(seed, "shape", None) != [4]:
            pair = replicas.told_apart(tfp.random.sanitize_seed(seed))
            seed = tf.concat([pair, [replicas.rows_before(rows), 0]], axis=0)
        key = tf.bitcast(seed[:2], tf.uint32)
        noise = normals(key, seed[2] + tf.range(rows), seed[3] + tf.range(n), dimensions)
        shape = tf.concat([[n], tf.shape(self.loc)], axis=0)
        return tf.cast(tf.reshape(noise, shape), self.dtype)


class IndependentBernoulli(tfd.Independent):
    """`tfd.Independent` of Bernoulli pixels: batch shape [...], event shape [height, width].

    Its log-probability takes a fifth of an update less than TFP's. It is of images of 0 and 1 only.
    """

    def __init__(self, logits):
        super().__init__(tfd.Bernoulli(logits=logits, dtype=tf.uint8), 2)
        self._parameters = {"logits": logits}

    def _log_prob(self, images):
        # Pixels in one flat axis: XLA sums two short axes four times slower on a CPU.
        logits = self.distribution.logits
        pixels = logits.shape[-2] * logits.shape[-1]
        signs = 2.0 * _flat(tf.cast(images, logits.dtype), pixels) - 1.0
        logits = _flat(logits, pixels)
        sizes = zip(reversed(signs.shape), reversed(logits.shape), strict=False)
        if len(signs.shape) > len(logits.shape) or any(b == 1 != a for a, b in sizes):
            shape = tf.broadcast_dynamic_shape(tf.shape(signs), tf.shape(logits))
            logits = tf.broadcast_to(logits, shape)  # so that each image's gradient is added
        return sum_log_sigmoid(signs, logits)  # over pixels


def kl_divergence(posterior, prior, latents):
    """Returns KL[posterior ‖ prior], [B]: in closed form where TFP has one.

    Args:
        posterior, prior: distributions of batch shape [B] and [].
        latents: draws from the posterior, [S, B, L]: where there is no closed form, the divergence
            is estimated as the mean over them of log q(z|x) − log p(z).
    """
    with contextlib.suppress(NotImplementedError):
        return tfd.kl_divergence(posterior, prior)
    with contextlib.suppress(NotImplementedError):
        return tfd.kl_divergence(as_independent(posterior), as_independent(prior))
    return tf.reduce_mean(posterior.log_prob(latents) - prior.log_prob(latents), axis=0)


def closed_form_kl(posterior, prior):
    """Returns KL[posterior ‖ prior], float64: by dimension, [B, L], or else [B]; None if unknown.

    Args:
        posterior, prior: distributions of batch shape [B] and [], event shape [L].
    """
    pair = [as_independent(posterior), as_independent(prior)]
    with contextlib.suppress(NotImplementedError):
        if all(isinstance(each, tfd.Independent) for each in pair):
            kl = tfd.kl_divergence(*(each.distribution for each in pair)).numpy()
            if kl.shape[1:] == posterior.event_shape == prior.event_shape:  # [N, L]
                return kl.astype(np.float64)
    with contextlib.suppress(NotImplementedError):
        return tfd.kl_divergence(posterior, prior).numpy().astype(np.float64)
    return None


def as_independent(distribution):
    """Returns a distribution; a `MultivariateNormalDiag` as the `Independent` that it equals."""
    # TFP knows the KL of two of either kind, and not that of one of each.
    if isinstance(distribution, tfd.MultivariateNormalDiag):
        return tfd.Independent(tfd.Normal(distribution.mean(), distribution.stddev()), 1)
    return distribution


def sample_and_log_prob(posterior, num_samples, seed):
    """Returns draws [S, B, L] and their log-densities [S, B].

    Args:
        posterior: a distribution of batch shape [B] and event shape [L].
        num_samples: S.
        seed: two or four integers. Draws of other distributions than `Normal` depend on the cut.
    """
    is_ours = isinstance(posterior, tfd.Independent) and isinstance(posterior.distribution, Normal)
    if not is_ours and tf.convert_to_tensor(seed).shape == [4]:
        fold_in = tf.random.experimental.stateless_fold_in
        seed = fold_in(fold_in(seed[:2], seed[2]), seed[3])
    return posterior.experimental_sample_and_log_prob(num_samples, seed=seed)


def _flat(images, pixels):
    """Returns [..., height, width] as [..., pixels]."""
    return tf.reshape(images, tf.concat([tf.shape(images)[:-2], [pixels]], axis=0))


@tf.custom_gradient
def sum_log_sigmoid(signs, logits):
    """Returns Σ log sigmoid(signs · logits) over the last axis; `signs` are ±1 and get no gradient.

    log sigmoid(m) = min(m, 0) − log(1 + e^−|m|), so nothing overflows at any logit. Each term is
    right to 1e-7 nats: log1p would round less and take three times as long as the rest together.
    """
    margins = signs * logits
    decay = tf.exp(-tf.abs(margins))

    def gradient(upstream):
        # sign · sigmoid(−m), and the division last: XLA computes what ends in one only once, and
        # would else add up the bias's gradient anew from its parts, in plain loops.
        numerator = upstream[..., None] * signs * tf.where(margins >= 0, decay, 1.0)
        return None, numerator / (1.0 + decay)

    return tf.reduce_sum(tf.minimum(margins, 0.0) - tf.math.log(1.0 + decay), axis=-1), gradient
