"""How good samples are: class shares, Fréchet distance, precision and recall, nearest digits.

symbol   meaning                                         code                         shape
f(x)     features: the classifier's last layer but one   classifier.Reading.features  [N, F]
μ, Σ     mean and covariance of features                                              [F], [F, F]

Sets of digits are compared in random halves, again and again (`repeated`). Their spread is an
estimate's standard error, and real digits against other real digits give the floor of each measure.
"""

import numpy as np
import scipy.linalg
import threadpoolctl

from ..engine import checks
from .classifier import CLASSES

NEIGHBOURS = 3  # Kynkäänniemi et al. (2019), section 3.1


def total_variation(classes, others):
    """Returns half of Σ |difference of class shares|: 0 for equal shares, 1 for disjoint classes.

    Args:
        classes, others: of two sets of images: [N] and [M], 0 to 9. N and M may differ.
    """
    shares = []
    for name, values in {"classes": classes, "others": others}.items():
        values = np.asarray(values)
        if values.ndim != 1 or not values.size or not np.isin(values, range(CLASSES)).all():
            raise ValueError(f"{name} must be [N], N >= 1, 0 to 9; received {values!r}.")
        shares.append(np.bincount(values.astype(int), minlength=CLASSES) / len(values))
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def frechet_distance(real, generated):
    """Returns |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½), the squared distance of fitted Gaussians.

    It is biased: two sets from one distribution are apart, by about 1/N. So compare at equal
    counts, and beside real digits against real digits.

    Args:
        real, generated: features, [N, F] and [M, F], of two images or more.

    Source: Heusel et al. (2017), GANs Trained by a Two Time-Scale Update Rule, equation 6, there
        with the features of another network: numbers are not comparable with theirs.
    """
    real, generated = _checked_features(real, generated)
    with _one_thread():
        first, second = (
            np.atleast_2d(np.cov(features, rowvar=False)) for features in (real, generated)
        )
        # A root of Σ₁Σ₂ has the roots of its eigenvalues, which are real and not negative.
        product = scipy.linalg.eigvals(first @ second).real.clip(0)
    between = np.sum((real.mean(axis=0) - generated.mean(axis=0)) ** 2)
    return max(0.0, float(between + np.trace(first + second) - 2 * np.sqrt(product).sum()))


def precision_recall(real, generated, neighbours=NEIGHBOURS):
    """Improved precision and recall: how much of either set lies within the other's reach.

    An image is within reach of a set if it is no further from one of the set's members than that
    member is from its k-th nearest fellow.

    Args:
        real, generated: features, [N, F] and [M, F], of more than k images.
        neighbours: k, an int >= 1.

    Returns:
        Precision, the share of generated images within reach of real ones, and recall, the share of
        real images within reach of generated ones.

    Source: Kynkäänniemi et al. (2019), Improved Precision and Recall Metric for Assessing
        Generative Models, equations 1 and 2.
    """
    from sklearn.metrics.pairwise import euclidean_distances
    from sklearn.neighbors import NearestNeighbors

    real, generated = _checked_features(real, generated)
    k = checks.integer("neighbours", neighbours, 1, min(len(real), len(generated)) - 1)
    with _one_thread():
        # Brute force, because search trees are slower than that in 216 dimensions.
        reach = [  # [N] and [M]; an image is not counted among its own neighbours
            NearestNeighbors(n_neighbors=k, algorithm="brute").fit(features).kneighbors()[0][:, -1]
            for features in (real, generated)
        ]
        across = euclidean_distances(real, generated)  # [N, M]
    precision = (across <= reach[0][:, None]).any(axis=0).mean()
    recall = (across <= reach[1]).any(axis=1).mean()
    return float(precision), float(recall)


def repeated(statistic, real, generated=None, count=None, repeats=10, seed=0):
    """Applies `statistic(real, generated)` to random subsets, drawn anew for every repeat.

    Random halves of one set differ from each other as much as whole sets of images would. So with
    the default count the standard deviation over repeats is the standard error of their mean, for
    statistics that are smooth (the delete-half jackknife).

    Args:
        statistic: a function of two arrays that returns a number, or some.
        real: [N, ...].
        generated: [M, ...]; without, real ones that are not in the other subset.
        count: size of both subsets, an int >= 1; without, half of the smaller set.
        repeats: an int >= 2.
        seed: an int in [0, 2³¹). Equal seeds give equal subsets of `real`, whatever is held against
            them, and smaller ones are parts of larger ones.

    Returns:
        [repeats, ...].

    Source: Shao & Wu (1989), A General Theory for Jackknife Variance Estimation.
    """
    real = np.asarray(real)
    others = real if generated is None else np.asarray(generated)
    most = len(real) // 2 if generated is None else min(len(real), len(others))
    half = min(len(real), len(others)) // 2
    count = checks.integer("count", half if count is None else count, 1, most)
    seed, found = checks.integer("seed", seed, 0), []
    rngs = [np.random.default_rng([seed, stream]) for stream in range(2)]
    for _ in range(checks.integer("repeats", repeats, 2)):
        order = rngs[0].permutation(len(real))
        rest = order[::-1] if generated is None else rngs[1].permutation(len(others))
        found.append(statistic(real[order[:count]], others[rest[:count]]))
    return np.array(found)


def extrapolate(counts, values):
    """Returns where a line in 1/N through the values meets 1/N = 0: [...].

    Args:
        counts: N, two different ones or more: [C].
        values: [..., C], such as Fréchet distances, whose bias is about as 1/N.

    Source: Chong & Forsyth (2020), Effectively Unbiased FID and Inception Score, section 4.
    """
    counts, values = np.asarray(counts, float), np.asarray(values, float)
    if counts.ndim != 1 or len(np.unique(counts)) < 2 or values.shape[-1:] != counts.shape:
        raise ValueError(
            "counts must be [C], two different ones or more, and values [..., C]; "
            f"received {counts.tolist()} and {list(values.shape)}."
        )
    design = np.stack([np.ones_like(counts), 1 / counts], axis=1)  # [C, 2]
    return values @ np.linalg.pinv(design)[0]


def nearest(images, references):
    """Finds each image's nearest reference in Hamming distance, the number of pixels that differ.

    Args:
        images: [N, height, width], values 0 or 1.
        references: [M, height, width], values 0 or 1.

    Returns:
        Distances in pixels and positions among the references, the first of equals: ints, [N] each.
    """
    from sklearn.metrics import pairwise_distances_argmin_min

    references = checks.binary_images("references", references)
    images = checks.binary_images("images", images, references.shape[1:])
    # Of zeros and ones the squared Euclidean distance is the Hamming distance, and is found by
    # matrix products: 3 s for 9,000 images among 60,000, on two cores.
    rows = [each.reshape(len(each), -1).astype(np.float32) for each in (images, references)]
    positions, distances = pairwise_distances_argmin_min(*rows, metric="sqeuclidean")
    return np.rint(distances).astype(int), positions


def _one_thread():
    """Returns a context in which matrices are computed by one thread.

    More would wait for one another on small ones: where other programs keep the cores busy, two
    take ten times as long as one, or more.
    """
    return threadpoolctl.threadpool_limits(1)


def _checked_features(real, generated):
    real, generated = checks.table("real", real, 2), checks.table("generated", generated, 2)
    if real.shape[1] != generated.shape[1]:
        raise ValueError(
            f"generated must have {real.shape[1]} features, as real; received {generated.shape[1]}."
        )
    return real, generated
