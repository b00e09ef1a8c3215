"""The latent explorer: a trained VAE in one web page, which opens from disk and needs no network.

    export_explorer(vae, digits, "latent_explorer.html")

`page.html`, beside this module, is the page; its places in double braces are filled here:

place               filled with
{{policy}}          a Content-Security-Policy: the page's own script and style by hash, no request
{{stored}}          JSON of the weights and images; the page does the networks' arithmetic itself
{{image}}, {{Image}}, {{images}}   what the prose calls the images: digits, or pictures

The map is of posterior means, along the two directions in which they vary the most (principal
components). Everything measured in nats is per image.
"""

import base64
import hashlib
import json
import re
from pathlib import Path

import keras
import numpy as np
import tensorflow_probability as tfp

from ..data import DATASET, Dataset
from ..engine import atomic, checks
from ..engine.pixels_in_turn import places
from ..model import SMALLEST_SCALE, VAE
from ..pixel_vae import MixtureVAE, PixelVAE

tfd = tfp.distributions

TEMPLATE = Path(__file__).with_name("page.html")
KINDS = (PixelVAE, MixtureVAE, VAE)  # whose arithmetic the page does, each before its base class
MAP_IMAGES = 1_000  # at 196 bits each, 33 kB of the page's 600
NODES = 64  # of Gauss and Hermite's rule, which then gives a KL to two decimals
PICKS_PER_CLASS, MOST_PICKS = 4, 40
WORDS = {  # own images are called pictures, which takes the same article as digits
    True: {"{{image}}": "digit", "{{Image}}": "Digit", "{{images}}": "handwritten digits"},
    False: {"{{image}}": "picture", "{{Image}}": "Picture", "{{images}}": "pictures"},
}


def export_explorer(vae, data, path):
    """Writes the latent explorer of a trained model: one HTML file that asks nothing of a network.

    The same model and images give the same file, which appears whole or not at all.

    Args:
        vae: a `VAE`, `MixtureVAE` or `PixelVAE` for images of this size, with any sizes of layers.
            The page does these models' own arithmetic, so a subclass must have the prior,
            posterior, likelihood and kinds of layers of the one it is made of; its objective may be
            another. The weights of a `PixelVAE` are rounded to 16 bits, so that the page stays
            small.
        data: a `Dataset`, with labels or without. The page has the first 1,000 images of the
            validation split.
        path: the file to write, in a folder that exists. A file that is there is replaced.

    Returns:
        The path, a `Path`.

    Raises:
        TypeError: if `vae` is not a `VAE`, `data` not a `Dataset` or `path` not a path.
        ValueError: if the page could not do the model's arithmetic, a weight is NaN or beyond
            ±1e10, of a `PixelVAE` beyond ±65,504, or the images do not fit the model. Nothing is
            written then.
        OSError: if `path` is a folder, or in a folder that does not exist or cannot be written.
    """
    path = _checked_path(path)
    checks.instance("vae", vae, VAE, "a vae_tf.VAE")
    checks.instance("data", data, Dataset, DATASET)
    vae.check_weights()
    model = _model(vae)
    images = vae.checked_images(data.validation.images[:MAP_IMAGES])  # [N, height, width]
    labels = data.validation.labels
    labels = None if labels is None else labels[:MAP_IMAGES]  # [N]
    are_digits = data.is_mnist
    stored = {"source": data.name, "areDigits": are_digits, **model}
    stored |= {**_images(vae, images, labels), **_map(vae, images)}
    template = TEMPLATE.read_text(encoding="utf-8")
    for place, word in WORDS[are_digits].items():
        template = template.replace(place, word)
    page = _page(template, stored)
    with atomic.replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
    return path


def _checked_path(path):
    path = checks.path("path", path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file in it.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} is not a folder; make it first.")
    return path


def _model(vae):
    """Returns sizes and weights; kernels [inputs, outputs] row by row, each before its biases.

    The weights stand in this order: encoder, decoder, layers of pixels in turn, prior.

    Raises:
        ValueError: if the page could not do the model's arithmetic.
    """
    kind = next(kind for kind in KINDS if isinstance(vae, kind))
    for name in ("prior", "posterior", "likelihood", "encode", "decode"):
        if getattr(getattr(vae, name), "__func__", None) is not getattr(kind, name):
            raise ValueError(_refusal(kind, f"its {name} is not {kind.__name__}'s own"))
    encoder = _dense_layers(kind, "encoder", vae.encoder, keras.layers.Flatten, 0)
    decoder = _dense_layers(kind, "decoder", vae.decoder, keras.layers.Reshape, -1)
    arrays = [array for layer in encoder + decoder for array in layer.get_weights()]
    model = {
        "imageShape": list(vae.image_shape),
        "latentDim": vae.latent_dim,
        "encoder": [list(layer.kernel.shape) for layer in encoder],
        "decoder": [list(layer.kernel.shape) for layer in decoder],
        "smallestScale": SMALLEST_SCALE,
    }
    if kind is PixelVAE:
        arrays += [weight for pair in zip(vae.kernels, vae.biases, strict=True) for weight in pair]
        seen = [places(number, vae.kernels) for number in range(len(vae.kernels))]
        model["inTurn"] = {"places": seen, "kernels": [list(each.shape) for each in vae.kernels]}
    if kind is not VAE:
        arrays += [vae.prior_logits, vae.prior_loc, vae.prior_log_scale]
        model["components"] = vae.components
    # In 32 bits the 120,744 weights of a PixelVAE would be 644 kB in base64.
    bits = 16 if kind is PixelVAE else 32
    return model | {"bits": bits, "weights": _packed(arrays, bits)}


def _packed(arrays, bits):
    """Returns numbers of all arrays, one after the other, as floats of so many bits, in base64.

    Raises:
        ValueError: if one is beyond what these floats hold.
    """
    numbers = np.concatenate([np.ravel(array) for array in arrays])
    largest = np.finfo(f"f{bits // 8}").max
    if np.abs(numbers).max() > largest:
        raise ValueError(
            f"the page's weights are of {bits} bits, which hold no number beyond ±{largest:,.0f}; "
            f"this model has one of {numbers[np.abs(numbers).argmax()]:g}."
        )
    return _base64(numbers.astype(f"<f{bits // 8}").tobytes())


def _dense_layers(kind, name, network, shaper, place):
    """Returns a network's dense layers, all tanh but the last.

    Args:
        kind: of the model.
        name: of the network.
        network: these and, in this place, one layer of class `shaper`, which reshapes images.
        shaper, place: of that layer.

    Raises:
        ValueError: if the network is of anything else.
    """
    layers = list(network.layers) if type(network) is keras.Sequential else []
    found = ", ".join(type(layer).__name__ for layer in layers) or type(network).__name__
    shaping = layers.pop(place) if layers else None
    activations = [keras.activations.tanh] * (len(layers) - 1) + [keras.activations.linear]
    if not (
        layers
        and all(type(layer) is keras.layers.Dense for layer in layers)
        and [layer.activation for layer in layers] == activations
        and all(len(layer.get_weights()) == 2 for layer in layers)  # a kernel and biases
        and type(shaping) is shaper
        and getattr(shaping, "data_format", "channels_last") == "channels_last"
        and not any("call" in vars(layer) for layer in [shaping, *layers])  # replaced on it alone
    ):
        raise ValueError(
            _refusal(
                kind, f"its {name} ({found}) is not of dense layers alone, all tanh but the last"
            )
        )
    return layers


def _refusal(kind, reason):
    return (
        f"the page does the arithmetic of a plain vae_tf.{kind.__name__}, and this model is none: "
        f"{reason}. Use vae.sample, vae.reconstruct and vae_tf.figures instead."
    )


def _images(vae, images, labels):
    """Returns the images, one bit a pixel, which of them to pick from, and which two to open with.

    Picks stand row by row, by class. The page opens with the pick that the model redraws best, of
    those with the average ink or more: a 1 is easily redrawn, and shows little. The way from one to
    another leads from there to the best one of another class.
    """
    each = np.arange(len(images)) if labels is None else labels
    classes = [np.flatnonzero(each == label)[:PICKS_PER_CLASS] for label in np.unique(each)]
    picks = [
        int(where[row]) for row in range(PICKS_PER_CLASS) for where in classes if row < len(where)
    ][:MOST_PICKS]
    chosen = images[picks]
    ink = chosen.sum(axis=(1, 2))
    means = np.asarray(vae.likelihood(vae.posterior(chosen).mean()).mean())
    wrong = np.sum((means > 0.5) != chosen, axis=(1, 2))
    errors = np.where(ink >= ink.mean(), wrong, np.inf)
    best = [picks[at] for at in np.argsort(errors, kind="stable")]
    return {
        "images": _base64(np.packbits(images).tobytes()),
        "count": len(images),
        "labels": None if labels is None else labels.tolist(),
        "picks": picks,
        "opening": [best[0], next((n for n in best if each[n] != each[best[0]]), best[-1])],
    }


def _map(vae, images):
    """Returns each dimension's mean KL, and the centre and two axes of the posterior means."""
    posterior = vae.posterior(images).distribution
    kl = np.mean(_kl_per_dimension(posterior, vae.prior()), axis=0)  # over images: [L]
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


def _kl_per_dimension(posterior, prior):
    """Returns the KL of each latent's posterior from the same latent's prior, in nats: [N, L].

    Latents of a mixture depend on each other, so these do not add up to the KL of all.

    Args:
        posterior: normal, of batch shape [N, L].
        prior: independent normals, or a mixture of such, of event shape [L].
    """
    if isinstance(prior, tfd.Independent):
        return tfd.kl_divergence(posterior, prior.distribution)
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()  # now E[f(ε)] = Σ weights · f(nodes), of ε ~ N(0, 1)
    normals = prior.components_distribution.distribution  # [M, L]
    log_priors = []
    for latent in range(posterior.batch_shape[1]):
        component = tfd.Normal(normals.loc[:, latent], normals.scale[:, latent])
        marginal = tfd.MixtureSameFamily(prior.mixture_distribution, component)
        loc, scale = (np.asarray(each)[:, latent] for each in (posterior.loc, posterior.scale))
        latents = loc + scale * nodes[:, None].astype(loc.dtype)  # [NODES, N]
        log_priors.append(weights @ np.asarray(marginal.log_prob(latents), np.float64))
    return -np.asarray(posterior.entropy()) - np.stack(log_priors, axis=1)


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
