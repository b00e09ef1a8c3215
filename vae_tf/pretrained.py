"""Weights that come with the package, trained by this module from all of MNIST.

name        recipe               digits trained on
writeup     `Recipe.writeup()`   10,000
full        `Recipe.full()`      60,000

`python -m vae_tf.pretrained` (`make pretrained`) trains them anew. The 5,000-digit sample is part
of MNIST's training set, so these weights have seen its digits.
"""

import os
import sys
from pathlib import Path

import keras

from .data import load_mnist
from .model import VAE
from .training import Recipe, train

FOLDER = Path(__file__).with_name("pretrained")
RECIPES = {"writeup": Recipe.writeup, "full": Recipe.full}
SEED = 0


def load_pretrained(name):
    """Loads a trained VAE that comes with the package; needs no network.

    Args:
        name: "writeup" or "full".

    Returns:
        A `VAE`, compiled with Adam at a rate of 1e-3, should it be trained further.

    Raises:
        ValueError: if there are no weights of that name.
    """
    if name not in RECIPES:
        raise ValueError(f"name must be one of {', '.join(RECIPES)}; received {name!r}.")
    vae = keras.saving.load_model(FOLDER / f"{name}.keras", safe_mode=True)
    vae.compile(keras.optimizers.Adam(1e-3))
    return vae


def store(vae, name):
    """Writes a model's configuration and weights, without its optimizer, to the package."""
    bare = VAE.from_config(vae.get_config() | {"name": name})
    bare.set_weights(vae.get_weights())
    FOLDER.mkdir(exist_ok=True)
    temporary = FOLDER / f"{name}.tmp.keras"
    bare.save(temporary)
    os.replace(temporary, FOLDER / f"{name}.keras")


def main():
    """Trains and stores the weights of every recipe, or of those named on the command line."""
    digits = load_mnist()
    if digits.is_sample:
        raise SystemExit("pretrained weights need all of MNIST: set VAE_TF_MNIST_DIR")
    for name in sys.argv[1:] or RECIPES:
        vae, history = train(digits, RECIPES[name](), seed=SEED, verbose=2)
        store(vae, name)
        elbo = history.validation["log_likelihood"][-1] - history.validation["kl"][-1]
        print(f"{name}: validation ELBO {elbo:.2f} nats after {len(history.kl):,} updates")


if __name__ == "__main__":
    main()
