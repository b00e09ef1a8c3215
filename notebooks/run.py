"""Runs the notebooks top to bottom, each in a process of its own, and shows how far they are.

    python notebooks/run.py            # all of them; their figures go to figures/
    python notebooks/run.py 03 05      # those whose names begin so
    python notebooks/run.py --jobs 1   # one at a time, not two: half the memory
    python notebooks/run.py --store    # and keeps what they printed and drew: `make notebooks`

Without `--store` nobody looks at what a notebook prints and shows, so no kernel is started for it.
Its cells run in a process that was forked, where there is a fork, from one that has imported what
all notebooks import. So TensorFlow is imported once, which takes seconds, and not once for each.

Stored notebooks keep outputs and counts, which `pytest --nbval` compares, and nothing that differs
from machine to machine: no metadata, no stderr.
"""

import argparse
import contextlib
import gc
import io
import multiprocessing
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import forkserver
from pathlib import Path

import furnish
import nbformat
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient
from traitlets.config import Config

HERE = Path(__file__).parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# What is imported before the processes of notebooks are forked. To import is all that it does: a
# TensorFlow that has computed cannot be forked.
IMPORTED = ["nbclient", "IPython.core.interactiveshell", "vae_tf.figures"]


class Progress:
    """A line for every notebook that is done; on a terminal, one more for those that run."""

    def __init__(self):
        self.running = {}
        self.live = sys.stdout.isatty()

    def show(self, name, cells, seconds, finished):
        """Says that `cells`, as (done, in all), of a notebook have run."""
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


def run(path, is_stored):
    """Runs a notebook and tells `reports` of every cell; keeps its outputs if they are stored.

    It is called in a process of the notebook's own, to which `listened_to` gave `reports`.
    """
    notebook = nbformat.read(path, as_version=4)
    count = sum(cell.cell_type == "code" for cell in notebook.cells)
    start, done = time.perf_counter(), 0

    def show(cell, **_):
        nonlocal done
        done += cell.cell_type == "code"
        reports.put((path.stem, (done, count), time.perf_counter() - start, False))

    execute(notebook, show) if is_stored else run_cells(notebook, show)
    seconds = time.perf_counter() - start
    if is_stored:
        store(notebook, path, seconds)
    reports.put((path.stem, (count, count), seconds, True))


def execute(notebook, show):
    """Runs the cells in a kernel, calls `show` after each, and puts the outputs in the notebook."""
    client = NotebookClient(
        notebook,
        timeout=1800,
        kernel_name="python3",
        resources={"metadata": {"path": str(HERE)}},
        on_cell_complete=show,
    )
    client.execute(stderr=subprocess.DEVNULL)  # TensorFlow greets there; errors are raised here


def run_cells(notebook, show):
    """Runs the cells in this process, calls `show` after each, and lets go of what they print.

    Raises:
        Exception: whatever a cell raises; a note on it says where.
    """
    os.chdir(HERE)
    gc.freeze()  # what was imported stays, and need not be looked through for what can go
    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, 1):
        with contextlib.redirect_stdout(io.StringIO()):
            result = shell.run_cell(cell.source, silent=True)  # silent: shows no figure
        try:
            result.raise_error()
        except Exception as error:
            error.add_note(f"in code cell {number} of {notebook.cells[0].source.splitlines()[0]}")
            raise
        show(cell)


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


def processes():
    """Returns how processes are started: forked from one that has imported `IMPORTED`, on Linux."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with open(os.devnull, "w") as nowhere:  # TensorFlow greets on stderr
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            forkserver.ensure_running()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    return context


def listened_to(queue):
    """Has `run` put what it tells into this queue; called once in each process."""
    global reports
    reports = queue


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
    context, progress = processes(), Progress()
    queue = context.SimpleQueue()

    def listen():
        for report in iter(queue.get, None):
            progress.show(*report)

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        with ProcessPoolExecutor(
            max(1, arguments.jobs), context, listened_to, (queue,), max_tasks_per_child=1
        ) as pool:
            # The last ones take longest, and so come first: both then end at about one time.
            pending = [pool.submit(run, path, arguments.store) for path in reversed(paths)]
            try:
                for future in as_completed(pending):
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)  # one that runs already ends by itself
                raise
    finally:
        queue.put(None)
        listener.join()


if __name__ == "__main__":
    main()
