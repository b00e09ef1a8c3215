"""Searches latent size, width, learning rate and β on the validation digits, on all cores.

    python scripts/sweep.py --trials 40                      # killed, it goes on when called again
    python scripts/sweep.py --storage postgresql://host/db   # the same on each of several machines

The storage is the path of a file or the URL of a database: processes that name the same one share
the work, on however many machines. At the end come a table, sweep.png, sweep.pdf and results.json.
What it costs, how it goes on, and why with Optuna: docs/sweeps.md.
"""

import argparse
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from vae_tf import Recipe, load_mnist
from vae_tf.analysis import results, search
from vae_tf.figures import save
from vae_tf.figures.style import BLACK, GREY, PALE, PALETTE, figure_of

AXES = {
    "latent_dim": "latent dimensions",
    "hidden_units": "hidden units",
    "learning_rate": "learning rate",
    "beta": "β, weight of the KL",
}
SHOWN = 20  # trials in the table; results.json has all


def cores():
    """Returns how many cores this process may use: on a cluster, often not all of a machine."""
    has_affinity = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count()


def parse(arguments=None):
    """Returns what the command line asks for."""
    formatter = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=formatter)
    parser.add_argument("--trials", type=int, default=40, help="finished ones, in all")
    parser.add_argument("--storage", help="file or database URL; None is a file in the output")
    parser.add_argument("--study", default="vae_tf", help="its name there")
    parser.add_argument("--workers", type=int, default=cores(), help="processes here")
    parser.add_argument("--output", type=Path, default=Path("runs/sweep"), help="folder")
    parser.add_argument("--updates", type=int, default=Recipe.updates, help="of each trial")
    parser.add_argument("--draws", type=int, default=500, help="K of the bound")
    parser.add_argument("--seed", type=int, default=0, help="of every training")
    parser.add_argument("--grace", type=float, default=60.0, help="seconds a dead worker is silent")
    for name, each in search.SPACE.items():
        choices = getattr(each, "choices", None)
        kind = {"nargs": "+", "type": int} if choices else {"nargs": 2, "type": float}
        values = choices or (each.low, each.high)
        help = "choices" if choices else "lowest and highest"
        parser.add_argument(f"--{name.replace('_', '-')}", default=values, help=help, **kind)
    return parser.parse_args(arguments)


def opened(options):
    """Returns the search that the command line asks for, and its study."""
    search.optuna.logging.set_verbosity(search.optuna.logging.WARNING)
    space = {
        name: search.CategoricalDistribution(getattr(options, name))
        if isinstance(each, search.CategoricalDistribution)
        else search.FloatDistribution(*getattr(options, name), log=True)
        for name, each in search.SPACE.items()
    }
    recipe = Recipe(updates=options.updates)
    wanted = search.Search(load_mnist(), recipe, space, options.draws, options.seed)
    options.output.mkdir(parents=True, exist_ok=True)
    storage = options.storage or options.output / "sweep.journal"
    return wanted, search.open_study(storage, wanted, options.study)


def work(options, parent):
    """What a worker process does, as long as its parent lives."""
    # One model on two threads is not twice as fast; two models are.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    wanted, study = opened(options)
    folder = options.output / "runs"
    search.work(
        study, wanted, options.trials, folder, options.grace, lambda: os.getppid() == parent
    )


def run(options, study):
    """Starts the workers, tells of each trial that is finished, here or elsewhere; counts them."""
    context, shown = multiprocessing.get_context("spawn"), set()  # TensorFlow cannot be forked
    workers = [
        context.Process(target=work, args=(options, os.getpid())) for _ in range(options.workers)
    ]
    # An interrupt is for this process alone, which then ends the others.
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    for worker in workers:
        worker.start()
    signal.signal(signal.SIGINT, usual)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        are_alive = True
        while are_alive:
            are_alive = any(worker.is_alive() for worker in workers)
            tell(study, options.trials, shown)
            time.sleep(search.POLL)
    except KeyboardInterrupt:
        print("stopped")
    finally:
        for worker in workers:
            worker.kill()  # what was saved is whole, and goes on
    return len(shown)


def tell(study, trials, shown):
    """Prints a line for each finished trial whose number is not among those shown."""
    ranked, diverged = search.ranking(study)
    for row in sorted((*ranked, *diverged), key=lambda row: row["trial"]):
        if row["trial"] not in shown:
            shown.add(row["trial"])
            setting = "  ".join(f"{name} {value:.3g}" for name, value in row["setting"].items())
            worth = f"bound {row['bound']}" if "bound" in row else f"diverged: {row['reason']}"
            best = f"  best {ranked[0]['bound'].mean:.2f}" if ranked else ""
            print(f"{len(shown)}/{trials}  trial {row['trial']}  {setting}  {worth}{best}")
    sys.stdout.flush()


def table(ranked, diverged):
    """Returns the best trials as a text, the best on top."""
    names = list(ranked[0]["setting"])
    head = [*names, "bound", "behind the best", "seconds", "trial"]
    rows = [
        [f"{row['setting'][name]:.3g}" for name in names]
        + [row["bound"], row["behind"] if place else "", row["seconds"], row["trial"]]
        for place, row in enumerate(ranked[:SHOWN])
    ]
    lines = ["".join(f"{cell!s:>16}" for cell in row) for row in (head, *rows)]
    counts = f"{len(ranked) - len(rows)} more, and {len(diverged)} that diverged: results.json"
    return "\n".join([*lines, counts])


@figure_of(height=4.8)
def picture(figure, ranked, diverged):
    """The bounds of trials, rows as `ranking` returns them, against each part of their settings."""
    rows, place = [*ranked, *diverged], np.arange(len(ranked) + len(diverged))
    means, errors = np.array([row["bound"] for row in ranked]).T
    # The worst are so far off that the others would lie on one line: they stand at the edge.
    edge = means[0] - 3 * max(means[0] - np.median(means), errors[0])
    y = np.append(np.maximum(means, edge), np.full(len(diverged), edge))
    bars = np.append(np.where(means < edge, 0, 2 * errors), np.zeros(len(diverged)))
    has_diverged, is_below = place >= len(ranked), y == edge
    kinds = {
        "the best": (place == 0, "*", PALETTE[1], 11),
        "the next four": ((place > 0) & (place < 5) & ~is_below, "o", PALETTE[1], 4.5),
        "others": ((place >= 5) & ~is_below, "o", PALETTE[0], 4.5),
        "further below": (is_below & ~has_diverged, "v", GREY, 4.5),
        "diverged": (has_diverged, "x", BLACK, 7),
    }
    kinds = {label: kind for label, kind in kinds.items() if kind[0].any()}
    grid = figure.subplots(2, 2, sharey=True)
    for axes, name in zip(grid.flat, ranked[0]["setting"], strict=True):
        x = np.array([row["setting"][name] for row in rows])
        if x.dtype.kind == "i":  # a size, which many have: they stand side by side
            ticks = FixedLocator(np.unique(x))
            x = x * 2 ** (0.3 * ((0.618 * place + 0.5) % 1 - 0.5))
        else:
            is_wide = x.max() > 8 * x.min()
            ticks = LogLocator(subs=(1, 2, 5) if is_wide else (1, 1.4, 2, 2.8, 4, 5, 7))
        for order, (label, (of, marker, color, size)) in enumerate(kinds.items()):
            style = {"color": color, "markersize": size, "ecolor": PALE, "elinewidth": 0.8}
            order = 9 if label == "diverged" else 8 - order
            axes.errorbar(x[of], y[of], bars[of], fmt=marker, label=label, zorder=order, **style)
        axes.set(xscale="log", xlabel=AXES[name])
        axes.xaxis.set_major_locator(ticks)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")
    for axes in grid[:, 0]:
        axes.set_ylabel("bound on log p(x)\n(nats per digit)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=5)


def report(options, wanted, study):
    """Prints the table, and writes picture and numbers."""
    ranked, diverged = search.ranking(study)
    if not ranked:
        sys.exit("every trial diverged: search smaller learning rates")
    print(table(ranked, diverged))
    plain = [row | {name: row[name]._asdict() for name in ("bound", "behind")} for row in ranked]
    data, count = wanted.data, len(wanted.data.validation)
    numbers = {"trials": plain, "diverged": diverged, "num_images": count}
    facts = {"source": data.source, "search": wanted.identity()}
    results.record(options.output, "sweep", data, numbers, **facts)
    note = f"{data.name}, {count:,} validation images, K = {options.draws:,}; "
    note += f"{options.updates:,} updates each; bars: two standard errors"
    save(picture(ranked, diverged, note=note), options.output / "sweep")
    model = options.output / "runs" / wanted.folder(ranked[0]["setting"]) / "model.keras"
    print(f"the best model: {model if model.exists() else 'on the machine that trained it'}")


def main():
    """Does what the command line asks for."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # for the workers
    options = parse()
    wanted, study = opened(options)
    if (finished := run(options, study)) < options.trials:
        sys.exit(f"{finished} of {options.trials} trials are finished; the same command goes on")
    report(options, wanted, study)


if __name__ == "__main__":
    main()
