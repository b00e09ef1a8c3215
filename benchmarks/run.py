"""Measure vae_tf beside other ways to train the same model: `python benchmarks/run.py`.

Writes `results.json`, `speed.png` and `speed.pdf` beside this file. README.md says what is
compared and how. Takes about a quarter of an hour; leave the machine alone meanwhile.
"""

import argparse
import datetime
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import costs
import machine
import races
from contender import ENVIRONMENT, Contender, ContenderError
from peers import BEFORE, CONTENDERS
from report import summarize
from worker import THREADS

HERE = Path(__file__).parent
SETTINGS = ((32, 10_000), (128, 60_000))  # batch size, digits
QUALITY_BATCH, QUALITY_EPOCHS = 32, 60
BUSY = 0.5  # average number of other running processes that spoils the timings


def main():
    """Runs everything and writes the results."""
    options = parse()
    began = time.perf_counter()
    load = load_before()
    try:
        with tempfile.TemporaryDirectory() as folder:
            before, commit = code_before(options.before, folder) if options.before else (None, None)
            results = measure(options, before) | {"load_before": load, "quick": options.quick}
    except ContenderError as error:
        sys.exit(f"{error}\nNothing was written.")
    if commit:
        results["code_before"] = commit
    results["minutes"] = round((time.perf_counter() - began) / 60, 1)

    import picture  # only now: matplotlib is not to count as this process's memory before

    options.output.mkdir(parents=True, exist_ok=True)
    write(options.output / "results.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    picture.save(picture.draw(results), options.output, "speed")
    say("\n".join(["", *targets_as_text(results["targets"])]))
    if results["unsteady"]:
        say(f"\nUnsteady, so publish nothing: {'; '.join(results['unsteady'])}.")
    say(f"\nWritten: results.json, speed.png, speed.pdf ({results['minutes']} minutes).")


def load_before():
    """Returns how busy the machine is, and warns where that spoils the timings."""
    load = machine.load()
    if load is not None and load > BUSY:
        say(f"Warning: other work is running (load {load:g}). PyTorch suffers from that most:")
        say("its threads wait for each other. Publish no numbers of this run.\n")
    return load


def parse():
    """Returns the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that all works")
    parser.add_argument("--output", type=Path, help="folder to write to; with --quick build/")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=CONTENDERS, help="these contenders and ours"
    )
    parser.add_argument(
        "--before", metavar="CODE", help="measure this too: a commit, or the folder of a checkout"
    )
    options = parser.parse_args()
    if options.output is None:
        options.output = HERE.parent / "build" / "benchmarks" if options.quick else HERE
    return options


def code_before(code, folder):
    """Returns a folder with older code, and the name of its commit.

    Args:
        code: the folder of a checkout, or a commit.
        folder: an empty one, where the commit's package is put.
    """
    if Path(code, "vae_tf").is_dir():
        return Path(code).resolve(), _git(
            code, "rev-parse", "--short", "HEAD"
        ).stdout.decode().strip()
    archive = _git(HERE.parent, "archive", code, "vae_tf")
    if archive.returncode:
        sys.exit(
            f"--before must be a commit, or a folder with vae_tf in it; received {code}. "
            f"{archive.stderr.decode().strip()}"
        )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    commit = _git(HERE.parent, "rev-parse", "--short", code).stdout.decode().strip()
    return Path(folder).resolve(), commit


def _git(folder, *arguments):
    return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True)


def measure(options, before=None):
    """Returns everything measured, as it stands in results.json.

    Args:
        options: those of the command line.
        before: the folder of the code before, or None.
    """
    names = [name for name in CONTENDERS if not options.only or name in ("ours", *options.only)]
    names = [name for name in names if before or name not in BEFORE]
    rounds, seeds, starts = (2, 1, 2) if options.quick else (9, 5, 7)
    say("digits")
    with Contender("digits") as process:  # so that TensorFlow's memory is not this process's
        few, full, validation, digits, is_sample = process.tell("load")
    say(f"  {digits}: {len(few):,} and {len(full):,} to train on, {len(validation):,} to validate")

    speeds, skipped = [], {}
    for batch_size, size in SETTINGS:
        say(f"\nspeed at batch {batch_size}, {size:,} digits")
        images = few if size == 10_000 else full
        epochs = 3 if options.quick or size > 10_000 else 5
        tiled = races.tile(images, size)
        seconds, memory, missing = races.speed(
            names, tiled, batch_size, rounds, epochs, say, before
        )
        speeds.append(
            {
                "batch_size": batch_size,
                "digits": size,
                "different_digits": min(size, len(images)),
                "rounds": rounds,
                "epochs_per_round": epochs,
                "seconds": seconds,
                "memory": memory,
            }
        )
        skipped |= missing
    names = [name for name in names if name not in skipped]

    target = -37.0 if is_sample else -35.0  # 4,000 digits do not suffice for −35
    say(f"\ntime to {target:g} nats on validation digits, from process start")
    images = races.tile(few, 10_000)
    runs = races.quality(
        names, images, validation, QUALITY_BATCH, target, QUALITY_EPOCHS, range(seeds), say, before
    )
    say("\nwhat vae_tf costs besides: imports, compilation, samples, memory")
    imports = costs.imports(starts, os.environ | ENVIRONMENT)
    own = []
    for _ in range(starts):
        with Contender("ours") as process:
            own.append(process.tell("costs", images, QUALITY_BATCH))
    return {
        "date": datetime.date.today().isoformat(),
        "machine": machine.facts(THREADS),
        "dataset": digits,
        **summarize(speeds, runs, target, imports, own),
        "skipped": {CONTENDERS[name]: reason for name, reason in skipped.items()},
    }


def targets_as_text(targets):
    """Returns one line for each target."""
    width = max(len(target["what"]) for target in targets)
    return [
        f"{'met   ' if target['met'] else 'MISSED'}  {target['what']:<{width}}  "
        f"{target['measured']:.2f} (target {target['target']})"
        for target in targets
    ]


def write(path, text):
    """Writes a file in one step, so that no reader meets half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def say(text):
    """Prints at once, also into a pipe."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
