"""A process that holds one contender and does what it is told, one command at a time.

Between commands it waits on its standard input and takes no processor time. Commands and replies
are pickled; see `Server` for what there is, and `contender.py` for the other end.
"""

import importlib
import itertools
import os
import pickle
import statistics
import sys
import time
import traceback
import warnings

import costs

THREADS = 2


class Server:
    """The commands."""

    def load(self):
        """Returns training digits (1,000 of each class, and all), validation digits, and a name."""
        from vae_tf.data import load_mnist

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the name says it as well
            digits = load_mnist()
        train, validation = digits.train, digits.validation
        few = train.balanced(1_000).images
        return few, train.images, validation.images, digits.name, digits.is_sample

    def start(self, name, *arguments):
        """Makes the contender `name`; returns what package it could not import, or None."""
        from peers import Skip

        try:
            self.peer = importlib.import_module(f"peers.{name}").Peer(*arguments)
        except ModuleNotFoundError as error:
            return f"{error.name} is not installed"
        except Skip as reason:
            return str(reason)
        return None

    def speed(self, epochs):
        """Trains; returns seconds per update, the median over epochs after the first."""
        ends = []
        self.peer.train(epochs, lambda: ends.append(time.perf_counter()))
        times = [end - start for start, end in itertools.pairwise(ends)]
        return statistics.median(times) / self.peer.updates_per_epoch

    def bound(self, num_samples):
        """Computes bounds; returns the seconds that it took."""
        began = time.perf_counter()
        self.peer.bound(num_samples)
        return time.perf_counter() - began

    def reach(self, target, validation, max_epochs):
        """Trains until the ELBO of validation digits is at least `target`; returns how it went."""
        began, elbos = time.perf_counter(), []

        def reached():
            elbos.append(float(self.peer.elbo(validation)))
            return elbos[-1] >= target

        self.peer.train(max_epochs, reached)
        return {
            "seconds_training": time.perf_counter() - began,
            "updates": len(elbos) * self.peer.updates_per_epoch,
            "elbo": elbos[-1],
        }

    def learn(self, objective, draws, seed):
        """Trains new weights; returns them, and the processor's seconds that it took."""
        began = time.process_time()
        self.peer.train(objective, draws, seed)
        return self.peer.weights(), time.process_time() - began

    def bounds(self, images, num_samples):
        """Returns the bound of each image."""
        return self.peer.bounds(images, num_samples)

    def costs(self, images, batch_size):
        """Returns what vae_tf costs beside updates; for a process that did nothing else."""
        return costs.in_this_process(images, batch_size)

    def peak_memory(self):
        """Returns the process's largest resident size so far, in bytes."""
        return costs.peak_memory()


def main():
    """Answers commands until there are no more."""
    if hasattr(os, "sched_setaffinity"):  # before any library counts the processors
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the replies
    server = Server()
    while True:
        try:
            command, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            reply = ("done", getattr(server, command)(*arguments))
        except Exception:
            reply = ("failed", traceback.format_exc())
        pickle.dump(reply, replies)
        replies.flush()


if __name__ == "__main__":
    main()
