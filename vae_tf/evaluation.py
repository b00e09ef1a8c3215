"""How well a model explains images: bounds on log p(x), with standard errors.

symbol   meaning                                      code
L        latent dimensions                            vae.latent_dim
K        draws of z per image                         num_samples
w_k      p(x, z_k) / q(z_k|x) with z_k ~ q(z|x)       log_weights (their logarithms)
ELBO     E_q[log w] = E_q[log p(x|z)] − KL            Evaluation.elbo
IWAE-K   E[log mean_k w_k], ELBO ≤ IWAE-K ≤ log p(x)  Evaluation.marginal_log_likelihood

Everything is in nats per image: summed over pixels and latent dimensions. Standard errors are over
images; how much training seeds differ is not in them.

The noise of draw k for image n is a function of (seed, n, k) alone. So results do not depend on how
the work is cut into chunks, two models meet the same noise, and more draws extend fewer. (Noise of
other posteriors than `engine.distributions.Normal` depends on the cut.)
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from .engine import checks
from .engine.chunks import sum_over_draws
from .engine.distributions import closed_form_kl
from .engine.noise import EVALUATION
from .model import VAE

tfd = tfp.distributions

AT_ONCE = 1_000  # images whose posteriors are in memory together


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


class Results:
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
class Evaluation(Results):
    """What `evaluate` returns.

    Attributes:
        elbo: the evidence lower bound: [N].
        log_likelihood: its first term E_q[log p(x|z)], from all K draws: [N].
        kl: its second term KL[q(z|x) || p(z)]: [N]; exact where TFP has it in closed form, as for
            Gaussians, and else from all K draws.
        marginal_log_likelihood: the importance-weighted bound from K draws: [N].
        kl_per_dimension: `kl` by latent dimension, the mean over images: [L]; None where posterior
            or prior are not independent over dimensions, or it is not exact.
        num_samples, seed: K, and the seed.
    """

    elbo: np.ndarray
    log_likelihood: np.ndarray
    kl: np.ndarray
    marginal_log_likelihood: np.ndarray
    kl_per_dimension: np.ndarray | None
    num_samples: int
    seed: int
    _reported = ("elbo", "log_likelihood", "kl", "marginal_log_likelihood")

    def summary(self):
        """Returns the numbers worth keeping: a dict of plain numbers, for `results.json`."""
        each = self.kl_per_dimension
        return super().summary() | ({} if each is None else {"kl_per_dimension": each.tolist()})


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

    Not to be taken for Keras's `vae.evaluate`, which gives the mean of the training loss.

    Args:
        vae: a `VAE`.
        images: [N, height, width], as the model's likelihood takes them.
        num_samples: K >= 1, draws of z per image; all of them serve E_q[log p(x|z)] as well.
        seed: an int in [0, 2³¹).
        verbose: 1 shows progress.
        posterior: a function from a tensor [B, height, width] to q(z|x), in place of
            `vae.posterior`; it is traced.
        images_per_chunk, samples_per_chunk: how much is computed at once, for memory and speed.

    Returns:
        `Evaluation`, in nats per image.

    Raises:
        TypeError, ValueError: if an argument is of the wrong kind, shape or range.

    Source: Burda, Grosse & Salakhutdinov (2016), Importance Weighted Autoencoders, equation 8.
    """
    images = checked_images(vae, images)
    posterior = vae.posterior if posterior is None else posterior
    posterior = checks.function_of_images("posterior", posterior)
    chunks = images_per_chunk, samples_per_chunk
    return evaluate_with(posterior, vae, (images,), num_samples, seed, verbose, *chunks)


def evaluate_with(posterior, vae, arrays, num_samples, seed, verbose, *chunks):
    """Returns the `Evaluation` under any q(z|x).

    Args:
        posterior: a function of the arrays.
        arrays: images, [N, height, width], and whatever else it takes, [N, ...] each.
        vae, num_samples, seed, verbose, *chunks: as for `evaluate`.
    """
    num_samples = checks.integer("num_samples", num_samples, 1)
    seed = checks.integer("seed", seed, 0)
    kl, per_dimension = exact_kl(posterior, vae.prior(), arrays)
    log_likelihood, log_ratio, (bound,) = importance_sample(
        posterior, vae, arrays, [num_samples], seed, verbose, *chunks
    )
    kl = log_ratio if kl is None else kl
    return Evaluation(
        elbo=log_likelihood - kl,
        log_likelihood=log_likelihood,
        kl=kl,
        marginal_log_likelihood=bound,
        kl_per_dimension=per_dimension,
        num_samples=num_samples,
        seed=seed,
    )


def checked_images(vae, images):
    """Returns images as the model takes them.

    Raises:
        TypeError, ValueError: if the model is no `VAE`, its weights are beyond ±1e10 or NaN, or the
            images are not such as it takes.
    """
    checks.instance("vae", vae, VAE, "a vae_tf.VAE")
    vae.check_weights()
    return vae.checked_images(images)


def importance_sample(
    posterior, vae, arrays, num_samples, seed, verbose, images_per_chunk=100, samples_per_chunk=20
):
    """Draws from posteriors, and weighs the draws.

    Args:
        posterior, vae, arrays, seed, verbose: as for `evaluate_with`.
        num_samples: several K, rising.
        images_per_chunk, samples_per_chunk: as for `evaluate`.

    Returns:
        E_q[log p(x|z)], [N], E_q[log q(z|x) − log p(z)], [N], both from all draws, and the bound
        for each K, [·, N]; float64.
    """
    counts = [checks.integer("num_samples", count, 1) for count in num_samples]
    if not counts or (np.diff(counts) <= 0).any():
        raise ValueError(f"num_samples must rise; received {counts}.")
    seed = checks.integer("seed", seed, 0)
    size = checks.integer("images_per_chunk", images_per_chunk, 1)
    block = min(checks.integer("samples_per_chunk", samples_per_chunk, 1), counts[-1])
    add = functools.partial(_add_samples, posterior, vae, tf.constant(seed), block)
    sums = sum_over_draws(add, [-np.inf, 0.0, 0.0], arrays, counts, size, verbose)
    log_sum_weights, log_likelihood, log_ratio = sums  # [C, N] each
    bounds = log_sum_weights - np.log(counts)[:, None]
    return log_likelihood[-1] / counts[-1], log_ratio[-1] / counts[-1], bounds


def _add_samples(make_posterior, vae, seed, block, arrays, span, sums):
    """Adds draws number span[1] to span[2] − 1, `block` of them at once, to sums of each image.

    The sums are log Σ_k w_k, Σ_k log p(x|z_k) and Σ_k log q(z_k|x) − log p(z_k), float64 [B] each.
    """
    posterior = make_posterior(*arrays)

    def add(first, log_sum, *totals):
        places = tf.stack([seed, EVALUATION, span[0], first])
        _, log_likelihood, log_ratio = vae.weigh(posterior, arrays[0], block, places)  # [S, B]
        log_weights = log_likelihood - log_ratio
        is_real = first + tf.range(block)[:, None] < span[2]  # the last block is too large
        log_weights = tf.where(is_real, tf.cast(log_weights, tf.float64), -np.inf)
        everything = tf.concat([log_sum[None], log_weights], axis=0)  # [1 + S, B]
        log_sum = tf.reduce_logsumexp(everything, axis=0)  # over draws
        each = [tf.cast(values, tf.float64) for values in (log_likelihood, log_ratio)]
        each = [tf.reduce_sum(tf.where(is_real, values, 0), axis=0) for values in each]
        return first + block, log_sum, *map(tf.add, totals, each)

    return tf.while_loop(lambda first, *_: first < span[2], add, (span[1], *sums))[1:]


def exact_kl(posterior, prior, arrays):
    """Returns KL[q ‖ p], [N], and its mean over images by dimension, [L]; None if not known."""
    parts = []
    for start in range(0, len(arrays[0]), AT_ONCE):
        part = [each[start : start + AT_ONCE] for each in arrays]
        found = posterior(*part)
        checks.distribution_shape("posterior", found, [len(part[0])], prior.event_shape)
        parts.append(closed_form_kl(found, prior))
    if parts[0] is None:
        return None, None
    kl = np.concatenate(parts)
    return (kl, None) if kl.ndim == 1 else (kl.sum(axis=1), kl.mean(axis=0))
