"""How well a model explains images: bounds on log p(x), with standard errors.

symbol   meaning                                      code
L        latent dimensions                            vae.latent_dim
K        draws of z per image                         num_samples
w_k      p(x, z_k) / q(z_k|x) with z_k ~ q(z|x)       log_weights (their logarithms)
ELBO     E_q[log w] = E_q[log p(x|z)] − KL            Evaluation.elbo
IWAE-K   E[log mean_k w_k], ELBO ≤ IWAE-K ≤ log p(x)  Evaluation.marginal_log_likelihood
q*       the N(loc, scale²) best for one image        inference_gaps

Everything is in nats per image: summed over pixels and latent dimensions. An estimate's standard
error is over images; how much training seeds differ is another matter, and not in it.

The noise of draw k for image n is a function of (seed, n, k) alone. So results do not depend on how
the work is cut into chunks, two models meet the same noise, and more draws extend fewer.
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from . import checks
from .model import VAE
from .noise import EVALUATION, REFINEMENT, normals
from .programs import Program

tfd = tfp.distributions

ACTIVE_VARIANCE = 0.01  # Burda, Grosse & Salakhutdinov (2016), section 5.2


class Estimate(NamedTuple):
    """A mean over images and its standard error, in nats; nan if there is one image."""

    mean: float
    standard_error: float

    @classmethod
    def of(cls, values):
        """Returns the estimate from independent values: [N]."""
        values = np.asarray(values, np.float64)
        error = values.std(ddof=1) / math.sqrt(values.size) if values.size > 1 else math.nan
        return cls(float(values.mean()), float(error))

    def __str__(self):
        return f"{self.mean:.2f} ± {self.standard_error:.2f}"


class _Results:
    """Fields named in `_reported` are values per image, [N]; the rest says how they were made."""

    @property
    def estimates(self):
        """Means ± standard errors over images: a dict of `Estimate`."""
        return {name: Estimate.of(getattr(self, name)) for name in self._reported}

    def summary(self):
        """Returns the numbers worth keeping: a dict of plain numbers, for `results.json`."""
        counts = {"num_images": len(self.elbo), "num_samples": self.num_samples, "seed": self.seed}
        return counts | {name: value._asdict() for name, value in self.estimates.items()}

    def __repr__(self):
        rows = [f"  {name:24}{value!s:>16}" for name, value in self.estimates.items()]
        head = f"{len(self.elbo):,} images, K = {self.num_samples:,}; mean ± s.e., nats per image"
        return "\n".join([f"{type(self).__name__}: {head}", *rows])


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Evaluation(_Results):
    """What `evaluate` returns.

    Attributes:
        elbo: the evidence lower bound: [N].
        log_likelihood: its first term E_q[log p(x|z)], from all K draws: [N].
        kl: its second term KL[q(z|x) || p(z)], exact: [N].
        marginal_log_likelihood: the importance-weighted bound from K draws: [N].
        kl_per_dimension: `kl` by latent dimension, the mean over images: [L].
        num_samples, seed: K, and the seed.
    """

    elbo: np.ndarray
    log_likelihood: np.ndarray
    kl: np.ndarray
    marginal_log_likelihood: np.ndarray
    kl_per_dimension: np.ndarray
    num_samples: int
    seed: int
    _reported = ("elbo", "log_likelihood", "kl", "marginal_log_likelihood")

    def summary(self):
        """Returns the numbers worth keeping: a dict of plain numbers, for `results.json`."""
        return super().summary() | {"kl_per_dimension": self.kl_per_dimension.tolist()}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class InferenceGaps(_Results):
    """What `inference_gaps` returns; every array is [N].

    Attributes:
        elbo: L[q], with the encoder's posterior.
        refined_elbo: L[q*], with each image's own best diagonal Gaussian.
        marginal_log_likelihood: IWAE-K with q* for a proposal, in place of log p(x).
        num_samples, seed: K, and the seed.
    """

    elbo: np.ndarray
    refined_elbo: np.ndarray
    marginal_log_likelihood: np.ndarray
    num_samples: int
    seed: int
    _reported = (
        "elbo",
        "refined_elbo",
        "marginal_log_likelihood",
        "amortization_gap",
        "approximation_gap",
    )

    @property
    def amortization_gap(self):
        """L[q*] − L[q]: what the encoder loses by serving all images with one network."""
        return self.refined_elbo - self.elbo

    @property
    def approximation_gap(self):
        """The rest up to log p(x): what diagonal Gaussians lose."""
        return self.marginal_log_likelihood - self.refined_elbo


def evaluate(
    vae,
    images,
    num_samples=1_000,
    seed=0,
    verbose=0,
    posterior=None,
    images_per_chunk=100,
    samples_per_chunk=20,
):
    """Estimates the ELBO, its terms and the importance-weighted bound on log p(x).

    Args:
        vae: a `VAE` whose posterior is a diagonal Gaussian.
        images: [N, height, width], values 0 or 1.
        num_samples: K >= 1, draws of z per image; all of them serve E_q[log p(x|z)] as well.
        seed: an int in [0, 2³¹).
        verbose: 1 shows progress.
        posterior: another q(z|x) than `vae.posterior(images)`, of the same kind and shapes.
        images_per_chunk, samples_per_chunk: how much is computed at once. Memory and speed depend
            on it, results do not.

    Returns:
        `Evaluation`, in nats per image.

    Raises:
        TypeError, ValueError: if an argument is of the wrong kind, shape or range.

    Source: Burda, Grosse & Salakhutdinov (2016), Importance Weighted Autoencoders, equation 8.
    """
    images = _checked_images(vae, images)
    posterior = vae.posterior(images) if posterior is None else posterior
    if not isinstance(posterior, tfd.Distribution) or posterior.batch_shape != [len(images)]:
        found = getattr(posterior, "batch_shape", type(posterior).__name__)
        raise ValueError(
            f"posterior must be a distribution of batch shape [{len(images)}]; received {found}."
        )
    num_samples = checks.integer("num_samples", num_samples, 1)
    seed = checks.integer("seed", seed, 0)
    log_likelihood, (bound,) = _importance_sample(
        *(vae, images, posterior, [num_samples], seed, verbose),
        *(images_per_chunk, samples_per_chunk),
    )
    kl = tfd.kl_divergence(posterior.distribution, vae.prior().distribution)
    kl = kl.numpy().astype(np.float64)  # of each latent dimension: [N, L]
    total = kl.sum(axis=1)  # over latent dimensions: [N]
    return Evaluation(
        elbo=log_likelihood - total,
        log_likelihood=log_likelihood,
        kl=total,
        marginal_log_likelihood=bound,
        kl_per_dimension=kl.mean(axis=0),  # over images: [L]
        num_samples=num_samples,
        seed=seed,
    )


def bound_curve(vae, images, num_samples=(1, 10, 100, 1_000), seed=0, verbose=0):
    """Returns the importance-weighted bound for several K, all from the same draws.

    Args:
        vae, images, seed, verbose: as for `evaluate`.
        num_samples: the K, rising ints >= 1.

    Returns:
        [len(num_samples), N], in nats; means over images rise towards log p(x) with K. The last
        row is what `evaluate` gives for the last K; K = 1 is an ELBO from one draw.

    Raises:
        TypeError, ValueError: if an argument is of the wrong kind, shape or range.
    """
    images = _checked_images(vae, images)
    if np.ndim(num_samples) != 1:
        raise ValueError(f"num_samples must be several rising ints; received {num_samples!r}.")
    return _importance_sample(vae, images, vae.posterior(images), num_samples, seed, verbose)[1]


def active_units(vae, images):
    """Tells which latent dimensions the model uses: Var_x(E_q[z_j]) > 0.01, a bool array [L].

    Args:
        vae: a `VAE`.
        images: [N, height, width], values 0 or 1, N >= 2.

    Raises:
        TypeError, ValueError: if an argument is of the wrong kind or shape.

    Source: Burda, Grosse & Salakhutdinov (2016), section 5.2.
    """
    images = _checked_images(vae, images)
    if len(images) < 2:
        raise ValueError("active_units needs at least 2 images; received 1.")
    return vae.posterior(images).mean().numpy().var(axis=0) > ACTIVE_VARIANCE  # over images


def inference_gaps(
    vae, images, num_samples=5_000, seed=0, verbose=0, updates=500, draws=16, learning_rate=0.05
):
    """Splits log p(x) − ELBO into the encoder's part and the diagonal Gaussian's.

    Each image's loc and log scale, started at the encoder's, climb its own ELBO by Adam with a rate
    that falls linearly to 0; then all bounds are estimated with draws that refinement never saw. So
    L[q*] is a valid bound however far the climb got: the amortization gap is found to be at least,
    and the approximation gap at most, what perfect refinement would show.

    Args:
        vae, images, num_samples, seed, verbose: as for `evaluate`.
        updates: steps of Adam, an int >= 1.
        draws: of z per image and step, an int >= 1.
        learning_rate: at the start, a number > 0.

    Returns:
        `InferenceGaps`, in nats per image.

    Raises:
        TypeError, ValueError: if an argument is of the wrong kind, shape or range.

    Source: Cremer, Li & Duvenaud (2018), Inference Suboptimality in Variational Autoencoders.
    """
    images = _checked_images(vae, images)
    updates = checks.integer("updates", updates, 1)
    draws = checks.integer("draws", draws, 1)
    learning_rate = checks.positive("learning_rate", learning_rate)
    before = evaluate(vae, images, num_samples, seed, verbose)
    posterior = vae.posterior(images)
    loc, scale = posterior.mean(), posterior.stddev()  # [N, L] each
    arguments = tf.constant(images), loc, scale, _key(seed, REFINEMENT), tf.constant(updates)
    arguments += tf.range(draws), tf.constant(learning_rate, loc.dtype)
    loc, scale = Program(functools.partial(_refine, vae), *arguments)(*arguments)
    refined = tfd.Independent(tfd.Normal(loc, scale), 1)
    after = evaluate(vae, images, num_samples, seed, verbose, refined)
    bounds = before.elbo, after.elbo, after.marginal_log_likelihood
    return InferenceGaps(*bounds, before.num_samples, before.seed)


def _checked_images(vae, images):
    if not isinstance(vae, VAE):
        raise TypeError(f"vae must be a vae_tf.VAE; received {type(vae).__name__}.")
    vae.check_weights()
    return vae.checked_images(images)


def _importance_sample(
    vae, images, posterior, num_samples, seed, verbose, images_per_chunk=100, samples_per_chunk=20
):
    """Returns E_q[log p(x|z)], [N], and the bound for each of `num_samples`, [·, N], float64."""
    counts = [checks.integer("num_samples", count, 1) for count in num_samples]
    if not counts or (np.diff(counts) <= 0).any():
        raise ValueError(f"num_samples must rise; received {counts}.")
    key = _key(checks.integer("seed", seed, 0), EVALUATION)
    size = min(checks.integer("images_per_chunk", images_per_chunk, 1), len(images))
    block = tf.range(min(checks.integer("samples_per_chunk", samples_per_chunk, 1), counts[-1]))
    loc, scale = posterior.mean(), posterior.stddev()  # [N, L] each
    log_likelihood = np.empty(len(images))
    bounds = np.empty((len(counts), len(images)))
    add = None
    progress = keras.utils.Progbar(len(images), unit_name="image") if verbose else None
    for start in range(0, len(images), size):
        # A short last chunk is filled up with the last image: one shape, so one compilation.
        rows = np.arange(start, start + size, dtype=np.int32).clip(max=len(images) - 1)
        chunk = [tf.gather(values, rows) for values in (images, loc, scale)]
        sums = tf.fill([size], tf.constant(-np.inf, tf.float64)), tf.zeros([size], tf.float64)
        real = slice(start, min(start + size, len(images)))
        for row, (first, last) in enumerate(zip([0, *counts], counts, strict=False)):
            arguments = *chunk, tf.constant(rows), key, tf.constant([first, last]), block, *sums
            add = add or Program(functools.partial(_add_samples, vae), *arguments)
            sums = add(*arguments)
            bounds[row, real] = sums[0][: real.stop - start] - math.log(last)
        log_likelihood[real] = sums[1][: real.stop - start] / counts[-1]
        if progress:
            progress.update(real.stop)
    return log_likelihood, bounds


def _add_samples(vae, images, loc, scale, rows, key, span, block, log_sum, total):
    """Adds draws number span[0] to span[1] − 1 to log Σ_k w_k and Σ_k log p(x|z_k): float64 [B].

    `rows` are the images' positions, [B]; `block`, 0 to S − 1, says how many draws go at once.
    """
    prior, log_scale = vae.prior(), tf.reduce_sum(tf.math.log(scale), axis=-1)  # over dimensions

    def add(first, log_sum, total):
        numbers = first + block  # [S]
        noise = tf.cast(normals(key, rows, numbers, vae.latent_dim), loc.dtype)  # [S, B, L]
        latents = loc + scale * noise
        log_likelihood = vae.log_likelihood(images, latents)  # [S, B]
        # log q(z|x) by change of variables: (z − loc) / scale would lose digits where scale is tiny
        log_posterior = prior.log_prob(noise) - log_scale
        log_weights = log_likelihood + prior.log_prob(latents) - log_posterior
        counted = numbers[:, None] < span[1]
        log_weights = tf.where(counted, tf.cast(log_weights, tf.float64), -np.inf)
        log_likelihood = tf.where(counted, tf.cast(log_likelihood, tf.float64), 0)
        everything = tf.concat([log_sum[None], log_weights], axis=0)  # [1 + S, B]
        log_sum = tf.reduce_logsumexp(everything, axis=0)  # over draws
        return first + block.shape[0], log_sum, total + tf.reduce_sum(log_likelihood, axis=0)

    start = (span[0], log_sum, total)
    return tf.while_loop(lambda first, *_: first < span[1], add, start)[1:]


def _refine(vae, images, loc, scale, key, updates, block, learning_rate):
    """Returns loc and scale, [N, L] each, after climbing every image's own ELBO from those given.

    Adam: Kingma & Ba (2015), algorithm 1.
    """
    rows = tf.range(tf.shape(loc)[0])

    def update(t, parameters, mean, square):
        numbers = t * block.shape[0] + block
        noise = tf.cast(normals(key, rows, numbers, vae.latent_dim), parameters.dtype)
        with tf.GradientTape() as tape:
            tape.watch(parameters)  # [2, N, L]
            loc, scale = parameters[0], tf.exp(parameters[1])
            log_likelihood = vae.log_likelihood(images, loc + scale * noise)  # [draws, N]
            posterior = tfd.Independent(tfd.Normal(loc, scale), 1)
            kl = tfd.kl_divergence(posterior, vae.prior())
            elbo = tf.reduce_mean(log_likelihood, axis=0) - kl  # over draws: [N]
        gradient = tape.gradient(elbo, parameters)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        step = tf.cast(t + 1, parameters.dtype)
        unbiased, scaling = mean / (1 - 0.9**step), square / (1 - 0.999**step)
        rate = learning_rate * (1 - (step - 1) / tf.cast(updates, parameters.dtype))
        return t + 1, parameters + rate * unbiased / (tf.sqrt(scaling) + 1e-8), mean, square

    parameters = tf.stack([loc, tf.math.log(scale)])
    start = (0, parameters, tf.zeros_like(parameters), tf.zeros_like(parameters))
    _, parameters, _, _ = tf.while_loop(lambda t, *_: t < updates, update, start)
    return parameters[0], tf.exp(parameters[1])


def _key(seed, stream):
    return tf.bitcast(tf.constant([seed, stream]), tf.uint32)
