"""More of bounds: as draws are added, latents in use, and what keeps the ELBO from log p(x).

symbol   meaning                                  code
K        draws of z per image                     num_samples
L[q]     the ELBO with posterior q                InferenceGaps.elbo
q*       the N(loc, scale²) best for one image    inference_gaps

Everything is in nats per image.
"""

import dataclasses
import functools

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from ..engine import checks
from ..engine.compiled import CompiledFunction
from ..engine.distributions import Normal, kl_divergence
from ..engine.noise import REFINEMENT
from ..evaluation import Results, checked_images, evaluate, evaluate_with, importance_sample

tfd = tfp.distributions

ACTIVE_VARIANCE = 0.01  # Burda, Grosse & Salakhutdinov (2016), section 5.2


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class InferenceGaps(Results):
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


def bound_curve(vae, images, num_samples=(1, 10, 100, 1_000), seed=0, verbose=0, posterior=None):
    """Returns the importance-weighted bound for several K, all from the same draws.

    Args:
        vae, images, seed, verbose, posterior: as for `evaluate`.
        num_samples: the K, rising ints >= 1.

    Returns:
        [len(num_samples), N], in nats; means over images rise towards log p(x) with K. The last
        row is what `evaluate` gives for the last K; K = 1 is an ELBO from one draw.

    Raises:
        TypeError, ValueError: if an argument is of the wrong kind, shape or range.
    """
    images = checked_images(vae, images)
    if np.ndim(num_samples) != 1:
        raise ValueError(f"num_samples must be several rising ints; received {num_samples!r}.")
    posterior = vae.posterior if posterior is None else posterior
    posterior = checks.function_of_images("posterior", posterior)
    return importance_sample(posterior, vae, (images,), num_samples, seed, verbose)[2]


def active_units(vae, images):
    """Tells which latent dimensions the model uses: Var_x(E_q[z_j]) > 0.01, a bool array [L].

    Args:
        vae: a `VAE`.
        images: [N, height, width], values 0 or 1, N >= 2.

    Raises:
        TypeError, ValueError: if an argument is of the wrong kind or shape.

    Source: Burda, Grosse & Salakhutdinov (2016), section 5.2.
    """
    images = checked_images(vae, images)
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
    images = checked_images(vae, images)
    updates = checks.integer("updates", updates, 1)
    draws = checks.integer("draws", draws, 1)
    learning_rate = checks.positive("learning_rate", learning_rate)
    before = evaluate(vae, images, num_samples, seed, verbose)
    posterior = vae.posterior(images)
    arguments = tf.constant(images), posterior.mean(), posterior.stddev()  # [N, L] each
    refine = functools.partial(_refine, vae, before.seed, updates, draws, learning_rate)
    loc, scale = CompiledFunction(refine, *arguments)(*arguments)
    after = evaluate_with(_refined, vae, (images, loc, scale), num_samples, seed, verbose)
    bounds = before.elbo, after.elbo, after.marginal_log_likelihood
    return InferenceGaps(*bounds, before.num_samples, before.seed)


def _refined(images, loc, scale):
    """Returns the posteriors of images that were refined one by one."""
    return tfd.Independent(Normal(loc, scale), 1)


def _refine(vae, seed, updates, draws, learning_rate, images, loc, scale):
    """Returns loc and scale, [N, L] each, after climbing every image's own ELBO from those given.

    Adam: Kingma & Ba (2015), algorithm 1.
    """

    def update(t, parameters, mean, square):
        with tf.GradientTape() as tape:
            tape.watch(parameters)  # [2, N, L]
            posterior = _refined(images, parameters[0], tf.exp(parameters[1]))
            places = tf.stack([seed, REFINEMENT, 0, t * draws])
            latents = posterior.sample(draws, seed=places)  # [draws, N, L]
            log_likelihood = vae.likelihood(latents).log_prob(images)  # [draws, N]
            kl = kl_divergence(posterior, vae.prior(), latents)
            elbo = tf.reduce_mean(log_likelihood, axis=0) - kl  # over draws: [N]
        gradient = tape.gradient(elbo, parameters)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        step = tf.cast(t + 1, parameters.dtype)
        unbiased, scaling = mean / (1 - 0.9**step), square / (1 - 0.999**step)
        rate = learning_rate * (1 - (step - 1) / updates)
        return t + 1, parameters + rate * unbiased / (tf.sqrt(scaling) + 1e-8), mean, square

    parameters = tf.stack([loc, tf.math.log(scale)])
    start = (0, parameters, tf.zeros_like(parameters), tf.zeros_like(parameters))
    _, parameters, _, _ = tf.while_loop(lambda t, *_: t < updates, update, start)
    return parameters[0], tf.exp(parameters[1])
