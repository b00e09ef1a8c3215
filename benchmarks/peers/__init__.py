"""The contenders: one module each, all with one structure.

    peer = Peer(images, batch_size, seed, hidden_units)
                                            images: uint8 [N, height, width], values 0 or 1;
                                            hidden_units: 128 if not told else
    peer.train(epochs, after_epoch)         stops early once after_epoch() is true
    peer.elbo(images)                       mean over images, nats, one draw of z each
    peer.updates_per_epoch                  what an epoch's time is divided by

All train the same model (196 → 128 tanh → 8 + 8, 8 → 128 tanh → 196 Bernoulli, or other widths,
softplus scale, Glorot weights) on the same objective (the ELBO with one draw of z) with the same
optimizer (Adam, 2e-3, epsilon 1e-7) in float32, visit the digits in a new random order every epoch,
and keep both terms of the ELBO of every update. A module is imported by its own process only, so
this table imports none of them.

Modules named bound_* compute the importance-weighted bound of `vae_tf.evaluate`, untrained:

    peer = Peer(images, hidden_units, latent_dim, seed)    hidden_units: a tuple of ints
    peer.bound(num_samples)                                mean over images, in nats

Modules named literature_* train the literature's network at 28×28 and bound it, each with its own
pixels, noise, objectives, schedule, Adam and bound:

    peer = Peer(levels, schedule)           levels: float32 [N, height, width] in [0, 1]
    peer.train(objective, draws, seed)      new weights; "elbo" or "iwae", draws of z per image
    peer.weights()                          kernel and bias of each layer: arrays
    peer.bounds(images, num_samples)        [N], in nats, of binary images
"""

import itertools
from typing import NamedTuple

LATENT_DIM = 8  # of the model that is trained

CONTENDERS = {
    "ours": "vae_tf, fit",
    "ours_one_thread": "vae_tf, fit, one thread",
    "before": "vae_tf before, fit",
    "before_one_thread": "vae_tf before, fit, one thread",
    "jax_scan": "JAX, epoch in one lax.scan",
    "jax_one_thread": "JAX, one thread",
    "keras_jit": "Keras fit, XLA and tf.data",
    "torch_compiled": "PyTorch, torch.compile",
    "torch_memory": "PyTorch, digits in memory",
    "torch_loader": "PyTorch, DataLoader",
    "keras_plain": "Keras fit, its defaults",
    "matmul": "matrix products alone",
}
# Who is faster when held to one thread, and the name of that contender.
ONE_THREAD = {"ours": "ours_one_thread", "jax_scan": "jax_one_thread"}
ONE_THREAD["before"] = "before_one_thread"
VAE_TF = ("ours", ONE_THREAD["ours"])
BEFORE = ("before", ONE_THREAD["before"])  # of another checkout, if `run.py` is given one
LIMIT = "matmul"  # not a way to train: what the hardware needs at least

# Updates a second of ours, in units of the contender's: at least this, at batch 32. One thread
# of ours is measured against one thread of who is faster so.
TARGETS = {"torch_loader": 6.5, "torch_memory": 5.0, "keras_plain": 5.0, "jax_scan": 1.0}
TARGETS[LIMIT] = 1 / 2.5
TARGETS["before"] = 0.97

# Who computes bounds, and as which contender that counts.
BOUNDS = {
    "bound_ours": "vae_tf, evaluate",
    "bound_jax": "JAX, the same chunks, compiled",
    "bound_matmul": "the decoder's products alone",
}
BOUNDS_OF = {"ours": "bound_ours", "jax_scan": "bound_jax", LIMIT: "bound_matmul"}
IMAGES_PER_CHUNK, SAMPLES_PER_CHUNK = 100, 20  # what `vae_tf.evaluate` computes at once

# Who trains the literature's network, and what that is.
LITERATURE_PEERS = {
    "literature_ours": "vae_tf",
    "literature_jax": "JAX",
    "literature_torch": "PyTorch",
}
LITERATURE = {"hidden_units": (200, 200), "latent_dim": 50}


class Schedule(NamedTuple):
    """Adam's rate rises linearly to its peak, then falls to 0 along a cosine."""

    updates: int
    batch_size: int
    learning_rate: float  # at its peak
    warmup: float  # share of the updates that it takes to get there


def layers(pixels, hidden_units, latent_dim):
    """Returns inputs and outputs of each layer: a list for the encoder, a list for the decoder.

    Args:
        pixels: of an image.
        hidden_units: widths of the hidden layers, from the images on: an int, or a tuple of ints.
        latent_dim: dimensions of z.
    """
    hidden = hidden_units if isinstance(hidden_units, tuple) else (hidden_units,)
    encoder = itertools.pairwise((pixels, *hidden, 2 * latent_dim))
    return list(encoder), list(itertools.pairwise((latent_dim, *hidden[::-1], pixels)))


class Skip(Exception):  # noqa: N818 - not an error: the contender cannot run here
    """Raised by a peer that cannot run on this machine; the message says why."""
