"""The one writer and reader of published numbers."""

import dataclasses
import json
import multiprocessing

import numpy as np
import pytest

from vae_tf import from_arrays
from vae_tf.analysis import results


def test_record_and_read(tmp_path, digits):
    values = {"elbo": {"mean": np.float32(-33.7), "standard_error": 0.0123456789}, "count": 3}
    results.record(tmp_path, "one", digits, values, seed=0)
    results.record(tmp_path, "two", digits, {"curve": np.array([1.0, 2.5])})
    results.record(tmp_path, "one", digits, values, seed=np.int64(7))
    stored = results.read(tmp_path)
    assert list(stored) == ["one", "two"]
    assert stored["one"] == {
        "data": "5,000-digit sample of MNIST",
        "seed": 7,
        "elbo": {"mean": -33.7, "standard_error": 0.0123457},
        "count": 3,
    }
    assert stored["two"]["curve"] == [1.0, 2.5]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, {"x": [1.0, np.nan]}])
def test_numbers_that_are_none_are_refused_and_nothing_is_lost(tmp_path, digits, bad):
    results.record(tmp_path, "good", digits, {"elbo": -1.0})
    before = (tmp_path / "results.json").read_bytes()
    with pytest.raises(ValueError, match=r"bad\.value"):
        results.record(tmp_path, "bad", digits, {"value": bad})
    assert (tmp_path / "results.json").read_bytes() == before


def test_a_failing_write_leaves_what_was_there(tmp_path, digits, monkeypatch):
    results.record(tmp_path, "good", digits, {"elbo": -1.0})
    before = (tmp_path / "results.json").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        results.record(tmp_path, "more", digits, {"elbo": -2.0})
    assert (tmp_path / "results.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [".results.lock", "results.json"]


def _record_many(directory, digits, name):
    for i in range(20):
        results.record(directory, f"{name}{i}", digits, {"i": i})


def test_writers_at_once_lose_nothing(tmp_path, digits):
    context = multiprocessing.get_context("fork")
    writers = [
        context.Process(target=_record_many, args=(tmp_path, digits, name)) for name in "abc"
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(json.loads((tmp_path / "results.json").read_text())) == 60


def test_the_sample_has_a_folder_of_its_own(tmp_path, digits, monkeypatch):
    monkeypatch.setenv("VAE_TF_FIGURES", str(tmp_path))
    assert results.output_directory(digits) == tmp_path / "sample"
    monkeypatch.delenv("VAE_TF_FIGURES")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert results.output_directory(digits) == tmp_path / "figures" / "sample"


FOLDERS = {"shirts": "shirts", "My shirts, 2/3": "my-shirts-2-3", "MNIST": "mnist"}
FOLDERS |= {"..": "own-images", "../../x": "x", "sample": "own-sample"}


@pytest.mark.parametrize(("name", "folder"), FOLDERS.items())
def test_own_images_have_a_folder_of_their_name_and_never_the_published_one(
    tmp_path, monkeypatch, name, folder
):
    monkeypatch.setenv("VAE_TF_FIGURES", str(tmp_path))
    data = from_arrays(np.ones((10, 2, 2)), name=name)
    assert results.output_directory(data) == tmp_path / folder
    assert [path.name for path in tmp_path.iterdir()] == [folder]


def test_mnist_goes_to_the_published_folder(tmp_path, monkeypatch, digits):
    monkeypatch.setenv("VAE_TF_FIGURES", str(tmp_path))
    data = dataclasses.replace(digits, source="cache", name="MNIST")
    assert results.output_directory(data) == tmp_path
    data = dataclasses.replace(digits, source="keras", name="Fashion-MNIST 28×28")
    assert results.output_directory(data) == tmp_path / "fashion-mnist-28-28"


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"name": ""}, TypeError, "name must be a text"),
        ({"data": "MNIST"}, TypeError, "data must be .*received str"),
        ({"values": [1.0]}, TypeError, "values must be a dict.*received list"),
        ({"values": {"x": object()}}, TypeError, r"one\.x must be a number"),
        ({"directory": "missing"}, FileNotFoundError, "not a folder"),
    ],
)
def test_what_cannot_be_recorded_is_named(tmp_path, digits, change, error, says):
    arguments = {"directory": tmp_path, "name": "one", "data": digits, "values": {}}
    with pytest.raises(error, match=says):
        results.record(**arguments | change)
    assert not list(tmp_path.iterdir())
