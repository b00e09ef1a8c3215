"""What the notebooks say is what they print, and what their exercises come to was measured."""

import json
import math
import re
import sys
from pathlib import Path

import nbformat
import pytest

from vae_tf.analysis import results

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
PUBLISHED = results.read(ROOT / "figures")
sys.path.insert(0, str(ROOT / "notebooks"))

NUMBER = re.compile(r"(?<![\w.])[−-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?(?!\w)")
# What is no measurement: code, addresses, sizes, names of classes and the years of papers.
EXEMPT = re.compile(
    r"`[^`]*`|\]\([^)]*\)|https?://\S+|\d+×\d+|\((?:19|20)\d\d\)|\b\w+ (?:19|20)\d\d\b"
)
WORDS = re.compile(
    r"\b(half|thirds?|quarters?|fifths?|tenths?|twice|thrice|"
    r"(?:two|three|four|five|six|seven|eight|nine|ten) (?:nats?|times|per cent|%))\b"
)


def numbers(text):
    """Returns the numbers that a text states, with how many decimals each has."""
    found = []
    for match in NUMBER.finditer(EXEMPT.sub(" ", text)):
        digits = match[0].replace("−", "-").replace(",", "")
        after = match.string[match.end() :].lstrip()
        if len(digits) == 1 and not after.startswith(("%", "nat", "per cent")):
            continue  # a digit's name, or a small count
        found.append((abs(float(digits)), len(digits.partition(".")[2])))
    return found


def is_among(stated, known):
    """Tells whether a number, of so many decimals, is one of those known, rounded."""
    value, decimals = stated
    half = 0.5 * 10.0**-decimals
    return any(abs(each - value) <= half * (1 + 1e-6) for each in known)


def printed(notebook):
    """Returns the numbers that a notebook printed."""
    outputs = [each for cell in notebook.cells for each in cell.get("outputs", ())]
    texts = [each.get("text", "") for each in outputs]
    texts += [each.get("data", {}).get("text/plain", "") for each in outputs]
    found = re.findall(r"[−-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?", "\n".join(texts))
    return [abs(float(each.replace("−", "-").replace(",", ""))) for each in found]


def section(notebook, heading):
    """Returns the text below a heading, up to the next one of its kind."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert text.count(f"## {heading}\n") == 1, heading
    return re.split(r"\n## ", text.split(f"## {heading}\n")[1])[0]


def values_in(entry):
    """Returns all numbers in an entry of `results.json`."""
    if isinstance(entry, dict):
        return [value for each in entry.values() for value in values_in(each)]
    if isinstance(entry, list):
        return [value for each in entry for value in values_in(each)]
    is_number = isinstance(entry, int | float) and not isinstance(entry, bool)
    return [abs(entry)] if is_number and math.isfinite(entry) else []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_number_of_what_we_found_is_printed(path):
    notebook = nbformat.read(path, as_version=4)
    text, known = section(notebook, "What we found"), printed(notebook)
    assert not [stated for stated in numbers(text) if not is_among(stated, known)]
    assert not WORDS.findall(EXEMPT.sub(" ", text)), "write measured numbers as numerals"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_outcome_of_an_exercise_was_measured(path):
    import solve

    text = section(nbformat.read(path, as_version=4), "Exercises")
    parts = re.split(r"\*\*Exercise (\d+\.\d+)", text)[1:]
    exercises = dict(zip(parts[::2], parts[1::2], strict=True))
    place, solved = (
        int(path.stem[:2]),
        solve.solutions(ROOT / "notebooks" / "solutions" / f"{path.stem}.py"),
    )
    assert list(exercises) == [f"{place}.{number}" for number in solved]
    assert len(exercises) >= 3
    for name, exercise in exercises.items():
        question, outcome = re.fullmatch(
            r"(?s)(.*)<details>\s*<summary>Outcome</summary>\n\n(.*?)\n</details>\s*", exercise
        ).groups()
        assert len(question.split()) > 10, name
        assert numbers(outcome), name
        known = values_in(PUBLISHED[f"exercise {name}"])
        assert not [stated for stated in numbers(outcome) if not is_among(stated, known)], name
        assert not WORDS.findall(EXEMPT.sub(" ", outcome)), name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_are_built_alike(path):
    notebook = nbformat.read(path, as_version=4)
    first = notebook.cells[0].source
    assert "**You will learn**" in first
    assert "**You need**" in first
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert not [cell for cell in code[:-1] if "results.record(" in cell], "bookkeeping comes last"
    drawn = [
        place
        for place, cell in enumerate(notebook.cells)
        if "image/png" in json.dumps([o.get("data", {}) for o in cell.get("outputs", ())])
    ]
    for place in drawn:
        assert notebook.cells[place + 1].source.startswith("*How to read it*: "), place


def anchors(path):
    """Returns the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.+)$", path.read_text())
    kept = [re.sub(r"[^\w\s-]", "", heading.lower()) for heading in headings]
    return {re.sub(r"\s", "-", each.strip()) for each in kept}


@pytest.mark.parametrize("path", [*NOTEBOOKS, ROOT / "docs" / "glossary.md"], ids=lambda p: p.stem)
def test_links_lead_somewhere(path):
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    else:
        text = path.read_text()
    for link in re.findall(r"\]\(([^)#\s]*(?:#[^)\s]*)?)\)", text):
        file, _, anchor = link.partition("#")
        if file.startswith("http"):
            continue
        target = path.parent / file if file else path
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


def test_numbers_are_found_and_compared():
    assert numbers("−33.8 nats, 74 % of 14×14, 9 and 4, `beta=4`, 1,000, 2 nats, Smith 2016") == [
        (33.8, 1),
        (74.0, 0),
        (1000.0, 0),
        (2.0, 0),
    ]
    assert is_among((33.8, 1), [33.79])
    assert not is_among((33.8, 1), [33.7, 33.86])
