"""The benchmark's own contenders train, the code before is never this code, files come whole."""

import functools
import importlib
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Imports a module of the benchmark; afterwards none of them is left."""
    for path in FOLDER.glob("*.py"):  # other folders have a `run` as well
        monkeypatch.delitem(sys.modules, path.stem, raising=False)
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
    contenders = report.with_ratios(setting)["contenders"]
    assert contenders["before"]["ours_times_as_fast"] == {"median": 1.0, "min": 0.5, "max": 2.0}
    (target,) = report._ratio_targets(contenders, {})
    assert (target["measured"], target["met"]) == (1.0, True)


SIZE = {"hidden_units": 8, "side": 28, "batch_size": 16}


@pytest.fixture
def growth(load, images, monkeypatch):
    """The benchmark of growing sizes, all of it in this process, at one small size."""
    growth, races, worker = load("growth"), load("races"), load("worker")

    class Here:
        def __init__(self, name, before=None):
            self.server = worker.Server()

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def tell(self, command, *arguments):
            if command == "load":
                return None, images, None, "nothing in particular", False
            if arguments and arguments[0] == "torch_memory":
                return "torch is not installed"
            return getattr(self.server, command)(*arguments)

    for module in (growth, races):
        monkeypatch.setattr(module, "Contender", Here)
    monkeypatch.setattr(races, "PAUSE", 0)
    monkeypatch.setattr(growth, "DIGITS", 8 * len(images))
    monkeypatch.setattr(growth, "QUICK_ROUNDS", 1)
    monkeypatch.setattr(growth, "COMMON", SIZE)
    monkeypatch.setattr(growth, "RANGES", {name: (value,) for name, value in SIZE.items()})
    network = {"side": 28, "hidden_units": (24,), "latent_dim": 8, "images": 64}
    monkeypatch.setattr(growth, "NETWORKS", (network,))
    return growth


def test_growth_comes_as_a_whole_file_and_a_picture(growth, tmp_path, capsys):
    names = ["matmul", "torch_memory"]
    growth.main(["--quick", "--only", *names, "--output", str(tmp_path)])
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == ["growth.pdf", "growth.png", "results-growth.json"]
    results = json.loads((tmp_path / "results-growth.json").read_text())
    assert results["skipped"] == {"PyTorch, digits in memory": "torch is not installed"}
    (update,), (bound,) = results["updates"], results["bounds"]
    assert {name: update[name] for name in SIZE} == SIZE
    assert update["digits_mb"] == 0.1  # 64 images of 28×28 bytes
    assert list(update["contenders"]) == ["ours", "matmul"]
    for one in update["contenders"].values():
        assert 0 < one["microseconds_per_update"]["min"] <= one["microseconds_per_update"]["max"]
        assert one["peak_memory_mb"] > 0
    assert bound["images"] * bound["num_samples"] * 5_000 == 10_000 * 5_000
    for one in bound["contenders"].values():
        seconds, scaled = one["seconds"]["median"], one["seconds_for_all"]["median"]
        assert scaled == pytest.approx(5_000 * seconds, rel=0.05, abs=5)
    assert "a share, 5000 times" in bound["seconds_for_all_are"]
    assert results["slower_than_jax"] == []
    said = capsys.readouterr().out
    assert "width 8, 28×28 pixels, batch 16" in said
    assert "as fast as JAX at every size" not in said  # JAX was not measured


def test_every_size_grows_alone(load):
    growth = load("growth")
    sizes = growth.sizes(growth.RANGES)
    assert len(sizes) == 6 + 3 + 6 - 2  # all three pass through the common size
    for size in sizes:
        assert len(size.items() - growth.COMMON.items()) <= 1
        assert growth.DIGITS % size["batch_size"] == 0


def made_up(growth, jax):
    """Returns a summary of sizes where JAX takes `jax` times as long as ours."""
    times = {"ours": 1e-4, "jax_scan": jax * 1e-4, "torch_memory": 1e-3, "matmul": 5e-5}
    updates = [
        size
        | {
            "rounds": 3,
            "seconds": {name: [time, 1.1 * time, time] for name, time in times.items()},
            "memory": dict.fromkeys(times, 1e9),
        }
        for size in growth.sizes(growth.RANGES)
    ]
    counts = {"images": 1_000, "num_samples": 5_000, "all_images": 10_000, "all_samples": 5_000}
    seconds = {"bound_ours": [4.0], "bound_jax": [3.0], "bound_matmul": [2.0]}
    bound = growth.NETWORKS[0] | counts | {"seconds": seconds, "memory": dict.fromkeys(seconds, 1)}
    return growth.growth_report.summarize(updates, [bound])


def test_sizes_at_which_jax_is_faster_are_said(load):
    growth = load("growth")
    results = made_up(growth, jax=1.2)
    assert results["slower_than_jax"] == ["evaluate, 196-128-8, 1,000 images × 5,000 samples"]
    assert results["times_as_fast_as_jax"]["width 2,048, 14×14 pixels, batch 128"]["median"] == 1.2
    assert results["bounds"][0]["contenders"]["bound_ours"]["seconds_for_all"]["median"] == 40
    text = "\n".join(growth.growth_report.as_text(results))
    assert "SLOWER than JAX: evaluate, 196-128-8" in text
    assert "0.75 × as fast" in text
    assert len(made_up(growth, jax=0.9)["slower_than_jax"]) == 14


def test_the_picture_of_growth_names_its_lines_apart(load):
    growth, picture = load("growth"), load("growth_picture")
    machine = {"cores_used": 2, "cpu": "a processor"}
    results = made_up(growth, jax=1.01)
    figure = picture.draw(results | {"common": growth.COMMON, "machine": machine, "skipped": {}})
    panels = figure.axes
    assert [len(panel.containers) for panel in panels] == [4, 4, 4]
    for panel, values in zip(panels, growth.RANGES.values(), strict=True):
        assert (panel.get_xscale(), panel.get_yscale()) == ("log", "log")
        assert [each.get_text() for each in panel.get_xticklabels()] == [f"{v:,}" for v in values]
    names = {text.get_text(): text.xy[1] for text in panels[-1].texts}
    assert set(names) >= {"vae_tf, fit", "JAX, epoch in one lax.scan", "matrix products alone"}
    heights = sorted(names.values())
    assert min(b - a for a, b in itertools.pairwise(heights)) >= 0.07
    picture.plt.close(figure)


def test_networks_may_have_several_layers(load):
    encoder, decoder = load("peers").layers(784, (200, 100), 50)
    assert encoder == [(784, 200), (200, 100), (100, 100)]
    assert decoder == [(50, 100), (100, 200), (200, 784)]


def test_jax_takes_other_sizes_and_computes_the_same_bounds(load, images, monkeypatch):
    lib = pytest.importorskip("jax")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    images = images.repeat(2, axis=1).repeat(2, axis=2)
    module = load("peers.jax_scan")
    peer = module.Peer(images, 16, 0, 24)
    epoch = functools.partial(module.epoch, batch_size=16)
    after, history = lib.eval_shape(epoch, peer.state, peer.images, peer.key)  # compiles nothing
    shapes = [layer[0].shape for layer in after[0]]
    assert shapes == [(784, 24), (24, 16), (8, 24), (24, 784)]
    assert [each.shape for each in history] == [(4,), (4,)]
    ours = load("peers.bound_ours").Peer(images, (24,), 8, 0)
    jax = load("peers.bound_jax").Peer(images, (24,), 8, 0)
    arrays = ours.vae.get_weights()
    weights = list(zip(arrays[::2], arrays[1::2], strict=True))
    jax.encoder, jax.decoder = weights[:2], weights[2:]
    assert ours.bound(400) == pytest.approx(jax.bound(400), abs=0.1)
    with pytest.raises(ValueError, match="whole chunks"):
        jax.bound(30)
