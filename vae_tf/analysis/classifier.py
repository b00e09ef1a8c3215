"""The classifier that samples are measured by, and how far its confidence can be trusted.

symbol   meaning                                                  code                   shape
f(x)     features: the classifier's last layer but one            Reading.features       [N, F]
T        temperature, which makes the classifier's odds honest    Classifier.temperature
P(c|x)   softmax(logits / T): ten digits, and none of them        Reading.probabilities  [N, 11]

It comes with the package (`load_classifier`), a fixed yardstick: numbers measured with another one
cannot be compared. `scripts/train_pretrained.py` trained it on MNIST's training digits. The
5,000-digit sample is part of those: what it says of that sample's digits, it says of digits it saw.
"""

import dataclasses
import itertools
import json
from typing import NamedTuple

import keras
import numpy as np
import scipy.special

from ..engine import checks
from ..evaluation import Estimate
from ..pretrained import FOLDER

CLASSES = 10
CONFIDENT = 0.9  # a calibrated probability: nine in ten such answers are right, or more


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
    network = make_network(itertools.repeat(0))
    # Its weights alone: layers stored by Keras 3.15 cannot be made by 3.13.
    network.load_weights(FOLDER / "classifier.keras")
    return Classifier(network, facts["temperature"])


def make_network(seeds):
    """Returns an untrained network from images [B, 14, 14] to features [B, F] and logits [B, 11].

    Args:
        seeds: an iterator of ints; each layer with weights takes one.
    """
    layers, channels_last = keras.layers, {"data_format": "channels_last"}  # whatever Keras's is
    shape = {"padding": "same", "activation": "relu", **channels_last}

    def kernel():
        return keras.initializers.HeNormal(seed=next(seeds))

    def convolution(filters):
        return layers.Conv2D(filters, 3, kernel_initializer=kernel(), **shape)

    body = keras.Sequential(
        [
            layers.Reshape((14, 14, 1)),
            convolution(32),
            convolution(32),
            layers.MaxPooling2D(**channels_last),  # [B, 7, 7, 32]
            convolution(48),
            convolution(24),
            layers.MaxPooling2D(**channels_last),  # [B, 3, 3, 24]
            layers.Flatten(**channels_last),
        ],
        name="features",
    )
    last = layers.Dense(CLASSES + 1, kernel_initializer=kernel(), name="logits")
    inputs = keras.Input((14, 14))
    features = body(inputs)
    return keras.Model(inputs, [features, last(features)], name="classifier")


def softmax(logits, temperature=1.0):
    """Returns the probabilities of classes under logits divided by T, float64: [N, C].

    Args:
        logits: [N, C].
        temperature: T, a number > 0.
    """
    temperature = checks.positive("temperature", temperature)
    return scipy.special.softmax(checks.table("logits", logits) / temperature, axis=1)


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


def reliability(probabilities, labels, bins=15, resamples=200, seed=0):
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
    from sklearn.calibration import calibration_curve

    probabilities = _checked_probabilities(probabilities)
    labels = _checked_labels(labels, probabilities)
    bins = checks.integer("bins", bins, 1)
    resamples = checks.integer("resamples", resamples, 2)
    rng = np.random.default_rng(checks.integer("seed", seed, 0))
    confidence = probabilities.max(axis=1).clip(max=1)  # rounding may take it above
    right = probabilities.argmax(axis=1) == labels
    # scikit-learn does not tell how many digits a bin holds. These are its bins, (low, high].
    places = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)

    def curve(rows):
        accuracy, mean_confidence = calibration_curve(right[rows], confidence[rows], n_bins=bins)
        counts = np.bincount(places[rows], minlength=bins)
        return mean_confidence, accuracy, counts[counts > 0]

    def error(rows):
        mean_confidence, accuracy, counts = curve(rows)
        return counts @ np.abs(accuracy - mean_confidence) / len(rows)

    count = len(labels)
    resampled = [error(rng.integers(count, size=count)) for _ in range(resamples)]
    everything = np.arange(count)
    estimate = Estimate(float(error(everything)), float(np.std(resampled, ddof=1)))
    return Reliability(*curve(everything), estimate)


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
    # The entropy is the mean of −log share[class of the image], and so is its error (delta method).
    entropy = Estimate.of(-np.log(named @ shares))
    none = Estimate.of(probabilities[:, CLASSES] > digit)
    return Recognition(Estimate.of(confident), none, shares, errors, entropy)


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
