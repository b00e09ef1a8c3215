"""Solutions of the exercises of `01_data.ipynb`."""

import math

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

import vae_tf
from vae_tf.analysis.baselines import BernoulliMixture
from vae_tf.evaluation import Estimate


def exercise_1(digits):
    """Cuts validation digits at other thresholds, and in the other order, in per cent of pixels."""
    large = vae_tf.load_mnist(size=28, binarization="none")
    grey = np.rint(255 * large.validation.images)  # [N, 28, 28], 0 to 255
    blocks = grey.reshape(-1, 14, 2, 14, 2)
    means = blocks.mean(axis=(2, 4))  # [N, 14, 14]
    ways = {f"mean above {threshold}": means > threshold for threshold in (0, 64, 128, 192)}
    ways["3 of 4 pixels above 128"] = (blocks > 128).sum(axis=(2, 4)) >= 3
    usual = ways["mean above 128"]
    found = {
        way: {
            "ink": 100 * float(images.mean()),
            "pixels that change": 100 * float((images != usual).mean()),
        }
        for way, images in ways.items()
    }
    return found | {"num_images": len(grey)}


def exercise_2(digits):
    """Gives each test digit the class of its nearest among 10,000 training digits, in per cent."""
    right = {}
    for size, binarization in ((28, "none"), (28, "threshold"), (14, "none"), (14, "threshold")):
        data = vae_tf.load_mnist(size=size, binarization=binarization)
        train, test = data.train.balanced(1_000), data.test
        classifier = KNeighborsClassifier(1, algorithm="brute")
        classifier.fit(train.images.reshape(len(train), -1).astype(np.float32), train.labels)
        named = classifier.predict(test.images.reshape(len(test), -1).astype(np.float32))
        right[f"{size}×{size}, {binarization}"] = 100.0 * (named == test.labels)
    found = {name: Estimate.of(each)._asdict() for name, each in right.items()}
    for name, each in list(right.items())[1:]:
        less = Estimate.of(each - right["28×28, none"])
        found[f"{name}, less 28×28, none"] = less._asdict()
    return found | {"num_images": len(digits.test)}


def exercise_3(digits):
    """Measures log p(x) of validation digits under pixels that are independent, given the class."""
    train, images, labels = digits.train, digits.validation.images, digits.validation.labels
    members = [train.images[train.labels == label] for label in range(10)]
    shares = np.array([len(each) / len(train) for each in members])
    # A tenth of a digit of either kind beside the counted ones, so that no mean is 0 or 1.
    means = [(each.sum(axis=0) + 0.1) / (len(each) + 0.2) for each in members]
    overall = (train.images.sum(axis=0) + 0.1) / (len(train) + 0.2)

    def log_likelihood(mean):
        return BernoulliMixture(np.ones(1), mean[None]).log_likelihood(images)

    of_classes = np.stack([log_likelihood(mean) for mean in means], axis=1)  # [N, 10]
    own = of_classes[np.arange(len(images)), labels]  # log p(x|class)
    values = {
        "one mean": log_likelihood(overall),
        "ten means, class not known": BernoulliMixture(shares, np.stack(means)).log_likelihood(
            images
        ),
        "ten means, class known": own,
        "ten means, class known, less its cost": own + np.log(shares[labels]),
    }
    found = {name: Estimate.of(each)._asdict() for name, each in values.items()}
    for name, each in list(values.items())[1:]:
        found[f"{name}, less one mean"] = Estimate.of(each - values["one mean"])._asdict()
    gap = values["ten means, class not known"] - values["ten means, class known, less its cost"]
    guessed = (of_classes + np.log(shares)).argmax(axis=1) == labels
    return found | {
        "gap": Estimate.of(gap)._asdict(),
        "class guessed rightly, in %": 100 * float(guessed.mean()),
        "log 10": math.log(10),
        "num_images": len(images),
    }
