"""The classifier that samples are measured by, and how far its confidence can be trusted.

symbol   meaning                                                  code                   shape
f(x)     features: the classifier's last layer but one            Reading.features       [N, F]
T        temperature, which makes the classifier's odds honest    Classifier.temperature
P(c|x)   softmax(logits / T): ten digits, and none of them        Reading.probabilities  [N, 11]

It comes with the package (`load_classifier`), a fixed yardstick: numbers measured with another one
cannot be compared. It was trained on MNIST's training digits by `train_classifier`. The 5,000-digit
sample is part of those: what it says of that sample's digits, it says of digits it saw.
"""

import dataclasses
import itertools
import json
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ..engine import checks
from ..evaluation import Estimate
from ..pretrained import FOLDER

CLASSES = 10
NOISE = 1 / 6  # images of noise in training, for each digit
CONFIDENT = 0.9  # a calibrated probability: nine in ten such answers are right, or more
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


def train_classifier(digits, epochs=16, batch_size=128, learning_rate=2e-3, seed=0, verbose=0):
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
