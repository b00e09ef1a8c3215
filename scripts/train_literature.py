"""Trains the models of notebook 11, and measures them as the literature does.

    python scripts/train_literature.py literature         # half an hour; stopped, it goes on
    python scripts/train_literature.py literature_iwae    # an hour and a half
    python scripts/train_literature.py --measure literature    # stored weights alone, minutes

Trained are 784-200-200-50 networks on MNIST's 60,000 training digits, binarized dynamically. What
was measured goes to `figures/results.json`: the bound from 5,000 draws, of all 10,000 test digits,
binarized once. That is the literature's protocol; the 1,000 of them that are validation digits here
served to choose the learning rate.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from vae_tf import VAE, Recipe, evaluate, load_mnist, load_pretrained, train
from vae_tf.analysis import results
from vae_tf.engine import atomic
from vae_tf.pretrained import FOLDER, how_trained

SEED = 0
ROOT = Path(__file__).parent.parent
ARCHITECTURE = {
    "latent_dim": 50,
    "hidden_units": (200, 200),
    "image_shape": (28, 28),
    "dynamic_binarization": True,
}
MODELS = {
    "literature": ({"objective": "elbo"}, Recipe.literature()),
    "literature_iwae": ({"objective": "iwae", "num_samples": 5}, Recipe.literature()),
}
NUM_SAMPLES = 5_000


def train_and_store(digits, name):
    """Trains a model, in a folder from which a stopped run goes on, and stores it as float16."""
    arguments, recipe = MODELS[name]
    folder = ROOT / "runs" / name
    folder.parent.mkdir(exist_ok=True)
    start, processor_start = time.perf_counter(), time.process_time()
    vae, history = train(
        digits,
        recipe,
        VAE(**ARCHITECTURE, **arguments, seed=SEED),
        verbose=2,
        directory=folder,
    )
    facts = {
        "arguments": ARCHITECTURE | arguments,
        "digits": len(digits.train),
        "updates": recipe.updates,
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "seed": SEED,
        # Since this start; a run that was stopped took longer.
        "seconds": round(time.perf_counter() - start, 1),
        "processor_seconds": round(time.process_time() - processor_start, 1),
    }
    last = {
        kind: float(terms["log_likelihood"][-1] - terms["kl"][-1])
        for kind, terms in {"training": history.training, "validation": history.validation}.items()
    }
    print(f"{name}: last ELBO {last}")
    weights = [weight.astype(np.float16) for weight in vae.get_weights()]
    with atomic.replacing(FOLDER / f"{name}.npz") as temporary:
        np.savez_compressed(temporary, *weights)
    write_facts(name, facts)
    check = digits.validation.images
    bounds = [evaluate(each, check, num_samples=500) for each in (vae, load_pretrained(name))]
    change = np.mean(bounds[1].marginal_log_likelihood - bounds[0].marginal_log_likelihood)
    print(f"{name}: storing as float16 changes the bound by {change:.5f} nats")
    if abs(change) > 0.01:
        raise SystemExit("float16 costs more than 0.01 nats: store float32.")


def write_facts(name, facts):
    """Writes how a model was made, beside its weights."""
    with atomic.replacing(FOLDER / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n")


def measure(digits, name):
    """Records the bounds of a stored model on all 10,000 test digits, also beside its weights."""
    vae, start = load_pretrained(name), time.perf_counter()
    facts = how_trained(name)
    facts.pop("measured", None)
    images = np.concatenate([digits.validation.images, digits.test.images])
    found = evaluate(vae, images, num_samples=NUM_SAMPLES, verbose=1)
    results.record(
        ROOT / "figures",
        f"{name}, all 10,000 test digits",
        digits,
        found.summary(),
        command=f"python scripts/train_literature.py --measure {name}",
        training=facts,
        seconds=round(time.perf_counter() - start, 1),
    )
    kept = ("num_images", "num_samples", "elbo", "marginal_log_likelihood")
    entry = results.read(ROOT / "figures")[f"{name}, all 10,000 test digits"]
    write_facts(name, facts | {"measured": {key: entry[key] for key in kept}})
    print(f"{name}: {found}")


def main():
    """Does what the command line asks for."""
    parser = argparse.ArgumentParser(description="Train and measure the models of notebook 11.")
    parser.add_argument("names", nargs="+", choices=MODELS)
    parser.add_argument("--measure", action="store_true", help="measure the stored weights alone")
    arguments = parser.parse_args()
    if not arguments.measure:
        # Two trainings side by side take a core each; two cores for one are not twice as fast.
        tf.config.threading.set_intra_op_parallelism_threads(1)
    digits = load_mnist(size=28, binarization="dynamic")
    if digits.is_sample:
        raise SystemExit("this needs all of MNIST: set VAE_TF_MNIST_DIR")
    for name in arguments.names:
        if not arguments.measure:
            train_and_store(digits, name)
        measure(digits, name)


if __name__ == "__main__":
    main()
