"""The measures of notebook 8 at once, and a second judge that they were not chosen by.

symbol   meaning                                                        code
c(x)     a forest's confidence: its share of votes for the likeliest    forest.confidence
t        what nine in ten validation digits reach                       forest.threshold

The first judge is the network that comes with the package. Whoever improves samples until it likes
them may have learnt its taste. The forest is of another kind and is fitted anew: if both put models
in the same order, it is not the judge's taste alone.
"""

import dataclasses
import functools

import numpy as np

from ..engine import checks
from ..evaluation import Estimate
from . import classifier, samples

REACHED = 0.9  # the share of validation digits that the forest recognises, by its threshold


def measure(images, real, train, judge=None, repeats=10):
    """Measures a set of samples.

    Args:
        images: samples, [N, 14, 14], 0 or 1, 100 or more; None measures the real ones against each
            other, which is the floor of every measure.
        real: digits that no model was fitted to, [N, 14, 14].
        train: digits that models were fitted to, [M, 14, 14].
        judge: a `Classifier`; without, the one that comes with the package.
        repeats: random halves and quarters that sets are compared in, an int >= 2.

    Returns:
        A dict of `Estimate`. Errors are over samples; of total variation and Fréchet distance over
        random halves; of precision and recall the standard deviation over quarters.

    Raises:
        TypeError, ValueError: if images are not binary digits of that shape.
    """
    judge = judge or classifier.load_classifier()
    train = checks.binary_images("train", train, (14, 14))
    shown = checks.binary_images("images", real if images is None else images, (14, 14))
    reading = judge(shown)
    among = reading if images is None else judge(real)
    compare = functools.partial(samples.repeated, repeats=repeats)
    features = among.features, None if images is None else reading.features
    classes = among.classes, None if images is None else reading.classes
    quarter = min(len(real), len(shown)) // 4
    near = compare(samples.precision_recall, *features, quarter)  # [repeats, 2]
    recognised = classifier.recognition(reading.probabilities)
    distances = samples.nearest(shown, train)[0]

    def over_repeats(values):
        return Estimate(float(values.mean()), float(values.std(ddof=1)))

    def percent(share):
        return Estimate(100 * share.mean, 100 * share.standard_error)

    return {
        "confident_percent": percent(recognised.confident),
        "no_digit_percent": percent(recognised.no_digit),
        "total_variation_percent": over_repeats(100 * compare(samples.total_variation, *classes)),
        "frechet": over_repeats(compare(samples.frechet_distance, *features)),
        "precision": over_repeats(near[:, 0]),
        "recall": over_repeats(near[:, 1]),
        "copies_percent": Estimate.of(100 * (distances == 0)),
        "pixels_to_nearest": Estimate.of(distances),
    }


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Forest:
    """Extremely randomized trees that read digits, and the confidence that counts as recognised.

    Example:
        forest = fit_forest(digits.train, digits.validation)
        print(forest.recognised_percent(vae.sample(1_000)))
    """

    trees: object
    threshold: float

    def confidence(self, images):
        """Returns the share of the trees' votes for the likeliest digit: [N].

        Args:
            images: [N, height, width], 0 or 1.
        """
        return self.trees.predict_proba(_rows(images)).max(axis=1)

    def recognised_percent(self, images):
        """Returns how many of the images reach the threshold, in per cent: an `Estimate`."""
        return Estimate.of(100 * (self.confidence(images) >= self.threshold))


def fit_forest(train, validation, trees=200, seed=0):
    """Fits the second judge to training digits, and its threshold to validation digits.

    Args:
        train, validation: `Split`s with labels.
        trees: an int >= 1.
        seed: an int in [0, 2³¹).

    Returns:
        A `Forest`. On all of MNIST it takes 20 s.

    Source: Geurts, Ernst & Wehenkel (2006), Extremely randomized trees.
    """
    from sklearn.ensemble import ExtraTreesClassifier

    model = ExtraTreesClassifier(
        checks.integer("trees", trees, 1),
        n_jobs=-1,
        random_state=checks.integer("seed", seed, 0),
    ).fit(_rows(train.images), train.labels)
    forest = Forest(model, 0.0)
    threshold = np.quantile(forest.confidence(validation.images), 1 - REACHED)
    return dataclasses.replace(forest, threshold=float(threshold))


def _rows(images):
    images = checks.binary_images("images", images)
    return images.reshape(len(images), -1)
