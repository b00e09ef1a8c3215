"""The benchmark's own contenders train, the code before is never this code, files come whole."""

import functools
import importlib
import itertools
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import vae_tf
from vae_tf.data import Dataset, Split
from vae_tf.evaluation import Estimate

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks"


def slow(*values):
    """A parameter that the tests take only where slow ones are asked for."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture
def load(monkeypatch):
    """Imports a module of the benchmark; afterwards none of them is left."""
    for path in FOLDER.glob("*.py"):  # other folders have a `run` as well
        monkeypatch.delitem(sys.modules, path.stem, raising=False)
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(f"{FOLDER}/"):
            del sys.modules[name]


@pytest.mark.parametrize("name", [slow("ours"), "keras_plain", slow("keras_jit")])
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


def contender_here(worker, images):
    """Returns what stands in for `Contender`: all in this process, and without PyTorch."""

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
            if command == "start" and "torch" in arguments[0]:
                return "torch is not installed"
            return getattr(self.server, command)(*arguments)

    return Here


SIZE = {"hidden_units": 8, "side": 28, "batch_size": 16}


@pytest.fixture
def growth(load, images, monkeypatch):
    """The benchmark of growing sizes, all of it in this process, at one small size."""
    growth, races, worker = load("growth"), load("races"), load("worker")
    for module in (growth, races):
        monkeypatch.setattr(module, "Contender", contender_here(worker, images))
    monkeypatch.setattr(races, "PAUSE", 0)
    monkeypatch.setattr(growth, "DIGITS", 8 * len(images))
    monkeypatch.setattr(growth, "QUICK_ROUNDS", 1)
    monkeypatch.setattr(growth, "COMMON", SIZE)
    monkeypatch.setattr(growth, "RANGES", {name: (value,) for name, value in SIZE.items()})
    network = {"side": 28, "hidden_units": (24,), "latent_dim": 8, "images": 64}
    monkeypatch.setattr(growth, "NETWORKS", (network,))
    return growth


@pytest.mark.slow
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


@pytest.mark.slow
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


SMALL = {"hidden_units": (24, 16), "latent_dim": 6}
LIBRARIES = [slow("jax"), "torch"]  # JAX compiles each of its programs for seconds


@pytest.fixture
def literature(load, monkeypatch):
    """Loads the literature's peers, of a small network."""
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr(load("peers"), "LITERATURE", SMALL)
    return lambda name: load(f"peers.literature_{name}")


@pytest.fixture
def large(images):
    """Binary images: uint8 [64, 28, 28]."""
    return images.repeat(2, axis=1).repeat(2, axis=2)


def schedule_of(load, updates):
    return load("peers").Schedule(updates, batch_size=16, learning_rate=1e-2, warmup=0.25)


def some_weights(vae):
    """Returns weights with biases that are not 0, small enough for bounds from few draws."""
    rng = np.random.default_rng(0)
    arrays = vae.get_weights()
    return [each / 2 + rng.normal(0, 0.03, each.shape).astype(np.float32) for each in arrays]


def with_weights(module, name, peer, weights):
    """Has a peer hold these weights; returns its loss and gradients, a function."""
    if name == "jax":
        import jax

        peer.key = jax.random.key(0)
        peer.layers = list(zip(weights[::2], weights[1::2], strict=True))

        compiled = jax.jit(jax.value_and_grad(module.loss), static_argnums=3)

        def loss_and_gradients(images, noise, objective):
            loss, gradients = compiled(peer.layers, images, noise, objective)
            return float(loss), jax.tree.leaves(gradients)

    else:
        import torch

        torch.manual_seed(0)
        peer.model = module.VAE(*peer.shapes)
        parameters = list(peer.model.parameters())
        for parameter, array in zip(parameters, weights, strict=True):
            parameter.data = torch.from_numpy(array.T.copy())

        def loss_and_gradients(images, noise, objective):
            loss = peer.model.loss(torch.from_numpy(images), torch.from_numpy(noise), objective)
            gradients = torch.autograd.grad(loss, parameters)
            return loss.item(), [each.numpy().T for each in gradients]

    return loss_and_gradients


@pytest.mark.parametrize("name", LIBRARIES)
def test_peers_have_the_loss_gradients_and_bounds_of_equal_weights(load, literature, large, name):
    pytest.importorskip(name)
    module = literature(name)
    peer = module.Peer(large.astype(np.float32), schedule_of(load, 8))
    vae = vae_tf.VAE(**SMALL, image_shape=(28, 28))
    vae.set_weights(some_weights(vae))
    loss_and_gradients = with_weights(module, name, peer, vae.get_weights())
    for mine, given in zip(peer.weights(), vae.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, given)
    seed = [3, 5]
    for vae.objective, vae.num_samples in (("elbo", 1), ("elbo", 4), ("iwae", 5)):
        posterior = vae.posterior(large).distribution
        latents = vae.posterior(large).sample(vae.num_samples, seed=seed)
        noise = ((latents - posterior.loc) / posterior.scale).numpy()
        with tf.GradientTape() as tape:
            expected = tf.reduce_mean(vae.loss_per_image(large, seed, 1.0)[0])
        flat = large.reshape(64, -1).astype(np.float32)
        loss, gradients = loss_and_gradients(flat, noise, vae.objective)
        assert loss == pytest.approx(float(expected), rel=1e-5)
        expected = tape.gradient(expected, vae.trainable_variables)
        for mine, given in zip(gradients, expected, strict=True):
            np.testing.assert_allclose(mine, given, rtol=1e-3, atol=1e-4)
    own = peer.bounds(large, 400)
    found = Estimate.of(own - vae_tf.evaluate(vae, large, 400).marginal_log_likelihood)
    assert found.standard_error < 0.1  # the bound itself lies below -500 nats
    assert abs(found.mean) < 4 * found.standard_error


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_peers_follow_the_recipe_to_the_same_weights(load, literature, name):
    lib = pytest.importorskip(name)
    module, schedule = literature(name), schedule_of(load, 12)
    gradients = np.random.default_rng(0).normal(size=(12, 40)).astype(np.float32)
    keras_optimizer = vae_tf.Recipe(**schedule._asdict()).optimizer()
    expected = tf.Variable(tf.ones(40))
    if name == "jax":
        state = (lib.numpy.ones(40), lib.numpy.zeros(40), lib.numpy.zeros(40))
    else:
        mine = lib.nn.Parameter(lib.ones(40))
        adam, rates = module.optimizer([mine], schedule)
    for number, gradient in enumerate(gradients):
        keras_optimizer.apply([gradient], [expected])
        if name == "jax":
            mine, *_ = state = module.adam(state, gradient, number, module.rate(schedule, number))
        else:
            mine.grad = lib.from_numpy(gradient)
            adam.step()
            rates.step()
        found = np.asarray(mine if name == "jax" else mine.detach())
        np.testing.assert_allclose(found, expected, rtol=2e-6)
    assert np.abs(found - 1).max() > 0.01


@pytest.mark.parametrize("name", LIBRARIES)
def test_peers_train_on_grey_levels(load, literature, large, name):
    pytest.importorskip(name)
    levels = np.where(large, 0.9, 0.1).astype(np.float32)
    peer = literature(name).Peer(levels, schedule_of(load, 60))
    ends = []
    for objective, draws in (("elbo", 1), ("iwae", 3)):
        for seed in (0, 0, 1):
            peer.train(objective, draws, seed)
            ends.append(peer.weights()[0])
        assert np.array_equal(ends[-3], ends[-2])
        assert not np.array_equal(ends[-2], ends[-1])
        # A fair coin for every pixel would give -543.
        assert peer.bounds(large, 20).mean() > -480


def test_jax_draws_pixels_of_their_grey_levels(literature):
    jax = pytest.importorskip("jax")
    levels = np.float32([0, 0.25, 0.9, 1])
    drawn = literature("jax").drawn(np.tile(levels, (40_000, 1)), jax.random.key(0))
    assert set(np.unique(drawn)) == {0, 1}
    np.testing.assert_allclose(drawn.mean(axis=0), levels, atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("ours_trains", [False, True])
def test_trainings_beside_peers_come_as_a_whole_file(
    load, literature, large, monkeypatch, tmp_path, capsys, ours_trains
):
    ours, peers = literature("ours"), load("literature_peers")

    class Untrained(ours.Peer):
        def train(self, objective, draws, seed):
            self.vae = vae_tf.VAE(**SMALL, image_shape=(28, 28), seed=seed)

        def bounds(self, images, num_samples):
            return vae_tf.evaluate(self.vae, images, num_samples, 99).marginal_log_likelihood

    stand_in = types.SimpleNamespace(Peer=Untrained)
    monkeypatch.setitem(sys.modules, "peers.literature_jax", stand_in)
    if not ours_trains:
        monkeypatch.setattr(ours.Peer, "train", Untrained.train)
    levels = Split(large.astype(np.float32))
    digits = Dataset(levels, Split(large), Split(large), "arrays", "patterns", "dynamic")
    monkeypatch.setattr(vae_tf, "load_mnist", lambda **_: digits)
    monkeypatch.setattr(peers, "Contender", contender_here(load("worker"), large))
    monkeypatch.setattr(peers, "QUICK_UPDATES", 20)
    monkeypatch.setattr(peers, "QUICK_SEEDS", {"elbo": 3, "iwae": 2})
    peers.main(["--quick", "--output", str(tmp_path)])
    (file,) = tmp_path.iterdir()
    results = json.loads(file.read_text())
    assert file.name == "results-literature.json"
    assert results["skipped"] == {"PyTorch": "torch is not installed"}
    assert results["schedule"]["updates"] == 20
    assert (results["bounded_digits"], results["num_samples"]) == (64, 40)
    rows = results["bounds"]
    assert [len(row["seeds"]) for row in rows] == [3, 3, 2, 2]
    found = [(row["objective"], row["draws"], row["peer"]) for row in rows]
    assert found == [
        ("elbo", 1, "vae_tf"),
        ("elbo", 1, "JAX"),
        ("iwae", 5, "vae_tf"),
        ("iwae", 5, "JAX"),
    ]
    for mine, theirs in (rows[:2], rows[2:]):
        bounds = [each["mean"] for each in theirs["bound_of_each_seed"]]
        assert theirs["mean"] == pytest.approx(np.mean(bounds), abs=1e-3)
        difference = theirs["peer_minus_ours"]["mean"]
        assert difference == pytest.approx(theirs["mean"] - mine["mean"], abs=1e-3)
        assert theirs["seeds"] == mine["seeds"]
        assert 0 < theirs["own_code_minus_evaluate"]["standard_error"] < 1
    assert "peer − ours" in capsys.readouterr().out


def made_up_trainings(peer, of_seeds, own_code=0.0):
    """Returns trainings of which digits that differ much have these mean bounds."""
    digits = np.linspace(-50, 50, 200)
    draws = np.random.default_rng(0).normal(0, 0.1, 200)
    return [
        {
            "peer": peer,
            "objective": "elbo",
            "draws": 1,
            "seed": seed,
            "bounds": digits + mean + own_code + draws - draws.mean(),
            "by_ours": digits + mean,
            "seconds": 1.0,
        }
        for seed, mean in enumerate(of_seeds)
    ]


def test_what_seeds_and_draws_do_not_explain_is_said(load):
    report = load("literature_report")
    ours = made_up_trainings("literature_ours", [-96.0, -96.2, -95.8, -96.1])
    near = made_up_trainings("literature_jax", [-95.9, -96.3, -96.1, -96.0])
    far = made_up_trainings("literature_torch", [-95.0, -95.2, -95.1, -94.9], own_code=0.1)
    results = report.summarize(ours + near + far, "literature_ours")
    assert results["unexplained"] == [
        "elbo, PyTorch: peer minus ours",
        "elbo, PyTorch: own code minus evaluate",
    ]
    mine, jax, torch = results["bounds"]
    assert mine["mean"] == pytest.approx(-96.025)
    assert jax["peer_minus_ours"]["mean"] == pytest.approx(-0.05)
    low, high = torch["peer_minus_ours"]["interval"]
    assert low < 1.075 < high  # with the 0.1 that its own code adds
    assert high - low == pytest.approx(2 * 2.447 * 0.1077, rel=0.01)  # t with 6 degrees of freedom
    counts = {"bounded_digits": 200, "num_samples": 500, "schedule": {"updates": 8}}
    text = "\n".join(report.as_text(results | counts))
    assert "NOT EXPLAINED: elbo, PyTorch: peer minus ours" in text
    results = report.summarize(ours + near, "literature_ours")
    assert "All differences are such as" in "\n".join(report.as_text(results | counts))


def test_three_programs_were_compared_and_their_differences_are_explained():
    results = json.loads((FOLDER / "results-literature.json").read_text())
    assert not results["quick"]
    assert (results["dataset"], results["schedule"]["updates"]) == (
        "MNIST 28×28, dynamically binarized",
        12_000,
    )
    peers = [(row["objective"], row["peer"]) for row in results["bounds"]]
    programs = ("vae_tf", "JAX", "PyTorch")
    assert peers == [(objective, name) for objective in ("elbo", "iwae") for name in programs]
    said = "None was." in (FOLDER / "README.md").read_text()
    assert said == (results["unexplained"] == [])


def test_the_check_of_a_gpu_stops_without_one_and_writes_nothing(load, monkeypatch, tmp_path):
    gpu, file, asked = load("gpu"), tmp_path / "results-gpu.json", []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])

    def part_here(name, device):
        asked.append((name, device))
        return gpu.where()

    monkeypatch.setattr(gpu, "part", part_here)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--output", str(file)])
    with pytest.raises(SystemExit, match=r"TensorFlow finds no GPU\. Nothing was written\."):
        gpu.main()
    assert asked == [("where", "GPU")]
    assert not file.exists()


@pytest.mark.slow
def test_the_check_of_a_gpu_in_processes_of_its_own_stops_as_well(tmp_path):
    file = tmp_path / "results-gpu.json"
    command = [sys.executable, FOLDER / "gpu.py", "--output", file]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
    found = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert found.returncode == 1
    assert "TensorFlow finds no GPU. Nothing was written." in found.stderr
    assert not file.exists()


def test_the_check_of_a_gpu_says_what_is_beyond_tolerance(load):
    gpu = load("gpu")
    stored = json.loads((FOLDER / "results-gpu.json").read_text())
    # README.md says why: after 4,000 updates its loss still falls steeply.
    missed = ["literature, elbo", "literature, bound"]
    assert [each.split(":")[0] for each in gpu.beyond_tolerance(stored)] == missed
    stored["differences, writeup"]["bound"] = -0.2
    stored["differences, full"] = {"elbo": float("nan"), "bound": 0.2}
    assert [each.split(":")[0] for each in gpu.beyond_tolerance(stored)] == [
        "writeup, bound",
        "full, elbo",
        *missed,
    ]


@pytest.mark.slow
def test_two_processes_are_timed_where_one_core_each_is_theirs(load, monkeypatch):
    replicas = load("replicas")
    monkeypatch.setattr(replicas.os, "sched_setaffinity", lambda *it: None)  # not of this process
    name = "14×14, 196-128-8"
    monkeypatch.setitem(replicas.WORK, name, ("VAE", {"hidden_units": 4}, 16, 2))
    assert 0 < replicas.measure(name, "one core", "0") < 1_000
