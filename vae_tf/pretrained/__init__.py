"""Weights that come with the package, trained from all of MNIST.

name               recipe                  digits trained on
writeup            `Recipe.writeup()`      10,000
full               `Recipe.full()`         60,000
literature         `Recipe.literature()`   60,000, of 28×28 pixels, binarized dynamically
literature_iwae    the same                the same; the objective is the bound from 5 draws
pixel              its script's own        60,000; a `PixelVAE`

`make pretrained` trains the first two anew (`scripts/train_pretrained.py`),
`scripts/train_literature.py` the next two, whose weights are stored as float16, and
`scripts/train_pixel.py` the last. The 5,000-digit sample is part of MNIST's training set: "writeup"
has seen some of its digits, the others all.
"""

import json
from pathlib import Path

import keras
import numpy as np

from ..engine.loading import load_model
from ..model import VAE

FOLDER = Path(__file__).parent
NAMES = ("writeup", "full", "literature", "literature_iwae", "pixel")


def load_pretrained(name):
    """Loads a trained VAE that comes with the package; needs no network.

    Args:
        name: "writeup", "full", "literature", "literature_iwae" or "pixel".

    Returns:
        A `VAE`, or for "pixel" a `PixelVAE`, compiled with Adam at a rate of 1e-3, should it be
        trained further.

    Raises:
        ValueError: if there are no weights of that name.
    """
    if not isinstance(name, str) or name not in NAMES:
        raise ValueError(f"name must be one of {', '.join(NAMES)}; received {name!r}.")
    halves = FOLDER / f"{name}.npz"
    if halves.exists():
        vae = VAE(**how_trained(name)["arguments"], name=name)
        with np.load(halves, allow_pickle=False) as stored:
            vae.set_weights([stored[key].astype(np.float32) for key in stored.files])
    else:
        vae = load_model(FOLDER / f"{name}.keras")
    vae.compile(keras.optimizers.Adam(1e-3))
    return vae


def how_trained(name):
    """Returns how the weights of that name were made: a dict of updates, digits, seed, seconds."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def stored_draws():
    """Returns draws of the models that `scripts/train_pixel.py` compares, not selected.

    Returns:
        A dict by model of the first draws of each, uint8 [100, 14, 14].
    """
    with np.load(FOLDER / "pixel_draws.npz", allow_pickle=False) as stored:
        bits = {name: np.unpackbits(stored[name], axis=1, count=14 * 14) for name in stored.files}
    return {name: each.reshape(-1, 14, 14) for name, each in bits.items()}
