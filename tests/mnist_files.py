"""What the tests of `data` and `sources` share: digits that stand in for MNIST, and oracles."""

import functools
import gzip
import hashlib
import os
import struct
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from vae_tf import data
from vae_tf.data import Dataset, Split, binarize
from vae_tf.sources import providers

MNIST_DIR = os.environ.get("VAE_TF_MNIST_DIR")
needs_mnist = pytest.mark.skipif(
    not MNIST_DIR, reason="VAE_TF_MNIST_DIR names no directory of the four MNIST files"
)
NAMES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"]
NAMES += ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]


@pytest.fixture(autouse=True)
def isolated(monkeypatch, tmp_path):
    """No test reads or writes the user's caches, or opens a connection."""
    for name in ("VAE_TF_CACHE", "TFDS_DATA_DIR", "KERAS_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("VAE_TF_MNIST_DIR", raising=False)
    monkeypatch.setattr(providers, "why_unreachable", lambda: "no network in tests")


@pytest.fixture
def online(monkeypatch):
    """The host answers; returns the calls that asked."""
    calls = []
    monkeypatch.setattr(providers, "why_unreachable", lambda: calls.append("asked") or "")
    return calls


@pytest.fixture
def mnist(monkeypatch):
    """300 + 100 random digits that stand in for MNIST: ((images, labels), (images, labels))."""
    parts, files = stand_in()
    train, test = (in_content_order(*part) for part in parts)
    monkeypatch.setitem(providers.CONTENT, "train", sha256(*train))
    monkeypatch.setitem(providers.CONTENT, "test", sha256(*test))
    sums = {name: (sha256(files[f"{name}.gz"]), sha256(files[name])) for name in NAMES}
    monkeypatch.setattr(providers, "FILES", sums)
    monkeypatch.setattr(data, "MNIST_CUTS", (300, 310))
    return parts


@functools.cache
def stand_in():
    """Returns the digits of `mnist`, and their files by name, packed and unpacked."""
    images = np.random.default_rng(0).integers(0, 256, [400, 28, 28], np.uint8)
    images[20] = images[9]  # one image with two labels, the later the lower: a tie to be broken
    labels = (np.arange(400) % 10).astype(np.uint8)
    parts = (images[:300], labels[:300]), (images[300:], labels[300:])
    files = {name: idx(array) for name, array in zip(NAMES, [*parts[0], *parts[1]], strict=True)}
    files |= {f"{name}.gz": gzip.compress(files[name], mtime=0) for name in NAMES}
    return parts, files


def write_files(folder, suffix=".gz"):
    folder.mkdir(exist_ok=True)
    for name in NAMES:
        (folder / f"{name}{suffix}").write_bytes(stand_in()[1][f"{name}{suffix}"])
    return folder


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def sha256(*arrays):
    return hashlib.sha256(b"".join(map(bytes, arrays))).hexdigest()


def in_content_order(images, labels):
    """The oracle: sorts whole (hash, label) pairs, digit by digit."""
    pairs = sorted(zip(images, labels, strict=True), key=lambda pair: (sha256(pair[0]), pair[1]))
    return np.stack([image for image, _ in pairs]), np.array([label for _, label in pairs])


def expected_digits(parts, source, cut=10):
    """The oracle: what `load_mnist` should make of the parts, `cut` digits in validation."""
    (train, train_labels), (test, test_labels) = (in_content_order(*part) for part in parts)
    splits = [(train, train_labels), (test[:cut], test_labels[:cut])]
    splits += [(test[cut:], test_labels[cut:])]
    return Dataset(*[Split(binarize(images), labels) for images, labels in splits], source, "MNIST")


def assert_same(actual, expected):
    assert (actual.source, actual.name) == (expected.source, expected.name)
    for name in ("train", "validation", "test"):
        ours, theirs = getattr(actual, name), getattr(expected, name)
        np.testing.assert_array_equal(ours.images, theirs.images)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        assert ours.images.dtype == ours.labels.dtype == np.uint8
        assert ours.images.flags.writeable
        assert ours.labels.flags.writeable


def shuffled(parts):
    orders = [np.random.default_rng(5).permutation(len(labels)) for _, labels in parts]
    return [(x[order], y[order]) for (x, y), order in zip(parts, orders, strict=True)]


def flip(content, at):
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def fail(error):
    def raises(*_, **__):
        raise error

    return raises


def fake_keras(monkeypatch, load_data):
    module = SimpleNamespace(datasets=SimpleNamespace(mnist=SimpleNamespace(load_data=load_data)))
    monkeypatch.setitem(sys.modules, "keras", module)


def fake_tfds(monkeypatch, load):
    """A tensorflow_datasets as it is, or with load=None one that has lost its `load`."""
    module = ModuleType("tensorflow_datasets")
    module.download = SimpleNamespace(DownloadConfig=SimpleNamespace)
    if load:
        module.load = load
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)


def tfds_load(parts, **asked):
    """Returns a tfds.load that serves its shapes and types, if asked with these options."""
    served = [{"image": x[..., None], "label": y.astype(np.int64)} for x, y in parts]
    return lambda name, **options: served if asked.items() <= options.items() else None
