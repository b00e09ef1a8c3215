"""Exports: what comes out equals the model, in a process that has neither it nor its package."""

import ast
import errno
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import vae_tf
from vae_tf import exports

pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")

tfd, tfb = tfp.distributions, tfp.bijectors
ROOT = Path(__file__).parent.parent
OUTPUTS = {"encoder": ("images", ["mean", "stddev"]), "decoder": ("latents", ["mean"])}
BATCHES = (1, 7)


class Grey(vae_tf.VAE):
    def likelihood(self, latents):
        return tfd.Independent(tfd.ContinuousBernoulli(logits=self.decode(latents)), 2)


class Noisy(vae_tf.VAE):
    """Another likelihood, with a weight of its own, and another posterior."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.brightness = self.add_weight((), "ones", name="brightness")

    def make_encoder(self):
        layers = keras.layers
        return keras.Sequential(
            [
                keras.Input(self.image_shape),
                layers.Reshape((*self.image_shape, 1)),
                layers.Conv2D(4, 3, activation="relu"),
                layers.BatchNormalization(),
                layers.Flatten(),
                layers.Dropout(0.5),
                layers.Dense(2 * self.latent_dim),
            ]
        )

    def posterior(self, images):
        loc, log_scale = tf.split(self.encode(images), 2, axis=-1)
        return tfd.Independent(tfd.Normal(loc, tf.exp(log_scale)), 1)

    def likelihood(self, latents):
        return tfd.Independent(tfd.Normal(self.brightness * self.decode(latents), 0.1), 2)


class Diag(vae_tf.VAE):
    def posterior(self, images):
        loc, unconstrained = tf.split(self.encode(images), 2, axis=-1)
        return tfd.MultivariateNormalDiag(loc, tf.nn.softplus(unconstrained))


class Flow(vae_tf.VAE):
    def posterior(self, images):
        return tfb.Tanh()(super().posterior(images))


def small_pixel_vae():
    return vae_tf.PixelVAE(
        components=2, features=3, layers=1, context=2, image_shape=(4, 3), latent_dim=2
    )


BOTH = {  # which go by both formats
    "writeup": lambda: vae_tf.load_pretrained("writeup"),
    "literature": lambda: vae_tf.load_pretrained("literature"),
    "noisy": lambda: moved(Noisy(latent_dim=4)),
}
ONNX = BOTH | {
    "full": lambda: vae_tf.load_pretrained("full"),
    "deep": lambda: moved(vae_tf.VAE(3, (20, 10), image_shape=(9, 6))),
    "mixture": lambda: moved(vae_tf.MixtureVAE(components=3)),
}
SAVED = BOTH | {
    "grey": lambda: moved(Grey()),
    "diag": lambda: moved(Diag()),
    "float64": lambda: moved(vae_tf.VAE(dtype="float64")),
    "mixed_float16": lambda: moved(vae_tf.VAE(dtype="mixed_float16")),
    "pixel": lambda: moved(small_pixel_vae()),
}

# Run by a new Python in an empty folder. Whoever imports this package or Keras fails.
ALONE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {refused}:
            raise AssertionError(name)

sys.meta_path.insert(0, Refuse())
import numpy as np
{load}
with np.load(sys.argv[1]) as given:
    found = {{}}
    for key in given.files:
        model, network, argument, batch = key.split(" ")
        call = load(model, network)
        for name, values in call(argument, given[key]).items():
            found[f"{{model}} {{network}} {{name}} {{batch}}"] = np.asarray(values)
assert not {refused} & {{name.partition(".")[0] for name in sys.modules}}
np.savez(sys.argv[2], **found)
"""
LOADS = {
    "saved_model": (
        {"vae_tf", "tensorflow_probability"},
        """
import os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
def load(model, network):
    loaded = tf.saved_model.load(f"{sys.argv[3]}/{model}/{network}")
    call = loaded.signatures["serving_default"]
    return lambda argument, values: call(**{argument: tf.constant(values)})
""",
    ),
    "onnx": (
        {"vae_tf", "tensorflow_probability", "tensorflow", "keras", "onnx", "tf2onnx"},
        """
import onnxruntime
def load(model, network):
    session = onnxruntime.InferenceSession(f"{sys.argv[3]}/{model}/{network}.onnx")
    names = [each.name for each in session.get_outputs()]
    return lambda argument, values: dict(zip(names, session.run(None, {argument: values})))
""",
    ),
}


def moved(vae):
    """Returns a model with other weights than a new one's, so that its outputs differ."""
    rng = np.random.default_rng(7)
    for weight in vae.trainable_variables:
        weight.assign(weight + rng.normal(0, 0.2, weight.shape))
    return vae


def inputs_of(vae, network, batch):
    rng = np.random.default_rng(batch)
    if network == "encoder":
        return (rng.random([batch, *vae.image_shape]) < 0.3).astype(np.float32)
    return rng.normal(size=[batch, vae.latent_dim]).astype(np.float32)


def said(vae, network, values):
    """Returns what the model's own distributions say, by name."""
    found = vae.posterior(values) if network == "encoder" else vae.likelihood(values)
    return {name: getattr(found, name)() for name in OUTPUTS[network][1]}


@pytest.fixture(
    scope="module", params=["onnx", pytest.param("saved_model", marks=pytest.mark.slow)]
)
def exported(request, tmp_path_factory):
    """Models, and what a process without them made of their exports, by name of each output."""
    makers = ONNX if request.param == "onnx" else SAVED
    models = {name: make() for name, make in makers.items()}
    folder = tmp_path_factory.mktemp(request.param)
    given = {}
    for (name, vae), network in itertools.product(models.items(), OUTPUTS):
        for batch in BATCHES:
            key = f"{name} {network} {OUTPUTS[network][0]} {batch}"
            given[key] = inputs_of(vae, network, batch)
    for name, vae in models.items():
        exports.export_networks(vae, folder / "models" / name, request.param)
    np.savez(folder / "given.npz", **given)
    refused, load = LOADS[request.param]
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    arguments = [folder / "given.npz", folder / "found.npz", folder / "models"]
    code = ALONE.format(refused=refused, load=load)
    command = [sys.executable, "-I", "-c", code, *map(str, arguments)]
    result = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=False)
    assert not result.returncode, result.stderr
    with np.load(folder / "found.npz") as found:
        return models, given, dict(found)


def test_a_process_without_the_package_gives_what_the_model_gives(exported):
    models, given, found = exported
    compared = set()
    for key, values in given.items():
        name, network, _, batch = key.split(" ")
        for output, expected in said(models[name], network, values).items():
            got = found[f"{name} {network} {output} {batch}"]
            assert (got.dtype, got.shape) == (np.float32, tuple(expected.shape)), key
            close = 1e-3 if name == "mixed_float16" else 1e-5
            np.testing.assert_allclose(got, expected, rtol=close, atol=close, err_msg=key)
            compared.add(f"{name} {network} {output} {batch}")
    assert compared == set(found)


def test_a_process_without_the_package_gives_what_numpy_gives(exported):
    models, given, found = exported
    arrays = [np.float64(weight) for weight in models["writeup"].get_weights()]
    hidden = np.tanh(given["writeup encoder images 7"].reshape(7, -1) @ arrays[0] + arrays[1])
    loc, raw = np.split(hidden @ arrays[2] + arrays[3], 2, axis=1)
    scale = np.log1p(np.exp(-np.abs(raw))) + np.maximum(raw, 0) + 1e-6
    hidden = np.tanh(given["writeup decoder latents 7"] @ arrays[4] + arrays[5])
    means = 1 / (1 + np.exp(-(hidden @ arrays[6] + arrays[7])))
    expected = {"encoder mean": loc, "encoder stddev": scale, "decoder mean": means}
    for name, values in expected.items():
        got = found[f"writeup {name} 7"]
        np.testing.assert_allclose(got.reshape(values.shape), values, rtol=1e-5, atol=1e-5)


def test_names_and_shapes_are_as_documented(tmp_path):
    import onnxruntime

    paths = exports.export_networks(vae_tf.VAE(), tmp_path / "onnx", "onnx")
    assert paths == {name: tmp_path / "onnx" / f"{name}.onnx" for name in OUTPUTS}
    shapes = {"images": [14, 14], "latents": [8], "mean": [8], "stddev": [8]}
    for network, (argument, outputs) in OUTPUTS.items():
        session = onnxruntime.InferenceSession(paths[network])
        (given,), found = session.get_inputs(), session.get_outputs()
        assert (given.name, given.type) == (argument, "tensor(float)")
        assert given.shape[1:] == shapes[argument]
        assert {each.name for each in found} == set(outputs)
        for each in found:
            assert not isinstance(each.shape[0], int)  # any batch
            assert each.shape[1:] == ([14, 14] if network == "decoder" else shapes[each.name])


def test_a_saved_model_holds_no_weights_of_the_other_network(tmp_path):
    vae = vae_tf.load_pretrained("writeup")  # compiled, so with an optimizer's state as well
    for network, path in exports.export_networks(vae, tmp_path / "new").items():
        stored = tf.train.list_variables(str(path / "variables" / "variables"))
        count = sum(int(np.prod(shape)) for name, shape in stored if "variables" in name)
        assert count == getattr(vae, network).count_params()


@pytest.mark.slow
def test_the_model_is_as_it_was(tmp_path, images):
    vae, other = (vae_tf.VAE(seed=2) for _ in range(2))
    for each in (vae, other):
        each.compile(keras.optimizers.Adam(1e-2))
        each.fit(images, batch_size=16, epochs=1, verbose=0)
    layers, names = len(vae.layers), [weight.path for weight in vae.variables]
    exports.export_networks(vae, tmp_path / "tf")
    exports.export_networks(vae, tmp_path / "onnx", "onnx")
    assert (layers, names) == (len(vae.layers), [weight.path for weight in vae.variables])
    for each in (vae, other):
        each.fit(images, batch_size=16, epochs=1, verbose=0)
    for found, expected in zip(vae.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def broken():
    vae = vae_tf.VAE()
    vae.set_weights([np.full_like(weights, np.nan) for weights in vae.get_weights()])
    return vae


REFUSED = {
    "no VAE": (lambda: vae_tf.VAE().decoder, {}, TypeError, "vae must be a vae_tf.VAE"),
    "no path": (vae_tf.VAE, {"directory": 3}, TypeError, "directory must be .*received 3"),
    "format": (vae_tf.VAE, {"format": "h5"}, ValueError, "format must be .*received 'h5'"),
    "network": (
        vae_tf.VAE,
        {"networks": ["encoder", "prior"]},
        ValueError,
        "networks must be .*received 'prior'",
    ),
    "NaN": (broken, {}, ValueError, "weights within"),
    "flow": (Flow, {}, ValueError, "the encoder cannot be exported: `mean` is not implemented"),
    "grey": (
        Grey,
        {"format": "onnx"},
        ValueError,
        "the decoder cannot be exported as ONNX: No Op registered for Expm1.*saved_model",
    ),
    "pixel": (
        small_pixel_vae,
        {"format": "onnx"},
        ValueError,
        "the decoder cannot be exported as ONNX: No Op registered for StatelessRandom",
    ),
    "float64": (
        lambda: vae_tf.VAE(dtype="float64"),
        {"format": "onnx"},
        ValueError,
        "the encoder cannot be exported as ONNX: .*Softplus",
    ),
    "mixed_float16": (
        lambda: moved(vae_tf.VAE(dtype="mixed_float16")),
        {"format": "onnx"},
        ValueError,
        r"the encoder cannot be exported as ONNX: its \w+ would be wrong by [\d.e-]+",
    ),
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(it, marks=[pytest.mark.slow] * (it == "pixel")) for it in REFUSED],
)
def test_what_cannot_be_exported_is_refused_and_nothing_is_written(case, tmp_path):
    make, arguments, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        exports.export_networks(make(), **{"directory": tmp_path / "exported"} | arguments)
    assert not list(tmp_path.iterdir())


def test_one_network_alone(tmp_path):
    paths = exports.export_networks(small_pixel_vae(), tmp_path / "new", "onnx", "encoder")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["encoder.onnx"]
    assert list(paths) == ["encoder"]


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    found = exports.importlib.util.find_spec
    without = lambda name: None if name in ("onnx", "tf2onnx") else found(name)  # noqa: E731
    monkeypatch.setattr(exports.importlib.util, "find_spec", without)
    with pytest.raises(ModuleNotFoundError, match=r'onnx, tf2onnx.*pip install "vae_tf\[onnx\]"'):
        exports.export_networks(vae_tf.VAE(), tmp_path / "new", "onnx")
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_kept(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "encoder.onnx").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for name in ("old", "file"):
        with pytest.raises(FileExistsError, match=f"{name} must be a new or empty folder"):
            exports.export_networks(vae_tf.VAE(), tmp_path / name)
    assert (tmp_path / "old" / "encoder.onnx").read_text() == "precious"
    assert (tmp_path / "file").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "old"]
    (tmp_path / "empty").mkdir()
    exports.export_networks(vae_tf.VAE(), tmp_path / "empty")
    assert sorted(path.name for path in (tmp_path / "empty").iterdir()) == ["decoder", "encoder"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, step):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(f"os.{step}", full)
    with pytest.raises(OSError, match="No space left"):
        exports.export_networks(vae_tf.VAE(), tmp_path / "new", "onnx")
    assert not list(tmp_path.iterdir())


def test_what_is_extra_is_imported_when_it_is_used():
    extra = {"onnx", "onnxruntime", "tf2onnx", "tensorboard"}
    for path in (ROOT / "vae_tf").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                found = re.findall(r"\w+", ast.unparse(node).replace("import", " ").lower())
                assert not extra & set(found), path
                assert path.name != "__init__.py" or not {"exports", "summaries"} & set(found), path


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A model, and the address at which the example serves its decoder, by a process of its own."""
    vae = vae_tf.load_pretrained("full")
    folder = tmp_path_factory.mktemp("served")
    path = exports.export_networks(vae, folder / "exported", "onnx")["decoder"]
    command = [sys.executable, "-I", ROOT / "examples" / "serve.py", path, "0"]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        address = process.stdout.readline().split()[-1]
        yield vae, address
        assert process.poll() is None  # it stands whatever was asked
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        process.stdout.close()


def ask(address, content):
    """Returns status and answer of the server."""
    try:
        with urllib.request.urlopen(address, content, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_the_example_serves_what_the_model_gives(served):
    vae, address = served
    assert address.startswith("http://127.0.0.1:")
    for count in (1, 5):
        latents = np.random.default_rng(count).normal(size=[count, 8]).astype(np.float32)
        status, means = ask(address, json.dumps(latents.tolist()).encode())
        assert status == 200
        np.testing.assert_allclose(means, vae.likelihood(latents).mean(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "b''"),
        (b"no JSON", "b'no JSON'"),
        (b"\xff\xfe", r"b'\xff\xfe'"),
        (b"[[1, 2, 3]]", "b'[[1, 2, 3]]': the shape is [1, 3]"),
        (b"[1, 2, 3, 4, 5, 6, 7, 8]", "the shape is [8]"),
        (b"[]", "the shape is [0]"),
        (b"[[1, 2], [3]]", "inhomogeneous"),
        (b'{"latents": 1}', "not 'dict'"),
        (b'[["a", 0, 0, 0, 0, 0, 0, 0]]', "could not convert string to float: 'a'"),
        (b"[[NaN, 0, 0, 0, 0, 0, 0, 0]]", "a number is beyond 1e30, or none"),
        (b"[[1e39, 0, 0, 0, 0, 0, 0, 0]]", "a number is beyond 1e30, or none"),
        (b"[[1" + b"0" * 400 + b", 0, 0, 0, 0, 0, 0, 0]]", "b'[[1000"),
        (b"[" * 100_000, "b'[[[[["),
        (b"[" + b"[0,0,0,0,0,0,0,0]," * 1_000 + b"[0,0,0,0,0,0,0,0]]", "the shape is [1001, 8]"),
    ],
)
def test_the_example_refuses_bad_input_and_says_what_arrived(served, content, reason):
    status, answer = ask(served[1], content)
    assert status == 400
    assert answer.startswith("expected 1 to 1,000 lists of 8 finite numbers")
    assert reason in answer
    assert len(answer) < 400


def test_the_example_answers_nothing_else(served):
    with pytest.raises(urllib.error.HTTPError, match="501"), urllib.request.urlopen(served[1]):
        pass


@pytest.mark.slow
def test_the_page_runs(tmp_path, monkeypatch):
    from patterns import patterns

    pytest.importorskip("tensorboard")
    page, names = (ROOT / "docs" / "exports.md").read_text(), {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(vae_tf, "load_mnist", patterns)
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block.replace("epochs=20", "epochs=1"), names)
    expected = names["vae_tf"].load_pretrained("full").posterior(names["images"]).mean()
    np.testing.assert_allclose(names["mean"], expected, rtol=1e-5, atol=1e-5)
    assert names["pixels"].shape == (10, 14, 14)
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"exported", "saved_models", "logs"}
    (extras,) = re.findall(r'pip install "vae_tf\[(.*?)\]"', page)
    project = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras.split(","))
    (served,) = re.findall(r"python (examples/serve\.py) (exported/decoder\.onnx) \d+\n", page)
    assert (ROOT / served[0]).is_file()
    assert (tmp_path / served[1]).is_file()
    for target in re.findall(r"\]\((?!http|#)([^)]+)\)", page):
        assert (ROOT / "docs" / target).exists()
