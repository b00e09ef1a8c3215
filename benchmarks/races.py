"""The measurements: side by side, in turns, each contender in a process of its own."""

import statistics
import time
from contextlib import ExitStack

import numpy as np
from contender import Contender, ContenderError
from peers import BOUNDS, CONTENDERS, LIMIT, SAMPLES_PER_CHUNK

PAUSE = 0.3  # seconds between turns: threads of the last contender spin on for up to 0.2 s
LABELS = CONTENDERS | BOUNDS


def speed(names, images, batch_size, rounds, epochs, say, before=None, hidden_units=128):
    """Returns seconds per update in each round, peak memory, and why others were skipped.

    A round's figure is the median over its epochs but the first, so compilation and the start of a
    `fit` are not in it.
    """
    arguments = images, batch_size, 0, hidden_units
    commands = ("speed", 2), ("speed", epochs + 1)  # the first compiles
    return in_turns(names, arguments, commands, rounds, (1e6, "µs per update"), say, before)


def bounds(names, images, hidden_units, latent_dim, num_samples, rounds, say):
    """Returns the same of importance-weighted bounds: seconds for all images in each round."""
    arguments = images, hidden_units, latent_dim, 0
    commands = ("bound", SAMPLES_PER_CHUNK), ("bound", num_samples)  # the first compiles
    return in_turns(names, arguments, commands, rounds, (1, "seconds"), say)


def in_turns(names, arguments, commands, rounds, unit, say, before=None):
    """Returns the seconds of each round, peak memory, and why others were skipped.

    All processes live through all rounds; one works while the others wait. The order turns around
    every round.

    Args:
        names: of peers; the first is vae_tf's, which must run.
        arguments: what each peer is made from.
        commands: what each is told once, before all rounds; and what it is told in each.
        rounds: how many.
        unit: seconds are shown in it: how many make one, and its name.
        say: a function that prints.
        before: the folder of the code before, or None.
    """
    seconds, skipped, (warm_up, measured) = {}, {}, commands
    with ExitStack() as stack:
        processes = {}
        for name in names:
            process = stack.enter_context(Contender(name, before))
            if reason := process.tell("start", name, *arguments):
                if name == names[0]:
                    raise ContenderError(f"vae_tf itself cannot run: {reason}.")
                skipped[name] = reason
                say(f"  skipped: {LABELS[name]} ({reason})")
                process.__exit__()
                continue
            process.tell(*warm_up)
            processes[name], seconds[name] = process, []
            say(f"  ready: {LABELS[name]}")
        for number in range(rounds):
            for name in list(processes)[:: (-1) ** number]:
                time.sleep(PAUSE)
                seconds[name].append(processes[name].tell(*measured))
            scale, shown = unit
            latest = ", ".join(f"{name} {scale * s[-1]:,.1f}" for name, s in seconds.items())
            say(f"  round {number + 1} of {rounds}, {shown}: {latest}")
        memory = {name: process.tell("peak_memory") for name, process in processes.items()}
    return seconds, memory, skipped


def quality(names, images, validation, batch_size, target, max_epochs, seeds, say, before=None):
    """Returns how each contender came to the target ELBO, from the start of its process.

    Every run is a process of its own, one after the other; the time includes imports,
    compilation, and an evaluation of all validation digits after every epoch.
    """
    runs = {name: [] for name in names if name != LIMIT}
    for seed in seeds:
        for name in list(runs)[:: (-1) ** seed]:
            time.sleep(PAUSE)
            with Contender(name, before) as process:
                process.tell("start", name, images, batch_size, seed)
                ready = process.age()
                run = process.tell("reach", target, validation, max_epochs)
                run |= {"seconds_to_ready": ready, "seconds": process.age()}
            run["reached"] = run["elbo"] >= target
            runs[name].append(run)
            verdict = "reached" if run["reached"] else "not reached"
            say(
                f"  seed {seed}, {CONTENDERS[name]}: {target:g} nats {verdict} after "
                f"{run['seconds']:.1f} s, {run['updates']:,} updates"
            )
    return runs


def tile(images, size):
    """Returns `size` images: the first ones, or all of them over and over."""
    return np.resize(images, (size, *images.shape[1:]))


def spread(values):
    """Returns median, minimum and maximum."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}
