"""Writes all published numbers where people read them, so that nobody has to copy any.

    python scripts/make_results_page.py    # `make results-page`

written                                   text                      numbers
docs/results.md                           scripts/pages/results.md  figures/results.json
docs/scaling.md                           scripts/pages/scaling.md  benchmarks/results-replicas.json
benchmarks/README.md, a section           scripts/pages/speed.md    benchmarks/results*.json
README.md: a table, a sentence, counts    its own                   figures/results.json

The texts have places such as `{{ Recipe.full(), test: elbo; kl }}`: where in the numbers to look,
and what to show of it, side by side in the cells of a table.
"""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = Path(__file__).parent / "pages"


def main():
    """Writes the four files, and says which of them changed."""
    for path, text in pages().items():
        file = ROOT / path
        before = file.read_text() if file.exists() else None
        file.write_text(text)
        print(f"{path}: {'as it was' if text == before else 'written'}")


def pages():
    """Returns the texts of the four files, by their paths."""
    results = stored("figures/results.json")
    runs = {"Xeon": "results", "EPYC": "results-amd-epyc", "GPU": "results-gpu"}
    runs["Literature"] = "results-literature"
    runs = {name: stored(f"benchmarks/{file}.json") for name, file in runs.items()}
    measured = filled((PAGES / "speed.md").read_text(), runs)
    speed, heading = "benchmarks/README.md", "## What was measured\n"
    return {
        "docs/results.md": filled((PAGES / "results.md").read_text(), results),
        "docs/scaling.md": filled(
            (PAGES / "scaling.md").read_text(), stored("benchmarks/results-replicas.json")
        ),
        speed: replaced(
            (ROOT / speed).read_text(), rf"(?s){heading}.*?(?=\n## )", f"{heading}\n{measured}"
        ),
        "README.md": readme((ROOT / "README.md").read_text(), results),
    }


def stored(path):
    """Returns what a file of numbers holds."""
    return json.loads((ROOT / path).read_text())


def filled(text, numbers):
    """Returns a text with its places filled.

    Raises:
        KeyError, IndexError: if a place names what is not there.
    """

    def fill(place):
        path, names = place[1].split(": ")
        entry = numbers
        for key in path.split(" / "):
            entry = entry[int(key) if isinstance(entry, list) else key]
        return " | ".join(shown(entry[name]) for name in names.split("; "))

    return re.sub(r"\{\{ (.+?) \}\}", fill, text)


def shown(value):
    """Returns a number as people read it; a mean with its standard error, a median alone."""
    if isinstance(value, dict) and "median" in value:
        return shown(value["median"])
    if isinstance(value, dict):
        return f"{shown(value['mean'])} ± {shown(value['standard_error'])}"
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    if isinstance(value, str):
        return value
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
    return text.replace("-", "−")


def readme(text, results):
    """Returns the README with the numbers that hold now."""
    for label, name in (
        ("the writeup, run again", "writeup, run again, test"),
        ("`Recipe.writeup()`", "Recipe.writeup(), test"),
        ("`Recipe.full()`", "Recipe.full(), test"),
        ("mixture of 500 Bernoullis, exact", "mixture of 500, test"),
    ):
        entry = results[name]
        if "elbo" in entry:
            bounds = f"{shown(entry['elbo'])} | {shown(entry['marginal_log_likelihood'])}"
        else:
            bounds = f"| {shown(entry['log_likelihood'])}"
        row = f"| {label} | {shown(entry['training']['digits'])} | {bounds} |"
        text = replaced(text, rf"(?m)^\| {re.escape(label)} \|.*$", row)
    audit = results["writeup audit, validation"]
    for before, entry in (
        ("The writeup, run again, prints ", audit["printed"]),
        ("where the bounds of the same weights are ", audit["decoded"]["elbo"]),
        ("with the noise that was decoded and ", audit["declared"]["elbo"]),
    ):
        text = replaced(text, rf"{before}−\d+\.\d+", before + shown(entry["mean"]))
    for name in ("model", "data", "training", "evaluation"):
        lines = len((ROOT / "vae_tf" / f"{name}.py").read_text().splitlines())
        link = f"| [`{name}.py`](vae_tf/{name}.py) |"
        text = replaced(text, rf"{re.escape(link)} \d+ ", f"{link} {lines} ")
    return text


def replaced(text, pattern, by):
    """Returns a text in which what fits a pattern, in one place, is replaced.

    Raises:
        ValueError: if it does not fit exactly one place.
    """
    text, count = re.subn(pattern, lambda _: by, text)
    if count != 1:
        raise ValueError(f"there must be one place that fits {pattern!r}; found {count}.")
    return text


if __name__ == "__main__":
    main()
