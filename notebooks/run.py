"""Runs the notebooks top to bottom, each in a kernel of its own, and shows how far they are.

    python notebooks/run.py            # all of them; their figures go to figures/
    python notebooks/run.py 03 05      # those whose names begin so
    python notebooks/run.py --jobs 1   # one at a time, not two: half the memory
    python notebooks/run.py --store    # and keeps what they printed and drew: `make notebooks`

Stored notebooks keep outputs and counts, which `pytest --nbval` compares, and nothing that differs
from machine to machine: no metadata, no stderr.
"""

import argparse
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import furnish
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class Progress:
    """A line for every notebook that is done; on a terminal, one more for those that run."""

    def __init__(self):
        self.running, self.lock = {}, threading.Lock()
        self.live = sys.stdout.isatty()

    def show(self, name, cells, seconds, finished):
        """Says that `cells`, as (done, in all), of a notebook have run."""
        with self.lock:
            self.running[name] = cells
            if finished:
                del self.running[name]
                line = f"{name:20} {cells[1]:2} cells {seconds:6.1f} s"
                print(f"\r{line:80}" if self.live else line, flush=True)
            if self.live and self.running:
                bars = [
                    f"{name} {'█' * done}{'·' * (count - done)}"
                    for name, (done, count) in self.running.items()
                ]
                print("\r" + "  ".join(bars).ljust(80), end="", flush=True)


def run(path, progress):
    """Executes a notebook, showing its progress; returns it with its outputs, and the seconds."""
    notebook = nbformat.read(path, as_version=4)
    count = sum(cell.cell_type == "code" for cell in notebook.cells)
    start, done = time.perf_counter(), 0

    def show(cell, **_):
        nonlocal done
        done += cell.cell_type == "code"
        progress.show(path.stem, (done, count), time.perf_counter() - start, finished=False)

    client = NotebookClient(
        notebook,
        timeout=1800,
        kernel_name="python3",
        resources={"metadata": {"path": str(HERE)}},
        on_cell_complete=show,
    )
    client.execute(stderr=subprocess.DEVNULL)  # TensorFlow greets there; errors are raised here
    seconds = time.perf_counter() - start
    progress.show(path.stem, (count, count), seconds, finished=True)
    return notebook, seconds


def store(notebook, path, seconds):
    """Writes a notebook that was run, without what differs from machine to machine."""
    notebook.metadata = METADATA
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code[0].source = furnish.setup_source()
    for cell in code:
        tags = cell.metadata.get("tags")
        cell.metadata = {"tags": tags} if tags else {}
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            if "data" in output:  # a figure's address in memory
                text = output.data.get("text/plain", "")
                output.data["text/plain"] = re.sub(r" at 0x[0-9a-f]+", "", text)
    furnish.furnish(notebook, path, seconds)
    from vae_tf.engine import atomic  # only here: it brings TensorFlow, which takes seconds

    with atomic.replacing(path) as temporary:
        nbformat.write(notebook, temporary)


def main():
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description="Run the notebooks.")
    parser.add_argument("names", nargs="*", help="how the names of those to run begin; all if none")
    parser.add_argument("--jobs", type=int, default=2, help="how many run at once; 2 if not given")
    parser.add_argument("--store", action="store_true", help="keep the outputs in the notebooks")
    arguments = parser.parse_args()
    paths = sorted(HERE.glob("[0-9]*.ipynb"))
    if arguments.names:
        paths = [path for path in paths if path.name.startswith(tuple(arguments.names))]
    if not paths:
        raise SystemExit(f"no notebook begins with {' or '.join(arguments.names)}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    progress = Progress()

    def run_and_store(path):
        notebook, seconds = run(path, progress)
        if arguments.store:
            store(notebook, path, seconds)

    with ThreadPoolExecutor(max(1, arguments.jobs)) as pool:
        # The last ones take longest, and so come first: both workers then end at about one time.
        pending = [pool.submit(run_and_store, path) for path in reversed(paths)]
        try:
            for future in as_completed(pending):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # one that runs already ends by itself
            raise


if __name__ == "__main__":
    main()
