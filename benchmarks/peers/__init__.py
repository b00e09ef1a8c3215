"""The contenders: one module each, all with one structure.

    peer = Peer(images, batch_size, seed)   images: uint8 [N, 14, 14], values 0 or 1
    peer.train(epochs, after_epoch)         stops early once after_epoch() is true
    peer.elbo(images)                       mean over images, nats, one draw of z each
    peer.updates_per_epoch                  what an epoch's time is divided by

All train the same model (196 → 128 tanh → 8 + 8, 8 → 128 tanh → 196 Bernoulli, softplus scale,
Glorot weights) on the same objective (the ELBO with one draw of z) with the same optimizer (Adam,
2e-3, epsilon 1e-7) in float32, visit the digits in a new random order every epoch, and keep both
terms of the ELBO of every update. A module is imported by its own process only, so this table
imports none of them.
"""

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


class Skip(Exception):  # noqa: N818 - not an error: the contender cannot run here
    """Raised by a peer that cannot run on this machine; the message says why."""
