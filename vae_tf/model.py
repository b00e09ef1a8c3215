"""The variational autoencoder and its objective.

symbol     meaning                       code                          batch, event shape
x          image                         images                        [B], [height, width]
z          latent code                   latents                       [B], [L]
p(z)       prior N(0, I)                 vae.prior()                   [],  [L]
q(z|x)     posterior N(loc, scale²)      vae.posterior(images)         [B], [L]
p(x|z)     Bernoulli likelihood          vae.likelihood(latents)       [B], [height, width]
ELBO       E_q[log p(x|z)] − KL[q‖p]     vae.elbo_terms(images, seed)  [B] each
w          p(x|z) p(z) / q(z|x)          vae.weigh(...)                [S, B]

Everything is in nats per image: summed over pixels and over latent dimensions.
Sources: Kingma & Welling (2014), Auto-Encoding Variational Bayes, https://arxiv.org/abs/1312.6114;
Burda, Grosse & Salakhutdinov (2016), Importance Weighted Autoencoders, https://arxiv.org/abs/1509.00519.
"""

import math
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from .engine import checks
from .engine.distributions import IndependentBernoulli, Normal, kl_divergence, sample_and_log_prob
from .engine.networks import dense_layers
from .engine.noise import RECONSTRUCTION
from .engine.private import default_seeds
from .engine.state import Setting
from .engine.trainer import Trainer

tfd = tfp.distributions

LARGEST_BETA = 1e30  # beta · KL must stay below 3e38, where float32 ends: a KL of 10⁸ still does
SMALLEST_SCALE = 1e-6  # softplus underflows to 0 below −87, and log 0 would make the KL infinite
FORMAT = 3  # of saved configurations; older ones, with fewer arguments, can be read
OBJECTIVES = ("elbo", "iwae")


class ElboTerms(NamedTuple):
    """The two terms of the evidence lower bound, in nats, each [B]."""

    log_likelihood: tf.Tensor  # E_q[log p(x|z)], estimated
    kl: tf.Tensor  # KL[q(z|x) || p(z)]

    @property
    def elbo(self):
        """The bound itself, in nats: [B]."""
        return self.log_likelihood - self.kl


@keras.saving.register_keras_serializable(package="vae_tf")
class VAE(Trainer):
    """A variational autoencoder of images.

    It is a Keras model; `vae(images)` reconstructs. `vae.evaluate(images)` is Keras's and gives the
    mean loss; `vae_tf.evaluate(vae, images)` gives bounds on log p(x).

    To change what it is, override one method, and training, bounds, samples and saving follow:
    `loss_per_image`, `prior`, `posterior`, `likelihood`, `make_encoder` or `make_decoder`.
    Weights of your own are made by `self.add_weight(...)`, after `super().__init__(**kwargs)`.
    Arguments of your own have to be added to `get_config`. A saved model can be loaded if its class
    is registered: write `@keras.saving.register_keras_serializable()` above it.

    Args:
        latent_dim: dimensions L of z, an int >= 1.
        hidden_units: width of the hidden tanh layers each way: an int >= 1, or several, from the
            images on.
        image_shape: height and width, two ints >= 1.
        beta: weight of the KL term in the loss, a float >= 0 (Higgins et al., 2017). The loss is
            −ELBO if it is 1. Like `kl_warmup` and `seed`, it may be set at any time.
        kl_warmup: batches over which that weight rises linearly from 0 to beta, an int >= 0
            (Bowman et al., 2016); 0 is none. Each batch is one update, unless the optimizer
            accumulates gradients. In `evaluate` and validation the weight is beta.
        num_samples: draws of z per image in `fit` and Keras's `evaluate`, an int >= 1.
        objective: what training maximizes: "elbo", or "iwae", the bound from `num_samples` draws.
        dynamic_binarization: True has `fit` and `evaluate` take grey levels in [0, 1], and draw
            pixels from them, anew in every update. Images of 0 and 1 stay as they are.
        seed: of the initial weights, the noise and the order of images; an int in [0, 2³¹).

    Raises:
        TypeError, ValueError: if an argument is no number of its kind, or outside its range.

    Example:
        vae = VAE(seed=1)
        vae.compile(keras.optimizers.Adam(2e-3))
        vae.fit(digits.train.images, batch_size=32, epochs=10)
        vae.save("vae.keras")
    """

    beta = Setting(checks.number, 0, LARGEST_BETA, doc="Weight of the KL in the loss, a float.")
    kl_warmup = Setting(checks.integer, 0, dtype="int64", doc="Batches until beta's full weight.")

    def __init__(
        self,
        latent_dim=8,
        hidden_units=128,
        image_shape=(14, 14),
        beta=1.0,
        kl_warmup=0,
        num_samples=1,
        objective="elbo",
        dynamic_binarization=False,
        seed=0,
        **kwargs,
    ):
        super().__init__(image_shape, seed, ["loss", *ElboTerms._fields], **kwargs)
        self.latent_dim = checks.integer("latent_dim", latent_dim, 1, 2**16)
        self.hidden_units = checks.widths("hidden_units", hidden_units)
        self.beta, self.kl_warmup = beta, kl_warmup
        self.num_samples = checks.integer("num_samples", num_samples, 1, 2**16)
        self.objective = checks.one_of("objective", objective, OBJECTIVES)
        self.dynamic_binarization = checks.boolean("dynamic_binarization", dynamic_binarization)
        with default_seeds(self.seed):  # so that layers that are given no seed depend on it too
            self.encoder, self.decoder = self.make_encoder(), self.make_decoder()
        self.built = True  # all weights are made; Keras warns when it saves a model that says no

    def make_encoder(self):
        """Returns the network from images [B, height, width] to [B, 2 L]; called once.

        For convolutions begin with `keras.layers.Reshape((*self.image_shape, 1))`.
        """
        widths, dtype = np.ravel(self.hidden_units), self.dtype_policy  # of one int, or several
        flatten = keras.layers.Flatten("channels_last", dtype=dtype)
        dense = dense_layers(self.seed, 0, widths, 2 * self.latent_dim, dtype)
        return keras.Sequential([keras.Input(self.image_shape), flatten, *dense], name="encoder")

    def make_decoder(self):
        """Returns the network from latents [B, L] to logits [B, height, width]; called once."""
        widths, dtype = np.ravel(self.hidden_units)[::-1], self.dtype_policy
        pixels = math.prod(self.image_shape)
        # Its layers are numbered after the encoder's: each number has initial weights of its own.
        dense = dense_layers(self.seed, len(widths) + 1, widths, pixels, dtype)
        reshape = keras.layers.Reshape(self.image_shape, dtype=dtype)
        return keras.Sequential([keras.Input([self.latent_dim]), *dense, reshape], name="decoder")

    def prior(self):
        """Returns p(z): batch shape [], event shape [L]."""
        zeros = tf.zeros(self.latent_dim, self.float_type)
        return tfd.Independent(tfd.Normal(zeros, tf.ones_like(zeros)), 1)

    def posterior(self, images):
        """Returns q(z|x): batch shape [B], event shape [L], of images [B, height, width]."""
        loc, unconstrained = tf.split(self.encode(images), 2, axis=-1)  # [B, L] each
        return tfd.Independent(Normal(loc, tf.nn.softplus(unconstrained) + SMALLEST_SCALE), 1)

    def likelihood(self, latents):
        """Returns p(x|z): batch shape [...], event shape [height, width], of latents [..., L]."""
        return IndependentBernoulli(logits=self.decode(latents))

    def encode(self, images):
        """Returns what the encoder makes of images [B, height, width]: [B, 2 L].

        Raises:
            TypeError, ValueError: if they are no images of this model's shape.
        """
        images = checks.batch_of_images(images, self.image_shape)
        return tf.cast(self.encoder(tf.cast(images, self.compute_dtype)), self.float_type)

    def decode(self, latents):
        """Returns what the decoder makes of latents [..., L]: [..., height, width].

        Raises:
            ValueError: if they are of another shape.
        """
        latents = tf.cast(checks.batch_of_latents(latents, self.latent_dim), self.float_type)
        outputs = self.decoder(tf.reshape(latents, [-1, self.latent_dim]))
        shape = tf.concat([tf.shape(latents)[:-1], outputs.shape[1:]], axis=0)
        return tf.reshape(tf.cast(outputs, self.float_type), shape)

    def elbo_terms(self, images, seed, num_samples=1):
        """Returns E_q[log p(x|z)], estimated with `num_samples` draws of z, and KL[q(z|x) || p(z)].

        Args:
            images: [B, height, width].
            seed: two integers; the same pair gives the same draws.
            num_samples: draws of z per image. The mean is over their log-likelihoods: decoding
                the mean of several draws instead would not give a bound.

        Returns:
            `ElboTerms`, each [B], in nats. The KL is exact where TFP knows it in closed form, as it
            does for Gaussians; else it is estimated from the same draws.

        Raises:
            TypeError, ValueError: if an argument is of the wrong kind, shape or range.
        """
        num_samples, seed = checks.integer("num_samples", num_samples, 1), checks.seed_pair(seed)
        images = checks.batch_of_images(images, self.image_shape)
        posterior = self.posterior(images)
        latents = posterior.sample(num_samples, seed=seed)  # [num_samples, B, L]
        log_likelihood = self.likelihood(latents).log_prob(images)  # [num_samples, B]
        kl = kl_divergence(posterior, self.prior(), latents)
        return ElboTerms(tf.reduce_mean(log_likelihood, axis=0), kl)  # over draws

    def weigh(self, posterior, images, num_samples, seed):
        """Returns S draws z ~ q(z|x), [S, B, L], log p(x|z) and log q(z|x) − log p(z), [S, B] each.

        log w is the difference of the last two. The seed is two integers, or four, as
        `engine.distributions` says.
        """
        latents, log_posterior = sample_and_log_prob(posterior, num_samples, seed)
        log_likelihood = self.likelihood(latents).log_prob(images)
        return latents, log_likelihood, log_posterior - self.prior().log_prob(latents)

    def loss_per_image(self, images, seed, kl_weight):
        """Returns the loss of each image, and the terms of its ELBO, which are reported beside it.

        `fit` and Keras's `evaluate` call it; `train` does, to notice divergence.

        Args:
            images: [B, height, width].
            seed: two integers, other ones for each batch; all noise is to come from them.
            kl_weight: weight of the KL, a scalar: beta, or less of it during the warm-up. For
                another schedule, `self.batches_trained()` counts the batches before this one.

        Returns:
            `(losses, terms)`: [B], not a scalar, because images may have weights; and `ElboTerms`,
            which stay those of the ELBO whatever the loss is.
        """
        if checks.one_of("objective", self.objective, OBJECTIVES) == "elbo":
            terms = self.elbo_terms(images, seed, self.num_samples)
            return kl_weight * terms.kl - terms.log_likelihood, terms
        posterior = self.posterior(images)
        latents, log_likelihood, log_ratio = self.weigh(posterior, images, self.num_samples, seed)
        log_weights = log_likelihood - kl_weight * log_ratio  # [S, B]
        bound = tf.reduce_logsumexp(log_weights, axis=0) - math.log(self.num_samples)  # over draws
        kl = kl_divergence(posterior, self.prior(), latents)
        return -bound, ElboTerms(tf.reduce_mean(log_likelihood, axis=0), kl)

    def kl_weight(self, batch):
        """Returns the weight of the KL, a scalar, in training batch number `batch`, from 0."""
        beta, warmup = self.setting("beta"), self.setting("kl_warmup")
        batch, warmup = tf.cast(batch, beta.dtype), tf.cast(warmup, beta.dtype)
        return beta * tf.where(batch < warmup, batch / tf.maximum(warmup, 1.0), 1.0)

    def train_step(self, data):
        """Trains on a batch: images, or `(images, targets, weights)`; targets are not looked at."""
        images, weights = self.unpack(data)
        batch = self.batches_trained()
        seed = self.batch_seed(batch)
        images = self.observed(images, seed)
        with tf.GradientTape() as tape:
            losses, terms = self.loss_per_image(images, seed, self.kl_weight(batch))
            losses = self.with_layer_losses(losses)
            loss = self.scaled_mean(losses, weights)  # over images; scaled for the optimizer
        self.apply_gradients(tape, loss)
        return self.report(weights, losses, *terms)

    def test_step(self, data):
        """Tests a batch; its noise depends on the seed and on how many images came before it."""
        images, weights = self.unpack(data)
        seed = self.test_seed(images)
        images = self.observed(images, seed)
        losses, terms = self.loss_per_image(images, seed, self.setting("beta"))
        return self.report(weights, self.with_layer_losses(losses), *terms)

    def call(self, images):
        """Returns pixel means decoded from the posterior mean: [B, height, width]."""
        return self.likelihood(self.posterior(images).mean()).mean()

    def sample(self, num_images, seed=0, mean=False):
        """Returns images from the prior: z ~ p(z), x ~ p(x|z).

        Args:
            num_images: how many, an int >= 1.
            seed: an int in [0, 2³¹).
            mean: True gives the means of p(x|z), of the same z, instead of draws from it.

        Returns:
            [num_images, height, width]: draws, of the likelihood's type, or means, floats.

        Raises:
            TypeError, ValueError: if an argument is of the wrong kind or out of range, or weights
                are beyond ±1e10 or NaN.
        """
        num_images = checks.integer("num_images", num_images, 1, checks.MOST_IMAGES)
        seed = checks.integer("seed", seed, 0)
        self.check_weights()
        likelihood = self.likelihood(self.prior().sample(num_images, seed=[seed, 0]))
        return likelihood.mean() if mean else likelihood.sample(seed=[seed, 1])

    def reconstruct(self, images, seed=0, mean=False):
        """Returns images decoded from a draw of each image's posterior: z ~ q(z|x), x ~ p(x|z).

        Args:
            images: [N, height, width].
            seed, mean: as for `sample`.

        Returns:
            [N, height, width], as from `sample`.

        Raises:
            TypeError, ValueError: as `checked_images` and `sample`.
        """
        images, seed = self.checked_images(images), checks.integer("seed", seed, 0)
        self.check_weights()
        # The second number keeps this noise apart from that of training and of `evaluate`.
        latents = self.posterior(images).sample(seed=[seed, RECONSTRUCTION])
        likelihood = self.likelihood(latents)
        return likelihood.mean() if mean else likelihood.sample(seed=[seed, 1])

    def get_config(self):
        """Returns the arguments that make this model again, and the number of their format."""
        names = ("latent_dim", "hidden_units", "image_shape", "beta", "kl_warmup", "num_samples")
        names += ("objective", "dynamic_binarization", "seed")
        values = {name: getattr(self, name) for name in names}
        return super().get_config() | values | {"format": FORMAT}

    @classmethod
    def from_config(cls, config):
        """Returns a new model of this configuration; saved files are loaded through it.

        Raises:
            ValueError: if the configuration is of a newer format than this.
        """
        config = dict(config)
        checks.saved_format(config.pop("format", 1), FORMAT)
        return super().from_config(config)
