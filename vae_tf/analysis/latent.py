"""What codes tell of classes, and how the codes of all digits together fill the prior.

symbol     meaning                                        code                           shape
q(z|x_n)   posterior of digit n, N(loc_n, scale_n²)       loc, scale                     [N, L]
q(z)       aggregate posterior (1/N) Σ_n q(z|x_n)         AggregatePosterior(loc, scale) [L]
N(m, C)    the Gaussian with the moments of q(z)          mean, covariance               [L], [L, L]

The mean KL of a VAE is I(x; z) + KL[q(z) || p(z)]: what codes tell of digits, and how far from the
prior they are as a whole, which is what samples from the prior suffer from (Hoffman & Johnson,
2016). The prior is N(0, I) here.

log N(m, C) − log p(z) is quadratic in z, so its mean under q(z) is known from the moments of q(z).
Therefore KL[q(z) || p(z)] = KL[N(m, C) || p(z)] + KL[q(z) || N(m, C)], and the first part, which
needs the moments alone, is a lower bound. All in nats.

scikit-learn, imported where it is needed, does the classifying. It has one thread: two wait for
each other where other programs use the cores as well, which takes ten times as long, and sums that
two threads share differ from run to run.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from threadpoolctl import threadpool_limits

from ..engine import checks
from ..evaluation import Estimate

tfd = tfp.distributions

LATENTS_PER_CALL = 100  # in `log_prob`: bounds the table of latents and posteriors, 48 MB for MNIST


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class AggregatePosterior:
    """q(z), the equal mixture of the posteriors of N digits.

    Attributes:
        loc, scale: of the posteriors, scale > 0: [N, L] each.

    Raises:
        ValueError: if they are not.

    Example:
        posterior = vae.posterior(digits.train.images)
        aggregate = AggregatePosterior(posterior.mean(), posterior.stddev())
    """

    loc: np.ndarray
    scale: np.ndarray

    def __post_init__(self):
        for name in ("loc", "scale"):
            object.__setattr__(self, name, checks.table(name, getattr(self, name)))
        if self.loc.shape != self.scale.shape or self.scale.min() <= 0:
            raise ValueError(
                f"scale must be {list(self.loc.shape)}, as loc, and > 0; received "
                f"{list(self.scale.shape)} with a minimum of {self.scale.min():g}."
            )

    @property
    def distribution(self):
        """The same as a distribution of TFP's, event shape [L].

        `log_prob` and `sample` here are faster: TFP draws from all N posteriors to keep one draw.
        """
        equal = tfd.Categorical(logits=tf.zeros(len(self.loc), tf.float64))
        return tfd.MixtureSameFamily(equal, tfd.MultivariateNormalDiag(self.loc, self.scale))

    @property
    def mean(self):
        """E_q[z]: [L]."""
        return self.distribution.mean().numpy()

    @property
    def covariance(self):
        """Cov_q[z]: [L, L]."""
        return self.distribution.covariance().numpy()

    @property
    def matched_kl(self):
        """KL[N(m, C) || p(z)], a float: at most KL[q(z) || p(z)]."""
        root = tf.linalg.cholesky(self.covariance)
        return float(tfd.MultivariateNormalTriL(self.mean, root).kl_divergence(self._prior()))

    @property
    def matched_kl_per_dimension(self):
        """KL[N(m_j, C_jj) || N(0, 1)]: [L]. The sum leaves out what correlations add."""
        scale = np.sqrt(np.diag(self.covariance))
        return tfd.Normal(self.mean, scale).kl_divergence(tfd.Normal(np.float64(0), 1)).numpy()

    def marginal(self, values):
        """Returns the densities of each dimension alone, at some values.

        Args:
            values: [V].

        Returns:
            [L, V].
        """
        values = checks.table("values", np.atleast_2d(values))[0]
        posteriors = tfd.Normal(self.loc.T, self.scale.T)  # of each dimension alone: [L, N]

        @tf.function(jit_compile=True)
        def density(value):
            return tf.reduce_mean(posteriors.prob(value), axis=1)  # over digits: [L]

        return np.stack([density(value) for value in tf.constant(values)], axis=1)

    def marginal_kl(self, count=401):
        """Returns KL[q(z_j) || N(0, 1)] of each dimension alone, integrated numerically: [L].

        Args:
            count: points of the grid that spans all posteriors' six standard deviations, an int
                >= 2. The trapezoidal rule wants a few of them within the narrowest posterior.
        """
        low, high = (self.loc - 6 * self.scale).min(), (self.loc + 6 * self.scale).max()
        values = np.linspace(low, high, checks.integer("count", count, 2))
        density = self.marginal(values)  # [L, count]
        log_prior = tfd.Normal(np.float64(0), 1).log_prob(values).numpy()
        log_ratio = np.log(np.maximum(density, 1e-300)) - log_prior
        return np.trapezoid(density * log_ratio, values, axis=1)  # over values

    def sample(self, num_samples, seed=0):
        """Returns draws: a digit by chance, then from its posterior. [num_samples, L].

        Args:
            num_samples: an int >= 1.
            seed: an int in [0, 2³¹).
        """
        rng = np.random.default_rng(checks.integer("seed", seed, 0))
        rows = rng.integers(len(self.loc), size=checks.integer("num_samples", num_samples, 1))
        return self.loc[rows] + self.scale[rows] * rng.normal(size=(len(rows), self.loc.shape[1]))

    def log_prob(self, latents):
        """Returns log q(z), by way of every digit's posterior: [S].

        Args:
            latents: [S, L].
        """
        latents = tf.constant(checks.table("latents", latents))
        # With XLA, because the table [latents, N, L] is then never written out: ten times as fast.
        log_prob = tf.function(self.distribution.log_prob, jit_compile=True)
        starts = range(0, len(latents), LATENTS_PER_CALL)
        return np.concatenate([log_prob(latents[i : i + LATENTS_PER_CALL]) for i in starts])

    def kl(self, num_samples=2_000, seed=0):
        """Estimates KL[q(z) || p(z)], from draws of q(z).

        This is of these N digits: the aggregate of fewer digits is further from the prior, and one
        of N < exp(I(x; z)) digits says little of the model.

        Args:
            num_samples: an int >= 2.
            seed: an int in [0, 2³¹).

        Returns:
            `Estimate`, its standard error over draws.
        """
        latents = self.sample(checks.integer("num_samples", num_samples, 2), seed)
        return Estimate.of(self.log_prob(latents) - self._prior().log_prob(latents))

    def _prior(self):
        zeros = tf.zeros(self.loc.shape[1], tf.float64)
        return tfd.MultivariateNormalDiag(zeros, tf.ones_like(zeros))


class Classification(NamedTuple):
    """What `linear_probe` and `nearest_neighbours` return."""

    accuracy: Estimate  # on test digits, a share; its standard error over them
    choice: float  # what was chosen by validation digits
    validation: dict  # of each choice: the share of validation digits classified rightly


def linear_probe(features, labels, strengths=(0.01, 0.1, 1.0, 10.0)):
    """Logistic regression: which classes lie apart by planes.

    Args:
        features: of training, validation and test digits: three arrays [N, F].
        labels: theirs: three arrays [N].
        strengths: inverses of the weight of the L2 penalty, floats > 0, of which validation digits
            choose one, the first among equals.

    Returns:
        `Classification`. Test digits are looked at once.

    Raises:
        TypeError, ValueError: if an argument is of the wrong kind or shape.
    """
    from sklearn.linear_model import LogisticRegression

    strengths = [checks.positive("strengths", value) for value in strengths]

    def classifier(strength):
        # A loose tolerance: on MNIST a tighter one changes the class of no digit in a thousand.
        return LogisticRegression(C=strength, tol=1e-3, max_iter=1_000)

    return _classify(classifier, strengths, features, labels)


def nearest_neighbours(features, labels, neighbours=(1, 3, 5, 10, 20)):
    """The vote of the k training digits with the nearest features.

    Args:
        features, labels: as for `linear_probe`.
        neighbours: numbers k, ints >= 1, of which validation digits choose one.

    Returns:
        `Classification`. Test digits are looked at once.

    Raises:
        TypeError, ValueError: if an argument is of the wrong kind or shape.
    """
    from sklearn.neighbors import KNeighborsClassifier

    neighbours = [checks.integer("neighbours", k, 1, len(features[0])) for k in neighbours]
    return _classify(KNeighborsClassifier, neighbours, features, labels)


def principal_components(features, count):
    """Projects onto the first principal components of the first array.

    Args:
        features: arrays [N, F], such as of training, validation and test digits.
        count: of components, an int in [1, F].

    Returns:
        Arrays [N, count], and the components' shares of the first array's variance: [count].
    """
    from sklearn.decomposition import PCA

    features = [checks.table("features", values) for values in features]
    checks.table("features", features[0], rows=2)  # of one there is no variance
    count = checks.integer("count", count, 1, min(features[0].shape))
    with threadpool_limits(1):
        analysis = PCA(count, svd_solver="covariance_eigh").fit(features[0])
        projected = [analysis.transform(values) for values in features]
    return projected, analysis.explained_variance_ratio_


def tsne(codes, perplexity=30.0, seed=0):
    """Lays codes out in two dimensions, neighbours beside neighbours; distances mean little else.

    Args:
        codes: [N, L].
        perplexity: about how many neighbours count, a float in (0, N).
        seed: an int in [0, 2³¹).

    Returns:
        [N, 2]; in other units than the codes, and not the same to the last bit on every machine.

    Source: van der Maaten & Hinton (2008), Visualizing Data using t-SNE.
    """
    from sklearn.manifold import TSNE

    codes = checks.table("codes", codes, 2)
    if codes.shape[1] < 2:
        raise ValueError(f"codes must be [N, L], L >= 2; received {list(codes.shape)}.")
    seed = checks.integer("seed", seed, 0)
    if checks.positive("perplexity", perplexity) >= len(codes):
        raise ValueError(f"perplexity must be < {len(codes)}, the codes; received {perplexity}.")
    with threadpool_limits(1):
        return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(codes)


def _classify(make, choices, features, labels):
    """Fits `make(choice)` to training digits, chooses by validation digits, tests on the rest."""
    features = [checks.table("features", values).astype(np.float32) for values in features]
    labels = [checks.array("labels", values) for values in labels]
    shapes = [values.shape for values in features + labels]
    if len(features) != 3 or [len(f) for f in features] != [len(y) for y in labels]:
        raise ValueError(f"features and labels must be of three sets; received {shapes}.")
    if not choices:
        raise ValueError("there must be something to choose from; received no values.")
    with threadpool_limits(1):
        fitted = {choice: make(choice).fit(features[0], labels[0]) for choice in choices}
        validation = {
            choice: float(np.mean(model.predict(features[1]) == labels[1]))
            for choice, model in fitted.items()
        }
        choice = max(validation, key=validation.get)
        right = fitted[choice].predict(features[2]) == labels[2]  # [N]
    return Classification(Estimate.of(right), choice, validation)
