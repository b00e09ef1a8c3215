"""Try variants of the recipes, on validation digits: `python benchmarks/recipes.py [writeup|full]`.

Writes `recipes.json` beside this file: for each variant the ELBO and the importance-weighted bound
with 100 samples, means over the 1,000 validation digits with standard errors, and the seconds that
training took. The recipes in `vae_tf.training` were chosen by these numbers.
"""

import dataclasses
import json
import sys
import time
from pathlib import Path

import vae_tf
from vae_tf.engine import atomic

VARIANTS = {
    "writeup": [
        {},
        {"learning_rate": 7e-3},
        {"learning_rate": 1.5e-2},
        {"num_samples": 2},
        {"num_samples": 4},
        {"averaging": 0.99},
        {"kl_warmup": 0.2},
    ],
    "full": [
        {"updates": 70_000, "num_samples": 1, "kl_warmup": 0.0},
        {"updates": 60_000, "kl_warmup": 0.0},
        {"updates": 100_000, "kl_warmup": 0.0},
        {"updates": 100_000},
        {},
    ],
}


def main():
    """Trains and evaluates every variant of the recipes named: one seed for `full`, else two."""
    digits = vae_tf.load_mnist()
    file = Path(__file__).with_name("recipes.json")
    rows = json.loads(file.read_text()) if file.exists() else {}
    for name in sys.argv[1:] or VARIANTS:
        rows[name] = []
        for change in VARIANTS[name]:
            recipe = dataclasses.replace(getattr(vae_tf.Recipe, name)(), **change)
            for seed in (0,) if name == "full" else (0, 1):
                start = time.perf_counter()
                vae, _ = vae_tf.train(digits, recipe, seed=seed, verbose=0)
                seconds = round(time.perf_counter() - start, 1)
                found = vae_tf.evaluate(vae, digits.validation.images, num_samples=100)
                summary = {key: found.summary()[key] for key in ("elbo", "marginal_log_likelihood")}
                row = {"change": change, "seed": seed, "seconds": seconds, **summary}
                rows[name].append({"data": digits.name} | row)
                print(name, change, seed, f"{seconds} s", found.estimates["elbo"], flush=True)
                with atomic.replacing(file) as temporary:
                    temporary.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
