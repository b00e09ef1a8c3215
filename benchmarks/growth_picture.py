"""The picture of results-growth.json: microseconds per weight update against what grows.

`python benchmarks/growth_picture.py` draws it anew.
"""

import json
import math
from pathlib import Path

import picture
from picture import LIMIT_LINE, OURS, STYLE, mpl, plt

PANELS = {
    "hidden_units": "hidden units",
    "side": "side of an image, pixels",
    "batch_size": "images in a batch",
}
# Colour, marker and line: each alone tells the contenders apart.
LOOKS = {
    "torch_memory": ("#CC79A7", "^", ":"),
    "jax_scan": ("#009E73", "s", "-."),
    "ours": (OURS, "o", "-"),
    "matmul": (LIMIT_LINE, "D", "--"),
}
APART = 0.075  # of a panel's height: names stand no closer


def save(results, folder):
    """Writes growth.png and growth.pdf into a folder."""
    picture.save(draw(results), folder, "growth")


def draw(results):
    """Returns the figure: a panel for each size that grows, all on one scale."""
    with mpl.rc_context(STYLE | {"axes.spines.left": True}):
        figure, panels = plt.subplots(1, 3, figsize=(13, 5), sharey=True, layout="constrained")
        for panel, key in zip(panels, PANELS, strict=True):
            _panel(panel, key, results)
        panels[0].set_ylabel("microseconds per weight update")
        panels[0].yaxis.set_major_formatter("{x:,.0f}")
        _name_lines(panels[-1], results)
        figure.supxlabel(_footnote(results), fontsize=10, color="#555555")
    return figure


def _panel(panel, key, results):
    settings = _along(key, results)
    for name, (colour, marker, line) in LOOKS.items():
        there = [each for each in settings if name in each["contenders"]]
        times = [each["contenders"][name]["microseconds_per_update"] for each in there]
        middle = [each["median"] for each in times]
        whiskers = [
            [each["median"] - each["min"] for each in times],
            [each["max"] - each["median"] for each in times],
        ]
        look = {"color": colour, "marker": marker, "linestyle": line}
        width = 2.4 if name == "ours" else 1.6
        sizes = [each[key] for each in there]
        panel.errorbar(sizes, middle, whiskers, capsize=3, linewidth=width, **look)
    panel.set(xscale="log", yscale="log", xlabel=PANELS[key])
    ticks = [each[key] for each in settings]
    panel.set_xticks(ticks, [f"{tick:,}" for tick in ticks], fontsize=12)
    panel.set_xticks([], minor=True)
    panel.grid(axis="y", color="#E4E4E4")


def _along(key, results):
    """Returns the settings in which one size grows, in the order of that size."""
    others = {name: value for name, value in results["common"].items() if name != key}
    settings = [each for each in results["updates"] if others.items() <= each.items()]
    return sorted(settings, key=lambda each: each[key])


def _name_lines(panel, results):
    """Writes the contenders' names beside a panel, where their lines end or a little off."""
    low, high = map(math.log, panel.get_ylim())
    last = _along("batch_size", results)[-1]["contenders"]
    ends = {
        name: (math.log(last[name]["microseconds_per_update"]["median"]) - low) / (high - low)
        for name in LOOKS
        if name in last
    }
    place = -math.inf
    for name in sorted(ends, key=ends.get):
        place = max(ends[name], place + APART)
        weight = "bold" if name == "ours" else "normal"
        panel.annotate(
            last[name]["label"],
            (1.03, place),
            xycoords="axes fraction",
            color=LOOKS[name][0],
            va="center",
            weight=weight,
            annotation_clip=False,
        )


def _footnote(results):
    common, machine = results["common"], results["machine"]
    side, rounds = common["side"], results["updates"][0]["rounds"]
    note = (
        f"Where they do not grow: {common['hidden_units']} hidden units, {side}×{side} pixels, "
        f"batch {common['batch_size']}. Median of {rounds} rounds; whiskers: minimum and maximum. "
        f"{machine['cores_used']} cores, {machine['cpu']}."
    )
    for label, reason in results["skipped"].items():
        note += f"\nNot measured: {label} ({reason})."
    return note


if __name__ == "__main__":
    here = Path(__file__).parent
    save(json.loads((here / "results-growth.json").read_text(encoding="utf-8")), here)
