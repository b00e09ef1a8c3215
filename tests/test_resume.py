"""Runs that are stopped, killed, damaged, mixed up or that diverge; tests that break things.

Those marked `slow` or `faults` are run by `make test-slow` and `make test-faults`.
"""

import dataclasses
import errno
import hashlib
import io
import json
import os
import resource
import secrets
import shutil
import subprocess
import sys
import types
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from killed import RECIPE, SEED, small_vae

import vae_tf
from vae_tf import VAE, DivergenceError, train
from vae_tf.engine import course, run_folder
from vae_tf.engine.noise import HISTORY

HERE = Path(__file__).parent
LEFT = [".lock", "history.csv", "model.keras", "state.npz"]
# The rate rises to 1e3 slowly, so that it does not diverge in the first updates.
DIVERGING = vae_tf.Recipe(
    updates=20_000,
    batch_size=32,
    learning_rate=1e3,
    warmup=0.9,
    evaluate_every=100,
)


def run(digits, directory=None, recipe=RECIPE, seed=SEED):
    return train(digits, recipe, small_vae(seed), verbose=0, directory=directory)


def values(variables):
    return [np.asarray(variable).tobytes() for variable in variables]


def bits(vae, history):
    """Returns, as bytes, all variables of model and optimizer, and the history."""
    sets = [*history.training.values(), *history.validation.values()]
    series = [history.log_likelihood, history.kl, history.evaluated, *sets]
    return values([*vae.variables, *vae.optimizer.variables, *series])


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def stop(digits, directory, savings):
    """Runs until as many states are saved after blocks, one after each, and is stopped there."""
    write, count = run_folder.RunFolder.write, iter(range(savings))

    def writing(folder, arrays):
        write(folder, arrays)
        if next(count, None) is None:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(course, "SAVE_EVERY", 0.0)
        patch.setattr(run_folder.RunFolder, "write", writing)
        with pytest.raises(KeyboardInterrupt):
            run(digits, directory)


@pytest.fixture(scope="module")
def undisturbed(digits, tmp_path_factory):
    """A run that nobody disturbed, its history as a file, and its bits."""
    vae, history = run(digits)
    file = tmp_path_factory.mktemp("undisturbed") / "history.csv"
    history.to_csv(file)
    return vae, file.read_bytes(), bits(vae, history)


@pytest.fixture(scope="module")
def stopped(digits, tmp_path_factory):
    """The folder of a run that was stopped after 250 of its 795 updates."""
    directory = tmp_path_factory.mktemp("stopped") / "run"
    stop(digits, directory, 10)
    assert updates_in(directory) == 250
    return directory


@pytest.fixture
def half(stopped, tmp_path):
    """A copy of it."""
    return shutil.copytree(stopped, tmp_path / "run")


def updates_in(directory):
    """Returns how many updates the state in a folder has made, or −1 where there is none."""
    if not (directory / "state.npz").exists():
        return -1
    with np.load(directory / "state.npz", allow_pickle=False) as state:
        return len(state["kl"])


@pytest.mark.parametrize(
    "kills",
    [pytest.param(1, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.faults)],
)
def test_killed_runs_end_as_if_they_had_not_been(
    digits, tmp_path, undisturbed, kills, record_property
):
    seed = secrets.randbelow(2**31)
    command = [sys.executable, HERE / "killed.py", tmp_path, str(kills), str(seed)]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=tmp_path)
    killed = json.loads(told.stdout)
    same, made = [], []
    for directory, how in killed:
        directory = Path(directory)
        made.append(updates_in(directory))
        ended = bits(*run(digits, directory)) == undisturbed[2]
        ended &= bits(*run(digits, directory)) == undisturbed[2]  # as read from the finished folder
        ended &= (directory / "history.csv").read_bytes() == undisturbed[1]
        model = keras.saving.load_model(directory / "model.keras")
        ended &= values(model.weights) == values(undisturbed[0].weights)
        ended &= sorted(path.name for path in directory.iterdir()) == LEFT
        same.append(ended)
        print(f"{how}, after {made[-1]} updates: {'same' if ended else 'OTHER'}")
    count = f"{sum(same)} of {kills} killed runs ended bit-identical"
    print(f"{count} (seed {seed})")
    record_property("count", f"{count}; they went on from updates {sorted(made)} (seed {seed})")
    assert sum(same) == len(killed) == kills


@pytest.mark.slow
def test_a_run_may_be_stopped_more_than_once(digits, half, undisturbed):
    for savings in (0, 13):
        stop(digits, half, savings)
    assert updates_in(half) == 250 + 25 + 350
    assert bits(*run(digits, half)) == undisturbed[2]


def test_a_finished_run_is_read_not_made(digits, tmp_path, undisturbed, monkeypatch):
    directory = tmp_path / "run"
    assert bits(*run(digits, str(directory))) == undisturbed[2]
    assert sorted(contents(directory)) == LEFT
    (directory / "history.csv").unlink()
    (directory / "model.keras").unlink()  # as if it had been killed before they were written
    monkeypatch.setattr(VAE, "fit", None)
    vae, history = run(digits, directory)
    assert bits(vae, history) == undisturbed[2]
    assert (directory / "history.csv").read_bytes() == undisturbed[1]
    model = keras.saving.load_model(directory / "model.keras")
    assert values(model.variables) == values(vae.variables)
    assert values(model.optimizer.variables) == values(vae.optimizer.variables)


def test_saving_is_at_most_once_a_second_and_changes_nothing(
    digits, tmp_path, undisturbed, monkeypatch
):
    clock, written = iter(range(10**6)), []
    looks = types.SimpleNamespace(monotonic=lambda: 0.3 * next(clock))  # one at every block's end
    monkeypatch.setattr(course, "time", looks)
    monkeypatch.setattr(
        run_folder.RunFolder, "write", lambda _, arrays: written.append(len(arrays["kl"]))
    )
    assert bits(*run(digits, tmp_path / "run")) == undisturbed[2]
    assert written == [0, *range(100, 795, 100), 795]  # at the fourth look, 1.2 s after the last


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 4}, "model's seed is 3 there and 4 here; SHA-256 of initial weights is"),
        (
            {"recipe": dataclasses.replace(RECIPE, learning_rate=1e-3, averaging=None)},
            "learning_rate is 0.005 there and 0.001 here; averaging is 0.9 there and None here",
        ),
        ({"digits": "training"}, "SHA-256 of training images is '[0-9a-f]{64}' there and '"),
        ({"digits": "validation"}, "SHA-256 of validation images is '[0-9a-f]{64}' there and '"),
    ],
    ids=["seed", "recipe", "training digits", "validation digits"],
)
def test_another_run_is_refused_by_name_and_kept(digits, half, change, named):
    before = contents(half)
    if kind := change.get("digits"):
        split = getattr(digits, "train" if kind == "training" else kind)
        images = split.images.copy()
        images[0, 0, 0] ^= 1  # one pixel
        changed = dataclasses.replace(split, images=images)
        change = {"digits": dataclasses.replace(digits, **{_field(kind): changed})}
    with pytest.raises(ValueError, match=f"holds another run: {named}"):
        run(**{"digits": digits, "directory": half, **change})
    assert contents(half) == before


def _field(kind):
    return "train" if kind == "training" else kind


def test_a_newer_format_is_refused_and_kept(digits, half, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "FORMAT", 3)
        run(digits, half)
    before = contents(half)
    with pytest.raises(ValueError, match=r"state\.npz is of format 3; .* reads up to 2"):
        run(digits, half)
    assert contents(half) == before


def test_a_damaged_state_is_refused_and_kept(digits, half, record_property):
    file = half / "state.npz"
    whole, rng = file.read_bytes(), np.random.default_rng(0)
    damaged = [whole[:size] for size in (0, 1, 31, 32, 33, len(whole) // 2, len(whole) - 1)]
    damaged += [whole + b"\0", whole[1:], hashlib.sha256(whole).digest()]
    for position in rng.integers(len(whole), size=200):
        damaged.append(bytearray(whole))
        damaged[-1][position] ^= 1 << rng.integers(8)
    folder = run_folder.RunFolder(half, {})
    for content in damaged:
        file.write_bytes(content)
        with pytest.raises(ValueError, match="damaged: its SHA-256 is"):
            folder.read()
    with pytest.raises(ValueError, match="damaged: its SHA-256 is"):
        run(digits, half)
    assert file.read_bytes() == damaged[-1]
    record_property("count", f"{len(damaged)} of {len(damaged)} damaged states refused")


def test_a_state_with_a_pickle_in_it_is_refused(half, tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, format=1, identity=np.array([print], dtype=object))
    content = buffer.getvalue()
    (half / "state.npz").write_bytes(content + hashlib.sha256(content).digest())
    with pytest.raises(ValueError, match="allow_pickle=False"):
        run_folder.RunFolder(half, {}).read()


@pytest.mark.parametrize("name", ["model.keras", "history.csv"])
def test_files_of_nobody_knows_which_run_are_kept(digits, tmp_path, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(ValueError, match=rf"holds {name} but no state\.npz"):
        run(digits, tmp_path)
    assert (tmp_path / name).read_text() == "precious"


def test_one_process_at_a_time_trains_in_a_directory(digits, half):
    before = contents(half)
    with (
        run_folder.open_run(half, {}),
        pytest.raises(BlockingIOError, match="another process is training"),
    ):
        run(digits, half)
    assert contents(half) == before


@pytest.mark.parametrize("step", ["replace", pytest.param("fsync", marks=pytest.mark.slow)])
def test_a_full_disk_stops_the_run_and_keeps_its_state(
    digits, half, undisturbed, step, monkeypatch
):
    before, count = contents(half), iter(range(3))
    monkeypatch.setattr(course, "SAVE_EVERY", 0.0)
    real = getattr(os, step)

    def full(*arguments):
        if next(count, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(f"os.{step}", full)
        with pytest.raises(OSError, match=r"No space left on device: .*state\.npz"):
            run(digits, half)
    assert contents(half).keys() == before.keys()
    assert updates_in(half) == 325
    assert bits(*run(digits, half)) == undisturbed[2]


@pytest.mark.slow
def test_a_disk_that_really_takes_no_more_keeps_the_state(digits, half, undisturbed, monkeypatch):
    before = contents(half)
    monkeypatch.setattr(course, "SAVE_EVERY", 0.0)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before["state.npz"]) - 1, limit[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: .*state\.npz"):
            run(digits, half)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert contents(half) == before
    assert bits(*run(digits, half)) == undisturbed[2]


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("missing/run", FileNotFoundError),
        ("file", FileExistsError),
        ("file/run", NotADirectoryError),
    ],
)
def test_a_folder_that_cannot_be_is_named_before_any_work(
    digits, tmp_path, place, error, monkeypatch
):
    monkeypatch.setattr(VAE, "fit", None)
    (tmp_path / "file").write_text("precious")
    with pytest.raises(error, match=str(tmp_path / place)):
        run(digits, tmp_path / place)
    assert (tmp_path / "file").read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.fixture(scope="module")
def divergence(digits):
    """The update at which plain `fit`, told to go on, first has a loss that is too large."""
    _, losses = plain(digits, 600)
    new = small_vae().elbo_terms(digits.validation.images, [0, HISTORY])
    limit = 11 * -np.mean(new.elbo)  # what the new model's loss is, and ten times that more
    bad = int(np.argmax(~(losses < limit))) + 1
    assert 3 < bad < 600
    good, before = plain(digits, bad - 2)
    assert (before < limit).all()
    return bad, losses[bad - 1], values(good.weights)


def plain(digits, updates):
    vae = small_vae()
    vae.compile(DIVERGING.optimizer())
    terminate = keras.callbacks.TerminateOnNaN()  # so that `fit` raises nothing
    fit = {"batch_size": 32, "steps_per_epoch": updates, "callbacks": [terminate], "verbose": 0}
    return vae, vae.fit(digits.train.images, **fit).updates["loss"]


@pytest.mark.slow
@pytest.mark.parametrize("evaluate_every", [7, 1, 100])
def test_a_diverging_run_stops_and_keeps_the_last_good_weights(
    digits, tmp_path, divergence, evaluate_every, monkeypatch
):
    monkeypatch.setattr(course, "SAVE_EVERY", 0.0)
    update, loss, weights = divergence
    recipe = dataclasses.replace(DIVERGING, evaluate_every=evaluate_every)
    for directory in (None, tmp_path / "run", tmp_path / "run"):
        with pytest.raises(DivergenceError, match=f"loss of update {update} is {loss:g}") as error:
            run(digits, directory, recipe)
        assert (error.value.update, error.value.loss) == (update, loss)
        assert values(error.value.vae.weights) == weights
        assert int(error.value.vae.optimizer.iterations) == update - 2
    kept = keras.saving.load_model(tmp_path / "run" / "last_good.keras")
    assert values(kept.weights) == weights
    assert sorted(contents(tmp_path / "run")) == [".lock", "last_good.keras", "state.npz"]


# What follows runs with `make test-faults` only.


@pytest.mark.faults
@pytest.mark.parametrize(("updates", "warmup"), [(100, 0.05), (1, 0.0)])
def test_a_rate_of_1000_is_stopped_at_once(digits, updates, warmup):
    recipe = vae_tf.Recipe(updates=updates, batch_size=32, learning_rate=1e3, warmup=warmup)
    with pytest.raises(DivergenceError, match="Choose a smaller learning rate") as error:
        run(digits, recipe=recipe)
    assert error.value.update <= 10
    losses = error.value.vae.evaluate(digits.train.images, verbose=0, return_dict=True)
    assert losses["loss"] < 196 * np.log(2) * 1.1


@pytest.mark.faults
def test_last_good_weights_are_averages_where_the_recipe_averages(digits, divergence, monkeypatch):
    monkeypatch.setattr(course, "SAVE_EVERY", 0.0)
    found = []
    for evaluate_every in (1, 100):
        recipe = dataclasses.replace(DIVERGING, averaging=0.5, evaluate_every=evaluate_every)
        with pytest.raises(DivergenceError) as error:
            run(digits, recipe=recipe)
        assert error.value.update == divergence[0]  # averages do not enter the updates
        found.append(values(error.value.vae.weights))
    assert found[0] == found[1] != divergence[2]


def script(code, *arguments):
    """Runs Python code in a process of its own; returns what it printed, as JSON."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=HERE)
    return json.loads(told.stdout.splitlines()[-1])


HASH = """
import hashlib, json, sys
import tensorflow as tf
threads = int(sys.argv[1])
if threads:
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
import vae_tf
from patterns import patterns
digits, found = patterns(), []
for recipe in (vae_tf.Recipe.writeup(), vae_tf.Recipe.full()):
    recipe = vae_tf.training.dataclasses.replace(recipe, updates=500)
    vae, history = vae_tf.train(digits, recipe, seed=1, verbose=0)
    series = [history.kl, history.log_likelihood, *history.training.values()]
    series += [variable.numpy() for variable in (*vae.variables, *vae.optimizer.variables)]
    found.append(hashlib.sha256(b"".join(array.tobytes() for array in series)).hexdigest())
print(json.dumps(found))
"""


@pytest.mark.faults
def test_weights_are_the_same_in_any_process_with_as_many_threads(record_property):
    default, again, one, one_again = (script(HASH, threads) for threads in (0, 0, 1, 1))
    assert (default, one) == (again, one_again)
    assert len(set(default)) == 2
    # Products of batches of 256 are cut by the number of threads and the processor's caches, on
    # some processors so that sums round otherwise. Those of batches of 32 are too small for that.
    assert default[0] == one[0]
    record_property("count", "same weights in 4 processes: twice with 1 thread, twice the default")


MEMORY = """
import gc, json, resource, sys
import keras, vae_tf
from killed import RECIPE, small_vae
from patterns import patterns
digits, pages = patterns(), {}

def train(number):
    vae_tf.train(digits, RECIPE, small_vae(number), verbose=0)

def fit(number):
    # Numbers that are the same by chance would make another graph, and so another program.
    rate = keras.optimizers.schedules.CosineDecay(0.0117 / number, 100 + number, 0.00123 * number)
    vae = vae_tf.VAE(seed=number)
    vae.compile(keras.optimizers.AdamW(rate, 0.00417 * number, 1 - 0.0319 / number))
    vae.fit(digits.train.images, verbose=0)
    vae.evaluate(digits.train.images, verbose=0)

for number in range(1, int(sys.argv[2]) + 1):
    globals()[sys.argv[1]](number)
    gc.collect()  # a model is a cycle, which Python frees when it comes round to it
    with open("/proc/self/statm") as file:
        pages[number] = int(file.read().split()[1])
print(json.dumps({seed: count * resource.getpagesize() / 2**20 for seed, count in pages.items()}))
"""


@pytest.mark.faults
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_a_hundred_trainings_do_not_fill_memory(record_property):
    megabytes = script(MEMORY, "train", "100")
    growth = megabytes["100"] - megabytes["10"]
    record_property("count", f"100 trainings: {growth:.1f} MB more after 100 than after 10")
    assert growth < 50


@pytest.mark.faults
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_a_sweep_over_50_optimizers_does_not_fill_memory(record_property):
    megabytes = script(MEMORY, "fit", "60")
    growth = (megabytes["60"] - megabytes["10"]) / 50
    record_property("count", f"50 optimizers: {growth:.2f} MB more after each")
    assert growth < 1


@pytest.mark.faults
def test_a_notebook_run_twice_at_once_writes_whole_figures(tmp_path, record_property):
    folders = {"VAE_TF_FIGURES": str(tmp_path / "figures"), "VAE_TF_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, HERE.parent / "notebooks" / "run.py", "03"]
    runners = [subprocess.Popen(command, env=os.environ | folders) for _ in range(2)]
    assert [runner.wait() for runner in runners] == [0, 0]
    (results,) = tmp_path.glob("figures/**/results.json")
    assert json.loads(results.read_text())
    pictures = sorted(results.parent.glob("*.png"))
    for picture in pictures:
        assert plt.imread(picture).size > 10**5
        assert picture.with_suffix(".pdf").read_bytes().rstrip().endswith(b"%%EOF")
    names = {path.name for path in results.parent.iterdir()}
    assert len(names) == 2 * len(pictures) + 2 == 6  # and results.json, and its lock
    record_property("count", "notebook 03, twice at once: figures and results.json are whole")
