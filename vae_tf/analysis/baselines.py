"""Simple models of binary images, with exact log-likelihoods to hold a VAE's bounds against.

symbol   meaning                              code                 shape
K        components                           mixture.weights      [K]
π_k      weight of component k                mixture.weights      [K]
p_kd     P(pixel d = 1) in component k        mixture.means        [K, height, width]
r_nk     responsibility P(k | x_n)            responsibilities     [N, K]
α        pseudo-counts of each pixel value    smoothing

log p(x) = log Σ_k π_k Π_d p_kd^x_d (1 − p_kd)^(1 − x_d), in nats per image.

All are one class: the uniform model and independent pixels are mixtures of one component. A VAE's
decoder is such a mixture too, over infinitely many codes z; a large finite one is a fair rival.
"""

import dataclasses

import numpy as np
import tensorflow as tf
import threadpoolctl

from ..engine import checks

# Log-likelihood of MNIST's 1,000 validation digits for K = 100 and α = 0.03, 0.1, 0.3, 1:
# −33.99, −33.99, −34.03, −34.19.
SMOOTHING = 0.1
IMAGES_PER_CHUNK = 10_000  # bounds the responsibilities held at once: 40 MB for K = 500


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class BernoulliMixture:
    """A mixture of products of independent Bernoulli pixels.

    `tfd.MixtureSameFamily` is the same distribution, and slower: it compares every image with every
    component pixel by pixel, where one matrix product does (3.6 s for the log-likelihood of 9,000
    images, K = 500, on two cores; here 0.4 s), and draws from all components to keep one.

    Args:
        weights: [K], positive, summing to 1.
        means: P(pixel = 1) in each component: [K, height, width], between 0 and 1, neither
            included, so that every image has a finite log-likelihood.

    Raises:
        ValueError: if they are not.
    """

    weights: np.ndarray
    means: np.ndarray

    def __post_init__(self):
        weights, means = np.asarray(self.weights, float), np.asarray(self.means, float)
        if weights.ndim != 1 or not (weights > 0).all() or abs(weights.sum() - 1) > 1e-6:
            raise ValueError(f"weights must be [K], positive, of sum 1; received {weights}.")
        if means.ndim != 3 or len(means) != len(weights):
            raise ValueError(
                f"means must be [{len(weights)}, height, width]; received {means.shape}."
            )
        if not ((means > 0) & (means < 1)).all():
            raise ValueError(
                f"means must be in (0, 1); received [{means.min():g}, {means.max():g}]."
            )
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "means", means)

    def __repr__(self):
        count, height, width = self.means.shape
        return f"BernoulliMixture({count} component{'s' * (count > 1)}, {height}x{width} pixels)"

    def log_likelihood(self, images):
        """Returns log p(x), exact, in nats: [N].

        Args:
            images: [N, height, width], values 0 or 1.

        Raises:
            ValueError: if they are not.
        """
        pixels = _checked_pixels(images, self.means.shape[1:])
        means = self.means.reshape(len(self.means), -1)  # [K, D]
        found = [
            tf.reduce_logsumexp(_log_joint(chunk.astype(float), self.weights, means), axis=1)
            for chunk in _chunks(pixels)
        ]
        return np.concatenate(found)

    def sample(self, num_images, seed=0, mean=False):
        """Returns images drawn from the model: a component, then its pixels.

        Args:
            num_images: how many, an int >= 1.
            seed: an int in [0, 2³¹).
            mean: True gives the means of the same components instead of draws from them.

        Returns:
            [num_images, height, width]: draws, uint8 0 or 1, or means, float32 in [0, 1].
        """
        num_images = checks.integer("num_images", num_images, 1, checks.MOST_IMAGES)
        rng = np.random.default_rng(checks.integer("seed", seed, 0))
        components = rng.choice(len(self.weights), num_images, p=self.weights / self.weights.sum())
        if mean:
            return self.means[components].astype(np.float32)
        uniform = rng.random((num_images, *self.means.shape[1:]), dtype=np.float32)
        return (uniform < self.means[components]).astype(np.uint8)


def uniform(image_shape=(14, 14)):
    """Returns the model under which all images are equally likely: log p(x) = −pixels · log 2."""
    image_shape = checks.image_shape("image_shape", image_shape)
    return BernoulliMixture(np.ones(1), np.full((1, *image_shape), 0.5))


def independent_pixels(images, smoothing=SMOOTHING):
    """Returns the model of independent pixels that fits the images best.

    Args and Raises: as for `fit_mixture`.
    """
    return fit_mixture(images, 1, smoothing, max_iterations=1)[0]


def fit_mixture(
    images, num_components, smoothing=SMOOTHING, seed=0, max_iterations=200, tolerance=1e-3
):
    """Fits a mixture by expectation-maximization.

    It starts with components that are random digits, half blurred to grey, and climbs
    Σ_n log p(x_n) + α Σ_kd log p_kd (1 − p_kd), which no iteration lowers. The second term, Laplace
    smoothing, keeps pixels that were never on in a component from being thought impossible.

    Args:
        images: [N, height, width], values 0 or 1.
        num_components: K, an int in [1, N].
        smoothing: α > 0, added to the counts of both values of every pixel.
        seed: an int in [0, 2³¹).
        max_iterations: an int >= 1.
        tolerance: stops once an iteration adds less than this, in nats per image; a number >= 0.

    Returns:
        `(mixture, objective)`: a `BernoulliMixture`, and the climbed sum over N, in nats per image,
        before each iteration: [iterations].

    Raises:
        TypeError, ValueError: if an argument is of the wrong kind, shape or range.

    Source: Bishop (2006), Pattern Recognition and Machine Learning, section 9.3.3.
    """
    pixels = _checked_pixels(images)
    count = checks.integer("num_components", num_components, 1, len(pixels))
    smoothing = checks.positive("smoothing", smoothing)
    rng = np.random.default_rng(checks.integer("seed", seed, 0))
    max_iterations = checks.integer("max_iterations", max_iterations, 1)
    tolerance = checks.number("tolerance", tolerance, 0)

    weights = np.full(count, 1 / count)
    means = 0.25 + 0.5 * pixels[rng.choice(len(pixels), count, replace=False)]
    objective = []
    # For few images NumPy's threads wait longer for one another than they compute.
    threads = 1 if len(pixels) <= IMAGES_PER_CHUNK else None
    for _ in range(max_iterations):
        penalty = smoothing * np.log(means * (1 - means)).sum()
        with threadpoolctl.threadpool_limits(threads):
            log_likelihood, members, sums = _statistics(pixels, weights, means)
        objective.append((log_likelihood + penalty) / len(pixels))
        # A component that lost all its members keeps a weight, tiny and positive.
        weights = np.maximum(members / len(pixels), np.finfo(float).tiny)
        means = (sums + smoothing) / (members[:, None] + 2 * smoothing)
        if len(objective) > 1 and objective[-1] - objective[-2] < tolerance:
            break
    shape = (count, *np.shape(images)[1:3])
    return BernoulliMixture(weights / weights.sum(), means.reshape(shape)), np.array(objective)


def _statistics(pixels, weights, means):
    """Returns Σ_n log p(x_n), Σ_n r_nk [K] and Σ_n r_nk x_n [K, D], chunk by chunk."""
    total, members, sums = 0.0, np.zeros(len(weights)), np.zeros(means.shape)
    for chunk in _chunks(pixels):
        # float32 halves the time of an iteration; sums over chunks are kept in float64.
        chunk = chunk.astype(np.float32)
        log_joint = _log_joint(chunk, weights, means)
        responsibilities = tf.nn.softmax(log_joint).numpy()  # over components: [N, K]
        total += tf.reduce_logsumexp(log_joint, axis=1).numpy().sum(dtype=float)
        members += responsibilities.sum(axis=0, dtype=float)  # over images
        sums += responsibilities.T @ chunk
    return total, members, sums


def _log_joint(pixels, weights, means):
    """Returns log π_k p_k(x_n), [N, K], in the floating type of the pixels, [N, D]."""
    # log p_kd^x (1 − p_kd)^(1 − x) = x · logit p_kd + log (1 − p_kd): one matrix product for all.
    log_on, log_off = np.log(means), np.log1p(-means)  # [K, D]
    constants = np.log(weights) + log_off.sum(axis=1)  # over pixels: [K]
    products = tf.linalg.matmul(pixels, tf.cast(log_on - log_off, pixels.dtype), transpose_b=True)
    return products + constants.astype(pixels.dtype)


def _chunks(pixels):
    for start in range(0, len(pixels), IMAGES_PER_CHUNK):
        yield pixels[start : start + IMAGES_PER_CHUNK]


def _checked_pixels(images, image_shape=None):
    """Returns images as rows of pixels, [N, D], if they are binary and of the shape."""
    images = checks.binary_images("images", images, image_shape)
    return images.reshape(len(images), -1)
