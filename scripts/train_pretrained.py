"""Trains and stores the weights that come with the package, from all of MNIST.

python scripts/train_pretrained.py                # all of them: `make pretrained`
python scripts/train_pretrained.py writeup full   # some
"""

import json
import sys
import time

from vae_tf import VAE, Recipe, load_mnist, train
from vae_tf.analysis.classifier import train_classifier
from vae_tf.engine import atomic
from vae_tf.pretrained import FOLDER

SEED = 0
RECIPES = {"writeup": Recipe.writeup(), "full": Recipe.full()}


def store(model, name, facts):
    """Writes a model and facts about it to where the package has its weights."""
    with atomic.replacing(FOLDER / f"{name}.keras") as temporary:
        model.save(temporary)
    with atomic.replacing(FOLDER / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n")
    print(f"{name}: {facts}")


def train_vae(digits, name):
    """Trains and stores the VAE of a recipe, without its optimizer."""
    recipe, start = RECIPES[name], time.perf_counter()
    vae, history = train(digits, recipe, seed=SEED, verbose=2)
    elbo = history.validation["log_likelihood"][-1] - history.validation["kl"][-1]
    print(f"{name}: validation ELBO {elbo:.2f} nats")
    count = recipe.images_per_class
    facts = {
        "digits": len(digits.train.balanced(count) if count else digits.train),
        "updates": recipe.updates,
        "batch_size": recipe.batch_size,
        "seed": SEED,
        "seconds": round(time.perf_counter() - start, 1),  # two cores, compiling included
    }
    bare = VAE.from_config(vae.get_config() | {"name": name})
    bare.set_weights(vae.get_weights())
    store(bare, name, facts)


def train_and_store_classifier(digits):
    """Trains and stores the classifier that samples are measured by."""
    start = time.perf_counter()
    classifier = train_classifier(digits, seed=SEED, verbose=2)
    right = {
        name: (classifier(split.images).classes == split.labels).mean()
        for name, split in {"validation": digits.validation, "test": digits.test}.items()
    }
    facts = {
        "digits": len(digits.train),
        "seed": SEED,
        "temperature": round(classifier.temperature, 4),
        "accuracy": {name: round(float(value), 4) for name, value in right.items()},
        "seconds": round(time.perf_counter() - start, 1),  # two cores
    }
    store(classifier.network, "classifier", facts)


def main():
    """Trains what the command line names, or everything."""
    digits = load_mnist()
    if digits.is_sample:
        raise SystemExit("pretrained weights need all of MNIST: set VAE_TF_MNIST_DIR")
    for name in sys.argv[1:] or [*RECIPES, "classifier"]:
        if name == "classifier":
            train_and_store_classifier(digits)
        elif name in RECIPES:
            train_vae(digits, name)
        else:
            raise SystemExit(f"names are {', '.join(RECIPES)} and classifier; received {name}")


if __name__ == "__main__":
    main()
