"""JAX: the sums of `vae_tf.evaluate`, all draws of a chunk of images in one compiled loop.

Chunks have the sizes that `vae_tf.evaluate` has. Sums are float32, where vae_tf's are float64. One
shape, one compilation: images have to come in whole chunks, draws as well.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from . import IMAGES_PER_CHUNK, SAMPLES_PER_CHUNK, layers
from .jax_scan import initial_weights


def network(weights, x):
    """Returns what tanh layers and a linear one make of x."""
    for kernel, bias in weights[:-1]:
        x = jnp.tanh(x @ kernel + bias)
    kernel, bias = weights[-1]
    return x @ kernel + bias


@functools.partial(jax.jit, static_argnames="samples")
def sums(encoder, decoder, images, key, blocks, samples):
    """Returns Σ log p(x|z), Σ log q(z|x) − log p(z) and log Σ w over draws, [B] each.

    Args:
        encoder, decoder: weights.
        images: [B, height, width].
        key: of the noise.
        blocks, samples: how many times how many draws.
    """
    x = images.reshape(len(images), -1).astype(jnp.float32)
    loc, unconstrained = jnp.split(network(encoder, x), 2, axis=-1)
    scale = jax.nn.softplus(unconstrained) + 1e-6

    def add(block, totals):
        noise = jax.random.normal(jax.random.fold_in(key, block), (samples, *loc.shape))
        latents = loc + scale * noise
        logits = network(decoder, latents)
        log_likelihood = -jax.nn.softplus((1 - 2 * x) * logits).sum(-1)  # [S, B]
        log_ratio = (0.5 * (latents**2 - noise**2) - jnp.log(scale)).sum(-1)
        log_sum = jax.nn.logsumexp(log_likelihood - log_ratio, axis=0)
        first, second, third = totals
        return (
            first + log_likelihood.sum(0),
            second + log_ratio.sum(0),
            jnp.logaddexp(third, log_sum),
        )

    zeros = jnp.zeros(len(images))
    return jax.lax.fori_loop(0, blocks, add, (zeros, zeros, zeros - jnp.inf))


def bounds(encoder, decoder, images, key, num_samples):
    """Returns the importance-weighted bound of each image, in nats: [N].

    Args:
        encoder, decoder: weights.
        images: [N, height, width].
        key: of the noise.
        num_samples: draws of each image.

    Raises:
        ValueError: if images or draws do not come in whole chunks.
    """
    samples = min(SAMPLES_PER_CHUNK, num_samples)
    size, blocks = min(IMAGES_PER_CHUNK, len(images)), num_samples // samples
    if num_samples % samples or len(images) % size:
        raise ValueError("images and draws must come in whole chunks.")
    found = []
    for first in range(0, len(images), size):
        chunk, chunk_key = images[first : first + size], jax.random.fold_in(key, first)
        totals = sums(encoder, decoder, chunk, chunk_key, blocks, samples)
        found.append(jax.device_get(totals))  # waits until they are there
    return np.concatenate([log_sum for *_, log_sum in found]) - math.log(num_samples)


class Peer:
    """A Python loop over chunks of images."""

    def __init__(self, images, hidden_units, latent_dim, seed):
        self.images, self.key = images, jax.random.key(seed)
        encoder, decoder = layers(images[0].size, hidden_units, latent_dim)
        keys = jax.random.split(self.key, len(encoder) + len(decoder))
        weights = initial_weights(keys, encoder + decoder)
        self.encoder, self.decoder = weights[: len(encoder)], weights[len(encoder) :]

    def bound(self, num_samples):
        """Returns the mean importance-weighted bound, in nats."""
        found = bounds(self.encoder, self.decoder, self.images, self.key, num_samples)
        return float(found.mean())
