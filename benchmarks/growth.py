"""Measure how the cost of updates and bounds grows with the work: `python benchmarks/growth.py`.

Writes `results-growth.json`, `growth.png` and `growth.pdf` beside this file. README.md says what is
compared and how. Takes about ten minutes; leave the machine alone meanwhile.
"""

import argparse
import datetime
import json
import sys
import time
from pathlib import Path

import growth_report
import machine
import races
from contender import Contender, ContenderError
from peers import BOUNDS_OF, CONTENDERS
from run import HERE, load_before, say, write
from worker import THREADS

NAMES = ("ours", "jax_scan", "torch_memory", "matmul")
COMMON = {"hidden_units": 128, "side": 14, "batch_size": 128}  # while another size grows
RANGES = {
    "hidden_units": (64, 128, 256, 512, 1_024, 2_048),
    "side": (14, 28, 56),
    "batch_size": (32, 64, 128, 256, 512, 1_024),
}
ROUNDS, BOUND_ROUNDS, QUICK_ROUNDS = 5, 3, 2
DIGITS = 2**15  # an epoch; every batch size divides it, so that nobody has a short last batch

# What bounds are computed of: the writeup's network, and the literature's. A share of the images is
# enough, as all chunks of images take the same time.
ALL_IMAGES, NUM_SAMPLES = 10_000, 5_000
NETWORKS = (
    {"side": 14, "hidden_units": (128,), "latent_dim": 8, "images": 2_000},
    {"side": 28, "hidden_units": (200, 200), "latent_dim": 50, "images": 1_000},
)


def main(arguments=None):
    """Runs everything and writes the results."""
    options = parse(arguments)
    began, load = time.perf_counter(), load_before()
    try:
        results = measure(options) | {"load_before": load, "quick": options.quick}
    except ContenderError as error:
        sys.exit(f"{error}\nNothing was written.")
    results["minutes"] = round((time.perf_counter() - began) / 60, 1)

    import growth_picture  # only now: matplotlib is not to count as this process's memory before

    options.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1, ensure_ascii=False)
    write(options.output / "results-growth.json", text + "\n")
    growth_picture.save(results, options.output)
    say("\n".join(["", *growth_report.as_text(results)]))
    say(f"\nWritten: results-growth.json, growth.png, growth.pdf ({results['minutes']} minutes).")


def parse(arguments=None):
    """Returns the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="few sizes and rounds, to see that all works"
    )
    parser.add_argument("--output", type=Path, help="folder to write to; with --quick build/")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=NAMES, help="these contenders and ours"
    )
    parser.add_argument(
        "--whole",
        action="store_true",
        help=f"bounds of all {ALL_IMAGES:,} images, once, in place of a share (ten minutes more)",
    )
    options = parser.parse_args(arguments)
    if options.output is None:
        options.output = HERE.parent / "build" / "benchmarks" if options.quick else HERE
    return options


def measure(options):
    """Returns everything measured, as it stands in results-growth.json.

    Args:
        options: those of the command line.
    """
    names = [name for name in NAMES if not options.only or name in ("ours", *options.only)]
    with Contender("digits") as process:  # so that TensorFlow's memory is not this process's
        _, digits, _, dataset, _ = process.tell("load")
    say(f"{dataset}: {len(digits):,} digits")
    updates, skipped = _updates(names, digits, options.quick)
    names = [name for name in names if name not in skipped]
    bounds = _bounds(names, digits, options.quick, options.whole)
    return {
        "date": datetime.date.today().isoformat(),
        "machine": machine.facts(THREADS),
        "dataset": dataset,
        "common": COMMON,
        **growth_report.summarize(updates, bounds),
        "skipped": {CONTENDERS[name]: reason for name, reason in skipped.items()},
    }


def sizes(ranges):
    """Returns all sizes to train at: one grows while the others stay as they are."""
    found = [COMMON | {name: value} for name, values in ranges.items() for value in values]
    return [size for number, size in enumerate(found) if size not in found[:number]]


def enlarged(images, side):
    """Returns images with each pixel repeated: [N, side, side]."""
    times = side // images.shape[1]
    return images.repeat(times, axis=1).repeat(times, axis=2)


def _updates(names, digits, quick):
    """Returns raw seconds of updates at every size, and who was skipped."""
    ranges = {name: values[:2] for name, values in RANGES.items()} if quick else RANGES
    count, rounds = (DIGITS // 8, QUICK_ROUNDS) if quick else (DIGITS, ROUNDS)
    settings, skipped = [], {}
    for size in sizes(ranges):
        say(f"\nupdates: {growth_report.name_of(size)}")
        images = races.tile(enlarged(digits[:count], size["side"]), count)
        epochs = 1 if quick or _is_large(size) else 3
        there = [name for name in names if name not in skipped]
        batch_size, hidden_units = size["batch_size"], size["hidden_units"]
        seconds, memory, missing = races.speed(
            there, images, batch_size, rounds, epochs, say, hidden_units=hidden_units
        )
        settings.append(
            {
                **size,
                "digits": count,
                "digits_mb": round(images.nbytes / 1e6, 1),
                "rounds": rounds,
                "epochs_per_round": epochs,
                "seconds": seconds,
                "memory": memory,
            }
        )
        skipped |= missing
    return settings, skipped


def _is_large(size):
    """Tells whether an epoch takes so long that one in a round is enough."""
    return size["hidden_units"] > 512 or size["side"] > 28


def _bounds(names, digits, quick, whole):
    """Returns raw seconds of bounds, for both networks."""
    names, settings = [BOUNDS_OF[name] for name in names if name in BOUNDS_OF], []
    rounds = QUICK_ROUNDS if quick else 1 if whole else BOUND_ROUNDS
    num_samples = NUM_SAMPLES // 50 if quick else NUM_SAMPLES
    for network in NETWORKS:
        count = ALL_IMAGES if whole else 100 if quick else network["images"]
        network = {**network, "images": count, "num_samples": num_samples}
        say(f"\nbounds: {growth_report.name_of_bound(network)}")
        images = races.tile(enlarged(digits[:count], network["side"]), count)
        arguments = network["hidden_units"], network["latent_dim"], num_samples
        seconds, memory, _ = races.bounds(names, images, *arguments, rounds, say)
        everything = {"all_images": ALL_IMAGES, "all_samples": NUM_SAMPLES, "rounds": rounds}
        settings.append({**network, **everything, "seconds": seconds, "memory": memory})
    return settings


if __name__ == "__main__":
    main()
