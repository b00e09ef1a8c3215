"""What TensorBoard shows of a VAE, beside what Keras's callback writes for it.

`keras.callbacks.TensorBoard` writes loss and both terms of the ELBO, of training and validation
images, because they are the model's metrics: epoch_loss, epoch_log_likelihood and epoch_kl. Here
are what it does not know of: which latent dimensions are used, and what samples look like.

    folder = "logs"
    callbacks = [keras.callbacks.TensorBoard(folder), vae_tf.VAESummaries(folder, some_images)]
    vae.fit(images, epochs=20, validation_data=(some_images,), callbacks=callbacks)
"""

import importlib.util
import math

import keras
import numpy as np
import tensorflow as tf

from .engine import checks
from .evaluation import exact_kl
from .model import VAE

GAP = 2  # white pixels between samples


class VAESummaries(keras.callbacks.Callback):
    """Writes the KL of each latent dimension and a grid of samples at the end of every epoch.

    Training is the same with it as without: it draws no noise but its own, and hears epochs alone.
    The summaries are a run named `model`, and their steps are epochs, as Keras's:

    kl_per_dimension/0, ...   scalars, the mean over images of the KL in nats; the dimensions' sum
                              is the ELBO's KL
    kl_per_dimension          a histogram of them: how many dimensions are used
    samples                   an image, of the same noise after every epoch

    Args:
        log_dir: a folder, the same as Keras's callback has.
        images: those whose codes are looked at, [N, height, width], such as 1,000 of validation;
            None writes no KL.
        num_samples: images in the grid, an int >= 1.
        mean: True shows means of p(x|z) instead of draws from it.
        seed: of the samples, an int in [0, 2³¹).

    Raises:
        TypeError, ValueError: if an argument is of the wrong kind, shape or range; once training
            begins, if images do not fit the model, or posterior and prior have no KL by dimension.
        ModuleNotFoundError: if TensorBoard is not installed: `pip install "vae_tf[tensorboard]"`.
    """

    def __init__(self, log_dir, images=None, num_samples=100, mean=False, seed=0):
        super().__init__()
        log_dir = checks.path("log_dir", log_dir)
        if importlib.util.find_spec("tensorboard") is None:
            raise ModuleNotFoundError(
                'TensorBoard is not found here: pip install "vae_tf[tensorboard]"',
                name="tensorboard",
            )
        self.folder = log_dir / "model"
        self.images = images
        self.num_samples = checks.integer("num_samples", num_samples, 1, checks.MOST_IMAGES)
        self.mean = checks.boolean("mean", mean)
        self.seed = checks.integer("seed", seed, 0)

    def on_train_begin(self, logs=None):
        """Checks that the model has what is to be written, before any epoch."""
        checks.instance("the model", self.model, VAE, "a VAE")
        if self.images is not None:
            self.images = self.model.checked_images(self.images)
            self._kl_per_dimension()
        self.writer = tf.summary.create_file_writer(str(self.folder))

    def on_epoch_end(self, epoch, logs=None):
        """Writes the summaries of an epoch."""
        try:
            self.model.check_weights()
        except ValueError:  # training diverged, which a callback that looks on must not stop
            return
        # Keras's callback may have asked for some steps only, of whatever is written.
        with self.writer.as_default(epoch), tf.summary.record_if(True):
            if self.images is not None:
                kl = self._kl_per_dimension()
                tf.summary.histogram("kl_per_dimension", kl)
                for dimension, nats in enumerate(kl):
                    tf.summary.scalar(f"kl_per_dimension/{dimension}", nats)
            samples = self.model.sample(self.num_samples, self.seed, self.mean)
            tf.summary.image("samples", grid(samples)[None, ..., None])
        self.writer.flush()  # each epoch can be seen at once, and none is lost if training ends

    def on_train_end(self, logs=None):
        """Closes the file."""
        self.writer.close()

    def _kl_per_dimension(self):
        _, kl = exact_kl(self.model.posterior, self.model.prior(), (self.images,))
        if kl is None:
            posterior, prior = self.model.posterior(self.images[:1]), self.model.prior()
            raise ValueError(
                "the KL by dimension needs a posterior and a prior that are independent over "
                "dimensions and have a KL in closed form; received "
                f"{posterior.name} and {prior.name}. images=None leaves it out."
            )
        return kl


def grid(images):
    """Returns images in a square, row by row, dark on light: uint8 [rows · h, columns · w].

    Args:
        images: [N, height, width], values in [0, 1]; what is beyond is taken for the nearest.
    """
    images = 1 - np.clip(np.asarray(images, np.float32), 0, 1)
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    around = [(0, rows * columns - len(images)), (0, GAP), (0, GAP)]
    images = np.pad(images, around, constant_values=1)  # paper, between images and at the end
    images = images.reshape(rows, columns, *images.shape[1:]).swapaxes(1, 2)
    images = images.reshape(rows * images.shape[1], -1)[:-GAP, :-GAP]
    return np.round(255 * images).astype(np.uint8)
