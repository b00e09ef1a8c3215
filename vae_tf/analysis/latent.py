"""What codes tell of classes, and how the codes of all digits together fill the prior.

symbol     meaning                                        code                           shape
q(z|x_n)   posterior of digit n, N(loc_n, scale_n²)       loc, scale                     [N, L]
q(z)       aggregate posterior (1/N) Σ_n q(z|x_n)         AggregatePosterior(loc, scale) [L]
N(m, C)    the Gaussian with the moments of q(z)          mean, covariance               [L], [L, L]

The mean KL of a VAE is I(x; z) + KL[q(z) || p(z)]: what codes tell of digits, and how far from the
prior they are as a whole, which is what samples from the prior suffer from (Hoffman & Johnson,
2016). Moreover KL[q(z) || p(z)] = KL[N(m, C) || p(z)] + KL[q(z) || N(m, C)], for log N(m, C) − log
p(z) is quadratic in z: so the first part, from moments alone, is a lower bound. All in nats.

scikit-learn, imported where it is needed, does the classifying.
"""

import contextlib
import dataclasses
import math
from typing import NamedTuple

import numpy as np

from ..engine import checks
from ..evaluation import Estimate

LOG_2_PI = math.log(2 * math.pi)
ENTRIES_PER_CHUNK = 2**24  # of the table of draws and posteriors: 128 MB


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
    def mean(self):
        """E_q[z]: [L]."""
        return self.loc.mean(axis=0)  # over digits

    @property
    def covariance(self):
        """Cov_q[z]: the mean of the posteriors' covariances, and the covariance of their means."""
        # Transposed: with rowvar=False, NumPy before 2.2 takes one digit for one dimension.
        between = np.atleast_2d(np.cov(self.loc.T, ddof=0))
        return np.diag((self.scale**2).mean(axis=0)) + between  # [L, L]

    @property
    def matched_kl(self):
        """KL[N(m, C) || p(z)], a float: at most KL[q(z) || p(z)]."""
        covariance = self.covariance
        excess = np.trace(covariance) + self.mean @ self.mean - len(covariance)
        return float(0.5 * (excess - np.linalg.slogdet(covariance)[1]))

    @property
    def matched_kl_per_dimension(self):
        """KL[N(m_j, C_jj) || N(0, 1)]: [L]. The sum leaves out what correlations add."""
        variance = np.diag(self.covariance)
        return 0.5 * (variance + self.mean**2 - 1 - np.log(variance))

    def marginal(self, values):
        """Returns the densities of each dimension alone, at some values.

        Args:
            values: [V].

        Returns:
            [L, V].
        """
        values = checks.table("values", np.atleast_2d(values))[0]
        found = np.zeros((self.loc.shape[1], len(values)))
        for start in range(0, len(self.loc), step := max(2**18 // len(values), 1)):
            for density, loc, scale in zip(
                *(found, self.loc[start : start + step].T, self.scale[start : start + step].T),
                strict=True,
            ):
                apart = (values[:, None] - loc) / scale  # [V, step]
                density += np.exp(-0.5 * apart**2) @ (1 / scale)  # over digits
        return found / (len(self.loc) * math.sqrt(2 * math.pi))

    def marginal_kl(self, count=401):
        """Returns KL[q(z_j) || N(0, 1)] of each dimension alone, integrated numerically: [L].

        Args:
            count: points of the grid that spans all posteriors' six standard deviations, an int
                >= 2. The trapezoidal rule wants a few of them within the narrowest posterior.
        """
        low, high = ((self.loc + sign * 6 * self.scale) for sign in (-1, 1))
        values = np.linspace(low.min(), high.max(), checks.integer("count", count, 2))
        density = self.marginal(values)  # [L, count]
        log_prior = -0.5 * (values**2 + LOG_2_PI)
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
        latents, size = checks.table("latents", latents), self.loc.shape[1]
        # −½ Σ_j ((z − loc) / scale)² = z² · a + z · b + c: a product of [S, 2 L] and [2 L, N].
        precision = self.scale**-2.0
        table = np.concatenate([-0.5 * precision, precision * self.loc], axis=1).T
        constant = -0.5 * (precision * self.loc**2).sum(axis=1) - np.log(self.scale).sum(axis=1)
        found, step = np.empty(len(latents)), max(ENTRIES_PER_CHUNK // len(self.loc), 1)
        for start in range(0, len(latents), step):
            chunk = latents[start : start + step]
            terms = np.concatenate([chunk**2, chunk], axis=1) @ table + constant  # [step, N]
            largest = terms.max(axis=1, keepdims=True)
            terms -= largest
            np.exp(terms, out=terms)
            found[start : start + step] = largest[:, 0] + np.log(terms.mean(axis=1))  # over digits
        return found - 0.5 * size * LOG_2_PI

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
        log_prior = -0.5 * (latents**2 + LOG_2_PI).sum(axis=1)  # over dimensions
        return Estimate.of(self.log_prob(latents) - log_prior)


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

    # Loose, but accuracy does not see it: on MNIST, tighter ones change no digit in a thousand.
    return _classify(
        lambda strength: LogisticRegression(C=strength, tol=1e-3, max_iter=1_000),
        *(strengths, features, labels),
    )


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
    count = checks.integer("count", count, 1, min(features[0].shape))
    with _one_thread():
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
    seed = checks.integer("seed", seed, 0)
    if checks.positive("perplexity", perplexity) >= len(codes):
        raise ValueError(f"perplexity must be < {len(codes)}, the codes; received {perplexity}.")
    with _one_thread():
        return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(codes)


def _classify(make, choices, features, labels):
    """Fits `make(choice)` to training digits, chooses by validation digits, tests on the rest."""
    features = [checks.table("features", values).astype(np.float32) for values in features]
    labels = [np.asarray(values) for values in labels]
    shapes = [values.shape for values in features + labels]
    if len(features) != 3 or [len(f) for f in features] != [len(y) for y in labels]:
        raise ValueError(f"features and labels must be of three sets; received {shapes}.")
    if not choices:
        raise ValueError("there must be something to choose from; received no values.")
    with _one_thread():
        fitted = {choice: make(choice).fit(features[0], labels[0]) for choice in choices}
        validation = {
            choice: float(np.mean(model.predict(features[1]) == labels[1]))
            for choice, model in fitted.items()
        }
        choice = max(validation, key=validation.get)
        right = fitted[choice].predict(features[2]) == labels[2]  # [N]
    return Classification(Estimate.of(right), choice, validation)


@contextlib.contextmanager
def _one_thread():
    """Keeps NumPy and scikit-learn to one thread.

    With two on two cores that others use as well, each waits for the other: fits take ten times
    as long. Sums of two threads also differ from run to run.
    """
    import threadpoolctl

    with threadpoolctl.threadpool_limits(1):
        yield
