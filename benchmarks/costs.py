"""What vae_tf costs beside weight updates: imports, compilation, memory, samples."""

import resource
import statistics
import subprocess
import sys
import time

IMPORTS = """
import time
began = time.perf_counter()
import tensorflow, keras, tensorflow_probability as tfp
tfp.distributions.Normal  # TFP loads its parts on first use
loaded = time.perf_counter()
import vae_tf
vae_tf.VAE
print(loaded - began, time.perf_counter() - loaded)
"""


def imports(rounds, environment):
    """Returns the seconds that a new Python takes to import the frameworks, and vae_tf after them.

    Both are timed in one process: how long two processes take differs by more than what is asked.
    """
    seconds = {"its frameworks": [], "vae_tf beyond its frameworks": []}
    for number in range(rounds + 1):
        new = subprocess.run(
            [sys.executable, "-c", IMPORTS], env=environment, capture_output=True, text=True
        )
        if new.returncode:
            raise RuntimeError(f"importing vae_tf failed:\n{new.stderr}")
        if number > 0:  # the first brings the files into memory
            for name, time_taken in zip(seconds, new.stdout.split(), strict=True):
                seconds[name].append(float(time_taken))
    return seconds


def in_this_process(images, batch_size):
    """Returns seconds of compilation and sampling, and peak resident size, of a new process.

    Compilation is what the first epoch of `fit` takes more than the median of later ones.
    """
    import keras

    from vae_tf import VAE

    memory = {"peak_memory_after_import_mb": peak_memory() / 1e6}

    def new_model(seed):
        vae = VAE(seed=seed)
        vae.compile(keras.optimizers.Adam(2e-3))
        return vae

    def epoch(vae):
        return _seconds(lambda: vae.fit(images, batch_size=batch_size, verbose=0))

    vae = new_model(0)
    first, later = epoch(vae), statistics.median(epoch(vae) for _ in range(5))
    memory["peak_memory_after_training_mb"] = peak_memory() / 1e6
    second_model = epoch(new_model(1))
    samples = [_seconds(lambda: vae.sample(10_000).numpy()) for _ in range(6)]
    return {
        "first_block_seconds": first - later,
        "first_block_of_a_second_model_seconds": second_model - later,
        "samples_10000_first_seconds": samples[0],
        "samples_10000_later_seconds": statistics.median(samples[1:]),
        **memory,
    }


def peak_memory():
    """Returns this process's largest resident size so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _seconds(action):
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
