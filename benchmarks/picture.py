"""The picture of results.json: updates per second of each contender, and the hardware limit.

`python benchmarks/picture.py` draws it anew.
"""

import json
import os
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from peers import LIMIT, VAE_TF

# Okabe and Ito's palette: told apart by colour-blind readers, and in grey print.
OURS, OTHERS, LIMIT_LINE, INK = "#0072B2", "#B8BEC4", "#D55E00", "#222222"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 13,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#999999",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "pdf.fonttype": 42,
}


def save(figure, folder, name):
    """Writes a figure into a folder, as .png and as .pdf, each in one step."""
    for kind in ("png", "pdf"):
        path = Path(folder) / f"{name}.{kind}"
        temporary = path.with_name(f".{os.getpid()}.{path.name}")
        try:
            dates = {"CreationDate": None} if kind == "pdf" else None
            figure.savefig(temporary, dpi=200, metadata=dates)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    plt.close(figure)


def draw(results):
    """Returns the figure: a panel for each setting, the same contenders in the same rows."""
    settings = results["speed"]
    first = settings[0]["contenders"]
    names = sorted(
        (name for name in first if name != LIMIT),
        key=lambda name: first[name]["microseconds_per_update"]["median"],
    )
    with mpl.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, len(settings), figsize=(13, 1.9 + 0.55 * len(names)), layout="constrained"
        )
        for panel, setting in zip(panels, settings, strict=True):
            _panel(panel, setting, names)
        panels[0].set_yticks(range(len(names)), [first[name]["label"] for name in names])
        for name, label in zip(names, panels[0].get_yticklabels(), strict=True):
            if name in VAE_TF:
                label.set(color=OURS, weight="bold")
        panels[0].tick_params(axis="y", length=0)
        figure.get_layout_engine().set(wspace=0.05, h_pad=0.08)
        figure.supxlabel(_footnote(results), fontsize=10, color="#555555")
    return figure


def _panel(panel, setting, names):
    contenders = setting["contenders"]
    rates = [contenders[name]["updates_per_second"] for name in names]
    limit = contenders.get(LIMIT, {}).get("updates_per_second")
    right = 1.04 * max(rate["max"] for rate in [*rates, limit or rates[0]])
    for row, (name, rate) in enumerate(zip(names, rates, strict=True)):
        colour = OURS if name in VAE_TF else OTHERS
        middle, low, high = rate["median"], rate["min"], rate["max"]
        panel.barh(row, middle, 0.68, color=colour)
        whiskers = [[middle - low], [high - middle]]
        panel.errorbar(middle, row, xerr=whiskers, color=INK, capsize=4, elinewidth=1.3)
        weight = "bold" if name in VAE_TF else "normal"
        panel.text(high + right / 60, row, f"{middle:,.0f}", va="center", weight=weight)
    if limit:
        panel.axvline(limit["median"], color=LIMIT_LINE, linewidth=2)
        panel.axvspan(limit["min"], limit["max"], color=LIMIT_LINE, alpha=0.15, linewidth=0)
        left_of_line = limit["median"] > 0.72 * right
        panel.text(
            limit["median"] + (-right if left_of_line else right) / 60,
            len(names) - 0.55,
            f"hardware limit:\n{limit['median']:,.0f}\n{contenders[LIMIT]['label']}".replace(
                "products ", "products\n"
            ),
            color=LIMIT_LINE,
            ha="right" if left_of_line else "left",
            va="bottom",
        )
    panel.set(xlim=(0, right), ylim=(len(names) - 0.4, -0.6))
    panel.set_xlabel("weight updates per second")
    panel.set_title(f"batch {setting['batch_size']}, {setting['digits']:,} digits", loc="left")
    panel.set_yticks([])
    panel.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
    panel.xaxis.set_major_formatter("{x:,.0f}")


def _footnote(results):
    rounds, machine = results["speed"][0]["rounds"], results["machine"]
    note = (
        f"Median of {rounds} rounds after the first epoch; whiskers: minimum and maximum. "
        f"{machine['cores_used']} cores, {machine['cpu']}."
    )
    different = results["speed"][-1]["different_digits"]
    if different < results["speed"][-1]["digits"]:
        note += f" {results['dataset']}: {different:,} digits, repeated."
    return note


if __name__ == "__main__":
    here = Path(__file__).parent
    stored = json.loads((here / "results.json").read_text(encoding="utf-8"))
    save(draw(stored), here, "speed")
