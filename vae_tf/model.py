"""The variational autoencoder and its objective.

symbol     meaning                       code                          batch, event shape
x          binary image                  images                        [B], [14, 14]
z          latent code                   latents                       [B], [L]
p(z)       prior N(0, I)                 vae.prior()                   [],  [L]
q(z|x)     posterior N(loc, scale²)      vae.posterior(images)         [B], [L]
p(x|z)     Bernoulli likelihood          vae.likelihood(latents)       [B], [14, 14]
ELBO       E_q[log p(x|z)] − KL[q‖p]     vae.elbo_terms(images, seed)  [B] each

Everything is in nats per image: summed over pixels and over latent dimensions.
Source: Kingma & Welling (2014), Auto-Encoding Variational Bayes, https://arxiv.org/abs/1312.6114.
"""

import math
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from . import checks
from .blocks import BlockTrainer

tfd = tfp.distributions

SMALLEST_SCALE = 1e-6  # softplus underflows to 0 below −87, and log 0 would make the KL infinite


class ElboTerms(NamedTuple):
    """The two terms of the evidence lower bound, in nats, each [B]."""

    log_likelihood: tf.Tensor  # E_q[log p(x|z)], estimated
    kl: tf.Tensor  # KL[q(z|x) || p(z)], exact

    @property
    def elbo(self):
        """The bound itself, in nats: [B]."""
        return self.log_likelihood - self.kl


@keras.saving.register_keras_serializable(package="vae_tf")
class VAE(BlockTrainer):
    """A variational autoencoder of binary images, with one hidden layer each way.

    `encoder` is 196 → 128 tanh → 8 + 8, `decoder` 8 → 128 tanh → 196 logits: 53,716 weights. Use
    it as any Keras model: `vae.compile(optimizer)`, `vae.fit(images)`, `vae.evaluate(images)`,
    `vae.save("vae.keras")`; targets, where a pipeline has them, are not looked at. `vae(images)`
    reconstructs. Metrics are `loss`, `log_likelihood` and `kl`, in nats per image.

    Args:
        latent_dim: dimensions L of z, an int >= 1.
        hidden_units: width of the hidden layers, an int >= 1.
        image_shape: height and width, two ints >= 1.
        beta: weight of the KL term in the loss, a float >= 0. Only with 1 is the loss −ELBO;
            `elbo_terms` and all evaluation are of the true bound, whatever beta is.
        num_samples: draws of z per image in training, an int >= 1.
        seed: of the initial weights, the noise and the order of digits; an int in [0, 2³¹).

    Raises:
        TypeError, ValueError: if an argument is no number of its kind, or outside its range.

    Example:
        vae = VAE(seed=1)
        vae.compile(keras.optimizers.Adam(2e-3))
        vae.fit(digits.train.images, batch_size=32, epochs=10)
    """

    def __init__(
        self,
        latent_dim=8,
        hidden_units=128,
        image_shape=(14, 14),
        beta=1.0,
        num_samples=1,
        seed=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.latent_dim = checks.integer("latent_dim", latent_dim, 1, 2**16)
        self.hidden_units = checks.integer("hidden_units", hidden_units, 1, 2**16)
        if np.ndim(image_shape) != 1 or len(image_shape) != 2:
            raise ValueError(f"image_shape must be (height, width); received {image_shape!r}.")
        self.image_shape = tuple(checks.integer("image_shape", n, 1, 2**12) for n in image_shape)
        self.beta = checks.number("beta", beta, 0)
        self.num_samples = checks.integer("num_samples", num_samples, 1, 2**16)
        self.seed = checks.integer("seed", seed, 0)
        self._noise = keras.random.SeedGenerator(self.seed)  # holds the seed as a variable

        layers, pixels = keras.layers, int(np.prod(self.image_shape))
        kernels = [
            keras.initializers.GlorotUniform(seed=int(word >> 1))
            for word in np.random.SeedSequence(self.seed).generate_state(4)
        ]
        self.encoder = keras.Sequential(
            [
                keras.Input(self.image_shape),
                layers.Flatten(),
                layers.Dense(self.hidden_units, "tanh", kernel_initializer=kernels[0]),
                layers.Dense(2 * self.latent_dim, kernel_initializer=kernels[1]),
            ],
            name="encoder",
        )
        self.decoder = keras.Sequential(
            [
                keras.Input((self.latent_dim,)),
                layers.Dense(self.hidden_units, "tanh", kernel_initializer=kernels[2]),
                layers.Dense(pixels, kernel_initializer=kernels[3]),
                layers.Reshape(self.image_shape),
            ],
            name="decoder",
        )
        self._trackers = [keras.metrics.Mean(name) for name in ("loss", "log_likelihood", "kl")]
        self.built = True

    @property
    def metrics(self):
        """The running means of loss and both terms, over the images seen so far."""
        return self._trackers

    def prior(self):
        """Returns p(z): `Independent` `Normal`, batch shape [], event shape [L]."""
        zeros = tf.zeros(self.latent_dim)
        return tfd.Independent(tfd.Normal(zeros, tf.ones_like(zeros)), 1)

    def posterior(self, images):
        """Returns q(z|x): `Independent` `Normal`, batch shape [B], event shape [L].

        Args:
            images: [B, height, width], values 0 or 1, of any real dtype.
        """
        loc, unconstrained = tf.split(self.encoder(tf.cast(images, tf.float32)), 2, axis=-1)
        scale = tf.nn.softplus(unconstrained) + SMALLEST_SCALE  # each [B, L]
        return tfd.Independent(tfd.Normal(loc, scale), 1)

    def likelihood(self, latents):
        """Returns p(x|z): `Independent` `Bernoulli`, batch [...], event [height, width].

        Args:
            latents: [..., L].
        """
        return tfd.Independent(tfd.Bernoulli(logits=self._logits(latents), dtype=tf.uint8), 2)

    def log_likelihood(self, images, latents):
        """Returns log p(x|z) in nats: [..., B].

        Args:
            images: [B, height, width], values 0 or 1.
            latents: [..., B, L].
        """
        # log sigmoid(l) where x = 1 and log sigmoid(−l) where x = 0, in one softplus. The same as
        # `likelihood(latents).log_prob(images)`, which takes two and a seventh of an update more.
        # Logits, not probabilities: in float32 sigmoid(l) is 1 beyond l ≈ 17, and log(1 − 1) = −∞.
        # Pixels in one flat axis: XLA sums two short axes four times slower on a CPU.
        pixels = math.prod(self.image_shape)
        signs = 1.0 - 2.0 * tf.reshape(tf.cast(images, tf.float32), [-1, pixels])  # [B, pixels]
        logits = self._logits(latents)
        logits = tf.reshape(logits, tf.concat([tf.shape(logits)[:-2], [pixels]], axis=0))
        return -tf.reduce_sum(tf.nn.softplus(signs * logits), axis=-1)  # over pixels

    def elbo_terms(self, images, seed, num_samples=1):
        """Returns E_q[log p(x|z)], estimated with `num_samples` draws of z, and KL[q(z|x) || p(z)].

        Args:
            images: [B, height, width], values 0 or 1.
            seed: two integers; the same pair gives the same draws.
            num_samples: draws of z per image. The mean is over their log-likelihoods: decoding
                the mean of several draws instead would not give a bound.

        Returns:
            `ElboTerms`, each [B], in nats.
        """
        posterior = self.posterior(images)
        latents = posterior.sample(num_samples, seed=seed)  # [num_samples, B, L]
        log_likelihood = tf.reduce_mean(self.log_likelihood(images, latents), axis=0)  # over draws
        return ElboTerms(log_likelihood, tfd.kl_divergence(posterior, self.prior()))

    def train_step(self, data):
        """Makes one weight update; `fit` calls it, in whichever way it runs.

        Args:
            data: images, or `(images, targets, sample_weight)`. Targets are not looked at; the
                loss is the mean over images with these weights.

        Returns:
            The metrics' results: a dict of scalars.
        """
        images, _, weights = keras.utils.unpack_x_y_sample_weight(data)
        seed = self._seed_pair(self.optimizer.iterations)
        with tf.GradientTape() as tape:
            terms = self.elbo_terms(images, seed, self.num_samples)
            losses = self.beta * terms.kl - terms.log_likelihood  # [B]
            loss = _mean(losses, weights) / tf.distribute.get_strategy().num_replicas_in_sync
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return self._track(losses, terms, weights)

    def test_step(self, data):
        """Adds one batch to the metrics, with noise of its own; arguments as `train_step`."""
        images, _, weights = keras.utils.unpack_x_y_sample_weight(data)
        # Images seen so far tell the batches apart; the bits are flipped to stay clear of training.
        seed = tf.bitwise.invert(self._seed_pair(self.metrics[0].count))
        terms = self.elbo_terms(images, seed, self.num_samples)
        return self._track(self.beta * terms.kl - terms.log_likelihood, terms, weights)

    def call(self, images):
        """Returns pixel means decoded from the posterior mean: [B, height, width] in [0, 1]."""
        return self.likelihood(self.posterior(images).mean()).mean()

    def sample(self, num_images, seed=0, mean=False):
        """Returns images from the prior: z ~ p(z), x ~ p(x|z).

        Args:
            num_images: how many, an int >= 1.
            seed: an int in [0, 2³¹).
            mean: True gives the means of p(x|z) instead of draws from it.

        Returns:
            [num_images, height, width]: draws, uint8 0 or 1, or means, float32 in [0, 1].
        """
        num_images = checks.integer("num_images", num_images, 1)
        seed = checks.integer("seed", seed, 0)
        latents = self.prior().sample(num_images, seed=[seed, 0])
        likelihood = self.likelihood(latents)
        return likelihood.mean() if mean else likelihood.sample(seed=[seed, 1])

    def reconstruct(self, images, seed=0, mean=False):
        """Returns images decoded from a draw of each image's posterior: z ~ q(z|x), x ~ p(x|z).

        Args:
            images: [B, height, width], values 0 or 1.
            seed: an int in [0, 2³¹).
            mean: True gives the means of p(x|z), of the same z, instead of draws from it.

        Returns:
            [B, height, width]: draws, uint8 0 or 1, or means, float32 in [0, 1].
        """
        seed = checks.integer("seed", seed, 0)
        likelihood = self.likelihood(self.posterior(images).sample(seed=[seed, 0]))
        return likelihood.mean() if mean else likelihood.sample(seed=[seed, 1])

    def fit(self, x=None, y=None, batch_size=None, epochs=1, **kwargs):
        """Trains as `keras.Model.fit` does; arrays are checked, and train in compiled blocks.

        Raises:
            ValueError: if arrays are not images of this model's shape with values 0 and 1.
        """
        if isinstance(x, np.ndarray | tf.Tensor | list):
            x = self.checked_images(x)
        return super().fit(x, y, batch_size, epochs, **kwargs)

    fit.__doc__ += BlockTrainer.fit.__doc__.partition("blocks.")[2]

    def checked_images(self, images):
        """Returns images as uint8 [B, height, width].

        Raises:
            ValueError: if they are not [B, height, width] with B >= 1, or not all 0 or 1.
            TypeError: if they are not numbers.
        """
        images = np.asarray(images)
        if images.dtype.kind not in "buif":
            raise TypeError(f"images must be numbers; received dtype {images.dtype}.")
        if images.shape[1:] != self.image_shape or not images.size:
            wanted = ", ".join(map(str, self.image_shape))
            raise ValueError(f"images must be [B, {wanted}], B >= 1; received {images.shape}.")
        if not np.isin(images, (0, 1)).all():
            raise ValueError(
                "images must hold only 0 and 1; received values in "
                f"[{images.min():g}, {images.max():g}]. Binarize them first (vae_tf.data.binarize)."
            )
        return images.astype(np.uint8)

    def get_config(self):
        """Returns the arguments that make this model again."""
        names = ("latent_dim", "hidden_units", "image_shape", "beta", "num_samples", "seed")
        return super().get_config() | {name: getattr(self, name) for name in names}

    def _logits(self, latents):
        """Returns the decoder's logits, [..., height, width], of latents [..., L]."""
        logits = self.decoder(tf.reshape(latents, [-1, self.latent_dim]))
        return tf.reshape(logits, tf.concat([tf.shape(latents)[:-1], self.image_shape], axis=0))

    def _seed_pair(self, count):
        """Returns the two integers that noise number `count` comes from; replicas differ."""
        pair = tf.stack([tf.cast(self._noise.state[0], tf.int32), tf.cast(count, tf.int32)])
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync == 1:
            return pair
        return tf.random.experimental.stateless_fold_in(pair, context.replica_id_in_sync_group)

    def _track(self, losses, terms, weights):
        for tracker, values in zip(self._trackers, (losses, *terms), strict=True):
            tracker.update_state(values, sample_weight=weights)
        return {tracker.name: tracker.result() for tracker in self._trackers}


def _mean(values, weights):
    """Returns the mean over images, of values [B] with weights [B] or None."""
    if weights is None:
        return tf.reduce_mean(values)
    return tf.reduce_sum(weights * values) / tf.reduce_sum(weights)
