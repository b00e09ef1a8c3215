"""The latent explorer: a trained VAE in one web page, which opens from disk and needs no network.

    export_explorer(vae, digits, "latent_explorer.html")

`page.html`, beside this module, is the page; its two places in double braces are filled here:

place        filled with
{{policy}}   a Content-Security-Policy: the page's own script and style by hash, and no request
{{stored}}   JSON of the weights and digits; the page does the networks' arithmetic itself

The map is of posterior means, along the two directions in which they vary the most (principal
components). Everything measured in nats is per image.
"""

import base64
import hashlib
import json
import os
import re
from pathlib import Path

import numpy as np
import tensorflow_probability as tfp

from ..data import Dataset
from ..engine import atomic
from ..model import SMALLEST_SCALE, VAE

TEMPLATE = Path(__file__).with_name("page.html")
MAP_DIGITS = 1_000  # at 196 bits each, 33 kB of the page's 600
PICKS_PER_CLASS = 4


def export_explorer(vae, digits, path):
    """Writes the latent explorer of a trained model: one HTML file that asks nothing of a network.

    The same model and digits give the same file, which appears whole or not at all.

    Args:
        vae: a `VAE` for images of the digits' shape.
        digits: `Dataset`; the page has the first 1,000 of the validation split.
        path: the file to write, in a folder that exists. A file that is there is replaced.

    Returns:
        The path, a `Path`.

    Raises:
        TypeError: if `vae` is not a `VAE`, `digits` not `Dataset` or `path` not a path.
        ValueError: if a weight is beyond ±1e10 or NaN, or the images do not fit the model.
        OSError: if `path` is a folder, or in a folder that does not exist or cannot be written.
    """
    path = _checked_path(path)
    if not isinstance(vae, VAE):
        raise TypeError(f"vae must be a vae_tf.VAE; received {type(vae).__name__}.")
    if not isinstance(digits, Dataset):
        raise TypeError(
            f"digits must be what vae_tf.load_mnist returns; received {type(digits).__name__}."
        )
    vae.check_weights()
    images = vae.checked_images(digits.validation.images[:MAP_DIGITS])  # [N, height, width]
    labels = digits.validation.labels[:MAP_DIGITS]  # [N]
    stored = {"source": digits.name, **_model(vae), **_digits(images, labels), **_map(vae, images)}
    page = _page(TEMPLATE.read_text(encoding="utf-8"), stored)
    with atomic.replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
    return path


def _checked_path(path):
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a string or a Path; received {path!r}.")
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file in it.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} is not a folder; make it first.")
    return path


def _model(vae):
    """Returns sizes and weights; kernels [inputs, outputs] row by row, each before its biases."""
    layers = vae.encoder.get_weights() + vae.decoder.get_weights()
    weights = np.concatenate([array.ravel() for array in layers]).astype("<f4")
    return {
        "imageShape": list(vae.image_shape),
        "latentDim": vae.latent_dim,
        "hiddenUnits": vae.hidden_units,
        "smallestScale": SMALLEST_SCALE,
        "weights": _base64(weights.tobytes()),
    }


def _digits(images, labels):
    """Returns the digits, one bit a pixel, and which of them to pick from: row by row, by class."""
    classes = [np.flatnonzero(labels == label)[:PICKS_PER_CLASS] for label in np.unique(labels)]
    picks = [
        int(where[row]) for row in range(PICKS_PER_CLASS) for where in classes if row < len(where)
    ]
    return {
        "images": _base64(np.packbits(images).tobytes()),
        "labels": labels.tolist(),
        "picks": picks,
    }


def _map(vae, images):
    """Returns each dimension's mean KL, and the centre and two axes of the posterior means."""
    posterior, prior = vae.posterior(images).distribution, vae.prior().distribution
    kl = np.mean(tfp.distributions.kl_divergence(posterior, prior), axis=0)  # over images: [L]
    locs = np.asarray(posterior.loc, np.float64)  # [N, L]
    centre = locs.mean(axis=0)
    _, spread, axes = np.linalg.svd(locs - centre, full_matrices=False)
    variances = spread**2 / max(np.sum(spread**2), np.finfo(float).tiny)
    # One image, or one latent dimension, has fewer than two axes: the others are zero.
    axes = np.pad(axes[:2], [(0, 2 - len(axes[:2])), (0, 0)])  # [2, L]
    # A singular vector's sign is arbitrary: the largest component is made positive.
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    axes = axes * np.where(largest < 0, -1, 1)
    rounded = {"klPerDimension": kl, "centre": centre, "axes": axes, "variances": variances[:2]}
    return {
        name: np.round(np.asarray(values, np.float64), 6).tolist()
        for name, values in rounded.items()
    }


def _page(template, stored):
    (script,) = re.findall(r"<script>(.*?)</script>", template, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", template, re.DOTALL)
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    data = json.dumps(stored, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    data = data.replace("<", r"\u003c")  # nothing in it may end the element that holds it
    return template.replace("{{policy}}", policy).replace("{{stored}}", data)


def _hash(text):
    return f"'sha256-{_base64(hashlib.sha256(text.encode()).digest())}'"


def _base64(data):
    return base64.b64encode(data).decode("ascii")
