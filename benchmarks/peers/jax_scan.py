"""JAX: the whole epoch in one compiled `lax.scan`, state donated, Adam written out.

Order and noise are drawn for the epoch at once. A scan needs one shape: no short last batch.
"""

import functools

import jax
import jax.numpy as jnp

from . import LATENT_DIM, layers


def terms(weights, images, noise):
    """Returns both terms of the ELBO, means over images, in nats."""
    (w1, b1), (w2, b2), (w3, b3), (w4, b4) = weights
    x = images.reshape(len(images), -1).astype(jnp.float32)
    loc, unconstrained = jnp.split(jnp.tanh(x @ w1 + b1) @ w2 + b2, 2, axis=-1)
    scale = jax.nn.softplus(unconstrained) + 1e-6
    logits = jnp.tanh((loc + scale * noise) @ w3 + b3) @ w4 + b4
    log_likelihood = -jax.nn.softplus((1 - 2 * x) * logits).sum(-1)
    kl = (0.5 * (loc**2 + scale**2 - 1) - jnp.log(scale)).sum(-1)
    return log_likelihood.mean(), kl.mean()


def loss(weights, images, noise):
    """Returns −ELBO, and both its terms."""
    both = terms(weights, images, noise)
    return both[1] - both[0], both


def update(state, batch):
    """Makes one weight update by Adam; returns the new state and both terms of the ELBO."""
    weights, first, second, t = state
    gradients, both = jax.grad(loss, has_aux=True)(weights, *batch)
    t = t + 1
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)
    rate = 2e-3 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
    steps = jax.tree.map(lambda m, v: rate * m / (jnp.sqrt(v) + 1e-7), first, second)
    return (jax.tree.map(jnp.subtract, weights, steps), first, second, t), both


@functools.partial(jax.jit, static_argnames="batch_size", donate_argnames="state")
def epoch(state, images, key, batch_size):
    """Trains for an epoch; returns the new state and both terms of every update."""
    order_key, noise_key = jax.random.split(key)
    shape = (len(images) // batch_size, batch_size)
    order = jax.random.permutation(order_key, len(images))[: shape[0] * shape[1]]
    noise = jax.random.normal(noise_key, (*shape, LATENT_DIM))
    return jax.lax.scan(update, state, (images[order.reshape(shape)], noise))


def initial_weights(keys, shapes):
    """Returns kernel and bias of each layer: Glorot's uniform ones, and zeros."""
    glorot = jax.nn.initializers.glorot_uniform()
    return [(glorot(k, shape), jnp.zeros(shape[1])) for k, shape in zip(keys, shapes, strict=True)]


class Peer:
    """A Python loop over epochs."""

    def __init__(self, images, batch_size, seed, hidden_units=128):
        self.images, self.batch_size = jnp.asarray(images), batch_size
        self.updates_per_epoch = len(images) // batch_size
        encoder, decoder = layers(images[0].size, hidden_units, LATENT_DIM)
        shapes = encoder + decoder
        self.key, *keys = jax.random.split(jax.random.key(seed), 1 + len(shapes))
        weights = initial_weights(keys, shapes)
        zeros = functools.partial(jax.tree.map, jnp.zeros_like)
        self.state = (weights, zeros(weights), zeros(weights), jnp.zeros(()))
        self.loss = jax.jit(loss)

    def train(self, epochs, after_epoch):
        """Trains for `epochs` epochs, or until `after_epoch()` is true."""
        for _ in range(epochs):
            self.key, key = jax.random.split(self.key)
            self.state, history = epoch(self.state, self.images, key, self.batch_size)
            self.history = jax.device_get(history)  # waits until it is there
            if after_epoch():
                break

    def elbo(self, images):
        """Returns the mean ELBO of images, in nats."""
        self.key, key = jax.random.split(self.key)
        noise = jax.random.normal(key, (len(images), LATENT_DIM))
        return -float(self.loss(self.state[0], images, noise)[0])
