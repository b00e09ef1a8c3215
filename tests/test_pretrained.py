"""The weights that come with the package: what they are, what they give, and what makes them."""

import functools
import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import vae_tf
from vae_tf import pretrained
from vae_tf.analysis import classifier, results

ROOT = Path(__file__).parent.parent
PUBLISHED = results.read(ROOT / "figures")


@pytest.mark.parametrize("name", ["writeup", "full"])
def test_loads_offline_and_works(name, images):
    vae = vae_tf.load_pretrained(name)
    assert type(vae) is vae_tf.VAE
    assert vae.count_params() == 53_716
    assert vae.seed == pretrained.how_trained(name)["seed"]
    assert vae(images).shape == (64, 14, 14)
    before, made = vae.get_weights()[0], int(vae.optimizer.iterations)
    vae.train_step(images)  # it can be trained further
    assert (vae.get_weights()[0] != before).any()
    assert int(vae.optimizer.iterations) == made + 1


def test_samples_look_like_digits_not_noise():
    means = np.asarray(vae_tf.load_pretrained("full").sample(500, mean=True))
    assert 0.08 < means.mean() < 0.18  # MNIST has 0.127
    assert np.mean((means < 0.05) | (means > 0.95)) > 0.6


LITERATURE = ["literature", "literature_iwae"]


@pytest.mark.parametrize("name", LITERATURE)
def test_the_literatures_models_load_offline_and_work(name):
    vae = vae_tf.load_pretrained(name)
    assert vae.count_params() == 425_284
    assert (vae.latent_dim, vae.hidden_units, vae.image_shape) == (50, (200, 200), (28, 28))
    objective = {"literature": ("elbo", 1), "literature_iwae": ("iwae", 5)}[name]
    assert (vae.objective, vae.num_samples) == objective
    assert all((w == w.astype(np.float16)).all() for w in vae.get_weights())  # as they are stored
    levels = np.random.default_rng(0).random([20, 28, 28], np.float32)
    before = vae.get_weights()
    vae.train_step(levels)  # it can be trained further
    assert all((a != b).any() for a, b in zip(before, vae.get_weights(), strict=True))
    ink = np.asarray(vae_tf.load_pretrained(name).sample(300, mean=True)).mean()
    assert 0.08 < ink < 0.18  # MNIST has 0.13


def test_the_pixel_vae_loads_offline_and_works():
    vae = vae_tf.load_pretrained("pixel")
    assert type(vae) is vae_tf.PixelVAE
    assert vae.latent_dim == 8
    assert vae.count_params() == pretrained.how_trained("pixel")["weights"] <= 130_000
    drawn = np.asarray(vae.sample(300))
    assert 0.08 < drawn.mean() < 0.18  # MNIST has 0.127
    digits = vae_tf.load_mnist("sample").test.images[:50]
    assert np.mean(vae.elbo_terms(digits, [0, 0], num_samples=4).elbo) > -30
    before = vae.get_weights()
    for _ in range(2):  # it can be trained further; its first update has a KL weight of 0
        vae.train_step(digits)
    assert all((a != b).any() for a, b in zip(before, vae.get_weights(), strict=True))


def test_stored_draws_are_of_the_models_that_were_measured():
    draws = pretrained.stored_draws()
    assert list(draws) == list(pretrained.how_trained("pixel")["measured"])
    assert {each.shape for each in draws.values()} == {(100, 14, 14)}
    kinds = {"plain": "full", "both": "pixel"}
    for name, stored in kinds.items():
        # The script drew 9,000 of them. Noise depends on how many are drawn.
        drawn = np.asarray(vae_tf.load_pretrained(stored).sample(9_000, seed=8))[:100]
        assert np.mean(drawn == draws[name]) > 0.999  # other processors round otherwise


def test_weights_are_small():
    sizes = {file.name: file.stat().st_size for file in pretrained.FOLDER.iterdir()}

    def total(start):
        return sum(size for name, size in sizes.items() if name.startswith(start))

    assert total("literature") < 2_000_000
    assert total("pixel") < 1_000_000
    assert total("") - total("literature") - total("pixel") < 1_000_000


@pytest.mark.skipif(not os.environ.get("VAE_TF_MNIST_DIR"), reason="VAE_TF_MNIST_DIR is not set")
@pytest.mark.parametrize("name", LITERATURE)
def test_published_bounds_of_the_literatures_models_are_those_of_these_weights(name):
    digits = vae_tf.load_mnist(size=28, binarization="dynamic")
    images = np.concatenate([digits.validation.images, digits.test.images])
    found = vae_tf.evaluate(vae_tf.load_pretrained(name), images, num_samples=5)
    published = PUBLISHED[f"{name}, all 10,000 test digits"]
    assert published["num_images"] == len(images) == 10_000
    assert published["num_samples"] == 5_000
    measured = pretrained.how_trained(name)["measured"]
    assert {key: published[key] for key in measured} == measured
    assert found.kl.mean() == pytest.approx(published["kl"]["mean"], abs=0.001)
    assert found.elbo.mean() == pytest.approx(published["elbo"]["mean"], abs=0.05)


@pytest.mark.skipif(not os.environ.get("VAE_TF_MNIST_DIR"), reason="VAE_TF_MNIST_DIR is not set")
@pytest.mark.parametrize("name", ["writeup", "full"])
def test_published_bounds_are_those_of_these_weights(name):
    digits = vae_tf.load_mnist()
    found = vae_tf.evaluate(vae_tf.load_pretrained(name), digits.test.images, num_samples=20)
    published = PUBLISHED[f"Recipe.{name}(), test"]
    assert found.kl.mean() == pytest.approx(published["kl"]["mean"], abs=0.001)
    assert found.elbo.mean() == pytest.approx(published["elbo"]["mean"], abs=0.02)


# The scripts that train and store them, with a short recipe and in another folder.

SHORT = vae_tf.Recipe(
    updates=30, batch_size=32, learning_rate=5e-3, images_per_class=50, evaluate_every=10
)


@pytest.fixture
def script(tmp_path, monkeypatch):
    """`scripts/train_pretrained.py`, which stores into an empty folder, where the package reads."""
    spec = importlib.util.spec_from_file_location("script", ROOT / "scripts/train_pretrained.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert {*script.RECIPES, *LITERATURE, "pixel"} == set(pretrained.NAMES)
    monkeypatch.setattr(script, "RECIPES", {"writeup": SHORT})
    quick = functools.partial(script.train_classifier, epochs=1)
    monkeypatch.setattr(script, "train_classifier", quick)
    for module in (script, pretrained, classifier):
        monkeypatch.setattr(module, "FOLDER", tmp_path)
    return script


@pytest.mark.slow
def test_the_script_stores_the_model_that_it_trained(script, digits, tmp_path):
    script.train_vae(digits, "writeup")
    assert sorted(os.listdir(tmp_path)) == ["writeup.json", "writeup.keras"]
    stored = vae_tf.load_pretrained("writeup")
    vae, _ = vae_tf.train(digits, SHORT, seed=script.SEED, verbose=0)
    for found, expected in zip(stored.get_weights(), vae.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    facts = pretrained.how_trained("writeup")
    assert facts.pop("seconds") > 0
    assert facts == {"digits": 500, "updates": 30, "batch_size": 32, "seed": script.SEED}


@pytest.mark.slow  # `test_classifier.py` trains one
def test_the_script_stores_the_classifier_that_it_trained(script, digits, tmp_path):
    script.train_and_store_classifier(digits)
    stored, facts = classifier.load_classifier(), pretrained.how_trained("classifier")
    assert stored.temperature == facts["temperature"]
    assert facts["digits"] == 640
    right = stored(digits.test.images).classes == digits.test.labels
    assert facts["accuracy"]["test"] == pytest.approx(right.mean(), abs=1e-4)


@pytest.mark.parametrize(
    ("names", "is_sample", "says"),
    [([], True, "need all of MNIST"), (["writup"], False, "names are writeup.*received writup")],
)
def test_the_script_refuses_the_sample_and_unknown_names(
    script, digits, monkeypatch, names, is_sample, says
):
    data = vae_tf.data.Dataset(digits.train, digits.validation, digits.test, "x")
    monkeypatch.setattr(script, "load_mnist", lambda: digits if is_sample else data)
    monkeypatch.setattr(sys, "argv", ["train_pretrained.py", *names])
    with pytest.raises(SystemExit, match=says):
        script.main()
    assert not os.listdir(script.FOLDER)


@pytest.fixture
def literature(tmp_path, monkeypatch):
    """`scripts/train_literature.py` with short runs, which writes into an empty folder."""
    spec = importlib.util.spec_from_file_location("script", ROOT / "scripts/train_literature.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert list(script.MODELS) == LITERATURE
    short = vae_tf.Recipe(updates=30, batch_size=20, learning_rate=2e-3, evaluate_every=10)
    arguments = {name: each for name, (each, _) in script.MODELS.items()}
    small = script.ARCHITECTURE | {"latent_dim": 4, "hidden_units": (20, 20)}
    monkeypatch.setattr(script, "ARCHITECTURE", small)
    monkeypatch.setattr(script, "MODELS", {name: (arguments[name], short) for name in arguments})
    monkeypatch.setattr(script, "NUM_SAMPLES", 7)
    monkeypatch.setattr(script, "ROOT", tmp_path)
    (tmp_path / "figures").mkdir()
    for module in (script, pretrained):
        monkeypatch.setattr(module, "FOLDER", tmp_path)
    return script


@pytest.mark.slow
def test_the_literatures_script_stores_and_measures(literature, tmp_path):
    digits = vae_tf.load_mnist("sample", 28, "dynamic")
    literature.train_and_store(digits, "literature_iwae")
    stored = vae_tf.load_pretrained("literature_iwae")
    trained = vae_tf.load_model(tmp_path / "runs" / "literature_iwae" / "model.keras")
    assert (stored.objective, stored.num_samples) == ("iwae", 5)
    for found, expected in zip(stored.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    literature.measure(digits, "literature_iwae")
    entry = results.read(tmp_path / "figures")["literature_iwae, all 10,000 test digits"]
    assert (entry["num_images"], entry["num_samples"]) == (1_000, 7)  # of the sample
    assert entry["training"]["updates"] == 30
    assert pretrained.how_trained("literature_iwae")["measured"]["elbo"] == entry["elbo"]


def test_the_literatures_script_refuses_the_sample(literature, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["train_literature.py", "--measure", "literature"])
    digits = vae_tf.load_mnist("sample", 28, "dynamic")
    monkeypatch.setattr(literature, "load_mnist", lambda **_: digits)
    with pytest.raises(SystemExit, match="needs all of MNIST"):
        literature.main()
    assert os.listdir(tmp_path) == ["figures"]


@pytest.fixture
def pixel(tmp_path, monkeypatch):
    """`scripts/train_pixel.py` with short runs, which writes into an empty folder."""
    full = vae_tf.load_pretrained("full")
    spec = importlib.util.spec_from_file_location("script", ROOT / "scripts/train_pixel.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    short = vae_tf.Recipe(updates=20, batch_size=20, learning_rate=2e-3, evaluate_every=10)
    small = {"features": 4, "layers": 2, "context": 2, "code_units": 6}
    monkeypatch.setattr(
        script,
        "MODELS",
        {
            name: (kind, arguments | (small if kind is vae_tf.PixelVAE else {}), short)
            for name, (kind, arguments, _) in script.MODELS.items()
        },
    )
    monkeypatch.setattr(script, "NUM_SAMPLES", 5)
    quick = functools.partial(script.quality.measure, repeats=2)
    monkeypatch.setattr(script.quality, "measure", quick)
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(script, "load_pretrained", lambda name: {"full": full}[name])
    (tmp_path / "figures").mkdir()
    for module in (script, pretrained):
        monkeypatch.setattr(module, "FOLDER", tmp_path)
    return script


@pytest.mark.slow
def test_the_pixel_vaes_script_stores_and_measures(pixel, digits, tmp_path, monkeypatch):
    few = digits.validation  # a hundred, in place of the 60 test images
    digits = vae_tf.data.Dataset(digits.train, few, few, "sample", "patterns")
    for name in pixel.MODELS:
        pixel.train_model(digits, name)
    stored, (trained, facts) = vae_tf.load_pretrained("pixel"), pixel.trained("both")
    assert type(stored) is vae_tf.PixelVAE
    for found, expected in zip(stored.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert facts["updates"] == 20
    monkeypatch.setattr(
        pixel.quality, "fit_forest", lambda *_: pixel.quality.Forest(_Coin(), threshold=0.5)
    )
    pixel.measure(digits)
    entries = results.read(tmp_path / "figures")
    measured = pretrained.how_trained("pixel")["measured"]
    assert list(measured) == [
        "real digits", "plain", "mixture fitted afterwards", *pixel.MODELS
    ]  # fmt: skip
    for name, row in measured.items():
        assert entries[f"high quality, {name}"] == row
        assert row["num_draws"] == len(digits.test)
        assert ("kl" in row) == (name != "real digits")
    drawn = np.asarray(stored.sample(len(digits.test), seed=8))[:100]
    assert (pretrained.stored_draws()["both"] == drawn).all()
    assert (pretrained.stored_draws()["real digits"] == digits.test.images[:100]).all()


class _Coin:
    """Trees that are always as sure."""

    def predict_proba(self, rows):
        return np.full((len(rows), 2), 0.5)


def test_the_pixel_vaes_script_refuses_the_sample(pixel, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["train_pixel.py", "--measure"])
    monkeypatch.setattr(pixel, "load_mnist", lambda: vae_tf.load_mnist("sample"))
    with pytest.raises(SystemExit, match="needs all of MNIST"):
        pixel.main()
    assert os.listdir(tmp_path) == ["figures"]
