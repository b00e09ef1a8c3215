"""The README's numbers are those of the `results.json` files, and its files and commands exist."""

import json
import re
from pathlib import Path

import pytest

from vae_tf.analysis import results

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PUBLISHED = results.read(ROOT / "figures")
BENCHMARKS = {
    name: json.loads((ROOT / "benchmarks" / file).read_text())
    for name, file in (
        ("benchmarks", "results.json"),
        ("benchmarks, AMD EPYC", "results-amd-epyc.json"),
        ("benchmarks, GPU", "results-gpu.json"),
    )
}


def numbers(text):
    """Returns pairs of a line and the names, in `<!-- from: … -->`, that its numbers come from."""
    return re.findall(r"^(.*)<!-- from: (.+?) -->$", text, re.MULTILINE)


def lookup(path):
    value = PUBLISHED | BENCHMARKS
    for key in path.split(" / "):
        value = value[int(key) if isinstance(value, list) else key]
    return value


def test_readme_numbers_are_published_ones():
    marked = numbers(README)
    assert len(marked) >= 1
    for text, paths in marked:
        for path in paths.split("; "):
            value = lookup(path)
            if isinstance(value, dict):
                shown = f"{value['mean']:.2f} ± {value['standard_error']:.2f}"
            elif path.endswith(("mean", "standard_deviation")):
                shown = f"{value:.2f}"
            else:
                shown = f"{value:,}"
            assert shown.replace("-", "−") in text, f"{path}: {shown} is not in {text}"


def test_every_bound_in_the_readme_is_marked():
    for line in README.splitlines():
        if re.search(r"−\d+\.\d+ ± ", line):
            assert "<!-- from:" in line, line


def test_published_numbers_are_from_all_of_mnist():
    assert PUBLISHED
    for name, entry in PUBLISHED.items():
        assert entry["data"] == "MNIST", name


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!http|#)([^)]+)\)", README))))
def test_links_lead_somewhere(target):
    assert (ROOT / target.split("#")[0]).exists()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z-]+)`", README))))
def test_make_targets_exist(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
