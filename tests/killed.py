"""Kills training runs; `test_resume.py` goes on with what they leave.

    python tests/killed.py FOLDER KILLS SEED

Every other kill comes at a random moment from outside; the others come while a file is saved: when
half of it is written, before it is renamed, or after. Two children with one thread come in turn
with two that have as many as the machine offers. Prints, as JSON, [directory, how it was killed]
for each.
"""

import json
import os
import random
import select
import signal
import sys
import time
from pathlib import Path

import tensorflow as tf
from patterns import patterns

import vae_tf
from vae_tf.engine import atomic, course

RECIPE = vae_tf.Recipe(
    updates=795,  # the last block is shorter
    batch_size=32,
    learning_rate=5e-3,
    images_per_class=50,
    kl_warmup=0.2,
    averaging=0.9,
    evaluate_every=25,
)
SEED = 3
FILES = 33 + 2  # state.npz at the start, after every block but the last, and at the end; two more
WHILE_SAVING = ("half a file", "before renaming", "after renaming")


def small_vae(seed=SEED):
    """Returns the model that runs train, as new."""
    return vae_tf.VAE(2, 8, seed=seed)


def main(folder, kills, seed):
    """Returns a list of [directory, how it was killed].

    Args:
        folder: an empty one, to work in.
        kills: how many.
        seed: of the moments; those that come from outside vary with the machine all the same.
    """
    rng = random.Random(seed)
    killed = []
    begin = rng.randrange(4)  # any kind may be the first
    # TensorFlow does not run in this process, or it could not be forked.
    for i in range(begin, begin + kills):
        child = Child(threads=1 + i // 2 % 2)
        if i % 2:
            how, number = rng.choice(WHILE_SAVING), rng.randint(2, FILES)
            directory = folder / f"{i}"
            child.train(directory, how, number)
            died, how = child.end(), f"{how}, file {number}"
        else:
            died = False
            for attempt in range(20):
                directory, moment = folder / f"{i}.{attempt}", rng.random()
                how = f"at {moment:.3f} of a training"
                if died := child.kill(directory, moment):
                    break
        if not died:
            raise RuntimeError(f"run {i} could not be killed: {how}")
        killed.append([str(directory), how])
    return killed


class Child:
    """A forked process that trains in the directories that it is told, over and over."""

    def __init__(self, threads):
        orders, self.orders = os.pipe()
        self.answers, answers = os.pipe()
        self.id = os.fork()
        if self.id == 0:
            os.close(self.orders)
            os.close(self.answers)
            try:
                obey(os.fdopen(orders), answers, threads)
            finally:
                os._exit(1)
        os.close(orders)
        os.close(answers)
        self.duration = None

    def train(self, directory, how="undisturbed", number=0):
        """Lets it train; how it kills itself, and while it writes which file."""
        os.write(self.orders, (json.dumps([str(directory), how, number]) + "\n").encode())

    def kill(self, directory, moment):
        """Kills it at a moment in [0, 1) of a training; returns whether that came in time."""
        if self.duration is None:  # a first training: compiles
            self.train(directory.with_name(f"{directory.name}.first"))
            os.read(self.answers, 1)
            self.train(directory.with_name(f"{directory.name}.timed"))
            began = time.monotonic()
            os.read(self.answers, 1)
            self.duration = time.monotonic() - began
        self.train(directory)
        if select.select([self.answers], [], [], moment * self.duration)[0]:
            os.read(self.answers, 1)
            return False
        os.kill(self.id, signal.SIGKILL)
        return self.end()

    def end(self):
        """Waits for its end; returns whether it was killed in the middle of a training."""
        _, status = os.waitpid(self.id, 0)
        finished = os.read(self.answers, 1)
        os.close(self.orders)
        os.close(self.answers)
        return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and not finished


def obey(orders, answers, threads):
    """What a child does: trains as told, line by line, and answers with a byte for each."""
    if threads == 1:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    course.SAVE_EVERY = 0.0
    digits = patterns()
    for line in orders:
        directory, how, number = json.loads(line)
        if how in WHILE_SAVING:
            kill_while_saving(how, number)
        vae_tf.train(digits, RECIPE, small_vae(), verbose=0, directory=directory)
        os.write(answers, b".")


def kill_while_saving(how, number):
    """Lets this process kill itself when it writes file number `number` from now."""
    fsync, replace, count = os.fsync, os.replace, 0

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def counting_fsync(file):
        nonlocal count
        count += 1
        if count == number and how == "half a file":
            os.ftruncate(file, os.fstat(file).st_size // 2)
            die()
        fsync(file)

    def counting_replace(*paths):
        if count == number and how == "before renaming":
            die()
        replace(*paths)
        if count == number:
            die()

    atomic.os = type("os", (), {**vars(os), "fsync": counting_fsync, "replace": counting_replace})


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
