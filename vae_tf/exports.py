"""Exports: encoder and decoder as files that run where neither this package nor Keras is.

network   input                          outputs, float32
encoder   images  [B, height, width]     mean, stddev  [B, L], of the posterior q(z|x)
decoder   latents [B, L]                 mean  [B, height, width], of the likelihood p(x|z)

Inputs are float32, and B is any number. The outputs are asked of `vae.posterior` and
`vae.likelihood`, so that a model with other ones exports other ones. Mean and standard deviation
say all of a posterior whose latents are normal and independent, as those of `VAE` are.

`vae.export` is Keras's and exports the reconstruction. `vae.encoder.export` exports the bare
layers: whoever runs them has to know which numbers are means, and how the others become positive.
"""

import importlib.util
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from .engine import atomic, checks
from .model import VAE

FORMATS = {"saved_model": "", "onnx": ".onnx"}  # with the endings of what is written
ONNX_PACKAGES = ("onnx", "onnxruntime", "tf2onnx")
TOLERANCE = 1e-5  # of an output, or of 1 if that is more


def _encoder(vae):
    def call(images):
        posterior = vae.posterior(images)
        return {"mean": posterior.mean(), "stddev": posterior.stddev()}

    return "images", vae.image_shape, call


def _decoder(vae):
    return "latents", (vae.latent_dim,), lambda latents: {"mean": vae.likelihood(latents).mean()}


NETWORKS = {"encoder": _encoder, "decoder": _decoder}


def export_networks(vae, directory, format="saved_model", networks=tuple(NETWORKS)):
    """Writes encoder and decoder, for `tf.saved_model.load` or for ONNX Runtime.

    Args:
        vae: a `VAE`, of whatever class.
        directory: a new or empty folder. It gets `encoder` and `decoder`, a folder each, or
            `encoder.onnx` and `decoder.onnx`: all at once, or nothing.
        format: "saved_model", or "onnx", which needs `pip install "vae_tf[onnx]"`. A model's
            arithmetic may have no ONNX: so every file is run once, and has to give what the model
            gives.
        networks: which of the two.

    Returns:
        The paths of what was written, a dict by network.

    Raises:
        TypeError: if `vae` is no `VAE`, or `directory` no path.
        ValueError: if another argument is none of these, a weight is beyond ±1e10 or NaN, a
            distribution has no formula for its mean or standard deviation, or an ONNX file would
            give anything else than the model. Nothing is written then.
        ModuleNotFoundError: if a package is missing that ONNX needs.
        OSError: if the folder has content, or cannot be written.

    Example:
        vae_tf.export_networks(vae, "exported", "onnx")
        session = onnxruntime.InferenceSession("exported/decoder.onnx")
        (means,) = session.run(["mean"], {"latents": np.zeros([1, 8], np.float32)})
    """
    checks.instance("vae", vae, VAE, "a vae_tf.VAE")
    directory = checks.path("directory", directory)
    format = checks.one_of("format", format, tuple(FORMATS))
    networks = [networks] if isinstance(networks, str) else networks
    networks = [checks.one_of("networks", name, tuple(NETWORKS)) for name in networks]
    vae.check_weights()
    if format == "onnx":
        _check_packages()
    files = {name: name + FORMATS[format] for name in networks}
    with atomic.new_folder(directory) as folder:
        for name, file in files.items():
            _export(vae, name, folder / file, format)
    return {name: Path(directory, file) for name, file in files.items()}


def _check_packages():
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f'ONNX needs {", ".join(missing)}, not found here: pip install "vae_tf[onnx]"',
            name=missing[0],
        )


class _Network(keras.Model):
    """A model that calls a function, and is saved with no other weights than that uses."""

    def __init__(self, function, name):
        super().__init__(name=name)
        self.function, self.built = function, True

    def call(self, inputs):
        outputs = self.function(inputs)
        return {name: tf.cast(each, tf.float32) for name, each in outputs.items()}


def _export(vae, name, path, format):
    argument, shape, function = NETWORKS[name](vae)
    inputs = np.random.default_rng(0).random([3, *shape], np.float32)
    try:
        outputs = function(inputs)
    except NotImplementedError as error:  # TFP's, of a distribution without a formula
        raise ValueError(f"the {name} cannot be exported: {error}") from error
    signature = [tf.TensorSpec([None, *shape], tf.float32, name=argument)]
    network = _Network(function, name)
    if format == "saved_model":
        network.export(path, "tf_saved_model", verbose=False, input_signature=signature)
        return
    try:
        network.export(path, "onnx", verbose=False, input_signature=signature)
        found = _run_onnx(path, {argument: inputs})
    except OSError:
        raise
    except Exception as error:  # tf2onnx and ONNX Runtime have no class of their own for it
        raise ValueError(_refusal(name, str(error).splitlines()[0])) from error
    for key, values in outputs.items():
        error = np.max(np.abs(found[key] - values) / np.maximum(np.abs(values), 1))
        if not error <= TOLERANCE:
            raise ValueError(_refusal(name, f"its {key} would be wrong by {error:.2g}"))


def _run_onnx(path, inputs):
    """Returns what an ONNX file makes of inputs, a dict of arrays as they are."""
    import onnx  # here, because only ONNX needs them
    import onnxruntime

    onnx.checker.check_model(path)  # names what ONNX does not know; the other only says where it is
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def _refusal(name, reason):
    return (
        f"the {name} cannot be exported as ONNX: {reason}. "
        'format="saved_model" takes whatever TensorFlow runs; networks takes one of the two.'
    )
