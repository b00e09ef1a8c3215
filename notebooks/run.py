"""Runs the notebooks top to bottom, each in a kernel of its own, and shows how far they are.

    python notebooks/run.py            # all of them; their figures go to figures/
    python notebooks/run.py 03 05      # those whose names begin so
    python notebooks/run.py --store    # and keeps what they printed and drew: `make notebooks`

Stored notebooks keep outputs and counts, which `pytest --nbval` compares, and nothing that differs
from machine to machine: no metadata, no stderr.
"""

import argparse
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def setup_source():
    """Returns the first code cell of every notebook; the repository's address is in pyproject."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    return (
        "import sys\n\n"
        'if "google.colab" in sys.modules:\n'
        f"    %pip install -q git+{project['urls']['Repository']}"
    )


def run(path):
    """Executes a notebook, showing its progress; returns it with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    count = sum(cell.cell_type == "code" for cell in notebook.cells)
    start, done, live = time.perf_counter(), 0, sys.stdout.isatty()

    def show(cell, **_):
        nonlocal done
        done += cell.cell_type == "code"
        if live or done == count:
            bar = "█" * done + "·" * (count - done)
            seconds = time.perf_counter() - start
            print(f"\r{path.stem:20} {bar} {seconds:5.1f} s", end="", flush=True)

    client = NotebookClient(
        notebook,
        timeout=1800,
        kernel_name="python3",
        resources={"metadata": {"path": str(HERE)}},
        on_cell_complete=show,
    )
    client.execute(stderr=subprocess.DEVNULL)  # TensorFlow greets there; errors are raised here
    print()
    return notebook


def store(notebook, path):
    """Writes a notebook that was run, without what differs from machine to machine."""
    notebook.metadata = METADATA
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code[0].source = setup_source()
    for cell in code:
        tags = cell.metadata.get("tags")
        cell.metadata = {"tags": tags} if tags else {}
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            if "data" in output:  # a figure's address in memory
                text = output.data.get("text/plain", "")
                output.data["text/plain"] = re.sub(r" at 0x[0-9a-f]+", "", text)
    temporary = path.with_suffix(".tmp")
    nbformat.write(notebook, temporary)
    os.replace(temporary, path)


def main():
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description="Run the notebooks.")
    parser.add_argument("names", nargs="*", help="how the names of those to run begin; all if none")
    parser.add_argument("--store", action="store_true", help="keep the outputs in the notebooks")
    arguments = parser.parse_args()
    paths = sorted(HERE.glob("[0-9]*.ipynb"))
    if arguments.names:
        paths = [path for path in paths if path.name.startswith(tuple(arguments.names))]
    if not paths:
        raise SystemExit(f"no notebook begins with {' or '.join(arguments.names)}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for path in paths:
        notebook = run(path)
        if arguments.store:
            store(notebook, path)


if __name__ == "__main__":
    main()
