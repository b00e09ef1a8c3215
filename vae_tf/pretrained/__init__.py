"""Weights that come with the package, trained from all of MNIST.

name        recipe               digits trained on
writeup     `Recipe.writeup()`   10,000
full        `Recipe.full()`      60,000

`make pretrained` trains them anew (`scripts/train_pretrained.py`). The 5,000-digit sample is part
of MNIST's training set, so these weights have seen its digits.
"""

import json
from pathlib import Path

import keras

from ..engine.loading import load_model

FOLDER = Path(__file__).parent
NAMES = ("writeup", "full")


def load_pretrained(name):
    """Loads a trained VAE that comes with the package; needs no network.

    Args:
        name: "writeup" or "full".

    Returns:
        A `VAE`, compiled with Adam at a rate of 1e-3, should it be trained further.

    Raises:
        ValueError: if there are no weights of that name.
    """
    if not isinstance(name, str) or name not in NAMES:
        raise ValueError(f"name must be one of {', '.join(NAMES)}; received {name!r}.")
    vae = load_model(FOLDER / f"{name}.keras")
    vae.compile(keras.optimizers.Adam(1e-3))
    return vae


def how_trained(name):
    """Returns how the weights of that name were made: a dict of updates, digits, seed, seconds."""
    return json.loads((FOLDER / f"{name}.json").read_text())
