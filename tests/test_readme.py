"""The README is short, its code runs, its numbers are the published ones, its files exist."""

import ast
import importlib.util
import io
import itertools
import re
import tokenize
from pathlib import Path

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats

import vae_tf
from vae_tf.analysis import results

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PUBLISHED = results.read(ROOT / "figures")
PAGES = ["README.md", "docs/reliability.md", "docs/results.md", "benchmarks/README.md"]
PAGES += ["vae_tf/engine/README.md", "docs/exports.md", "docs/sweeps.md", "docs/scaling.md"]
CORE = ["model", "data", "training", "evaluation"]

ROWS = {  # of the table of results: the experiment that each is of
    "the writeup, run again": "writeup, run again, test",
    "`Recipe.writeup()`": "Recipe.writeup(), test",
    "`Recipe.full()`": "Recipe.full(), test",
    "mixture of 500 Bernoullis, exact": "mixture of 500, test",
}


def shown(value, error=None):
    """Returns a number in nats as the README shows it."""
    return f"{value:.2f}".replace("-", "−") + (f" ± {error:.2f}" if error else "")


def cells(line):
    return [cell.strip() for cell in line.strip("|\n").split("|")]


def test_it_is_short():
    assert len(README.splitlines()) <= 100
    assert len(README.encode()) <= 6_000


@pytest.mark.parametrize("name", CORE)
def test_line_counts_are_those_of_the_files(name):
    lines = len((ROOT / "vae_tf" / f"{name}.py").read_text().splitlines())
    assert f"| [`{name}.py`](vae_tf/{name}.py) | {lines} |" in README


def minutes(name, of_code):
    """Returns how long a module takes to read: 200 words and ten lines of code a minute."""
    text = (ROOT / "vae_tf" / f"{name}.py").read_text()
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    documented = [node for node in nodes if ast.get_docstring(node)]
    prose = [ast.get_docstring(node) for node in documented]
    held = {line for node in documented for line in _lines(node.body[0])}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            prose.append(token.string)
            held |= {token.start[0]} if not token.line[: token.start[1]].strip() else set()
    lines = enumerate(text.splitlines(), start=1)
    code = sum(bool(line.strip()) and number not in held for number, line in lines)
    return code / 10 if of_code else sum(len(each.split()) for each in prose) / 200


def _lines(node):
    return range(node.lineno, node.end_lineno + 1)


def test_half_an_hour_is_true():
    assert "take half an hour; the code of those three takes 35 minutes more" in README
    first = minutes("model", of_code=True) + sum(minutes(name, of_code=False) for name in CORE)
    then = sum(minutes(name, of_code=True) for name in CORE[1:])
    assert first <= 30
    assert 30 < then <= 35


@pytest.mark.parametrize(("row", "experiment"), ROWS.items(), ids=ROWS)
def test_the_table_shows_the_published_numbers(row, experiment):
    (line,) = [line for line in README.splitlines() if cells(line)[0] == row]
    entry = PUBLISHED[experiment]
    assert entry["data"] == "MNIST"
    assert entry["num_images"] == 9_000
    names = ["elbo", "marginal_log_likelihood"] if "elbo" in entry else [None, "log_likelihood"]
    bounds = [shown(*entry[name].values()) if name else "" for name in names]
    assert cells(line)[1:] == [f"{entry['training']['digits']:,}", *bounds]


def test_the_text_shows_the_published_numbers():
    audit = PUBLISHED["writeup audit, validation"]
    printed, *valid = (
        shown(each["mean"])
        for each in (audit["printed"], audit["decoded"]["elbo"], audit["declared"]["elbo"])
    )
    text = " ".join(line for line in README.splitlines() if not line.startswith("|"))
    # The first two are the writeup's own: what its last cell printed.
    assert re.findall(r"−\d+\.\d+", text) == ["−32.43", "−32.83", printed, *valid]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Everything that the README's Python makes, run from first to last line on small data."""
    from patterns import patterns

    recipe = vae_tf.Recipe(updates=2, batch_size=32, learning_rate=1e-3, evaluate_every=1)
    short = dict.fromkeys(["updates", "evaluate_every"], 2)
    init, names = vae_tf.Recipe.__init__, {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("readme"))
        patch.setattr(vae_tf, "load_mnist", patterns)
        patch.setattr(vae_tf.Recipe, "__init__", lambda self, **its: init(self, **its | short))
        for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
            exec(block, names)
            if "digits" in names and "first" not in names:
                names["first"] = names["vae"]
        names["loaded"] = vae_tf.load_model("vae.keras")
    return names | {"recipe": recipe}


def test_ten_lines_do_what_they_say(made):
    assert made["images"].shape == (100, 14, 14)
    assert set(np.unique(made["images"])) == {0, 1}
    for saved, kept in zip(made["loaded"].get_weights(), made["first"].get_weights(), strict=True):
        np.testing.assert_array_equal(saved, kept)
    assert made["best"].count_params() == 53_716


def test_another_objective(made, digits):
    vae = made["FreeBits"]()
    images = digits.test.images
    losses, terms = vae.loss_per_image(images, [0, 0], 0.5)
    kl = np.maximum(terms.kl, 3.0)
    assert (kl == 3.0).any()
    np.testing.assert_allclose(losses, 0.5 * kl - np.array(terms.log_likelihood), rtol=1e-6)


def test_a_changed_model_can_be_loaded_once_its_class_is_registered(made, tmp_path):
    vae = made["FreeBits"](seed=3)
    vae.save(tmp_path / "vae.keras")
    with pytest.raises(ValueError, match="registered"):
        vae_tf.load_model(tmp_path / "vae.keras")
    decorate = keras.saving.register_keras_serializable()
    try:
        registered = decorate(type("FreeBits", (made["FreeBits"],), {}))
        vae = registered(seed=3)
        vae.save(tmp_path / "vae.keras")
        loaded = vae_tf.load_model(tmp_path / "vae.keras")
    finally:
        keras.saving.get_custom_objects().pop("Custom>FreeBits", None)
    assert type(loaded) is registered
    for saved, kept in zip(loaded.get_weights(), vae.get_weights(), strict=True):
        np.testing.assert_array_equal(saved, kept)


def test_another_likelihood(made):
    grey = np.random.default_rng(0).random((3, 14, 14)).astype(np.float32)
    vae = made["Grey"]()
    latents = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
    mean = scipy.special.expit(vae.decode(latents).numpy().astype(np.float64))
    log_norm = np.log(2 * np.arctanh(1 - 2 * mean) / (1 - 2 * mean))  # of C(λ), λ ≠ ½
    bits = scipy.special.xlogy(grey, mean) + scipy.special.xlogy(1 - grey, 1 - mean)
    found = vae.likelihood(latents).log_prob(grey)
    np.testing.assert_allclose(found, (bits + log_norm).sum(axis=(1, 2)), atol=0.01)
    assert len(np.unique(vae.sample(2))) > 100


def test_deeper_networks():
    widths = [196, 200, 100, 32], [16, 100, 200, 196]
    weights = sum((a + 1) * b for each in widths for a, b in itertools.pairwise(each))
    assert vae_tf.VAE(16, (200, 100)).count_params() == weights


def test_another_prior(made):
    vae = made["TwoClusters"]()
    latents = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    each = [scipy.stats.norm(centre).logpdf(latents).sum(axis=1) for centre in (-2, 2)]
    expected = scipy.special.logsumexp(each, axis=0) - np.log(2)
    np.testing.assert_allclose(vae.prior().log_prob(latents), expected, rtol=1e-5)


def test_own_images(made):
    shirts = made["shirts"]
    assert (shirts.name, len(shirts.train), len(shirts.validation)) == ("shirts", 80, 10)
    assert type(made["vae"]) is made["FreeBits"]
    assert len(made["history"].kl) == 2


@pytest.mark.slow
@pytest.mark.parametrize("change", ["FreeBits", "Grey", "deeper", "TwoClusters"])
def test_training_bounds_and_samples_follow(made, digits, change):
    vae = vae_tf.VAE(16, (200, 100)) if change == "deeper" else made[change]()
    if change == "Grey":
        grey = np.random.default_rng(0).random((200, 14, 14)).astype(np.float32)
        digits = vae_tf.from_arrays(grey, name="grey")
    before = vae.get_weights()
    vae, history = vae_tf.train(digits, made["recipe"], vae, verbose=0)
    assert len(history.kl) == made["recipe"].updates
    assert all((a != b).any() for a, b in zip(before, vae.get_weights(), strict=True))
    images = digits.test.images[:10]
    found = vae_tf.evaluate(vae, images, num_samples=50)
    assert found.marginal_log_likelihood.mean() > found.elbo.mean()
    assert vae.sample(3).shape == vae.reconstruct(images[:3]).shape == (3, 14, 14)


@pytest.fixture(scope="module")
def script():
    """The script that writes the pages."""
    place = ROOT / "scripts" / "make_results_page.py"
    spec = importlib.util.spec_from_file_location("make_results_page", place)
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module


def test_the_pages_are_those_that_make_results_page_writes(script):
    for path, text in script.pages().items():
        assert (ROOT / path).read_text() == text, f"{path} is out of date: run make results-page"


def test_places_are_filled_from_the_numbers(script):
    bound = {"mean": -33.734, "standard_error": 0.104}
    numbers = {"one, test": {"elbo": bound, "updates": 5947, "each": [{"median": 1234.5}]}}
    text = script.filled(
        "a {{ one, test: updates; elbo }} b {{ one, test / each / 0: median }}", numbers
    )
    assert text == "a 5,947 | −33.73 ± 0.10 b 1,234.50"
    for wrong in ("{{ two: elbo }}", "{{ one, test: kl }}"):
        with pytest.raises(KeyError):
            script.filled(wrong, numbers)


def test_every_published_bound_on_test_digits_is_on_the_page():
    page = (ROOT / "docs" / "results.md").read_text()
    for name, entry in PUBLISHED.items():
        assert entry["data"].startswith("MNIST"), name
        for key in ("elbo", "marginal_log_likelihood", "log_likelihood"):
            if name.endswith(", test") and key in entry and not name.startswith("uniform"):
                assert shown(*entry[key].values()) in page, f"{name}: {key}"


LINKS = [
    (page, target)
    for page in PAGES
    for target in sorted(
        set(re.findall(r"\]\((?!http|#)([^)]+)\)", (ROOT / page).read_text()))
        if (ROOT / page).exists()
        else []
    )
]


@pytest.mark.parametrize(("page", "target"), LINKS)
def test_links_lead_somewhere(page, target):
    assert ((ROOT / page).parent / target.split("#")[0]).exists()


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page):
    targets = set(re.findall(r"(?:`|^)make ([a-z-]+)", (ROOT / page).read_text(), re.MULTILINE))
    known = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets <= known
