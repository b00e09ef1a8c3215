"""JAX: a whole training in one compiled `lax.scan`, all that it needs written out.

Pixels, order, noise, both objectives, the schedule and Adam are here. `bound_jax.py` has the bound.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from . import LITERATURE, layers
from .bound_jax import bounds, network
from .jax_scan import initial_weights


def loss(weights, images, noise, objective):
    """Returns minus the objective, the mean over images, in nats.

    Args:
        weights: kernel and bias of each layer, of the encoder and then of the decoder.
        images: [B, pixels], values 0 or 1.
        noise: [K, B, L], standard normal.
        objective: "elbo" or "iwae".
    """
    half = len(weights) // 2
    loc, unconstrained = jnp.split(network(weights[:half], images), 2, axis=-1)
    scale = jax.nn.softplus(unconstrained) + 1e-6
    latents = loc + scale * noise  # [K, B, L]
    logits = network(weights[half:], latents)
    log_likelihood = -jax.nn.softplus((1 - 2 * images) * logits).sum(-1)  # [K, B]
    if objective == "elbo":
        kl = (0.5 * (loc**2 + scale**2 - 1) - jnp.log(scale)).sum(-1)
        return (kl - log_likelihood.mean(0)).mean()
    log_ratio = (0.5 * (latents**2 - noise**2) - jnp.log(scale)).sum(-1)  # log q(z|x) − log p(z)
    log_sum = jax.nn.logsumexp(log_likelihood - log_ratio, axis=0)  # over draws
    return (math.log(len(noise)) - log_sum).mean()


def rate(schedule, number):
    """Returns the learning rate of an update, whose number counts from 0."""
    rising = round(schedule.warmup * schedule.updates)
    share = (number - rising) / (schedule.updates - rising)
    falling = 0.5 * (1 + jnp.cos(jnp.pi * share))
    return schedule.learning_rate * jnp.where(number < rising, number / max(rising, 1), falling)


def adam(state, gradients, number, rate):
    """Returns weights and both moments after an update, whose number counts from 0."""
    weights, first, second = state
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)
    rate *= jnp.sqrt(1 - 0.999 ** (number + 1)) / (1 - 0.9 ** (number + 1))
    steps = jax.tree.map(lambda m, v: rate * m / (jnp.sqrt(v) + 1e-7), first, second)
    return jax.tree.map(jnp.subtract, weights, steps), first, second


def drawn(levels, key):
    """Returns pixels of 0 and 1, each 1 with the probability of its grey level."""
    return (jax.random.uniform(key, levels.shape) < levels).astype(jnp.float32)


@functools.partial(jax.jit, static_argnames=("schedule", "objective", "draws"))
def trained(weights, levels, key, schedule, objective, draws):
    """Returns weights after all updates, on grey levels [N, pixels]."""
    latent_dim = weights[-1 + len(weights) // 2][1].size // 2
    order_key, key = jax.random.split(key)
    passes = math.ceil(schedule.updates * schedule.batch_size / len(levels))
    permutation = functools.partial(jax.random.permutation, x=len(levels))
    order = jax.vmap(permutation)(jax.random.split(order_key, passes)).reshape(-1)
    order = order[: schedule.updates * schedule.batch_size].reshape(schedule.updates, -1)

    def update(state, batch):
        number, rows = batch
        pixel_key, noise_key = jax.random.split(jax.random.fold_in(key, number))
        images = drawn(levels[rows], pixel_key)
        noise = jax.random.normal(noise_key, (draws, len(rows), latent_dim))
        gradients = jax.grad(loss)(state[0], images, noise, objective)
        return adam(state, gradients, number, rate(schedule, number)), None

    zeros = jax.tree.map(jnp.zeros_like, weights)
    batches = jnp.arange(schedule.updates), order
    return jax.lax.scan(update, (weights, zeros, zeros), batches)[0][0]


class Peer:
    """One call for all updates."""

    def __init__(self, levels, schedule):
        self.levels, self.schedule = jnp.asarray(levels.reshape(len(levels), -1)), schedule
        encoder, decoder = layers(self.levels.shape[1], **LITERATURE)
        self.shapes = encoder + decoder

    def train(self, objective, draws, seed):
        """Trains new weights."""
        self.key, key, *keys = jax.random.split(jax.random.key(seed), 2 + len(self.shapes))
        weights = initial_weights(keys, self.shapes)
        self.layers = trained(weights, self.levels, key, self.schedule, objective, draws)
        jax.block_until_ready(self.layers)

    def weights(self):
        """Returns kernel and bias of each layer, from the images on: arrays."""
        return [np.asarray(each) for layer in self.layers for each in layer]

    def bounds(self, images, num_samples):
        """Returns the importance-weighted bound of each binary image, in nats: [N]."""
        half = len(self.layers) // 2
        return bounds(self.layers[:half], self.layers[half:], images, self.key, num_samples)
