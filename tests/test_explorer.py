"""The latent explorer: what Python writes, and every control of the page in a real browser.

The browser tests need Chromium, its driver and the package selenium, and are skipped without.
"""

import base64
import contextlib
import dataclasses
import json
import math
import re
import shutil
import socket
import struct
import time
import zlib

import keras
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from vae_tf import explorer, from_arrays
from vae_tf.data import Dataset, Split
from vae_tf.explorer import export_explorer
from vae_tf.model import VAE
from vae_tf.pixel_vae import MixtureVAE, PixelVAE

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def make_vae(kind=VAE, spread=0.25, **config):
    """A VAE with random weights, larger than a fresh model's, so that its codes differ."""
    vae = kind(**config)
    rng = np.random.default_rng(7)
    weights = vae.get_weights()
    vae.set_weights([w + rng.normal(0, spread, w.shape) if w.ndim else w for w in weights])
    return vae


# A PixelVAE whose page takes a thirtieth of the arithmetic that the default's takes.
FEW = {"features": 6, "layers": 3, "context": 3, "code_units": 10, "hidden_units": 20}
FEW |= {"components": 6}


def rounded(vae):
    """A PixelVAE of the weights that its page has: those of 16 bits."""
    other = PixelVAE.from_config(vae.get_config())
    other.set_weights([w.astype("f2").astype("f4") if w.ndim else w for w in vae.get_weights()])
    return other


def make_digits(count=300, source="cache", classes=10):
    """Random strokes, a class each: 14x14, as in the real data, but of nothing."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, classes, count).astype(np.uint8)
    near = rng.random((count, 14, 14)) < 0.15
    images = (near | np.roll(near, 1, axis=2)).astype(np.uint8)
    few = Split(images[:1], labels[:1])
    name = "5,000-digit sample of MNIST" if source == "sample" else "MNIST"
    return Dataset(few, Split(images, labels), few, source, name)


def stored_in(file):
    """What Python stored in a page."""
    text = file.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="stored">(.*?)</script>', text, re.DOTALL)[1])


@pytest.fixture(scope="module")
def vae():
    return make_vae(seed=2)


@pytest.fixture(scope="module")
def digits():
    return make_digits()


@pytest.fixture(scope="module")
def file(vae, digits, tmp_path_factory):
    return export_explorer(vae, digits, tmp_path_factory.mktemp("explorer") / "explorer.html")


@pytest.fixture(scope="module")
def stored(file):
    return stored_in(file)


@pytest.fixture(scope="module")
def pixel_vae():
    return make_vae(PixelVAE, spread=0.5, seed=2, **FEW)


@pytest.fixture(scope="module")
def default_pixel_vae():
    return make_vae(PixelVAE, seed=2)


@pytest.fixture(scope="module")
def few_digits():
    return make_digits(40)


@pytest.fixture(scope="module")
def pixel_file(pixel_vae, few_digits, tmp_path_factory):
    path = tmp_path_factory.mktemp("explorer") / "pixel.html"
    return export_explorer(pixel_vae, few_digits, path)


# The file, without a browser. ---------------------------------------------------------------------


def test_file_is_small_however_many_digits_there_are(vae, tmp_path):
    digits = make_digits(explorer.MAP_IMAGES + 50)
    file = export_explorer(vae, digits, tmp_path / "page.html")
    assert file.stat().st_size < 600_000
    labels = digits.validation.labels[: explorer.MAP_IMAGES].tolist()
    assert f'"labels":{json.dumps(labels, separators=(",", ":"))}' in file.read_text("utf-8")


def test_file_names_nothing_outside_it(file):
    text = file.read_text(encoding="utf-8")
    assert not re.findall(r"https?:|[\"'(]//|@import|url\(|{{|\ssrc=|\sstyle=", text)
    assert re.findall(r'href="(.*?)"', text) == ["data:,"]


def test_policy_forbids_every_request(file):
    text = file.read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', text)[1]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives.pop("img-src") == "data:"
    for name in ("script-src", "style-src"):
        assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", directives.pop(name))
    assert directives == {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'"}


def test_stored_weights_digits_and_map_are_the_models(vae, digits, stored):
    weights = np.frombuffer(base64.b64decode(stored["weights"]), "<f4")
    arrays = vae.encoder.get_weights() + vae.decoder.get_weights()
    np.testing.assert_array_equal(weights, np.concatenate([array.ravel() for array in arrays]))
    bits = np.unpackbits(np.frombuffer(base64.b64decode(stored["images"]), np.uint8))
    np.testing.assert_array_equal(bits, digits.validation.images.ravel())
    assert stored["labels"] == digits.validation.labels.tolist()
    locs = vae.posterior(digits.validation.images).distribution.loc.numpy().astype(float)
    variances, vectors = np.linalg.eigh(np.cov(locs.T))  # ascending
    share = variances[::-1][:2] / variances.sum()
    np.testing.assert_allclose(stored["variances"], share, atol=1e-5)
    products = np.abs(np.array(stored["axes"]) @ vectors[:, ::-1][:, :2])  # signs are arbitrary
    np.testing.assert_allclose(products, np.eye(2), atol=1e-3)
    kl = sum(stored["klPerDimension"])
    exact = tfp.distributions.kl_divergence(vae.posterior(digits.validation.images), vae.prior())
    assert kl == pytest.approx(np.mean(exact), rel=1e-5)


def test_picks_are_the_first_four_of_each_class_row_by_row(digits, stored):
    labels = digits.validation.labels
    assert labels[stored["picks"]].tolist() == list(range(10)) * explorer.PICKS_PER_CLASS
    first = {int(label): np.flatnonzero(labels == label)[0] for label in range(10)}
    assert stored["picks"][:10] == [first[label] for label in range(10)]


def test_page_opens_with_what_the_model_redraws_best(vae, digits, stored):
    """The oracle goes through the picks one by one, and counts pixels."""
    picks, images, labels = stored["picks"], digits.validation.images, digits.validation.labels
    average = sum(int(images[number].sum()) for number in picks) / len(picks)
    errors = {}
    for number in picks:
        if images[number].sum() >= average:
            loc = vae.posterior(images[number][None]).mean()
            redrawn = vae.likelihood(loc).mean().numpy()[0] > 0.5
            errors[number] = int(np.sum(redrawn != images[number]))
    first, second = stored["opening"]
    assert len(set(errors.values())) > 5  # so that being the least says something
    assert errors[first] == min(errors.values())
    assert labels[second] != labels[first]
    others = [error for number, error in errors.items() if labels[number] != labels[first]]
    assert errors[second] == min(others)


def test_same_model_and_digits_give_the_same_bytes(vae, digits, file, tmp_path):
    again = export_explorer(vae, digits, str(tmp_path / "again.html"))
    assert again == tmp_path / "again.html"
    assert again.read_bytes() == file.read_bytes()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(vae, digits, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk is full")

    path = tmp_path / "page.html"
    path.write_text("old")
    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk is full"):
        export_explorer(vae, digits, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    export_explorer(vae, digits, path)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [path]


def test_page_of_pixels_in_turn_is_small_and_its_weights_are_the_models(
    default_pixel_vae, tmp_path
):
    pixel_vae = default_pixel_vae
    digits = make_digits(explorer.MAP_IMAGES)
    file = export_explorer(pixel_vae, digits, tmp_path / "page.html")
    assert file.stat().st_size < 600_000
    stored = stored_in(file)
    weights = np.frombuffer(base64.b64decode(stored["weights"]), "<f2")
    assert weights.size == pixel_vae.count_params()
    arrays = pixel_vae.encoder.get_weights() + pixel_vae.decoder.get_weights()
    for kernel, bias in zip(pixel_vae.kernels, pixel_vae.biases, strict=True):
        arrays += [kernel.numpy(), bias.numpy()]
    for name in ("prior_logits", "prior_loc", "prior_log_scale"):
        arrays.append(getattr(pixel_vae, name).numpy())
    exact = np.concatenate([array.ravel() for array in arrays])
    np.testing.assert_allclose(weights, exact, rtol=2**-11, atol=2**-25)


def test_same_pixel_vae_gives_the_same_bytes(pixel_vae, few_digits, pixel_file, tmp_path):
    again = export_explorer(pixel_vae, few_digits, tmp_path / "again.html")
    assert again.read_bytes() == pixel_file.read_bytes()


def test_rounding_to_16_bits_is_below_what_a_screen_shows(default_pixel_vae):
    """A screen has 255 steps from paper to ink."""
    codes = default_pixel_vae.prior().sample(50, seed=[1, 2])
    images = default_pixel_vae.likelihood(codes).sample(seed=[3, 4])
    exact, near = (
        tf.sigmoid(each.likelihood(codes)._logits(images)[1])
        for each in (default_pixel_vae, rounded(default_pixel_vae))
    )
    assert np.ptp(exact) > 0.5  # so that agreement says something
    assert np.abs(exact - near).max() < 1 / 255


def kl_by_integration(loc, scale, probs, locs, scales):
    """The KL of normal distributions [N] from a mixture of such [M], by Simpson's rule: [N]."""
    z = loc + scale * np.linspace(-8, 8, 4_001)[:, None]  # [Z, N]
    log_q = scipy.stats.norm.logpdf(z, loc, scale)
    each = scipy.stats.norm.logpdf(z[..., None], locs, scales)  # [Z, N, M]
    log_p = scipy.special.logsumexp(each, b=probs, axis=-1)
    return scipy.integrate.simpson(np.exp(log_q) * (log_q - log_p), z, axis=0)


@pytest.mark.parametrize("kind", [MixtureVAE, PixelVAE])
def test_kl_of_each_latent_is_from_its_own_prior(kind, few_digits, tmp_path):
    sizes = FEW if kind is PixelVAE else {}
    vae = make_vae(kind, **sizes | {"latent_dim": 2, "components": 3, "hidden_units": 8})
    stored = stored_in(export_explorer(vae, few_digits, tmp_path / "page.html"))
    probs = scipy.special.softmax(vae.prior_logits.numpy())
    locs, scales = vae.prior_loc.numpy(), np.exp(vae.prior_log_scale.numpy())
    posterior = vae.posterior(few_digits.validation.images).distribution
    for latent in range(2):
        loc, scale = (np.float64(each)[:, latent] for each in (posterior.loc, posterior.scale))
        exact = kl_by_integration(loc, scale, probs, locs[:, latent], scales[:, latent]).mean()
        # The page shows two decimals.
        assert stored["klPerDimension"][latent] == pytest.approx(exact, abs=0.005)


class Subclass(VAE):
    """A class of one's own that changes nothing of what the page runs."""

    def loss_per_image(self, images, seed, kl_weight):
        losses, terms = super().loss_per_image(images, seed, kl_weight)
        return 2 * losses, terms


def test_a_model_with_another_objective_has_its_page(digits, tmp_path):
    same = export_explorer(VAE(seed=1), digits, tmp_path / "same.html").read_bytes()
    own = Subclass(seed=1, beta=4.0, kl_warmup=10)
    assert export_explorer(own, digits, tmp_path / "own.html").read_bytes() == same


class Normals(VAE):
    def likelihood(self, latents):
        return tfp.distributions.Independent(tfp.distributions.Normal(self.decode(latents), 1.0), 2)


class Exponential(VAE):
    def posterior(self, images):
        loc, log_scale = tf.split(self.encode(images), 2, axis=-1)
        return tfp.distributions.MultivariateNormalDiag(loc, tf.exp(log_scale))


class Wide(VAE):
    def prior(self):
        return tfp.distributions.MultivariateNormalDiag(tf.zeros(self.latent_dim), 2.0 * tf.ones(8))


class Halved(VAE):
    def decode(self, latents):
        return super().decode(latents) / 2


class Relu(VAE):
    def make_encoder(self):
        layers = [keras.layers.Flatten(), keras.layers.Dense(20, "relu"), keras.layers.Dense(16)]
        return keras.Sequential([keras.Input(self.image_shape), *layers])


class Dropout(VAE):
    def make_decoder(self):
        layers = [keras.layers.Dense(196), keras.layers.Dropout(0.1)]
        layers.append(keras.layers.Reshape(self.image_shape))
        return keras.Sequential([keras.Input([self.latent_dim]), *layers])


class Functional(VAE):
    def make_decoder(self):
        inputs = keras.Input([self.latent_dim])
        outputs = keras.layers.Dense(196)(keras.layers.Dense(20, "tanh")(inputs))
        return keras.Model(inputs, keras.layers.Reshape(self.image_shape)(outputs))


class NoBias(VAE):
    def make_decoder(self):
        layers = [keras.layers.Dense(196, use_bias=False), keras.layers.Reshape(self.image_shape)]
        return keras.Sequential([keras.Input([self.latent_dim]), *layers])


class Columns(VAE):
    def make_encoder(self):
        layers = [keras.layers.Flatten("channels_first"), keras.layers.Dense(16)]
        return keras.Sequential([keras.Input(self.image_shape), *layers])


class NormalPrior(PixelVAE):
    prior = VAE.prior


class ReluDecoder(PixelVAE):
    def make_decoder(self):
        layers = [keras.layers.Dense(20, "relu"), keras.layers.Dense(196 * 7)]
        layers.append(keras.layers.Reshape([14, 14, 7]))
        return keras.Sequential([keras.Input([self.latent_dim]), *layers])


class GreyMixture(MixtureVAE):
    likelihood = Normals.likelihood


def changed(change, kind=VAE):
    """A function that makes a model of a kind and changes the instance."""

    def make():
        vae = kind()
        change(vae)
        return vae

    return make


OTHER_MODELS = {
    "likelihood of a class": (Normals, "its likelihood is not"),
    "posterior of a class": (Exponential, "its posterior is not"),
    "prior of a class": (Wide, "its prior is not"),
    "decode of a class": (Halved, "its decode is not"),
    "prior of an instance": (
        changed(lambda vae: setattr(vae, "prior", Wide().prior)),
        "its prior is not",
    ),
    "encode of an instance": (
        changed(lambda vae: setattr(vae, "encode", lambda images: 0 * VAE.encode(vae, images))),
        "its encode is not",
    ),
    "another activation": (Relu, "its encoder .*Dense, Dense.* is not of"),
    "a set activation": (
        changed(lambda vae: setattr(vae.decoder.layers[0], "activation", tf.nn.relu)),
        "its decoder .*is not of",
    ),
    "a layer of another kind": (Dropout, r"its decoder \(Dense, Dropout, Reshape\) is not of"),
    "a network of another kind": (Functional, r"its decoder \(Functional\) is not of"),
    "no biases": (NoBias, "its decoder .*is not of"),
    "pixels in another order": (Columns, "its encoder .*is not of"),
    "call of a layer": (
        changed(lambda vae: setattr(vae.encoder.layers[1], "call", lambda inputs: inputs[:, :128])),
        "its encoder .*is not of",
    ),
    "prior of pixels in turn": (NormalPrior, "its prior is not PixelVAE's own"),
    "decoder of pixels in turn": (ReluDecoder, r"its decoder \(Dense, Dense, Reshape\) is not of"),
    "likelihood of an instance of pixels in turn": (
        changed(lambda vae: setattr(vae, "likelihood", Normals().likelihood), PixelVAE),
        "its likelihood is not PixelVAE's own",
    ),
    "likelihood of a mixture": (GreyMixture, "its likelihood is not MixtureVAE's own"),
}


@pytest.mark.parametrize("which", OTHER_MODELS)
def test_models_that_the_page_cannot_run_are_refused_before_writing(digits, tmp_path, which):
    make, message = OTHER_MODELS[which]
    with pytest.raises(ValueError, match=rf"a plain vae_tf\.\w*VAE.*{message}"):
        export_explorer(make(), digits, tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_weights_beyond_16_bits_are_refused_before_writing(few_digits, tmp_path):
    vae = PixelVAE(hidden_units=4)
    vae.biases[0].assign(tf.fill(vae.biases[0].shape, -70_000.0))
    with pytest.raises(ValueError, match="beyond ±65,504; this model has one of -70000"):
        export_explorer(vae, few_digits, tmp_path / "page.html")
    vae.biases[0].assign(tf.fill(vae.biases[0].shape, np.nan))
    with pytest.raises(ValueError, match="received one of size nan"):
        export_explorer(vae, few_digits, tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_grey_images_and_other_sizes_are_refused_before_writing(vae, tmp_path):
    grey = np.random.default_rng(0).random((20, 14, 14))
    for images in (grey, np.ones((20, 14, 15))):
        with pytest.raises(ValueError, match="images must"):
            export_explorer(vae, from_arrays(images), tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_images_without_labels_and_with_many_classes(vae, tmp_path):
    images = make_digits(600).validation.images
    plain = stored_in(export_explorer(vae, from_arrays(images), tmp_path / "plain.html"))
    assert (plain["labels"], plain["count"], plain["source"]) == (None, 60, "own images")
    shirts = dataclasses.replace(make_digits(600), source="keras", name="Fashion-MNIST 28×28")
    assert not stored_in(export_explorer(vae, shirts, tmp_path / "shirts.html"))["areDigits"]
    assert plain["picks"] == list(range(40))
    assert len(set(plain["opening"])) == 2
    data = from_arrays(images, np.arange(600) % 25)
    stored = stored_in(export_explorer(vae, data, tmp_path / "many.html"))
    labels = data.validation.labels
    shown = labels[stored["picks"]].tolist()
    present = sorted(set(labels.tolist()))
    assert shown[: len(present)] == present
    assert len(shown) == 40
    assert labels[stored["opening"][0]] != labels[stored["opening"][1]]


def test_blank_images_never_open_the_page(vae, tmp_path):
    images = make_digits(100).validation.images
    images[::2] = 0
    data = from_arrays(images)
    stored = stored_in(export_explorer(vae, data, tmp_path / "page.html"))
    blank = [not image.any() for image in data.validation.images]
    assert 2 <= sum(blank) <= 8
    assert not any(blank[number] for number in stored["opening"])


# What a person with one kind of cone missing sees (Machado, Oliveira & Fernandes 2009, severity 1).
CONES = {
    "all": np.eye(3),
    "no long": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "no medium": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "no short": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def linear(colours):
    """sRGB as "#rrggbb", as linear light [N, 3]."""
    values = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in colours])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def oklab(light):
    """Ottosson (2020), A perceptual color space for image processing."""
    to_cones = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]
    to_lab = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]
    return np.cbrt(np.clip(light, 0, 1) @ np.transpose(to_cones)) @ np.transpose(to_lab)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("cones", CONES)
def test_class_colours_can_be_told_apart(theme, cones):
    text = explorer.TEMPLATE.read_text(encoding="utf-8")
    pairs = re.findall(r"--(?:class-\d|surface): light-dark\((#\w{6}), (#\w{6})\)", text)
    surface, *classes = linear([pair[theme] for pair in pairs])
    assert len(classes) == 10
    seen = oklab(np.array(classes) @ np.transpose(CONES[cones]))
    distances = np.linalg.norm(seen[:, None] - seen, axis=-1)[np.triu_indices(10, 1)]
    assert distances.min() > 0.11
    bright, back = np.array(classes) @ [0.2126, 0.7152, 0.0722], surface @ [0.2126, 0.7152, 0.0722]
    contrast = (np.maximum(bright, back) + 0.05) / (np.minimum(bright, back) + 0.05)
    assert contrast.min() > 2.35


# The page, in a browser. --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(downloads, tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    if not (BROWSER and DRIVER):
        pytest.skip("Chromium or its driver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in [*QUIET, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER))
    yield driver
    driver.quit()


class Page:
    """The page in a browser, and short ways to drive it."""

    def __init__(self, browser, file, is_there=False):
        self.browser, self.file = browser, file
        self.shape = tuple(stored_in(file)["imageShape"])
        if not is_there:
            self.size(1440, 1000)
            self.theme("light")
            self.load()

    def load(self, fragment=""):
        self.browser.get("about:blank")
        self.browser.get(self.file.as_uri() + fragment)
        self.wait("document.readyState === 'complete' && window.explorer")

    def size(self, width, height):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def theme(self, name, motion="no-preference"):
        features = [{"name": "prefers-color-scheme", "value": name}]
        features.append({"name": "prefers-reduced-motion", "value": motion})
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def js(self, expression, *arguments):
        """The value of an expression; its typed arrays come as lists."""
        text = self.browser.execute_script(
            "const plain = (_, v) => ArrayBuffer.isView(v) ? Array.from(v) : v;"
            f"return JSON.stringify({expression}, plain) ?? 'null'",
            *arguments,
        )
        return json.loads(text)

    def wait(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while not self.js(f"Boolean({condition})"):
            assert time.monotonic() < end, condition
            time.sleep(0.02)

    def find(self, selector):
        return self.browser.find_element("css selector", selector)

    def click(self, selector):
        element = self.find(selector)
        self.js("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def keys(self, selector, *keys):
        from selenium.webdriver.common.keys import Keys

        self.find(selector).send_keys(*[getattr(Keys, key, key) for key in keys])

    def choose(self, name, value):
        self.click(f"label:has([name={name}][value={value}])")

    def pointer(self, selector, *places, kind="mouse", press=True):
        """Moves a pointer along places, fractions of an element's box; pressed, if it says so."""
        from selenium.webdriver.common.actions.action_builder import ActionBuilder
        from selenium.webdriver.common.actions.pointer_input import PointerInput

        element = self.find(selector)
        self.js("arguments[0].scrollIntoView({block: 'center'})", element)
        box = self.js("arguments[0].getBoundingClientRect()", element)
        actions = ActionBuilder(self.browser, mouse=PointerInput(kind, kind), duration=20)
        for i, (x, y) in enumerate(places):
            x, y = box["left"] + x * box["width"], box["top"] + y * box["height"]
            actions.pointer_action.move_to_location(round(x), round(y))
            if press and i == 0:
                actions.pointer_action.pointer_down()
        if press:
            actions.pointer_action.pointer_up()
        actions.perform()

    def pixel(self, row, column):
        height, width = self.shape
        return (column + 0.5) / width, (row + 0.5) / height

    @property
    def code(self):
        return np.array(self.js("explorer.state.code"))

    @property
    def pixels(self):
        return np.array(self.js("explorer.state.pixels")).reshape(self.shape)

    def drawn(self, selector):
        """A small picture as it is on the screen: 0 for paper, 1 for ink."""
        script = (
            "(c => { const o = new OffscreenCanvas(c.width, c.height).getContext('2d');"
            "o.drawImage(c, 0, 0); return o.getImageData(0, 0, c.width, c.height).data })"
            f"(document.querySelector('{selector}'))"
        )
        values = np.array(self.js(script)).reshape(*self.shape, 4)[..., :3].mean(axis=-1)
        paper, ink = (
            np.mean([float(part) for part in re.findall(r"\d+", self.colour(name))])
            for name in ("surface", "ink")
        )
        return (values - paper) / (ink - paper)

    def colour(self, name):
        script = (
            "(s => { s.style.color = arguments[0]; document.body.append(s); const c = "
            "getComputedStyle(s).color; s.remove(); return c })(document.createElement('i'))"
        )
        return self.js(script, f"var(--{name})")

    def text(self, selector):
        return self.js(f"document.querySelector('{selector}').textContent")

    def requests(self):
        """Addresses asked for since the last time, but for the page itself."""
        messages = [
            json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")
        ]
        asked = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        urls = [params["request"]["url"] for params in asked]
        own = (self.file.as_uri(), "data:", "blob:", "about:")
        return [url for url in urls if not url.startswith(own)]

    def console(self):
        return [entry["message"] for entry in self.browser.get_log("browser")]


@contextlib.contextmanager
def opened(browser, file, to_ask=False):
    """The page; at the end its console must be empty, and nothing asked for.

    Args:
        to_ask: the page is not acted on, so that the next test that only asks may have it as well.
    """
    is_there = to_ask and browser.execute_script(f"return window.onlyAsked === '{file}'")
    if not is_there:
        browser.get("about:blank")  # a new window's own page asks for its parts
        for log in ("browser", "performance"):
            browser.get_log(log)
    page = Page(browser, file, is_there)
    if to_ask:
        page.js(f"window.onlyAsked = '{file}'")
        page.wait("!explorer.isWorking()")
    yield page
    assert page.console() == []
    assert page.requests() == []


@pytest.fixture
def page(browser, file):
    """The page, loaded anew."""
    with opened(browser, file) as page:
        yield page


@pytest.fixture
def asked_page(browser, file):
    """The page, for tests that only ask."""
    with opened(browser, file, to_ask=True) as page:
        yield page


def test_encoder_and_decoder_agree_with_tensorflow(asked_page, vae, digits):
    images = digits.validation.images[:100]
    posterior = vae.posterior(images).distribution
    theirs = asked_page.js(
        "explorer.digits.slice(0, 100).map(({pixels}) => explorer.encode(pixels))"
    )
    for name in ("loc", "scale"):
        values = [each[name] for each in theirs]
        np.testing.assert_allclose(values, getattr(posterior, name), rtol=1e-5, atol=1e-5)
    codes = np.random.default_rng(0).normal(0, 1.5, (100, 8)).astype(np.float32)
    likelihood = vae.likelihood(codes)
    logits = asked_page.js("arguments[0].map(explorer.logits)", codes.tolist())
    ours = vae.decode(codes).numpy().reshape(100, 196)
    assert np.abs(ours).max() > 5  # so that agreement says something
    np.testing.assert_allclose(logits, ours, rtol=1e-5, atol=1e-5)
    means = asked_page.js("arguments[0].map(explorer.decode)", codes.tolist())
    np.testing.assert_allclose(means, likelihood.mean().numpy().reshape(100, 196), atol=1e-5)


def test_elbo_agrees_with_the_models_on_the_same_noise(asked_page, vae, digits):
    images, seed = digits.validation.images[:20], [5, 6]
    ours = vae.elbo_terms(images, seed, num_samples=25)
    posterior = vae.posterior(images)
    latents = posterior.sample(25, seed=seed)  # the draws that `elbo_terms` makes
    noise = (latents - posterior.distribution.loc) / posterior.distribution.scale  # [25, 20, 8]
    theirs = asked_page.js(
        "arguments[0].map((noise, i) => explorer.elbo(explorer.digits[i].pixels, noise))",
        noise.numpy().transpose(1, 0, 2).tolist(),
    )
    for name, terms in (("logLikelihood", ours.log_likelihood), ("kl", ours.kl)):
        np.testing.assert_allclose([each[name] for each in theirs], terms, rtol=1e-5)
    np.testing.assert_allclose([each["elbo"] for each in theirs], ours.elbo, rtol=1e-5)
    each = vae.likelihood(latents).log_prob(images)  # [25, 20]
    errors = np.std(each, axis=0, ddof=1) / 5
    np.testing.assert_allclose([each["standardError"] for each in theirs], errors, rtol=1e-3)


def test_noise_is_standard_normal_and_its_seed_repeats_it(asked_page):
    draws = np.array(asked_page.js("explorer.normals(4, 5_000)"))  # [5000, 8]
    assert draws.mean() == pytest.approx(0, abs=0.02)
    assert draws.std() == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(np.corrcoef(draws.T), np.eye(8), atol=0.06)
    assert np.abs(draws).max() > 3.5
    assert asked_page.js("explorer.normals(4, 5_000)") == draws.tolist()
    assert asked_page.js("explorer.normals(5, 1)") != draws[:1].tolist()


def test_mean_bound_is_over_all_digits_of_the_map(asked_page, vae, digits):
    noise = np.array(asked_page.js("explorer.normals(0, 300)"), np.float32)
    posterior = vae.posterior(digits.validation.images)
    latents = posterior.distribution.loc + posterior.distribution.scale * noise
    kl = tfp.distributions.kl_divergence(posterior, vae.prior())
    expected = np.mean(vae.likelihood(latents).log_prob(digits.validation.images) - kl)
    assert asked_page.js("explorer.meanElbo()") == pytest.approx(expected, rel=1e-5)
    asked_page.wait("document.querySelector('#mean-elbo').textContent")
    assert f"300 digits is {expected:.2f} nats".replace("-", "−") in asked_page.text("#mean-elbo")


def test_page_says_where_its_digits_are_from(asked_page):
    footer = asked_page.text("footer")
    assert "MNIST, 300 of its validation digits" in footer
    assert "53,716 weights" in footer
    assert asked_page.text("h1") == "Eight numbers that draw a digit"


def test_sliders_go_by_what_their_dimension_carries(asked_page, stored):
    kl = stored["klPerDimension"]
    order = sorted(range(8), key=lambda dimension: -kl[dimension])
    assert asked_page.js("[...document.querySelectorAll('#dimensions input')].map(e => e.id)") == [
        f"z{dimension}" for dimension in order
    ]
    shown = "[...document.querySelectorAll('#dimensions .carries')].map(e => e.textContent)"
    assert asked_page.js(shown) == [f"{kl[dimension]:.2f}" for dimension in order]


def test_a_slider_redraws_the_digit(page, vae):
    before, mark = page.code, page.js("document.querySelector('#mark').toDataURL()")
    page.keys("#z3", "ARROW_RIGHT", "ARROW_UP", "ARROW_LEFT", "ARROW_RIGHT")
    after = page.code
    assert after[3] - before[3] == pytest.approx(0.2)
    np.testing.assert_array_equal(np.delete(after, 3), np.delete(before, 3))
    page.pointer("#z5", (0.5, 0.5), (0.8, 0.5))
    assert page.code[5] == pytest.approx(2.5, abs=0.3)
    means = vae.likelihood(page.code[None].astype(np.float32)).mean()[0]
    np.testing.assert_allclose(page.drawn("#picture"), means, atol=0.01)
    assert page.text("output[for=z5]") == f"+{page.code[5]:.2f}"
    assert page.js("document.querySelector('#mark').toDataURL()") != mark
    likelihood = page.js("explorer.logLikelihood(explorer.state.pixels, explorer.state.code)")
    assert page.text("#this-code") == f"{likelihood:.2f}".replace("-", "−")
    page.click("#to-mean")
    np.testing.assert_array_equal(page.code, page.js("explorer.state.posterior.loc"))
    assert "its reconstruction" in page.text("#caption")
    page.click("#to-draw")
    assert not np.any(page.code == before)
    page.click("#to-centre")
    assert not page.code.any()


def test_picking_a_digit_encodes_it_and_shows_every_number(page, vae, digits, stored):
    page.click("#picks button:nth-child(17)")
    number = stored["picks"][16]
    np.testing.assert_array_equal(page.pixels, digits.validation.images[number])
    np.testing.assert_allclose(page.drawn("#grid"), page.pixels, atol=1e-6)
    pressed = "[...document.querySelectorAll('#picks [aria-pressed=true]')].length"
    assert page.js(pressed) == 1
    posterior = vae.posterior(page.pixels[None]).distribution
    loc, scale = posterior.loc.numpy()[0], posterior.scale.numpy()[0]
    np.testing.assert_allclose(page.code, loc, atol=1e-5)
    label = page.find("#z2").get_attribute("aria-valuetext").replace("−", "-")
    assert f"mean {loc[2]:+.2f}, scale {scale[2]:.2f}" in label
    peak = page.js(
        "document.querySelector('.dimension:has(#z2) .q').getAttribute('d')"
        ".match(/[\\d.-]+ [\\d.]+/g).map(p => p.split(' ').map(Number))"
        ".reduce((a, b) => a[1] < b[1] ? a : b)[0]"
    )
    assert peak == pytest.approx(loc[2], abs=0.03)  # the curve on the slider
    terms = page.js("explorer.elbo(explorer.state.pixels, explorer.normals(1, 100))")
    shown = [page.text(f"#{name}").replace("−", "-") for name in ("log-likelihood", "kl", "elbo")]
    assert shown == [
        f"{terms['logLikelihood']:.2f} ± {terms['standardError']:.2f}",
        f"{terms['kl']:.2f}",
        f"{terms['elbo']:.2f} nats",
    ]


def test_drawing_with_mouse_touch_and_keys(page):
    page.click("#clear")
    assert not page.pixels.any()
    assert page.text("#elbo") == "–"
    assert page.find("#to-mean").get_attribute("disabled")
    assert page.js("[...document.querySelectorAll('.q')].every(path => !path.getAttribute('d'))")
    page.pointer("#grid", page.pixel(2, 3))
    assert np.argwhere(page.pixels).tolist() == [[2, 3]]
    assert page.text("#elbo").endswith("nats")
    page.pointer("#grid", page.pixel(5, 1), page.pixel(5, 9))
    assert page.pixels[5, 1:10].all()
    page.pointer("#grid", page.pixel(8, 4), page.pixel(11, 4), kind="touch")
    assert page.pixels[8:12, 4].all()
    page.choose("tool", "eraser")
    page.pointer("#grid", page.pixel(5, 1), page.pixel(5, 9))
    assert not page.pixels[5].any()
    page.js("document.querySelector('#grid').focus()")
    before = page.pixels.copy()
    page.keys("#grid", "ARROW_UP", "ARROW_LEFT", "SPACE")
    assert np.argwhere(page.pixels != before).tolist() == [[6, 6]]
    assert page.text("#status") == "Row 7, column 7: ink."
    assert page.js("getComputedStyle(document.querySelector('#cursor')).display") == "block"
    page.keys("#grid", "ENTER")
    np.testing.assert_array_equal(page.pixels, before)
    page.keys("#grid", "DELETE")
    assert not page.pixels.any()


def map_place(page, number):
    x, y = page.js("explorer.placeOnMap(arguments[0])", number)
    box = page.js("document.querySelector('#map').getBoundingClientRect()")
    return x / box["width"], y / box["height"]


def lone_digit(page):
    """The number of a digit that has no other within some pixels of it on the map."""
    places = np.array(page.js("explorer.digits.map((_, i) => explorer.placeOnMap(i))"))
    distances = np.linalg.norm(places[:, None] - places, axis=-1) + 1e9 * np.eye(len(places))
    return int(distances.min(axis=1).argmax())


def test_map_previews_takes_and_filters(page, digits):
    number = lone_digit(page)
    page.pointer("#map", map_place(page, number), press=False)
    assert page.js("document.querySelector('#peek').checkVisibility()")
    assert page.text("#peek span") == f"a {digits.validation.labels[number]}"
    np.testing.assert_allclose(
        page.drawn("#peek canvas"), digits.validation.images[number], atol=1e-6
    )
    assert page.find("#peek canvas").size == {"width": 70, "height": 70}
    page.pointer("#map", map_place(page, number))
    np.testing.assert_array_equal(page.pixels, digits.validation.images[number])
    np.testing.assert_array_equal(page.code, page.js("explorer.state.posterior.loc"))
    page.pointer("#map-title", (0.5, 0.5), press=False)
    assert not page.js("document.querySelector('#peek').checkVisibility()")
    before = page.js("document.querySelector('#map').toDataURL()")
    page.click(".legend button:nth-child(4)")
    assert page.find(".legend button:nth-child(4)").get_attribute("aria-pressed") == "true"
    assert page.js("document.querySelector('#map').toDataURL()") != before
    page.keys("#map", "ARROW_LEFT" if map_place(page, number)[0] > 0.5 else "ARROW_RIGHT")
    assert digits.validation.labels[page.js("explorer.state.pointed")] == 3
    page.click(".legend button:nth-child(4)")
    assert page.js("explorer.state.onlyClass") is None


def test_map_by_keyboard(page, digits):
    start = page.js("explorer.placeOnMap(explorer.state.digit)")
    page.keys("#map", "ARROW_LEFT")
    number = page.js("explorer.state.pointed")
    assert page.js("explorer.placeOnMap(arguments[0])", number)[0] < start[0]
    assert page.text("#status") == f"A {digits.validation.labels[number]}."
    page.keys("#map", "ENTER")
    assert page.js("explorer.state.digit") == number
    page.keys("#map", "ESCAPE")
    assert page.js("document.querySelector('#peek').hidden")


def test_from_one_digit_to_another(page):
    page.click("#picks button:nth-child(2)")
    start = page.code
    page.click("#from-code")
    page.click("#picks button:nth-child(9)")
    end = page.code
    page.click("#to-code")
    page.keys("#way", "HOME", *["ARROW_RIGHT"] * 25)
    np.testing.assert_allclose(page.code, start + 0.25 * (end - start), atol=1e-9)
    assert page.find("#way").get_attribute("aria-valuetext").startswith("25 %")
    page.click("#frames button:nth-child(7)")
    np.testing.assert_allclose(page.code, start + 0.75 * (end - start), atol=1e-9)
    current = "[...document.querySelectorAll('#frames button')].map(b => b.ariaCurrent)"
    assert page.js(current).index("true") == 6
    page.pointer("#way", (0.5, 0.5))
    assert page.js("explorer.state.way") == pytest.approx(0.5, abs=0.02)
    page.click("#play")
    assert page.text("#play") == "Pause"
    page.wait("explorer.state.way > 0.6")
    page.click("#play")
    stopped = page.code
    time.sleep(0.1)
    np.testing.assert_array_equal(page.code, stopped)
    assert page.text("#play") == "Play"
    page.click("#to-digit")
    assert page.js("explorer.state.way") == 1
    assert not np.allclose(page.js("explorer.state.to"), end)
    page.click("#from-digit")
    np.testing.assert_array_equal(page.code, page.js("explorer.state.from"))


def test_playing_goes_to_the_end_and_back_until_something_else_is_done(page):
    page.keys("#way", "END")
    page.click("#play")
    page.wait("explorer.state.way < 0.9")  # it is on its way back
    page.keys("#z0", "ARROW_RIGHT")
    assert page.text("#play") == "Play"


def test_samples_from_the_prior(page, vae):
    page.click("#sample")
    first = page.code
    page.click("#sample")
    assert not np.any(page.code == first)
    page.choose("picture-mode", "draws")
    one = page.drawn("#picture")
    assert np.isin(one.round(3), [0, 1]).all()
    page.choose("picture-mode", "draws")
    assert (page.drawn("#picture") != one).any()
    page.choose("picture-mode", "means")
    means = vae.likelihood(page.code[None].astype(np.float32)).mean()[0]
    np.testing.assert_allclose(page.drawn("#picture"), means, atol=0.01)

    samples = page.js("explorer.state.samples")
    page.click("#samples button:nth-child(12)")
    np.testing.assert_array_equal(page.code, samples[11])
    means = vae.likelihood(np.array(samples[11:12], np.float32)).mean()[0]
    sample = "#samples button:nth-child(12) canvas"
    np.testing.assert_allclose(page.drawn(sample), means, atol=0.01)
    page.choose("samples-mode", "draws")
    assert np.isin(page.drawn(sample).round(3), [0, 1]).all()
    page.click("#resample")
    assert page.js("explorer.state.samples") != samples


def test_draws_of_pixels_have_the_decoders_means(page):
    page.choose("samples-mode", "draws")
    draws = page.js(
        "Array.from({length: 40}, (_, i) => i).map(i => "
        "explorer.decode(explorer.state.samples[i]).reduce((a, b) => a + b))"
    )
    inks = [page.drawn(f"#samples button:nth-child({i}) canvas").sum() for i in range(1, 41)]
    # 40 sums of 196 coins: their total's standard deviation is below √(40 · 49) = 44.
    assert sum(inks) == pytest.approx(sum(draws), abs=4 * 44)


def test_address_holds_the_code_and_restores_it(page):
    page.click("#picks button:nth-child(5)")
    page.keys("#z1", "ARROW_RIGHT")
    page.wait("location.hash.includes('z=')")
    time.sleep(0.3)
    fragment, code, pixels = page.js("location.hash"), page.code, page.pixels
    assert re.fullmatch(r"#z=(-?\d+(\.\d{1,4})?,){7}-?\d+(\.\d{1,4})?&x=[0-9a-f]{49}", fragment)
    page.load(fragment)
    np.testing.assert_allclose(page.code, code, atol=1e-4)
    np.testing.assert_array_equal(page.pixels, pixels)
    page.load("#z=0.5,-1,0,0,0,0,0,9")
    assert page.code.tolist() == [0.5, -1, 0, 0, 0, 0, 0, 9]
    assert page.find("#z7").get_attribute("value") == "4"  # as far as sliders go
    page.keys("#z7", "ARROW_RIGHT")
    assert page.code[7] == 4
    assert not page.pixels.any()
    page.js("location.hash = '#z=1,1,1,1,1,1,1,1'")
    page.wait("explorer.state.code.every(value => value === 1)")


def test_an_address_that_is_no_code_is_ignored(page):
    code = page.code
    for fragment in ("#z=1,2", "#z=1,2,3,4,5,6,7,x", "#z=,,,,,,,", "#elsewhere"):
        page.load(fragment)
        np.testing.assert_array_equal(page.code, code, fragment)


def test_reset_is_as_the_page_opened(page):
    def shown():
        names = ("pixels", "code", "from", "to", "way", "samples", "pictureMode", "samplesMode")
        names += ("tool", "onlyClass")
        return [page.js(f"explorer.state.{name}") for name in names]

    opening = shown()
    page.click("#clear")
    page.click("#sample")
    page.click("#resample")
    page.choose("tool", "eraser")
    page.choose("samples-mode", "draws")
    page.click(".legend button")
    page.click("#to-digit")
    page.wait("location.hash")
    assert shown() != opening
    page.click("#reset")
    assert shown() == opening
    assert page.js("document.querySelector('[name=tool]').checked")
    time.sleep(0.3)
    assert page.js("location.hash") == ""


def test_download_is_the_picture_as_png(page, downloads):
    page.click("#download")
    file = downloads / "decoded_digit.png"
    end = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < end, list(downloads.iterdir())
        time.sleep(0.02)
    data = file.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (448, 448)
    assert len(zlib.decompress(png_chunks(data)["IDAT"])) > 448 * 448


def png_chunks(data):
    chunks, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        name = data[at + 4 : at + 8].decode()
        chunks[name] = chunks.get(name, b"") + data[at + 8 : at + 8 + length]
        at += 12 + length
    return chunks


def test_every_control_is_reached_by_keyboard_and_named(page):
    page.js("document.activeElement.blur()")
    body, reached = "body", []
    for _ in range(60):
        page.browser.switch_to.active_element.send_keys("\ue004")  # the tab key
        focused = page.browser.switch_to.active_element
        if focused.tag_name == body or focused in reached:
            break
        reached.append(focused)
    names = [element.accessible_name for element in reached]
    assert all(names), names
    assert {
        "Drawing grid", "Pen", "Clear", "Dimension z1", "Digit’s mean", "Draw from its range",
        "All zero", "Reset", "Means", "Sample a code", "Download the picture as PNG", "Play",
        "Way from A to B", "Take current code as A", "Another digit as B", "New samples",
        "Sample 1", "Step 1 of 9", "Only 9",
    } <= set(names)  # fmt: skip
    assert sum(name.startswith("Dimension") for name in names) == 8
    # One stop for each grid of small pictures, and arrow keys within.
    assert sum(name.startswith("Sample ") and name != "Sample a code" for name in names) == 1
    page.keys("#samples button", "ARROW_RIGHT", "ARROW_DOWN")
    assert page.browser.switch_to.active_element.accessible_name == "Sample 22"
    page.browser.switch_to.active_element.send_keys("\ue007")  # enter
    np.testing.assert_array_equal(page.code, page.js("explorer.state.samples[21]"))
    page.browser.switch_to.active_element.send_keys("\ue010")  # end
    assert page.browser.switch_to.active_element.accessible_name == "Sample 40"


def test_light_and_dark(page):
    light = page.colour("paper")
    assert page.text("#theme") == "Dark"
    page.click("#theme")
    dark = page.colour("paper")
    assert dark != light
    assert page.text("#theme") == "Light"
    np.testing.assert_allclose(page.drawn("#grid"), page.pixels, atol=1e-6)  # in the new colours
    page.click("#theme")
    assert page.colour("paper") == light
    page.theme("dark")
    page.load()
    assert page.colour("paper") == dark
    page.theme("light")
    page.wait("document.querySelector('#theme').textContent === 'Dark'")  # it follows at once
    assert page.colour("paper") == light


def test_page_fits_its_width(page):
    for width in (1440, 820, 320, 390):
        page.size(width, 800)
        assert page.js("innerWidth") == width
        assert page.js("document.documentElement.scrollWidth") <= width
        outside = page.js(
            "[...document.querySelectorAll('button, input, canvas, h2, p')].filter(e => {"
            "const b = e.getBoundingClientRect(); return b.right > innerWidth + 1 || b.left < -1})"
            ".map(e => e.outerHTML.slice(0, 60))"
        )
        assert outside == [], width
    # On a telephone the decoded digit stays in view beside the sliders.
    page.js("document.querySelector('#dimensions').lastChild.scrollIntoView({block: 'center'})")
    top = page.js("document.querySelector('#picture').getBoundingClientRect().top")
    assert 0 <= top < 60
    page.pointer("#map", map_place(page, number := lone_digit(page)))
    assert page.js("explorer.state.digit") == number


def test_policy_stops_what_would_leave_the_page(browser, file):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)
        host = f"http://127.0.0.1:{server.getsockname()[1]}"
        page = Page(browser, file)
        page.browser.execute_async_script(
            "const done = arguments[1]; const at = arguments[0]; const blocked = [];"
            "document.addEventListener('securitypolicyviolation', e => {"
            "  blocked.push(e.effectiveDirective); if (blocked.length === 4) done(); });"
            "fetch(at).catch(() => {}); new Image().src = at; "
            "document.head.append(Object.assign(document.createElement('script'), {src: at}));"
            "navigator.sendBeacon(at);",
            host,
        )
        with pytest.raises(TimeoutError):
            server.accept()
    assert len(page.console()) >= 3  # it says what it blocked
    page.requests()


@pytest.mark.parametrize(
    ("config", "count", "classes", "title"),
    [
        pytest.param(
            *({"latent_dim": 3, "hidden_units": 16}, 500, 10, "Three numbers that draw"),
            marks=pytest.mark.slow,
        ),
        ({"latent_dim": 1}, 2, 1, "One number that draws"),
        ({"latent_dim": 20}, 30, 2, "20 numbers that draw"),
    ],
)
def test_other_sizes_and_the_sample(browser, tmp_path, config, count, classes, title):
    vae, digits = make_vae(**config), make_digits(count, "sample", classes)
    file = export_explorer(vae, digits, tmp_path / "page.html")
    with opened(browser, file) as page:
        assert page.text("h1") == f"{title} a digit"
        assert f"5,000-digit sample of MNIST, {count} of its" in page.text("footer")
        assert page.js("document.querySelectorAll('#dimensions input').length") == vae.latent_dim
        loc = vae.posterior(page.pixels[None]).distribution.loc.numpy()[0]
        np.testing.assert_allclose(page.code, loc, atol=1e-5)
        page.click("#sample")
        page.keys("#z0", "ARROW_RIGHT")
        means = vae.likelihood(page.code[None].astype(np.float32)).mean()[0]
        np.testing.assert_allclose(page.drawn("#picture"), means, atol=0.01)


@pytest.mark.parametrize("labelled", [pytest.param(True, marks=pytest.mark.slow), False])
def test_deep_models_and_own_images_of_any_size(browser, tmp_path, labelled):
    config = {"image_shape": (20, 10), "hidden_units": (30, 20, 25), "latent_dim": 4}
    vae, rng = make_vae(**config), np.random.default_rng(5)
    images = (rng.random((200, 20, 10)) < 0.3).astype(np.uint8)
    images[::9] = 0  # blank ones are images as others are
    labels = rng.integers(0, 12, 200) if labelled else None
    data = from_arrays(images, labels, name="shirts")
    with opened(browser, export_explorer(vae, data, tmp_path / "page.html")) as page:
        validation = data.validation.images
        theirs = page.js("explorer.digits.map(({pixels}) => explorer.encode(pixels))")
        posterior = vae.posterior(validation).distribution
        for name in ("loc", "scale"):
            found = [each[name] for each in theirs]
            np.testing.assert_allclose(found, getattr(posterior, name), rtol=1e-5, atol=1e-5)
        codes = rng.normal(0, 1.5, (20, 4)).astype(np.float32)
        logits = page.js("arguments[0].map(explorer.logits)", codes.tolist())
        expected = vae.decode(codes).numpy()
        np.testing.assert_allclose(logits, expected.reshape(20, 200), rtol=1e-4, atol=1e-5)

        assert page.text("h1") == "Four numbers that draw a picture"
        said = page.js("document.body.innerText").lower()
        assert not re.search("digit|mnist|handwrit", said)
        footer = page.text("footer")
        assert "200 → 30 tanh → 20 tanh → 25 tanh → 4 means and 4 scales" in footer
        assert "4 → 25 tanh → 20 tanh → 30 tanh → 200" in footer
        assert f"{vae.count_params():,} weights" in footer
        assert "shirts, 20 of its validation pictures, 20 × 10 pixels" in footer
        box = page.js("document.querySelector('#grid').getBoundingClientRect()")
        assert box["height"] == pytest.approx(2 * box["width"], rel=0.02)

        for number in (2, 3):
            page.click(f"#picks button:nth-child({number})")
            chosen = page.js(f"explorer.stored.picks[{number - 1}]")
            np.testing.assert_array_equal(page.pixels, validation[chosen])
            np.testing.assert_allclose(page.code, posterior.loc[chosen], atol=1e-5)
            assert page.text("#elbo").endswith("nats")
            name = (
                f"Class {data.validation.labels[chosen]}" if labelled else f"Picture {chosen + 1}"
            )
            assert page.text("#status").startswith(name)
        legend = page.js("document.querySelector('.legend').checkVisibility()")
        assert legend == labelled
        page.click("#clear")
        page.pointer("#grid", page.pixel(3, 2))
        assert page.pixels[3, 2] == 1
        page.pointer("#map", map_place(page, number := lone_digit(page)))
        np.testing.assert_array_equal(page.pixels, validation[number])
        page.click("#to-digit")
        page.wait("location.hash.includes('x=')")


def test_a_blank_image_has_a_code_as_others_have(browser, tmp_path):
    vae, images = make_vae(), np.zeros((30, 14, 14), np.uint8)
    data = from_arrays(images)
    with opened(browser, export_explorer(vae, data, tmp_path / "page.html")) as page:
        loc = vae.posterior(images[:1]).mean().numpy()[0]
        np.testing.assert_allclose(page.code, loc, atol=1e-5)
        assert page.text("#elbo").endswith("nats")


# The page of a PixelVAE. --------------------------------------------------------------------------


@pytest.fixture
def pixel_page(browser, pixel_file):
    with opened(browser, pixel_file) as page:
        page.wait("!explorer.isWorking()")
        yield page


@pytest.fixture
def asked_pixel_page(browser, pixel_file):
    with opened(browser, pixel_file, to_ask=True) as page:
        yield page


def hold_frames(page):
    """Stops the page's clock; `frame` shows the page as it is so many ms later."""
    page.js("(() => { window.frames_ = []; requestAnimationFrame = f => frames_.push(f) })()")


def frame(page, ms):
    page.js("frames_.splice(0).forEach(show => show(arguments[0]))", ms)


def codes_and_images(vae, count):
    codes = np.random.default_rng(0).normal(0, 1.5, (count, vae.latent_dim)).astype(np.float32)
    return codes, vae.likelihood(codes).sample(seed=[5, 6]).numpy()


def test_pixels_in_turn_agree_with_tensorflow(asked_pixel_page, pixel_vae):
    vae = rounded(pixel_vae)
    codes, images = codes_and_images(vae, 20)
    flat = images.reshape(20, 196)
    likelihood = vae.likelihood(codes)
    ours = likelihood._logits(images)[1]
    theirs = asked_pixel_page.js(
        "arguments[0].map((code, i) => "
        "explorer.drawInTurn(code, explorer.forcing(arguments[1][i])))",
        codes.tolist(),
        flat.tolist(),
    )
    assert np.abs(ours).max() > 3  # so that agreement says something
    np.testing.assert_allclose([each["logits"] for each in theirs], ours, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal([each["pixels"] for each in theirs], flat)
    values = asked_pixel_page.js(
        "arguments[0].map((code, i) => explorer.logLikelihood(arguments[1][i], code))",
        codes.tolist(),
        flat.tolist(),
    )
    np.testing.assert_allclose(values, likelihood.log_prob(images), rtol=1e-5)
    exact = pixel_vae.likelihood(codes).log_prob(images)
    np.testing.assert_allclose(values, exact, atol=0.1)  # of the weights before they are rounded


def test_draws_in_turn_are_tensorflows_with_the_same_noise(asked_pixel_page, pixel_vae):
    vae = rounded(pixel_vae)
    codes, images = codes_and_images(vae, 20)
    noise = tf.random.stateless_uniform([20, 14, 14], [8, 9])
    likelihood = vae.likelihood(codes)
    drawn = likelihood.complete(images, tf.zeros([14, 14], bool), [8, 9])
    theirs = asked_pixel_page.js(
        "arguments[0].map((code, i) => explorer.drawInTurn(code, arguments[1][i]).pixels)",
        codes.tolist(),
        noise.numpy().reshape(20, 196).tolist(),
    )
    assert len(np.unique(theirs, axis=0)) == 20
    np.testing.assert_array_equal(theirs, np.reshape(drawn, [20, 196]))


def test_bound_under_a_mixture_agrees_with_the_models_on_the_same_noise(
    asked_pixel_page, pixel_vae, few_digits
):
    vae, images, seed = rounded(pixel_vae), few_digits.validation.images[:5], [5, 6]
    ours = vae.elbo_terms(images, seed, num_samples=10)
    posterior = vae.posterior(images)
    latents = posterior.sample(10, seed=seed)  # the draws that `elbo_terms` makes
    noise = (latents - posterior.distribution.loc) / posterior.distribution.scale  # [10, 5, 8]
    theirs = asked_pixel_page.js(
        "arguments[0].map((noise, i) => explorer.elbo(explorer.digits[i].pixels, noise))",
        noise.numpy().transpose(1, 0, 2).tolist(),
    )
    for name, terms in (("logLikelihood", ours.log_likelihood), ("kl", ours.kl)):
        np.testing.assert_allclose([each[name] for each in theirs], terms, rtol=1e-4)
    np.testing.assert_allclose([each["elbo"] for each in theirs], ours.elbo, rtol=1e-4)
    kls = posterior.log_prob(latents) - vae.prior().log_prob(latents)  # [10, 5]
    bounds = vae.likelihood(latents).log_prob(images) - kls
    for name, each in (("klError", kls), ("elboError", bounds)):
        errors = np.std(each, axis=0, ddof=1) / np.sqrt(10)
        np.testing.assert_allclose([its[name] for its in theirs], errors, rtol=1e-2)


def test_prior_is_the_mixture(asked_pixel_page, pixel_vae):
    vae = rounded(pixel_vae)
    codes = np.random.default_rng(0).normal(0, 1.5, (50, 8)).astype(np.float32)
    script = "arguments[0].map(code => explorer.logDensity(explorer.prior, code))"
    theirs = np.array(asked_pixel_page.js(script, codes.tolist()))
    constant = 4 * np.log(2 * np.pi)  # which the page leaves out
    np.testing.assert_allclose(theirs - constant, vae.prior().log_prob(codes), rtol=1e-4)
    draws = np.array(asked_pixel_page.js("explorer.priorDraws(4, 20_000)"))
    probs, locs = scipy.special.softmax(vae.prior_logits), vae.prior_loc.numpy()  # [M], [M, L]
    mean = probs @ locs
    variances = np.diag(probs @ np.exp(2 * vae.prior_log_scale.numpy()))
    covariance = variances + (locs - mean).T @ np.diag(probs) @ (locs - mean)
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=0.05)
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=0.08)
    assert asked_pixel_page.js("explorer.priorDraws(4, 3)") == draws[:3].tolist()
    reach = float(asked_pixel_page.find("#z0").get_attribute("max"))
    inside = np.mean(np.abs(draws) <= reach)
    assert inside > 0.995


def test_every_number_of_a_picked_digit_is_shown_with_its_error(pixel_page):
    page = pixel_page
    page.click("#picks button:nth-child(7)")
    page.wait("!explorer.isWorking()")
    terms = page.js("explorer.elbo(explorer.state.pixels, explorer.normals(1, 100))")
    shown = [page.text(f"#{name}").replace("−", "-") for name in ("log-likelihood", "kl", "elbo")]
    assert shown == [
        f"{terms['logLikelihood']:.2f} ± {terms['standardError']:.2f}",
        f"{terms['kl']:.2f} ± {terms['klError']:.2f}",
        f"{terms['elbo']:.2f} ± {terms['elboError']:.2f} nats",
    ]
    elbo = f"{terms['elbo']:.2f}".replace("-", "−")
    assert page.text("#status").endswith(f"ELBO {elbo} nats.")
    assert page.text("#mean-elbo").startswith("Its mean over the 40 digits is")
    page.click("#clear")
    assert page.text("#elbo") == "–"


def test_sample_a_code_draws_pixel_by_pixel(pixel_page):
    page = pixel_page
    hold_frames(page)
    page.click("#sample")
    whole = page.js("explorer.pictureOf(explorer.state.code, 'draws', explorer.state.pictureSeed)")
    frame(page, 0)
    assert page.text("#caption").startswith("Pixel 1 of 196. In colour, what may come")
    shown = []
    for ms in range(16, 10_000, 16):
        frame(page, ms)
        if page.js("explorer.state.watched === null"):
            break
        number = int(re.search(r"Pixel (\d+) of", page.text("#caption"))[1]) - 1
        shown.append(number)
        if len(shown) % 8 == 1:
            drawn = page.drawn("#picture").ravel()[:number]
            np.testing.assert_allclose(drawn, whole[:number], atol=1e-6)
    assert shown == sorted(shown)
    assert len(set(shown)) > 90  # some two pixels at a time
    assert 1_500 < ms < 2_500
    np.testing.assert_allclose(page.drawn("#picture").ravel(), whole, atol=1e-6)
    assert page.text("#caption").startswith("One draw, each pixel given those before it")
    assert page.text("#status") == "The picture is drawn."
    frame(page, ms + 16)  # none is waiting
    assert page.js("frames_.length") == 0


def test_what_may_come_is_the_average_of_ways_to_go_on(pixel_page):
    page = pixel_page
    hold_frames(page)
    page.click("#sample")
    ways = page.js(
        "[1, 2, 3, 4, 5, 6, 7, 8].map(n => explorer.drawInTurn(explorer.state.code, "
        "explorer.pixelNoise(-n)).logits)"
    )
    expected = np.mean(1 / (1 + np.exp(-np.array(ways))), axis=0).reshape(14, 14)
    accent, surface = (
        np.mean([float(part) for part in re.findall(r"\d+", page.colour(name))])
        for name in ("accent", "surface")
    )
    ink = np.mean([float(part) for part in re.findall(r"\d+", page.colour("ink"))])
    # `drawn` measures from paper to ink, and this is in the accent's colour.
    shade = (accent - surface) / (ink - surface)
    np.testing.assert_allclose(page.drawn("#picture"), shade * expected, atol=0.01)


def test_a_slow_machine_shows_a_row_at_a_time(pixel_page):
    page = pixel_page
    hold_frames(page)
    page.click("#sample")
    for number, ms in enumerate(range(0, 5_000, 1_000)):
        frame(page, ms)
        assert page.text("#caption").startswith(f"Pixel {14 * number + 1} of")


def test_what_one_does_next_ends_the_drawing(pixel_page):
    page = pixel_page
    hold_frames(page)
    for act in ("#to-centre", "#picks button:nth-child(3)", "#sample", "#samples button"):
        page.click("#sample")
        frame(page, 0)
        page.click(act)
        frame(page, 0)
        if act == "#sample":  # another begins
            assert page.text("#caption").startswith("Pixel 1 of")
            assert page.js("frames_.length") == 1
        else:
            assert page.text("#caption").startswith("One draw")
            assert page.js("frames_.length") == 0
    page.click("#sample")
    page.click("#download")
    assert page.text("#caption").startswith("One draw")


def test_nothing_moves_for_those_who_ask_for_less_motion(pixel_page):
    page = pixel_page
    page.theme("light", motion="reduce")
    page.click("#sample")
    assert page.js("explorer.state.watched") is None
    assert page.text("#caption").startswith("One draw")
    whole = page.js("explorer.pictureOf(explorer.state.code, 'draws', explorer.state.pictureSeed)")
    np.testing.assert_allclose(page.drawn("#picture").ravel(), whole, atol=1e-6)


@pytest.mark.slow
def test_average_is_of_the_probabilities_along_its_draws(pixel_page):
    page = pixel_page
    page.choose("picture-mode", "means")
    page.keys("#z3", "ARROW_RIGHT")
    page.wait("!explorer.isWorking()")
    assert page.text("#caption").startswith("The probability of ink, averaged over 16 draws")
    logits = page.js(
        "Array.from({length: 16}, (_, n) => explorer.drawInTurn(explorer.state.code, "
        "explorer.pixelNoise(-1 - n)).logits)"
    )
    expected = np.mean(1 / (1 + np.exp(-np.array(logits))), axis=0)
    np.testing.assert_allclose(page.drawn("#picture").ravel(), expected, atol=0.01)
    frames = page.js("explorer.pictureOf(explorer.state.from, 'means', 0)")
    np.testing.assert_allclose(page.drawn("#frames canvas").ravel(), frames, atol=0.01)
    page.choose("picture-mode", "draws")  # and this draws again
    page.wait("explorer.state.watched === null")
    assert np.isin(page.drawn("#picture").round(3), [0, 1]).all()


def test_a_slider_redraws_with_the_same_noise(pixel_page):
    page = pixel_page
    seed = page.js("explorer.state.pictureSeed")
    page.keys("#z2", "ARROW_RIGHT", "ARROW_RIGHT")
    assert page.js("explorer.state.pictureSeed") == seed
    whole = page.js(
        "explorer.drawInTurn(explorer.state.code, explorer.pixelNoise(arguments[0]))", seed
    )
    np.testing.assert_allclose(page.drawn("#picture").ravel(), whole["pixels"], atol=1e-6)
    likelihood = page.js("explorer.logLikelihood(explorer.state.pixels, explorer.state.code)")
    assert page.text("#this-code") == f"{likelihood:.2f}".replace("-", "−")


def test_a_sample_that_is_clicked_on_is_shown_large(pixel_page):
    page = pixel_page
    page.click("#samples button:nth-child(12)")
    small = page.drawn("#samples button:nth-child(12) canvas")
    np.testing.assert_array_equal(page.drawn("#picture"), small)
    np.testing.assert_array_equal(page.code, page.js("explorer.state.samples[11]"))
    page.click("#resample")
    page.wait("!explorer.isWorking()")
    assert (page.drawn("#samples button:nth-child(12) canvas") != small).any()


def test_page_says_what_this_model_is(pixel_page, pixel_vae):
    footer, body = pixel_page.text("footer"), pixel_page.js("document.body.innerText")
    config = pixel_vae.get_config()
    decoder = "{latent_dim} → {hidden_units} tanh → {code_units} tanh → {context} for each pixel"
    assert decoder.format(**config) in footer
    assert "then pixels in turn, {layers} tanh layers of {features}".format(**config) in footer
    assert "{components} Gaussians as prior".format(**config) in footer
    assert f"{pixel_vae.count_params():,} weights" in footer
    assert "a mixture of {components} normal distributions".format(**config) in body
    assert "along 16 draws" in body
    assert "standard normal" not in body
    assert "Average" in body
    assert "Means" not in body


def test_page_of_pixels_in_turn_fits_its_width(pixel_page):
    for width in (1440, 820, 390, 320):
        pixel_page.size(width, 800)
        assert pixel_page.js("innerWidth") == width
        assert pixel_page.js("document.documentElement.scrollWidth") <= width


SMALLER = {"image_shape": (9, 5), "hidden_units": (10, 6), "latent_dim": 3, "components": 1}
SMALLER |= {"features": 4, "layers": 1, "context": 2, "code_units": 5}


@pytest.mark.slow
@pytest.mark.parametrize("config", [SMALLER, {}], ids=["smaller", "default"])
def test_other_sizes_of_pixels_in_turn(browser, tmp_path, config):
    vae = make_vae(PixelVAE, **config)
    shape, pixels = vae.image_shape, math.prod(vae.image_shape)
    images = (np.random.default_rng(5).random((60, *shape)) < 0.4).astype(np.uint8)
    data = from_arrays(images, name="shirts")
    file = export_explorer(vae, data, tmp_path / "page.html")
    near = rounded(vae)
    codes, drawn = codes_and_images(near, 10)
    with opened(browser, file) as page:
        values = page.js(
            "arguments[0].map((code, i) => explorer.logLikelihood(arguments[1][i], code))",
            codes.tolist(),
            drawn.reshape(10, pixels).tolist(),
        )
        np.testing.assert_allclose(values, near.likelihood(codes).log_prob(drawn), rtol=1e-4)
        page.click("#sample")
        page.wait("explorer.state.watched === null")
        assert np.isin(page.drawn("#picture").round(3), [0, 1]).all()
        said = page.js("document.body.innerText").lower()
        assert not re.search("digit|mnist|handwrit", said)
        assert ("mixture" in said) == (vae.components > 1)


def test_a_mixture_as_prior_of_pixels_apart(browser, few_digits, tmp_path):
    vae = make_vae(MixtureVAE, components=4, seed=2)
    stored = stored_in(file := export_explorer(vae, few_digits, tmp_path / "page.html"))
    assert (stored["bits"], stored["components"]) == (32, 4)
    with opened(browser, file) as page:
        codes = np.random.default_rng(0).normal(0, 1.5, (20, 8)).astype(np.float32)
        script = "arguments[0].map(code => explorer.logDensity(explorer.prior, code))"
        theirs = np.array(page.js(script, codes.tolist())) - 4 * np.log(2 * np.pi)
        np.testing.assert_allclose(theirs, vae.prior().log_prob(codes), rtol=1e-5)
        page.click("#sample")
        means = vae.likelihood(page.code[None].astype(np.float32)).mean()[0]
        np.testing.assert_allclose(page.drawn("#picture"), means, atol=0.01)
        assert "±" in page.text("#kl")
        body = page.js("document.body.innerText")
        assert "a mixture of 4 normal distributions" in body
        assert "in turn" not in body
