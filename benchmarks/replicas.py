"""Measure what a second process gains: `python benchmarks/replicas.py`.

Writes `results-replicas.json` beside this file: milliseconds per update of one process with all
cores, of one with a single core, of two workers with a core each, and of two models at once with a
core each. Some five minutes; leave the machine alone meanwhile.
"""

import argparse
import datetime
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import machine

# What is trained: the class, its arguments, the global batch, and updates that are timed.
WORK = {
    "14×14, 196-128-8": ("VAE", {}, 128, 100),
    "14×14, 196-128-8, large batch": ("VAE", {}, 4_096, 20),
    "28×28, 784-200-200-50": (
        "VAE",
        {"latent_dim": 50, "hidden_units": (200, 200), "image_shape": (28, 28)},
        1_024,
        20,
    ),
    "14×14, PixelVAE": ("PixelVAE", {}, 512, 10),
}
WAYS = ("all cores", "one core", "two workers")
ROUNDS = 3


def main():
    """Measures every piece of work in every way, in turn, or, asked by itself, once."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    parser.add_argument("--once", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(measure(*options.once)))
        return
    from vae_tf.engine import atomic

    found = {name: {way: [] for way in (*WAYS, "two models")} for name in WORK}
    for turn in range(ROUNDS):
        for name, ways in found.items():
            for way, times in ways.items():
                times.append(max(run(name, way)))  # of two, both have to end
                print(f"{turn + 1} of {ROUNDS}, {name}, {way}: {times[-1]:.2f} ms", flush=True)
    updates = {
        name: {
            way: dict(zip(("min", "median", "max"), map(rounded, sorted(times)), strict=True))
            for way, times in ways.items()
        }
        for name, ways in found.items()
    }
    results = {
        "date": datetime.date.today().isoformat(),
        "machine": machine.facts(os.cpu_count()),
        "batch_sizes": {name: work[2] for name, work in WORK.items()},
        "milliseconds_per_update": updates,
    }
    with atomic.replacing(options.output / "results-replicas.json") as temporary:
        temporary.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def rounded(number):
    """Returns a number with four digits that count."""
    return float(f"{number:.4g}")


def run(name, way):
    """Returns milliseconds per update of each process of a way."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [str(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    command = [sys.executable, __file__, "--once", name]
    places = {"two workers": (0, 1), "two models": (0, 1)}.get(way, (0,))
    tasks = [[*command, way, str(place), *ports] for place in places]
    processes = [subprocess.Popen(task, stdout=subprocess.PIPE, text=True) for task in tasks]
    answers = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit(f"{name}, {way} failed. Nothing was written.")
    return [json.loads(answer.splitlines()[-1]) for answer in answers]


def measure(name, way, place, *ports):
    """Returns milliseconds per update, after two epochs that warm up."""
    if way != "all cores":
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[int(place)]})
    if way == "two workers":
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        task = {"type": "worker", "index": int(place)}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
    import contextlib

    import keras
    import numpy as np
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy() if way == "two workers" else None
    import vae_tf

    kind, arguments, batch_size, updates = WORK[name]
    with strategy.scope() if strategy else contextlib.nullcontext():
        vae = getattr(vae_tf, kind)(**arguments)
        vae.compile(keras.optimizers.Adam(1e-3), steps_per_execution=updates)
    shape = (batch_size * updates, *vae.image_shape)
    images = (np.random.default_rng(0).random(shape) < 0.15).astype(np.uint8)
    stamps = []
    stamp = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: stamps.append(time.perf_counter())
    )
    vae.fit(images, batch_size=batch_size, epochs=5, verbose=0, callbacks=[stamp])
    return 1e3 * float(np.median(np.diff(stamps)[1:])) / updates


if __name__ == "__main__":
    main()
