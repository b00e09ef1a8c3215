"""What every notebook has and nobody writes by hand: its way in and out, and links to the code.

    python notebooks/furnish.py    # brings both up to date in the stored notebooks, without a run

The second cell of a notebook is written here: a badge that opens it in Colab, how long it took when
it was last stored, and the notebooks before and after it. Links such as [`VAE.posterior`] to a file
of the package go to the line where that name is defined.
"""

import ast
import re
import tomllib
from pathlib import Path

import nbformat

HERE = Path(__file__).parent
ROOT = HERE.parent
NAVIGATION = "navigation"  # the tag of the cell
BADGE = "open_in_colab.svg"  # beside this file, so that nothing is fetched to show a notebook
# A name in code, a file of the package, and the line that was right when the link was last made.
LINK = re.compile(r"\[`([\w.]+?)(\(\))?`\]\((\.\./(?:vae_tf|notebooks)/[\w/]+\.py)(?:#L\d+)?\)")


def repository():
    """Returns the project's public address, which stands in pyproject.toml alone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["urls"]["Repository"]


def setup_source():
    """Returns the first code cell of every notebook, which installs the package in Colab."""
    return (
        f'import sys\n\nif "google.colab" in sys.modules:\n    %pip install -q git+{repository()}'
    )


def title(path):
    """Returns what a notebook is called, such as "3 · Training"."""
    return nbformat.read(path, as_version=4).cells[0].source.splitlines()[0].removeprefix("# ")


def navigation(path, duration):
    """Returns the second cell of a notebook; `duration` is a text."""
    paths = sorted(path.parent.glob("[0-9]*.ipynb"))
    place = paths.index(path)
    owner = repository().removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{owner}/blob/main/notebooks/{path.name}"
    parts = [f"[![Open in Colab]({BADGE})]({colab})", f"{duration} on two cores"]
    if place:
        parts.append(f"before: [{title(paths[place - 1])}]({paths[place - 1].name})")
    if place + 1 < len(paths):
        parts.append(f"next: [{title(paths[place + 1])}]({paths[place + 1].name})")
    return " | ".join([*parts, "[words](../docs/glossary.md)"])


def duration(seconds, before=None):
    """Returns seconds as a text; what it said before, where that is still about right."""
    said = re.search(r"about (\d+) (s|min)", before or "")
    if said and 2 / 3 < seconds / (int(said[1]) * (60 if said[2] == "min" else 1)) < 3 / 2:
        return said[0]
    if seconds < 55:
        return f"about {max(1, round(seconds / 10)) * 10} s"
    return f"about {round(seconds / 60)} min"


def furnish(notebook, path, seconds=None):
    """Brings the second cell of a notebook, and its links, up to date; the time only if given."""
    cells = notebook.cells
    if NAVIGATION not in cells[1].metadata.get("tags", []):
        cells.insert(1, nbformat.v4.new_markdown_cell(id="navigation"))
        cells[1].metadata["tags"] = [NAVIGATION]
    before = cells[1].source
    if seconds is None:
        said = re.search(r"about \d+ (s|min)", before)
        text = said[0] if said else "a minute"
    else:
        text = duration(seconds, before)
    cells[1].source = navigation(path, text)
    for cell in cells:
        if cell.cell_type == "markdown":
            cell.source = LINK.sub(_linked, cell.source)


def _linked(link):
    name, call, file = link[1], link[2] or "", link[3]
    return f"[`{name}{call}`]({file}#L{line_of(HERE / file, name)})"


def line_of(path, name):
    """Returns the line where a file defines a name, such as "VAE.posterior" or "LARGEST_BETA".

    Raises:
        ValueError: if it does not.
    """
    nodes = ast.parse(path.read_text()).body
    for part in name.split("."):
        for node in nodes:
            targets = getattr(node, "targets", ())
            names = {getattr(node, "name", None), *(getattr(each, "id", None) for each in targets)}
            if part in names:
                line, nodes = node.lineno, getattr(node, "body", [])
                break
        else:
            raise ValueError(f"{path.name} defines no {name}; mend the link in the notebook.")
    return line


def main():
    """Brings all stored notebooks up to date."""
    for path in sorted(HERE.glob("[0-9]*.ipynb")):
        before = path.read_text()
        notebook = nbformat.read(path, as_version=4)
        furnish(notebook, path)
        text = nbformat.writes(notebook) + "\n"
        if text != before:
            path.write_text(text)
            print(f"{path.name}: brought up to date")


if __name__ == "__main__":
    main()
