"""vae_tf: `vae_tf.train` by a recipe, and `vae_tf.evaluate`, as its README shows."""

import vae_tf
from vae_tf.data import Dataset, Split

from . import LITERATURE


class Peer:
    """The package's own way to train, on grey levels, and to bound."""

    def __init__(self, levels, schedule):
        images, few = Split(levels), Split(levels[: schedule.batch_size])
        self.data = Dataset(images, few, few, "arrays", binarization="dynamic")
        options = schedule._asdict()
        self.recipe = vae_tf.Recipe(**options, evaluate_every=schedule.updates)

    def train(self, objective, draws, seed):
        """Trains new weights."""
        vae = vae_tf.VAE(
            **LITERATURE,
            image_shape=self.data.train.images.shape[1:],
            objective=objective,
            num_samples=draws,
            dynamic_binarization=True,
            seed=seed,
        )
        self.vae, _ = vae_tf.train(self.data, self.recipe, vae, verbose=0)

    def weights(self):
        """Returns kernel and bias of each layer, from the images on: arrays."""
        return self.vae.get_weights()

    def bounds(self, images, num_samples):
        """Returns the importance-weighted bound of each binary image, in nats: [N]."""
        return vae_tf.evaluate(self.vae, images, num_samples, self.vae.seed).marginal_log_likelihood
