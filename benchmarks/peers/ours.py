"""vae_tf: `vae.fit` with arrays, as its README shows."""

import keras

from vae_tf import VAE


class Peer:
    """The package's own way to train; `options` are of `compile`."""

    model = VAE

    def __init__(self, images, batch_size, seed, hidden_units=128, **options):
        self.images, self.batch_size = images, batch_size
        self.updates_per_epoch = -(-len(images) // batch_size)
        shape = images.shape[1:]
        self.vae = self.model(hidden_units=hidden_units, image_shape=shape, seed=seed)
        self.vae.compile(keras.optimizers.Adam(2e-3), **options)

    def train(self, epochs, after_epoch):
        """Trains for `epochs` epochs, or until `after_epoch()` is true."""
        self.vae.fit(self.images, **self.fit_options(epochs, after_epoch))

    def fit_options(self, epochs, after_epoch):
        """Returns what every call of `fit` is given."""
        return {
            "batch_size": self.batch_size,
            "epochs": epochs,
            "callbacks": [AfterEpoch(after_epoch)],
            "verbose": 0,
        }

    def elbo(self, images):
        """Returns the mean ELBO of images, in nats."""
        logs = self.vae.evaluate(images, batch_size=len(images), verbose=0, return_dict=True)
        return -logs["loss"]


class AfterEpoch(keras.callbacks.Callback):
    """Ends training once `after_epoch()`, called after every epoch, is true."""

    def __init__(self, after_epoch):
        super().__init__()
        self.after_epoch = after_epoch

    def on_epoch_end(self, epoch, logs=None):
        """Called by Keras."""
        if self.after_epoch():
            self.model.stop_training = True
