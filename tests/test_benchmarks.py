"""The benchmark's own contenders train, and the code before is never this code."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Imports a module of the benchmark; afterwards none of them is left."""
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module
    for name, module in list(sys.modules.items()):
        if FOLDER in Path(getattr(module, "__file__", None) or "/").parents:
            del sys.modules[name]


@pytest.mark.parametrize("name", ["ours", "keras_plain", "keras_jit"])
def test_contenders_train_and_tell_their_bound(load, images, name):
    peer = load(f"peers.{name}").Peer(images, 16, seed=0)
    before, ends = peer.elbo(images), []
    peer.train(10, lambda: ends.append(None) or len(ends) == 6)
    assert len(ends) == 6
    assert peer.updates_per_epoch == 4
    assert int(peer.vae.optimizer.iterations) == 24
    assert before + 10 < peer.elbo(images) < 0


def test_code_before_is_a_folder_or_a_commit(load, tmp_path):
    run = load("run")
    assert run.code_before(str(ROOT), tmp_path)[0] == ROOT
    with pytest.raises(SystemExit, match=r"a commit, or a folder.*received no-such-commit"):
        run.code_before("no-such-commit", tmp_path)
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True)
    if head.returncode:
        pytest.skip("not in a Git repository")
    folder, commit = run.code_before("HEAD", tmp_path)
    assert folder == tmp_path
    assert len(commit) >= 7
    assert head.stdout.startswith(commit)
    assert (tmp_path / "vae_tf" / "model.py").is_file()


def test_this_code_does_not_pass_for_the_code_before(load, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ImportError, match="the code before was to be measured; found"):
        load("peers.before")


def test_ratios_with_the_code_before_are_taken_round_by_round(load):
    report = load("report")
    seconds = {"ours": [1.0, 2.0, 4.0], "before": [2.0, 2.0, 2.0]}
    setting = {"seconds": seconds, "memory": dict.fromkeys(seconds, 1e6), "batch_size": 32}
    contenders = report._speed(setting)["contenders"]
    assert contenders["before"]["ours_times_as_fast"] == {"median": 1.0, "min": 0.5, "max": 2.0}
    (target,) = report._ratio_targets(contenders, {})
    assert (target["measured"], target["met"]) == (1.0, True)
