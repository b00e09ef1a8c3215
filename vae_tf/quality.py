"""How good samples are: recognition, Fréchet distance, precision and recall, nearest digits.

symbol   meaning                                                  code                   shape
f(x)     features: the classifier's last layer but one            Reading.features       [N, F]
T        temperature, which makes the classifier's odds honest    Classifier.temperature
P(c|x)   softmax(logits / T): ten digits, and none of them        Reading.probabilities  [N, 11]
μ, Σ     mean and covariance of features                                                 [F], [F, F]

The classifier comes with the package (`load_classifier`), a fixed yardstick: numbers measured with
another one cannot be compared. It was trained on MNIST's training digits by `train_classifier`. The
5,000-digit sample is part of those: what it says of that sample's digits, it says of digits it saw.

Sets of digits are compared in random halves, again and again (`repeated`). Their spread is an
estimate's standard error, and real digits against other real digits give the floor of each measure.
"""

import dataclasses
import functools
import itertools
import json
import time
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from . import checks, files
from .data import load_mnist
from .evaluation import Estimate
from .pretrained import FOLDER

SEED, CLASSES = 0, 10
NOISE = 1 / 6  # images of noise in training, for each digit
CONFIDENT = 0.9  # a calibrated probability: nine in ten such answers are right, or more
NEIGHBOURS = 3  # Kynkäänniemi et al. (2019), section 3.1
BINS = 15  # Guo et al. (2017), section 4


class Reading(NamedTuple):
    """What the classifier makes of N images."""

    features: np.ndarray  # [N, F]
    logits: np.ndarray  # [N, 11], uncalibrated
    probabilities: np.ndarray  # [N, 11], calibrated: of the digits 0 to 9, and of none of them

    @property
    def classes(self):
        """The digit that each image is most like, 0 to 9: [N]."""
        return self.probabilities[:, :CLASSES].argmax(axis=1)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Classifier:
    """A network from images [N, 14, 14] to features [N, F] and logits [N, 11], and a temperature.

    Example:
        reading = load_classifier()(digits.test.images)
        accuracy = (reading.classes == digits.test.labels).mean()
    """

    network: keras.Model
    temperature: float = 1.0

    def __call__(self, images):
        """Returns the `Reading` of images [N, 14, 14], values 0 or 1.

        Raises:
            ValueError: if they are not.
        """
        images = checks.binary_images("images", images, (14, 14))
        features, logits = self.network.predict(images, batch_size=500, verbose=0)
        return Reading(features, logits, softmax(logits, self.temperature))

    def __repr__(self):
        weights = self.network.count_params()
        return f"Classifier({weights:,} weights, temperature {self.temperature:.3f})"


def load_classifier():
    """Loads the classifier that comes with the package; needs no network.

    How it was made, and its accuracy, are in `vae_tf.pretrained.how_trained("classifier")`.
    """
    facts = json.loads((FOLDER / "classifier.json").read_text())
    network, _ = _networks(itertools.repeat(0))
    # Its weights alone: layers stored by Keras 3.15 cannot be made by 3.13.
    network.load_weights(FOLDER / "classifier.keras")
    return Classifier(network, facts["temperature"])


def train_classifier(digits, epochs=16, batch_size=128, learning_rate=2e-3, seed=SEED, verbose=0):
    """Trains a classifier on the training digits, every batch shifted by up to a pixel.

    Noise is among the images, each of its pixels from a digit of its own, as an eleventh class: a
    network that has only seen digits is sure that noise is an 8. Adam's rate falls to 0 along a
    cosine. The temperature is then fitted on the validation digits.

    Args:
        digits: what `load_mnist` returns.
        epochs, batch_size: ints >= 1.
        learning_rate: at the start, a number > 0.
        seed: of the weights, the noise, the order, the shifts and dropout; an int in [0, 2³¹).
        verbose: as in Keras.

    Returns:
        A `Classifier`.

    Raises:
        TypeError, ValueError: if an argument is of the wrong kind or range.
    """
    epochs = checks.integer("epochs", epochs, 1)
    batch_size = checks.integer("batch_size", batch_size, 1)
    learning_rate = checks.positive("learning_rate", learning_rate)
    words = np.random.SeedSequence(checks.integer("seed", seed, 0)).generate_state(16) >> 1
    network, training = _networks(map(int, words))
    images, labels = digits.train.images, digits.train.labels
    noise = np.random.default_rng(seed).permuted(images, axis=0)[: round(NOISE * len(images))]
    images = np.concatenate([images, noise])
    labels = np.concatenate([labels, np.full(len(noise), CLASSES, labels.dtype)])
    train = tf.data.Dataset.from_tensor_slices((images, labels))
    train = train.cache().shuffle(len(images), seed=int(words[-1])).batch(batch_size)
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * len(train))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    training.compile(keras.optimizers.Adam(rate), loss)
    training.fit(train, epochs=epochs, shuffle=False, verbose=verbose)
    logits = Classifier(network)(digits.validation.images).logits
    return Classifier(network, fit_temperature(logits, digits.validation.labels))


def softmax(logits, temperature=1.0):
    """Returns the probabilities of classes under logits divided by T, float64: [N, C].

    Args:
        logits: [N, C].
        temperature: T, a number > 0.
    """
    scaled = checks.table("logits", logits) / checks.positive("temperature", temperature)
    odds = np.exp(scaled - scaled.max(axis=1, keepdims=True))  # over classes
    return odds / odds.sum(axis=1, keepdims=True)


def fit_temperature(logits, labels):
    """Returns the temperature T under which the labels are most probable, a float.

    Args:
        logits: [N, C], of digits that the network was not trained on.
        labels: [N], 0 to C − 1.

    Source: Guo et al. (2017), On Calibration of Modern Neural Networks, section 4.2.
    """
    from scipy.optimize import minimize_scalar

    logits = checks.table("logits", logits)
    labels = _checked_labels(labels, logits)

    def loss(log_temperature):
        probabilities = softmax(logits, np.exp(log_temperature))[np.arange(len(labels)), labels]
        return -np.log(np.maximum(probabilities, 1e-300)).mean()  # over digits

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


@dataclasses.dataclass(frozen=True, eq=False)
class Reliability:
    """What `reliability` returns, the arrays for bins of confidence that hold a digit.

    Attributes:
        confidence: mean probability of the class named: [bins].
        accuracy: share of digits whose class was named rightly: [bins].
        counts: digits in the bin: [bins].
        expected_calibration_error: Σ counts/N · |accuracy − confidence|, with the standard
            deviation over bootstrap samples for an error. Chance alone makes it positive.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray
    expected_calibration_error: Estimate


def reliability(probabilities, labels, bins=BINS, resamples=200, seed=0):
    """Holds the classifier's confidence against how often it is right.

    Args:
        probabilities: [N, C], rows of sum 1.
        labels: [N], 0 to C − 1.
        bins: of equal width in (0, 1], an int >= 1.
        resamples: bootstrap samples for the error, an int >= 2.
        seed: an int in [0, 2³¹).

    Returns:
        `Reliability`.

    Source: Guo et al. (2017), equations 2 and 3.
    """
    probabilities = _checked_probabilities(probabilities)
    labels = _checked_labels(labels, probabilities)
    bins = checks.integer("bins", bins, 1)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    places = np.ceil(confidence * bins).astype(int).clip(1, bins) - 1  # (i / bins, (i + 1) / bins]

    def sums(rows):
        weights = None, confidence[rows], right[rows]
        return [np.bincount(places[rows], weight, bins) for weight in weights]

    def error(rows):
        _, confident, correct = sums(rows)
        return np.abs(correct - confident).sum() / len(rows)

    rng = np.random.default_rng(checks.integer("seed", seed, 0))
    count, everything = len(labels), np.arange(len(labels))
    resampled = [
        error(rng.integers(count, size=count))
        for _ in range(checks.integer("resamples", resamples, 2))
    ]
    counts, confident, correct = (values[sums(everything)[0] > 0] for values in sums(everything))
    estimate = Estimate(float(error(everything)), float(np.std(resampled, ddof=1)))
    return Reliability(confident / counts, correct / counts, counts.astype(int), estimate)


@dataclasses.dataclass(frozen=True, eq=False)
class Recognition:
    """What `recognition` returns; errors are standard errors over images.

    Attributes:
        confident: share of images of which a digit has a probability above the threshold.
        no_digit: share of images of which no digit is as probable as that it is none.
        class_shares, class_errors: share of each digit among the most probable digits: [10] each.
        entropy: of those shares, in nats; log 10 at most. Its bias, about −9/2N, stays in.
    """

    confident: Estimate
    no_digit: Estimate
    class_shares: np.ndarray
    class_errors: np.ndarray
    entropy: Estimate


def recognition(probabilities, threshold=CONFIDENT):
    """Tells how many images are recognised confidently, and as what.

    Args:
        probabilities: calibrated, [N, 11], N >= 2, rows of sum 1; the last is of no digit.
        threshold: in [0, 1).

    Returns:
        `Recognition`.
    """
    probabilities = _checked_probabilities(probabilities)
    if probabilities.shape[1] != CLASSES + 1:
        raise ValueError(f"probabilities must be [N, 11]; received {list(probabilities.shape)}.")
    digit = probabilities[:, :CLASSES].max(axis=1)
    confident = digit > checks.number("threshold", threshold, 0, 1)
    named = np.eye(CLASSES)[probabilities[:, :CLASSES].argmax(axis=1)]  # [N, 10]
    shares = named.mean(axis=0)  # over images
    errors = named.std(axis=0, ddof=1) / np.sqrt(len(named))
    # Delta method: the entropy's error is that of the mean of −log share[class of the image].
    surprise = -np.log(shares, where=shares > 0, out=np.zeros_like(shares))
    entropy = Estimate.of(named @ surprise)
    none = Estimate.of(probabilities[:, CLASSES] > digit)
    return Recognition(Estimate.of(confident), none, shares, errors, entropy)


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
        shares.append(np.bincount(values, minlength=CLASSES) / len(values))
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
    means = [features.mean(axis=0) for features in (real, generated)]
    # On small matrices LAPACK's threads wait for one another: ten times as long if others work.
    with _blas().limit(limits=1):
        first, second = (
            np.atleast_2d(np.cov(features, rowvar=False)) for features in (real, generated)
        )
        # Σ₁Σ₂ has the eigenvalues of Σ₁^½ Σ₂ Σ₁^½, which is symmetric: none is complex.
        values, vectors = np.linalg.eigh(first)
        root = vectors * np.sqrt(values.clip(0)) @ vectors.T
        product = np.linalg.eigvalsh(root @ second @ root).clip(0)
    traces = np.trace(first) + np.trace(second) - 2 * np.sqrt(product).sum()
    return float(np.sum((means[0] - means[1]) ** 2) + traces)


def precision_recall(real, generated, neighbours=NEIGHBOURS):
    """Improved precision and recall: how much of either set lies within the other's reach.

    A set reaches as far as, around each member, its k-th nearest fellow is.

    Args:
        real, generated: features, [N, F] and [M, F], of more than k images.
        neighbours: k, an int >= 1.

    Returns:
        Precision, the share of generated images within reach of real ones, and recall, the share of
        real images within reach of generated ones.

    Source: Kynkäänniemi et al. (2019), Improved Precision and Recall Metric for Assessing
        Generative Models, equations 1 and 2.
    """
    real, generated = _checked_features(real, generated)
    k = checks.integer("neighbours", neighbours, 1, min(len(real), len(generated)) - 1)
    across = _squared_distances(real, generated)  # [N, M]
    radii = []
    for features in (real, generated):
        within = _squared_distances(features, features)
        np.fill_diagonal(within, np.inf)  # nobody is their own neighbour
        within.partition(k - 1, axis=1)
        radii.append(within[:, k - 1])
    precision = (across <= radii[0][:, None]).any(axis=0).mean()
    recall = (across <= radii[1]).any(axis=1).mean()
    return float(precision), float(recall)


def repeated(statistic, real, generated=None, count=None, repeats=10, seed=0):
    """Applies `statistic(real, generated)` to random subsets, drawn anew for every repeat.

    Drawn without replacement, halves vary among each other as whole sets of that size vary: with
    the default count, the standard deviation over repeats is the standard error of their mean, for
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


def nearest(images, references, images_per_chunk=500):
    """Finds each image's nearest reference in Hamming distance, the number of pixels that differ.

    Args:
        images: [N, height, width], values 0 or 1.
        references: [M, height, width], values 0 or 1.
        images_per_chunk: how much is computed at once, an int >= 1. Results do not depend on it.

    Returns:
        Distances in pixels and positions among the references, the first of equals: ints, [N] each.
    """
    references = checks.binary_images("references", references)
    images = checks.binary_images("images", images, references.shape[1:])
    size = checks.integer("images_per_chunk", images_per_chunk, 1)
    rows = references.reshape(len(references), -1).astype(np.float32)  # [M, D]
    # |x − y|² = |x|² + (−2x, 1) · (y, |y|²): one matrix product; whole numbers, exact in float32.
    rows = np.concatenate([rows, rows.sum(axis=1, keepdims=True)], axis=1).T
    distances, positions = (np.empty(len(images), int) for _ in range(2))
    for start in range(0, len(images), size):
        chunk = images[start : start + size].reshape(-1, len(rows) - 1).astype(np.float32)
        products = np.pad(-2 * chunk, ((0, 0), (0, 1)), constant_values=1) @ rows  # [size, M]
        best = products.argmin(axis=1)
        positions[start : start + size] = best
        distances[start : start + size] = products[np.arange(len(best)), best] + chunk.sum(axis=1)
    return distances, positions


def main():
    """Trains and stores the classifier that comes with the package."""
    digits, start = load_mnist(), time.perf_counter()
    if digits.is_sample:
        raise SystemExit("the classifier needs all of MNIST: set VAE_TF_MNIST_DIR")
    classifier = train_classifier(digits, verbose=2)
    right = {
        name: (classifier(split.images).classes == split.labels).mean()
        for name, split in {"validation": digits.validation, "test": digits.test}.items()
    }
    facts = {
        "digits": len(digits.train),
        "seed": SEED,
        "temperature": round(classifier.temperature, 4),
        "accuracy": {name: round(float(value), 4) for name, value in right.items()},
        "seconds": round(time.perf_counter() - start, 1),  # two cores
    }
    with files.whole(FOLDER / "classifier.keras") as temporary:
        classifier.network.save(temporary)
    with files.whole(FOLDER / "classifier.json") as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n")
    print(f"classifier: {facts}")


def _networks(seeds):
    """Returns the network, and the one that trains it: it shifts digits and drops features."""
    layers, order = keras.layers, {"data_format": "channels_last"}  # whatever Keras is set to

    def seeded(layer, *args, **kwargs):
        kernel = keras.initializers.HeNormal(seed=next(seeds))
        return layer(*args, kernel_initializer=kernel, **kwargs)

    convolutions = [
        seeded(layers.Conv2D, units, 3, padding="same", activation="relu", **order)
        for units in (32, 32, 48, 24)
    ]
    last = seeded(layers.Dense, CLASSES + 1, name="logits")
    body = keras.Sequential(
        [
            layers.Reshape((14, 14, 1)),
            *(*convolutions[:2], layers.MaxPooling2D(**order)),
            *(*convolutions[2:], layers.MaxPooling2D(**order)),
            layers.Flatten(**order),
        ],
        name="features",
    )
    inputs = keras.Input((14, 14))
    features = body(inputs)
    network = keras.Model(inputs, [features, last(features)], name="classifier")
    shifted = layers.RandomCrop(14, 14, seed=next(seeds), **order)(
        layers.ZeroPadding2D(1, **order)(layers.Reshape((14, 14, 1))(inputs))
    )
    dropped = layers.Dropout(0.3, seed=next(seeds))(body(layers.Reshape((14, 14))(shifted)))
    return network, keras.Model(inputs, last(dropped))


@functools.cache
def _blas():
    """Returns what sets the number of threads of linear algebra; to find it out takes a while."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _squared_distances(first, second):
    """Returns |a − b|² of rows: [N, M]; rounding never makes it negative."""
    squares = [np.einsum("nf,nf->n", features, features) for features in (first, second)]
    distances = first @ second.T
    distances *= -2
    distances += squares[0][:, None]
    distances += squares[1]
    return np.maximum(distances, 0, out=distances)


def _checked_features(real, generated):
    real, generated = checks.table("real", real, 2), checks.table("generated", generated, 2)
    if real.shape[1] != generated.shape[1]:
        raise ValueError(
            f"generated must have {real.shape[1]} features, as real; received {generated.shape[1]}."
        )
    return real, generated


def _checked_probabilities(probabilities):
    probabilities = checks.table("probabilities", probabilities, 2)
    if probabilities.min() < 0 or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-5):
        raise ValueError("probabilities must be >= 0, with rows of sum 1. Take softmax of logits.")
    return probabilities


def _checked_labels(labels, table):
    labels = np.asarray(labels)
    if labels.shape != table.shape[:1] or not np.isin(labels, range(table.shape[1])).all():
        raise ValueError(
            f"labels must be [{len(table)}], 0 to {table.shape[1] - 1}; received {labels!r}."
        )
    return labels.astype(int)
