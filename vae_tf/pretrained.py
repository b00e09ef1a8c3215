"""Weights that come with the package, trained by this module from all of MNIST.

name        recipe               digits trained on
writeup     `Recipe.writeup()`   10,000
full        `Recipe.full()`      60,000

`make pretrained` trains them anew. The 5,000-digit sample is part
of MNIST's training set, so these weights have seen its digits.
"""

import json
import time
from pathlib import Path

import keras

from . import files
from .data import load_mnist
from .model import VAE
from .saved import load_model
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
    if not isinstance(name, str) or name not in RECIPES:
        raise ValueError(f"name must be one of {', '.join(RECIPES)}; received {name!r}.")
    vae = load_model(FOLDER / f"{name}.keras")
    vae.compile(keras.optimizers.Adam(1e-3))
    return vae


def how_trained(name):
    """Returns how the weights of that name were made: a dict of updates, digits, seed, seconds."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def store(vae, name, facts):
    """Writes a model's configuration and weights, without its optimizer, and facts about them."""
    bare = VAE.from_config(vae.get_config() | {"name": name})
    bare.set_weights(vae.get_weights())
    FOLDER.mkdir(exist_ok=True)
    with files.whole(FOLDER / f"{name}.keras") as temporary:
        bare.save(temporary)
    with files.whole(FOLDER / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n")


def main():
    """Trains and stores the weights of every recipe."""
    digits = load_mnist()
    if digits.is_sample:
        raise SystemExit("pretrained weights need all of MNIST: set VAE_TF_MNIST_DIR")
    for name in RECIPES:
        recipe, start = RECIPES[name](), time.perf_counter()
        vae, history = train(digits, recipe, seed=SEED, verbose=2)
        facts = {
            "digits": 10 * recipe.digits_per_class
            if recipe.digits_per_class
            else len(digits.train),
            "updates": recipe.updates,
            "batch_size": recipe.batch_size,
            "seed": SEED,
            "seconds": round(time.perf_counter() - start, 1),  # two cores, compiling included
        }
        store(vae, name, facts)
        elbo = history.validation["log_likelihood"][-1] - history.validation["kl"][-1]
        print(f"{name}: validation ELBO {elbo:.2f} nats; {facts}")
