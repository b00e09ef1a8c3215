"""vae_tf: `vae_tf.evaluate`, as its README shows."""

import vae_tf


class Peer:
    """The package's own way to compute bounds."""

    def __init__(self, images, hidden_units, latent_dim, seed):
        self.images = images
        shape = images.shape[1:]
        self.vae = vae_tf.VAE(latent_dim, hidden_units, image_shape=shape, seed=seed)

    def bound(self, num_samples):
        """Returns the mean importance-weighted bound, in nats."""
        found = vae_tf.evaluate(self.vae, self.images, num_samples=num_samples)
        return float(found.marginal_log_likelihood.mean())
