"""Train the literature's network by other programs: `python benchmarks/literature_peers.py`.

Writes `results-literature.json` beside this file: whether JAX and PyTorch, each with a training and
a bound of its own, come to the same bounds as vae_tf. README.md says what is compared and how.
Takes about twenty minutes of one core.
"""

import argparse
import datetime
import json
import sys
import time
from pathlib import Path

import literature_report
import machine
from contender import Contender, ContenderError
from peers import LITERATURE, LITERATURE_PEERS, Schedule
from run import HERE, say, write
from worker import THREADS

import vae_tf

OURS = "literature_ours"
OBJECTIVES = {"elbo": 1, "iwae": 5}  # and their draws of z per image
# Bounds of the ELBO's trainings differ more from seed to seed.
SEEDS, QUICK_SEEDS = {"elbo": 8, "iwae": 4}, {"elbo": 2, "iwae": 2}
# The shape of `Recipe.literature()`, for ten passes over the digits.
SCHEDULE = Schedule(updates=12_000, batch_size=50, learning_rate=2e-3, warmup=0.05)
DIGITS, NUM_SAMPLES = 1_000, 500  # what is bounded, with how many draws each
QUICK_UPDATES, QUICK_DIGITS, QUICK_SAMPLES = 200, 100, 40


def main(arguments=None):
    """Runs everything and writes the results."""
    options, began = parse(arguments), time.perf_counter()
    try:
        results = measure(options)
    except ContenderError as error:
        sys.exit(f"{error}\nNothing was written.")
    results["minutes"] = round((time.perf_counter() - began) / 60, 1)
    options.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1, ensure_ascii=False)
    write(options.output / "results-literature.json", text + "\n")
    say("\n".join(["", *literature_report.as_text(results)]))
    say(f"\nWritten: results-literature.json ({results['minutes']} minutes).")


def parse(arguments=None):
    """Returns the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few updates, to see that all works")
    parser.add_argument("--output", type=Path, help="folder to write to; with --quick build/")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=LITERATURE_PEERS, help="these peers and ours"
    )
    options = parser.parse_args(arguments)
    if options.output is None:
        options.output = HERE.parent / "build" / "benchmarks" if options.quick else HERE
    return options


def measure(options):
    """Returns everything measured, as it stands in results-literature.json.

    Args:
        options: those of the command line.
    """
    names = [name for name in LITERATURE_PEERS if not options.only or name in (OURS, *options.only)]
    schedule, seeds, count, num_samples = SCHEDULE, SEEDS, DIGITS, NUM_SAMPLES
    if options.quick:
        schedule = SCHEDULE._replace(updates=QUICK_UPDATES)
        seeds, count, num_samples = QUICK_SEEDS, QUICK_DIGITS, QUICK_SAMPLES
    digits = vae_tf.load_mnist(size=28, binarization="dynamic")
    levels, images = digits.train.images, digits.validation.images[:count]
    say(f"{digits.name}: {len(levels):,} to train on, {len(images):,} to bound")
    trainings, skipped = [], {}
    for name in names:
        with Contender(name) as process:
            if reason := process.tell("start", name, levels, schedule):
                if name == OURS:
                    raise ContenderError(f"vae_tf itself cannot run: {reason}.")
                skipped[name] = reason
                say(f"  skipped: {LITERATURE_PEERS[name]} ({reason})")
                continue
            for objective, draws in OBJECTIVES.items():
                for seed in range(seeds[objective]):
                    training = train(process, objective, draws, seed, images, num_samples)
                    trainings.append({"peer": name} | training)
                    say(f"  {literature_report.of_training(trainings[-1])}")
    return {
        "date": datetime.date.today().isoformat(),
        "machine": machine.facts(THREADS),
        "dataset": digits.name,
        "source": digits.source,
        "training_digits": len(levels),
        "bounded_digits": len(images),
        "num_samples": num_samples,
        "quick": options.quick,
        "network": LITERATURE,
        "schedule": schedule._asdict(),
        **literature_report.summarize(trainings, OURS),
        "skipped": {LITERATURE_PEERS[name]: reason for name, reason in skipped.items()},
    }


def train(process, objective, draws, seed, images, num_samples):
    """Trains new weights in a process, and bounds images by them, twice.

    Returns:
        A dict: the bounds by the peer's own code, `bounds`, and by `vae_tf.evaluate`, `by_ours`,
        [N] each, the processor's seconds of the training, and what was asked for.
    """
    weights, seconds = process.tell("learn", objective, draws, seed)
    vae = vae_tf.VAE(**LITERATURE, image_shape=images.shape[1:])
    vae.set_weights(weights)
    return {
        "objective": objective,
        "draws": draws,
        "seed": seed,
        "bounds": process.tell("bounds", images, num_samples),
        "by_ours": vae_tf.evaluate(vae, images, num_samples, seed).marginal_log_likelihood,
        "seconds": seconds,
    }


if __name__ == "__main__":
    main()
