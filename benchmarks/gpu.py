"""Train on a GPU and on the processor beside it, and compare: `python benchmarks/gpu.py`.

Writes `results-gpu.json` beside this file, and exits with an error if the two differ by more than
`TOLERANCES`. Both recipes are trained whole; the literature's model and `PixelVAE` for a while; and
a `MirroredStrategy` of two halves of the GPU trains beside one process. Some nine minutes; a part
is a process of its own. JAX and PyTorch are timed where they are installed with a GPU's libraries.
"""

import argparse
import dataclasses
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

BATCHES = {32: (10_000, 6), 128: (60_000, 4), 1_024: (60_000, 7)}  # digits, epochs
PARTS = [
    ("writeup", "GPU"),
    ("writeup", "CPU"),
    ("speed", "GPU"),
    ("speed_of_jax", "GPU"),
    ("speed_of_pytorch", "GPU"),
    ("full", "GPU"),
    ("shipped", "CPU"),
    ("literature", "GPU"),
    ("literature", "CPU"),
    ("pixels", "GPU"),
    ("pixels", "CPU"),
    ("replicas", "GPU"),
    ("sweep", "GPU"),
]
# In nats per digit. A GPU multiplies in TF32, and rounding grows from update to update.
TOLERANCES = {
    "writeup": {"loss_of_100_updates_at_most": 0.02, "elbo": 0.1, "bound": 0.1},
    "full": {"elbo": 0.3, "bound": 0.3},  # beside the weights that ship, from another processor
    "literature": {"loss_of_100_updates_at_most": 0.1, "elbo": 0.3, "bound": 0.3},
    "pixels": {"loss_of_100_updates_at_most": 0.1, "elbo": 0.3, "bound": 0.3},
    # Two replicas beside one process, without TF32: weights, relative where they are above 1.
    "replicas": {"SGD": 1e-5, "IWAE": 1e-5, "grey levels": 1e-5, "Adam": 1e-4, "train": 1e-4},
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

    beyond = []
    for name, device in PARTS:
        try:
            found = part(name, device)
        except subprocess.CalledProcessError:
            beyond.append(f"{name} on the {device} failed")
            continue
        print(name, device, found, flush=True)
        results[f"{name}, {device}"] = found
        compare(results, name, device)
        with atomic.replacing(options.output) as temporary:  # also what there is so far
            temporary.write_text(json.dumps(results, indent=1) + "\n")
    if beyond := beyond + beyond_tolerance(results):
        sys.exit("The GPU's results are not the processor's: " + "; ".join(beyond))
    print("The GPU's results are the processor's, within tolerance.")


def beyond_tolerance(results):
    """Returns what differs by more than it may, as sentences."""
    return [
        f"{name}, {number}: {difference:g}, and {allowed[number]:g} may be"
        for name, allowed in TOLERANCES.items()
        for number, difference in results.get(f"differences, {name}", {}).items()
        if not abs(difference) <= allowed[number]  # so NaN is caught as well
    ]


def part(name, device):
    """Runs a part in a process of its own, that sees no GPU where it is to run on the processor."""
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "CPU" else {}
    command = [sys.executable, __file__, "--part", name, device]
    result = subprocess.run(
        command, env=os.environ | hidden, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(result.stdout.splitlines()[-1])


def compare(results, name, device):
    """Adds to the results how far a GPU is from the processor, once both have run."""
    found = results[f"{name}, {device}"]
    gpu = results.get(f"{name if name != 'shipped' else 'full'}, GPU")
    if name == "replicas":
        results["differences, replicas"] = {each: found.pop(each) for each in TOLERANCES[name]}
    elif name == "shipped" and found and gpu:
        results["differences, full"] = of_bounds(gpu, found)
    elif device == "CPU" and found and gpu:
        losses = np.abs(np.subtract(gpu.pop("first_losses"), found.pop("first_losses")))
        at_most = {"loss_of_100_updates_at_most": float(losses.max())}
        results[f"differences, {name}"] = at_most | of_bounds(gpu, found)


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


def recipe(made, digits=None, make=None, num_samples=500, trainings=2):
    """Trains by a recipe and evaluates; returns seconds and bounds of the validation digits."""
    import vae_tf

    digits, seconds, trained = digits or vae_tf.load_mnist(), [], []
    for _ in range(trainings):
        vae = make() if make else None
        began = time.perf_counter()
        trained.append(vae_tf.train(digits, made, vae, seed=0, verbose=0))
        seconds.append(round(time.perf_counter() - began, 2))
    vae, history = trained[0]
    began = time.perf_counter()
    images = digits.validation.images
    if vae.dynamic_binarization:
        images = (images > 0.5).astype(np.uint8)
    estimates = vae_tf.evaluate(vae, images, num_samples).estimates
    weights = [each.get_weights() for each, _ in trained]
    same = all((a == b).all() for a, b in zip(weights[0], weights[-1], strict=True))
    losses = history.kl - history.log_likelihood
    return (
        where()
        | {
            "data": digits.name,
            "updates": made.updates,
            "seconds": seconds,  # the first with compiling
            "same_bits_again": bool(same) if len(weights) > 1 else None,
            "elbo": estimates["elbo"]._asdict(),
            "bound": estimates["marginal_log_likelihood"]._asdict(),
            "num_samples": num_samples,
            "seconds_of_bounds": round(time.perf_counter() - began, 2),
            "first_losses": losses[:100].tolist(),
        }
    )


def writeup(device):
    """The writeup's recipe, twice."""
    import vae_tf

    return recipe(vae_tf.Recipe.writeup())


def full(device):
    """The full recipe."""
    import vae_tf

    found = recipe(vae_tf.Recipe.full(), trainings=1)
    del found["first_losses"]
    return found


def literature(device):
    """The literature's model at 28×28, its pixels drawn anew, for 4,000 updates."""
    import vae_tf

    made = dataclasses.replace(vae_tf.Recipe.literature(), updates=4_000)
    model = {"latent_dim": 50, "hidden_units": (200, 200), "image_shape": (28, 28)}
    return recipe(
        made,
        vae_tf.load_mnist(size=28, binarization="dynamic"),
        lambda: vae_tf.VAE(**model, dynamic_binarization=True),
        num_samples=100,
    )


def pixels(device):
    """`PixelVAE`, for 300 updates."""
    import vae_tf

    made = vae_tf.Recipe(updates=300, batch_size=64, learning_rate=5e-3, evaluate_every=100)
    return recipe(made, make=vae_tf.PixelVAE, num_samples=20)


def replicas(device):
    """How far two halves of a GPU train from where one process does, without TF32."""
    program = Path(__file__).parents[1] / "tests" / "replica.py"
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            [sys.executable, program, "mirrored", folder],
            env=os.environ | {"NVIDIA_TF32_OVERRIDE": "0"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return json.loads(result.stdout.splitlines()[-1])


def sweep(device):
    """Four models that differ in β and seed, trained in one process: they compile once."""
    import functools

    import vae_tf
    from vae_tf.analysis.sweeps import train_all

    models = [functools.partial(vae_tf.VAE, beta=beta) for beta in (0.5, 1.0)]
    recipe, began = vae_tf.Recipe(updates=2_000, batch_size=128, learning_rate=2e-3), time.time()
    found = train_all(vae_tf.load_mnist(), models, recipe, seeds=(0, 1), num_samples=100)
    bounds = [[each.summary()["marginal_log_likelihood"] for each in row] for row in found]
    return where() | {"updates": 2_000, "seconds": round(time.time() - began, 2), "bounds": bounds}


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
