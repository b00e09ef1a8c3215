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

import functools
import math
import types
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from . import checks, internals
from .blocks import BatchMean, BlockTrainer, arguments_as_in_keras, weighted_mean
from .noise import normals

tfd = tfp.distributions

LARGEST_BETA = 1e30  # float32 ends at 3e38, and the loss has to stay within
LARGEST_WEIGHT = 1e10  # gradients have three factors of that size, and float32 ends at 3e38
FORMAT = 1  # of saved configurations; files that name none are of this format too
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

    As long as no weight is beyond ±1e10, both terms of the ELBO and their gradients are finite at
    any binary image, for layers up to this size; `sample`, `reconstruct` and `vae_tf.evaluate`
    refuse weights beyond, and weights that are NaN.

    Args:
        latent_dim: dimensions L of z, an int >= 1.
        hidden_units: width of the hidden layers, an int >= 1.
        image_shape: height and width, two ints >= 1.
        beta: weight of the KL term in the loss, a float >= 0 (Higgins et al., 2017). Only with 1
            is the loss −ELBO: `elbo_terms` and `vae_tf.evaluate` are of the true bound, whatever
            beta is. It may be set at any time, and nothing compiles anew.
        kl_warmup: updates over which the KL's weight rises linearly from 0 to beta, an int >= 0
            (Bowman et al., 2016); 0 is none. In `evaluate` and validation the weight is beta.
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
        kl_warmup=0,
        num_samples=1,
        seed=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.latent_dim = checks.integer("latent_dim", latent_dim, 1, 2**16)
        self.hidden_units = checks.integer("hidden_units", hidden_units, 1, 2**16)
        self.image_shape = checks.image_shape("image_shape", image_shape)
        # Variables, so that a compiled program serves every value; not Keras's to track, because
        # they are no weights: like the seed's, their values are in the configuration.
        # Sums of hundreds of logarithms, and what is near them, need the precision of float32.
        self._float = "float64" if self.compute_dtype == "float64" else "float32"
        self._kl_weight = types.SimpleNamespace(
            beta=keras.Variable(0.0, trainable=False, dtype=self._float, name="beta"),
            warmup=keras.Variable(0, trainable=False, dtype="int64", name="kl_warmup"),
        )
        self.beta, self.kl_warmup = beta, kl_warmup
        self.num_samples = checks.integer("num_samples", num_samples, 1, 2**16)
        # Holds the seed as a variable. Names that Keras would number make TensorFlow keep something
        # for each variable, for ever: 36 kB.
        self._noise = keras.random.SeedGenerator(0, name="noise")
        self.seed = seed

        layers, pixels = keras.layers, math.prod(self.image_shape)
        dense = functools.partial(layers.Dense, dtype=self.dtype_policy)
        kernels = [
            keras.initializers.GlorotUniform(seed=int(word >> 1))
            for word in np.random.SeedSequence(self.seed).generate_state(4)
        ]
        self.encoder = keras.Sequential(
            [
                keras.Input(self.image_shape),
                layers.Flatten(
                    "channels_last", dtype=self.dtype_policy
                ),  # whatever Keras is set to
                dense(self.hidden_units, "tanh", kernel_initializer=kernels[0], name="hidden"),
                dense(2 * self.latent_dim, kernel_initializer=kernels[1], name="loc_and_scale"),
            ],
            name="encoder",
        )
        self.decoder = keras.Sequential(
            [
                keras.Input((self.latent_dim,)),
                dense(self.hidden_units, "tanh", kernel_initializer=kernels[2], name="hidden"),
                dense(pixels, kernel_initializer=kernels[3], name="logits"),
                layers.Reshape(self.image_shape, dtype=self.dtype_policy),
            ],
            name="decoder",
        )
        names = ("loss", "log_likelihood", "kl")
        self._trackers = [BatchMean(name, self._float) for name in names]
        # No metric to show: it tells test batches apart.
        self._tested = types.SimpleNamespace(images=keras.metrics.Sum(dtype="int64"))
        self.built = True

    def __setattr__(self, name, value):
        """Sets an attribute; a layer that was there, and is nowhere else, is no longer part."""
        internals.let_go(self, name)
        super().__setattr__(name, value)

    @property
    def metrics(self):
        """The running means of loss and both terms, over the images seen so far, and others set."""
        # Keras has a `loss` of its own before them, for losses that are given to `compile`.
        return list({metric.name: metric for metric in super().metrics}.values())

    def reset_metrics(self):
        """Has the metrics, and the noise of tests, begin anew; Keras calls it."""
        super().reset_metrics()
        self._tested.images.reset_state()

    @property
    def beta(self):
        """The weight of the KL term in the loss, after warm-up: a float >= 0, which can be set."""
        return self._kl_weight.number

    @beta.setter
    def beta(self, value):
        """Sets it, checked; nothing compiles anew."""
        number = checks.number("beta", value, 0, LARGEST_BETA)
        self._kl_weight.beta.assign(number)
        self._kl_weight.number = number  # as it was given, not rounded to float32

    @property
    def kl_warmup(self):
        """Updates over which the KL's weight rises to beta: an int >= 0, which can be set."""
        return int(self._kl_weight.warmup.value.numpy())

    @kl_warmup.setter
    def kl_warmup(self, value):
        """Sets it, checked; nothing compiles anew."""
        self._kl_weight.warmup.assign(checks.integer("kl_warmup", value, 0))

    @property
    def seed(self):
        """The seed of noise and order: an int in [0, 2³¹), which can be set."""
        return int(self._noise.state.value.numpy()[0])

    @seed.setter
    def seed(self, value):
        """Sets it, checked; nothing compiles anew."""
        self._noise.state.assign([checks.integer("seed", value, 0), 0])

    @property
    def variables(self):
        """All weights and state: Keras's, with the weight of the KL beside the random seed."""
        return [*super().variables, self._kl_weight.beta, self._kl_weight.warmup]

    def prior(self):
        """Returns p(z): `Independent` `Normal`, batch shape [], event shape [L]."""
        zeros = tf.zeros(self.latent_dim, self._float)
        return tfd.Independent(tfd.Normal(zeros, tf.ones_like(zeros)), 1)

    def posterior(self, images):
        """Returns q(z|x): `Independent` `Normal`, batch shape [B], event shape [L].

        Args:
            images: [B, height, width], values 0 or 1, of any real dtype.

        Raises:
            ValueError: if the images are of another shape.
        """
        loc, unconstrained = self._encoded(images)
        scale = tf.nn.softplus(unconstrained) + SMALLEST_SCALE  # each [B, L]
        return tfd.Independent(tfd.Normal(loc, scale), 1)

    def likelihood(self, latents):
        """Returns p(x|z): `Independent` `Bernoulli`, batch [...], event [height, width].

        Args:
            latents: [..., L].

        Raises:
            ValueError: if they are of another shape.
        """
        return tfd.Independent(tfd.Bernoulli(logits=self._logits(latents), dtype=tf.uint8), 2)

    def log_likelihood(self, images, latents):
        """Returns log p(x|z) in nats: [..., B].

        Args:
            images: [B, height, width], values 0 or 1.
            latents: [..., B, L].
        """
        # The same as `likelihood(latents).log_prob(images)`, a fifth of an update faster.
        # Pixels in one flat axis: XLA sums two short axes four times slower on a CPU.
        pixels = math.prod(self.image_shape)
        signs = 2.0 * tf.reshape(tf.cast(images, self._float), [-1, pixels]) - 1.0  # [B, pixels]
        logits = self._logits(latents)
        logits = tf.reshape(logits, tf.concat([tf.shape(logits)[:-2], [pixels]], axis=0))
        return _sum_log_sigmoid(signs, logits)  # over pixels

    def elbo_terms(self, images, seed, num_samples=1):
        """Returns E_q[log p(x|z)], estimated with `num_samples` draws of z, and KL[q(z|x) || p(z)].

        Args:
            images: [B, height, width], values 0 or 1.
            seed: two integers; the same pair gives the same draws.
            num_samples: draws of z per image. The mean is over their log-likelihoods: decoding
                the mean of several draws instead would not give a bound.

        Returns:
            `ElboTerms`, each [B], in nats.

        Raises:
            TypeError, ValueError: if an argument is of the wrong kind, shape or range.
        """
        num_samples = checks.integer("num_samples", num_samples, 1)
        _check_pair(seed)
        posterior = self.posterior(images)
        latents = self._draw(posterior, seed, num_samples)  # [num_samples, B, L]
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
        batch = tf.identity(internals.batches_taken(self.optimizer).value)
        with tf.GradientTape() as tape:
            beta = self._warmed_up_beta(batch)
            losses, terms = self._loss_per_image(images, self._seed_pair(batch), beta)
            loss = weighted_mean(losses, weights)
            share = loss / tf.distribute.get_strategy().num_replicas_in_sync  # they are summed
            scaled = self.optimizer.scale_loss(share)
        if weights_to_train := self.trainable_variables:
            gradients = _in_turn(tape.gradient(scaled, weights_to_train))
            self.optimizer.apply_gradients(zip(gradients, weights_to_train, strict=True))
        return self._track(losses, terms, weights)

    def test_step(self, data):
        """Adds one batch to the metrics, with noise of its own; arguments as `train_step`."""
        images, _, weights = keras.utils.unpack_x_y_sample_weight(data)
        # Images seen so far tell the batches apart; the bits are flipped to stay clear of training.
        seed = tf.bitwise.invert(self._seed_pair(self._tested.images.total))
        self._tested.images.update_state(tf.shape(images, tf.int64)[0])
        losses, terms = self._loss_per_image(images, seed, self._kl_weight.beta)
        return self._track(losses, terms, weights)

    def _loss_per_image(self, images, seed, beta):
        """Returns the loss per image, [B], with what layers add to it, and `ElboTerms`."""
        terms = self.elbo_terms(images, seed, self.num_samples)
        added = [tf.cast(tf.reduce_sum(loss), self._float) for loss in self.losses]
        return beta * terms.kl - terms.log_likelihood + sum(added), terms

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

        Raises:
            TypeError, ValueError: if an argument is no number of its kind or outside its range,
                or a weight beyond ±1e10 or NaN.
        """
        num_images = checks.integer("num_images", num_images, 1, checks.MOST_IMAGES)
        seed = checks.integer("seed", seed, 0)
        self.check_weights()
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

        Raises:
            TypeError, ValueError: as `checked_images` and `sample`.
        """
        images, seed = self.checked_images(images), checks.integer("seed", seed, 0)
        self.check_weights()
        likelihood = self.likelihood(self.posterior(images).sample(seed=[seed, 0]))
        return likelihood.mean() if mean else likelihood.sample(seed=[seed, 1])

    def checked_images(self, images):
        """Returns images as uint8 [N, height, width].

        Raises:
            ValueError: if they are not [N, height, width] with N >= 1, or not all 0 or 1.
            TypeError: if they are not numbers.
        """
        return checks.binary_images("images", images, self.image_shape)

    @arguments_as_in_keras
    def export(self, filepath, input_signature, **kwargs):
        """Exports as `keras.Model.export` does; as `call`, for float32 images, unless told else."""
        if input_signature is None:
            input_signature = [tf.TensorSpec([None, *self.image_shape], tf.float32)]
        return super().export(filepath, input_signature=input_signature, **kwargs)

    def check_weights(self):
        """Does nothing, if all weights are numbers within ±1e10.

        Raises:
            ValueError: if one is beyond, infinite or NaN: there float32 may fail.
        """
        if not tf.executing_eagerly():  # being traced, weights have no values yet
            return
        largest = float(np.max([np.abs(weight).max() for weight in self.get_weights()]))
        if not largest <= LARGEST_WEIGHT:  # so NaN is caught as well
            raise ValueError(
                f"vae must have weights within ±{LARGEST_WEIGHT:g}; received one of size "
                f"{largest:g}. Train it again, with a lower learning rate."
            )

    def get_config(self):
        """Returns the arguments that make this model again, and the number of their format."""
        names = ("latent_dim", "hidden_units", "image_shape", "beta", "kl_warmup", "num_samples")
        values = {name: getattr(self, name) for name in (*names, "seed")}
        return super().get_config() | values | {"format": FORMAT}

    @classmethod
    def from_config(cls, config):
        """Returns a new model of this configuration; saved files are loaded through it.

        Raises:
            ValueError: if the configuration is of a newer format than this.
        """
        config = dict(config)
        if (found := config.pop("format", FORMAT)) != FORMAT:
            raise ValueError(
                f"a saved model must be of format {FORMAT}; received format {found!r}. "
                "A newer vae_tf wrote it: update vae_tf."
            )
        return super().from_config(config)

    def _encoded(self, images):
        """Returns both halves of what the encoder makes of images, [B, L] each.

        Raises:
            TypeError, ValueError: if they are no images of this model's shape.
        """
        wanted = f"images must be [B, {', '.join(map(str, self.image_shape))}]"
        if isinstance(images, dict):
            raise TypeError(
                f"{wanted}; received a dict of {', '.join(map(str, images))}. Have the pipeline "
                "yield images of 0 and 1 alone, by dataset.map(lambda each: ...)."
            )
        images = tf.cast(images, self.compute_dtype)
        if not images.shape[1:].is_compatible_with(self.image_shape):
            raise ValueError(f"{wanted}; received {images.shape}.")
        return tf.split(tf.cast(self.encoder(images), self._float), 2, axis=-1)

    def _logits(self, latents):
        """Returns the decoder's logits, [..., height, width], of latents [..., L]."""
        latents = tf.cast(latents, self._float)
        if not latents.shape[-1:].is_compatible_with([self.latent_dim]):
            raise ValueError(f"latents must be [..., {self.latent_dim}]; received {latents.shape}.")
        logits = self.decoder(tf.reshape(latents, [-1, self.latent_dim]))
        shape = tf.concat([tf.shape(latents)[:-1], self.image_shape], axis=0)
        return tf.reshape(tf.cast(logits, self._float), shape)

    def _draw(self, posterior, seed, num_samples):
        """Returns z = loc + scale · noise, [num_samples, B, L]; two integers give the noise."""
        loc, scale = posterior.mean(), posterior.stddev()  # [B, L] each
        key = tf.bitcast(tf.cast(seed, tf.int32), tf.uint32)
        rows, numbers = tf.range(tf.shape(loc)[0]), tf.range(num_samples)
        return loc + scale * tf.cast(normals(key, rows, numbers, self.latent_dim), loc.dtype)

    def _warmed_up_beta(self, iterations):
        """Returns the weight of the KL, a scalar, for the batch that follows so many others."""
        updates, warmup = (tf.cast(n, self._float) for n in (iterations, self._kl_weight.warmup))
        share = tf.where(updates < warmup, updates / tf.maximum(warmup, 1), 1)
        return self._kl_weight.beta * share

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


def _check_pair(seed):
    try:
        pair = tf.convert_to_tensor(seed)
    except (TypeError, ValueError):
        pair = tf.zeros([])
    if pair.shape != [2] or not pair.dtype.is_integer:
        raise ValueError(f"seed must be two integers; received {seed!r}.")


def _in_turn(gradients):
    """Returns the gradients, each to be had only when that of the weights before them is.

    Weights could else be updated before the layer below has its gradients from them, and XLA would
    keep a copy of their old values for that, at every update.
    """
    in_turn, zero = [], None
    for gradient in gradients:  # None, of weights that the loss does not depend on, stays None
        if isinstance(gradient, tf.Tensor) and gradient.shape.num_elements():
            in_turn.append(gradient if zero is None else gradient + tf.cast(zero, gradient.dtype))
            first = tf.reshape(gradient, [-1])[0]
            zero = tf.where(tf.math.is_finite(first), 0.0 * first, 0.0)
        else:
            in_turn.append(gradient)
    return in_turn


@tf.custom_gradient
def _sum_log_sigmoid(signs, logits):
    """Returns Σ log sigmoid(signs · logits) over the last axis; `signs` are ±1 and get no gradient.

    log sigmoid(m) = min(m, 0) − log(1 + e^−|m|), so nothing overflows at any logit. Each term is
    right to 1e-7 nats: log1p would round less and take three times as long as the rest together.
    """
    margins = signs * logits
    decay = tf.exp(-tf.abs(margins))

    def gradient(upstream):
        # sign · sigmoid(−m), and the division last: XLA computes what ends in one only once, and
        # would else add up the bias's gradient anew from its parts, in plain loops.
        numerator = upstream[..., None] * signs * tf.where(margins >= 0, decay, 1.0)
        return None, numerator / (1.0 + decay)

    return tf.reduce_sum(tf.minimum(margins, 0.0) - tf.math.log(1.0 + decay), axis=-1), gradient
