"""Trains under `tf.distribute`, beside a single process; `test_replicas.py` starts it.

    python tests/replica.py mirrored FOLDER [WHAT]
    python tests/replica.py worker FOLDER INDEX PORT PORT WHAT

Prints what it found as JSON, in the last line.
"""

import contextlib
import json
import os
import sys

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

rng = np.random.default_rng(0)
IMAGES = (rng.random((273, 6, 5)) < 0.3).astype(np.uint8)  # batches of 16: the last is of one image
LEVELS = rng.random((273, 6, 5)).astype(np.float32)
WEIGHTS = rng.random(273).astype(np.float32)
RECIPE = {"batch_size": 16, "learning_rate": 5e-3, "evaluate_every": 20}


def sgd():
    return keras.optimizers.SGD(0.01)


def small_vae(kind, **arguments):
    return kind(3, 6, (6, 5), kl_warmup=9, **arguments)


def fitted(strategy, kind, images=IMAGES, optimizer=sgd, weights=None, jit="auto", **arguments):
    """Returns a model that was fitted for two epochs, and all numbers that came of it."""
    with strategy.scope() if strategy else contextlib.nullcontext():
        vae = small_vae(kind, **arguments)
        vae.compile(optimizer(), jit_compile=jit)
        fit = {"batch_size": 16, "epochs": 2, "validation_data": (images[:67],), "verbose": 0}
        history = vae.fit(images, sample_weight=weights, **fit)
    logs = {**history.history, **history.updates}
    return vae, [*vae.get_weights(), *map(np.array, logs.values())]


def piped(strategy, kind):
    """Returns a model that was fitted to a pipeline, and its weights."""
    with strategy.scope() if strategy else contextlib.nullcontext():
        vae = small_vae(kind)
        vae.compile(sgd())
        vae.fit(tf.data.Dataset.from_tensor_slices(IMAGES).batch(16), epochs=2, verbose=0)
    return vae, vae.get_weights()


def apart(ours, others):
    """Returns the largest difference of two lists of arrays, relative where they are above 1."""
    pairs = zip(ours, others, strict=True)
    return float(max(np.max(np.abs(a - b) / np.maximum(np.abs(b), 1)) for a, b in pairs))


def compare(strategy, kind, cases):
    """Returns how far training by replicas is from that in one process, for each case."""
    results = {}
    for name, case in cases.items():
        vae, ours = case(strategy, kind)
        results[name] = apart(ours, case(None, kind)[1])
        results[f"{name}, batches"] = int(vae.optimizer.iterations.value.numpy())
        results[f"{name}, validation"] = vae.history.history.get("val_loss")
        results[f"{name}, replicas"] = vae.distribute_strategy.num_replicas_in_sync
    return results


def mirrored(folder, what="all"):
    """What `MirroredStrategy` of two devices does: of a GPU where there is one, else of the CPU.

    Args:
        folder: where `train` may write.
        what: "one case" where everything comes together, "every case" of one thing, or "all".
    """
    if gpus := tf.config.list_physical_devices("GPU"):  # halves of one; NCCL takes no halves
        kind, device, half = "GPU", gpus[0], tf.config.LogicalDeviceConfiguration(8_000)
        sends = {"cross_device_ops": tf.distribute.ReductionToOneDevice()}
    else:
        kind, device = "CPU", tf.config.list_physical_devices("CPU")[0]
        half, sends = tf.config.LogicalDeviceConfiguration(), {}
    tf.config.set_logical_device_configuration(device, [half] * 2)
    # One for all: TensorFlow mixes up what two of them on the same devices send.
    strategy = tf.distribute.MirroredStrategy([f"{kind}:0", f"{kind}:1"], **sends)
    import vae_tf

    class Laplace(vae_tf.VAE):
        def posterior(self, images):
            loc, scale = tf.split(self.encode(images), 2, axis=-1)
            return tfd.Independent(tfd.Laplace(loc, tf.nn.softplus(scale)), 1)

    results = {}
    if what != "one case":
        results |= compare(strategy, vae_tf.VAE, {
            "SGD": fitted,
            "weights of images": lambda *it: fitted(*it, weights=WEIGHTS),
            "grey levels": lambda *it: fitted(*it, images=LEVELS, dynamic_binarization=True),
            "IWAE": lambda *it: fitted(*it, objective="iwae", num_samples=3),
            "Adam": lambda *it: fitted(*it, optimizer=lambda: keras.optimizers.Adam(0.01)),
            "pipeline": piped,
        })  # fmt: skip
        results["Laplace, loss"] = fitted(strategy, Laplace)[0].history.history["loss"]
        results |= trained(strategy, f"{folder}/mirrored", 90)
    if what == "every case":
        return results
    together = {"images": LEVELS, "dynamic_binarization": True, "weights": WEIGHTS}
    together |= {"objective": "iwae", "num_samples": 3, "jit": False}  # quicker to begin with
    results |= compare(strategy, vae_tf.VAE, {"together": lambda *it: fitted(*it, **together)})
    for kind in (vae_tf.VAE, Laplace):
        with strategy.scope():
            vae = small_vae(kind)

        @tf.function
        def draw(vae=vae):
            same = tf.repeat(tf.constant(IMAGES[:1], tf.float32), 4, axis=0)
            return vae.posterior(same).sample(seed=vae.batch_seed(5))

        draws = strategy.experimental_local_results(strategy.run(draw))
        results[f"closest, {kind.__name__}"] = float(np.abs(draws[0] - draws[1]).min())
    try:
        with strategy.scope():
            vae = small_vae(vae_tf.VAE)
            vae.compile(jit_compile=True)
            vae.fit(IMAGES, verbose=0)
    except ValueError as error:
        results["jit_compile"] = str(error)
    return results


def trained(strategy, directory, updates):
    """What `train` does in a folder, beside what it does in one process."""
    import vae_tf

    digits = vae_tf.from_arrays(IMAGES, name="noise")
    recipe = vae_tf.Recipe(updates=updates, **RECIPE)
    with strategy.scope():
        vae, history = vae_tf.train(digits, recipe, verbose=0, directory=directory)
    alone, other = vae_tf.train(digits, recipe, verbose=0)
    series = [
        [each.kl, *each.validation.values(), *each.training.values()] for each in (history, other)
    ]
    bound = [vae_tf.evaluate(each, IMAGES, 20).marginal_log_likelihood for each in (vae, alone)]
    return {
        "train": apart(vae.get_weights(), alone.get_weights()),
        "train, history": apart(*series),
        "train, bound": apart(bound[:1], bound[1:]),
        "train, sum": float(sum(np.abs(each).sum() for each in vae.get_weights())),
    }


def worker(folder, index, first, second, what):
    """What one of two workers does."""
    addresses = [f"127.0.0.1:{port}" for port in (first, second)]
    task = {"type": "worker", "index": int(index)}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    import vae_tf

    if what == "other":  # one of them has other images, of the same number
        try:
            images = IMAGES if index == "0" else IMAGES[::-1]
            with strategy.scope():
                vae = small_vae(vae_tf.VAE)
                vae.compile(sgd())
            vae.fit(images, batch_size=16, verbose=0)
        except (ValueError, RuntimeError) as error:
            return {"error": type(error).__name__, "says": str(error)}
        return {"error": None}
    if what != "compare":
        return trained(strategy, f"{folder}/run", int(what))
    results = compare(strategy, vae_tf.VAE, {"SGD": fitted, "pipeline": piped})
    results |= trained(strategy, f"{folder}/run", 90)
    with contextlib.suppress(ValueError):
        try:
            trained(strategy, f"{folder}/run", 80)
        except ValueError as error:
            results["another run"] = str(error)
    return results


if __name__ == "__main__":
    print(json.dumps({"mirrored": mirrored, "worker": worker}[sys.argv[1]](*sys.argv[2:])))
