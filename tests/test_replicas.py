"""Training by several replicas, beside training in one process; and workers that are killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

PROGRAM = Path(__file__).with_name("replica.py")
BATCHES = 2 * 18  # two epochs of 273 images in batches of 16
# Sums in another order round differently; a gradient that is wrong by anything is off by 1e-3.
ROUNDING = 1e-5
UPDATES = 400  # of runs in which a worker is killed


def start(*arguments):
    command = [sys.executable, PROGRAM, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes, env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"})


def start_workers(folder, what):
    """Starts two workers on ports that are free."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return [start("worker", folder, index, *ports, what) for index in range(2)]


def result(process, timeout=240):
    try:
        output, errors = process.communicate(timeout=timeout)
    finally:
        process.kill()
    assert not process.returncode, errors[-4_000:]
    return json.loads(output.splitlines()[-1])


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    return result(start("mirrored", tmp_path_factory.mktemp("mirrored"), "one case"))


@pytest.fixture(scope="module")
def in_every_case(tmp_path_factory):
    return result(start("mirrored", tmp_path_factory.mktemp("mirrored"), "every case"))


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    return [result(each) for each in start_workers(folder, "compare")], folder


def assert_alike(found, case):
    assert found[case] < ROUNDING
    assert found[f"{case}, batches"] == BATCHES
    assert found[f"{case}, replicas"] == 2


def test_two_devices_reach_what_one_reaches_at_the_same_global_batch(mirrored):
    # Weights of images, grey levels, IWAE, the warm-up of the KL, a last batch of one image.
    assert_alike(mirrored, "together")
    first, last = mirrored["together, validation"]
    assert last < first


CASES = ["SGD", "weights of images", "grey levels", "IWAE", "Adam", "pipeline"]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_devices_reach_it_in_every_case(in_every_case, case):
    assert_alike(in_every_case, case)


def test_replicas_draw_other_noise_for_the_same_image(mirrored):
    assert mirrored["closest, VAE"] > 1e-4
    assert mirrored["closest, Laplace"] > 1e-4


@pytest.mark.slow
def test_a_posterior_of_ones_own_trains(in_every_case):
    first, last = in_every_case["Laplace, loss"]
    assert last < first


def test_xla_is_refused_by_name(mirrored):
    assert "jit_compile must be 'auto' or False" in mirrored["jit_compile"]


@pytest.mark.slow
def test_train_is_the_same_with_two_devices(in_every_case):
    assert in_every_case["train"] < 1e-4  # Adam, whose first updates enlarge what is rounded
    assert in_every_case["train, history"] < 1e-4
    assert in_every_case["train, bound"] < 1e-4


@pytest.mark.slow
def test_two_workers_reach_what_one_process_reaches(workers):
    for each in workers[0]:
        assert max(each["SGD"], each["pipeline"]) < ROUNDING
        assert each["SGD, batches"] == each["pipeline, batches"] == BATCHES
        assert max(each["train"], each["train, history"], each["train, bound"]) < 1e-4


@pytest.mark.slow
def test_the_first_worker_alone_writes_and_all_refuse_the_folder_of_another_run(workers):
    results, folder = workers
    files = ["history.csv", "model.keras", "state.npz"]
    assert sorted(path.name for path in (folder / "run").iterdir() if path.suffix) == files
    assert all(
        "holds another run: updates is 90 there and 80" in it["another run"] for it in results
    )


@pytest.mark.faults
def test_workers_with_other_images_are_told_before_they_train(tmp_path):
    first, second = (result(each) for each in start_workers(tmp_path, "other"))
    assert second["error"] == "ValueError"
    assert "all workers must train alike: SHA-256 of arrays is" in second["says"]
    assert first["error"] == "WorkerError"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return [result(each) for each in start_workers(folder, UPDATES)], folder


@pytest.mark.faults
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_stops_the_other_and_the_run_goes_on(tmp_path, victim, undisturbed):
    processes = start_workers(tmp_path, UPDATES)
    state = tmp_path / "run" / "state.npz"
    while not is_under_way(state):
        time.sleep(0.05)
        assert all(each.poll() is None for each in processes)
    os.kill(processes[victim].pid, signal.SIGKILL)
    killed = time.monotonic()
    _, errors = processes[1 - victim].communicate(timeout=60)
    assert time.monotonic() - killed < 60
    assert processes[1 - victim].returncode
    assert "WorkerError: another worker of the strategy stopped" in errors
    assert not state.with_name("model.keras").exists()
    resumed = [result(each) for each in start_workers(tmp_path, UPDATES)]
    assert [it["train, sum"] for it in resumed] == [it["train, sum"] for it in undisturbed[0]]
    histories = [folder / "run" / "history.csv" for folder in (tmp_path, undisturbed[1])]
    assert histories[0].read_bytes() == histories[1].read_bytes()


def is_under_way(state):
    """Tells whether a state was saved after some updates."""
    try:
        with np.load(state) as arrays:
            return len(arrays["kl"]) > 0
    except (OSError, ValueError):
        return False
