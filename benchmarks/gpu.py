"""Train on a GPU and on the processor beside it, and compare: `python benchmarks/gpu.py`.

Writes `results-gpu.json` beside this file, and exits with an error if the two differ by more than
`TOLERANCES`. Three to six minutes; each part is a process of its own. JAX and PyTorch are timed
where they are installed with a GPU's libraries.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

BATCHES = {32: (10_000, 6), 128: (60_000, 4), 1_024: (60_000, 7)}  # digits, epochs
PARTS = [
    ("writeup", "GPU"),
    ("writeup", "CPU"),
    ("full", "GPU"),
    ("shipped", "CPU"),
    ("speed", "GPU"),
    ("speed_of_jax", "GPU"),
    ("speed_of_pytorch", "GPU"),
]
# In nats per digit. A GPU multiplies in TF32, and rounding grows from update to update.
TOLERANCES = {
    "writeup": {"loss_of_100_updates_at_most": 0.02, "elbo": 0.1, "bound": 0.1},
    "full": {"elbo": 0.3, "bound": 0.3},  # beside the weights that ship, from another processor
}


def main():
    """Runs every part, or, asked by itself, one of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("results-gpu.json"))
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        name, device = options.part
        print(json.dumps(globals()[name](device)))
        return
    results = {"date": datetime.date.today().isoformat(), "processor": platform.machine()}
    results |= {"cores": os.cpu_count()}
    if part("where", "GPU")["device"] == "none":
        sys.exit("TensorFlow finds no GPU. Nothing was written.")
    from vae_tf.engine import atomic

    for name, device in PARTS:
        found = part(name, device)
        print(name, device, found, flush=True)
        results[f"{name}, {device}"] = found
        if (name, device) == ("writeup", "CPU"):
            results["differences"] = differences(results)
        if name == "shipped" and found:
            results["differences, full"] = of_bounds(results["full, GPU"], found)
        with atomic.replacing(options.output) as temporary:  # also what there is so far
            temporary.write_text(json.dumps(results, indent=1) + "\n")
    if beyond := beyond_tolerance(results):
        sys.exit("The GPU's results differ from the processor's: " + "; ".join(beyond))
    print("The GPU's results are the processor's, within tolerance.")


def beyond_tolerance(results):
    """Returns what differs by more than it may, as sentences."""
    pairs = {"writeup": "differences", "full": "differences, full"}
    return [
        f"{name} recipe, {number}: {difference:g} nats, and {TOLERANCES[name][number]:g} may be"
        for name, key in pairs.items()
        for number, difference in results.get(key, {}).items()
        if not abs(difference) <= TOLERANCES[name][number]  # so NaN is caught as well
    ]


def part(name, device):
    """Runs a part in a process of its own, that sees no GPU where it is to run on the processor."""
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "CPU" else {}
    command = [sys.executable, __file__, "--part", name, device]
    result = subprocess.run(command, env=os.environ | hidden, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        sys.exit(f"{name} on the {device} failed. Nothing was written.")
    return json.loads(result.stdout.splitlines()[-1])


def differences(results):
    """Returns how far the GPU's training is from the processor's, in nats per digit."""
    gpu, cpu = (results[f"writeup, {device}"] for device in ("GPU", "CPU"))
    losses = np.abs(np.subtract(gpu.pop("first_losses"), cpu.pop("first_losses")))
    return {"loss_of_100_updates_at_most": float(losses.max()), **of_bounds(gpu, cpu)}


def of_bounds(one, other):
    """Returns the differences of both bounds, in nats per digit."""
    return {name: one[name]["mean"] - other[name]["mean"] for name in ("elbo", "bound")}


def where(device=None):
    """Returns the device that TensorFlow trains on, by name, or "none" for the processor."""
    import tensorflow as tf

    names = [
        tf.config.experimental.get_device_details(device).get("device_name", "a GPU")
        for device in tf.config.list_physical_devices("GPU")
    ]
    return {"device": names[0] if names else "none", "tensorflow": tf.__version__}


def recipe(made):
    """Trains by a recipe and evaluates; returns seconds and bounds of the validation digits."""
    import vae_tf

    digits = vae_tf.load_mnist()
    seconds, trained = [], []
    for _ in range(2 if made.updates < 10_000 else 1):
        began = time.perf_counter()
        trained.append(vae_tf.train(digits, made, seed=0, verbose=0))
        seconds.append(round(time.perf_counter() - began, 2))
    found = vae_tf.evaluate(trained[0][0], digits.validation.images, num_samples=500)
    estimates, history = found.estimates, trained[0][1]
    weights = [vae.get_weights() for vae, _ in trained]
    same = all((a == b).all() for a, b in zip(weights[0], weights[-1], strict=True))
    return (
        where()
        | {
            "data": digits.name,
            "updates": made.updates,
            "seconds": seconds,  # the first with compiling
            "same_bits_again": bool(same) if len(weights) > 1 else None,
            "elbo": estimates["elbo"]._asdict(),
            "bound": estimates["marginal_log_likelihood"]._asdict(),
            "num_samples": 500,
            "first_losses": (history.kl - history.log_likelihood)[:100].tolist(),
        }
    )


def writeup(device):
    """The writeup's recipe, twice."""
    import vae_tf

    return recipe(vae_tf.Recipe.writeup())


def full(device):
    """The full recipe."""
    import vae_tf

    found = recipe(vae_tf.Recipe.full())
    del found["first_losses"]
    return found


def shipped(device):
    """The bounds of the weights that ship, of the full recipe, or None without all of MNIST."""
    import vae_tf

    digits = vae_tf.load_mnist()
    if digits.name != "MNIST":
        return None
    found = vae_tf.evaluate(
        vae_tf.load_pretrained("full"), digits.validation.images, num_samples=500
    )
    names = {"elbo": "elbo", "bound": "marginal_log_likelihood"}
    return {name: found.estimates[key]._asdict() for name, key in names.items()}


def speed_of_jax(device):
    """Microseconds per update of JAX's scan, or None where JAX has no GPU."""
    try:
        import jax
        from peers.jax_scan import Peer
    except ImportError:
        return None
    return _speed_of(Peer) if jax.default_backend() == "gpu" else None


def speed_of_pytorch(device):
    """Microseconds per update of PyTorch, or None where it has no GPU."""
    try:
        import torch
        from peers.torch_memory import Peer
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    torch.set_default_device("cuda")
    return _speed_of(Peer)


def _speed_of(peer):
    """Returns the median over epochs but the first, as `speed` does."""
    import vae_tf

    digits, found = vae_tf.load_mnist().train.images, {}
    for batch_size, (size, epochs) in BATCHES.items():
        stamps = []

        def stamp(stamps=stamps):
            stamps.append(time.perf_counter())  # and go on: None is no reason to stop

        peer(np.resize(digits, (size, 14, 14)), batch_size, seed=0).train(epochs, stamp)
        each = np.median(np.diff(stamps)) / (size // batch_size)
        found[f"microseconds_per_update_at_{batch_size}"] = round(1e6 * float(each), 1)
    return found


def speed(device):
    """Microseconds per update of `fit`: the median over epochs but the first."""
    import keras

    import vae_tf

    digits, found = vae_tf.load_mnist().train.images, where()
    for batch_size, (size, epochs) in BATCHES.items():
        stamps = []
        stamp = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs, stamps=stamps: stamps.append(time.perf_counter())
        )
        vae = vae_tf.VAE()
        vae.compile(keras.optimizers.Adam(2e-3))
        images = np.resize(digits, (size, 14, 14))
        fit = {"batch_size": batch_size, "epochs": epochs, "verbose": 0}
        vae.fit(images, callbacks=[stamp], **fit)
        each = np.median(np.diff(stamps)) / -(-size // batch_size)
        found[f"microseconds_per_update_at_{batch_size}"] = round(1e6 * float(each), 1)
    return found


if __name__ == "__main__":
    main()
