"""The near end of a worker process: start it, tell it what to do, end it."""

import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peers import BEFORE
from worker import THREADS

# Every library finds two processors and no GPU, and keeps its start-up messages to itself.
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",
    "JAX_PLATFORMS": "cpu",
    "OMP_NUM_THREADS": str(THREADS),
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


class ContenderError(RuntimeError):
    """A contender failed; the message holds its own."""


class Contender:
    """A process of its own for one contender; use it in a `with` statement.

    Args:
        name: of the contender.
        before: the folder that has the code before; only contenders of that code look there.
    """

    def __init__(self, name, before=None):
        own = {"PYTHONPATH": str(before)} if name in BEFORE else {}
        self.name, self.started = name, time.perf_counter()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py"))],
            env=os.environ | ENVIRONMENT | own,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
        self.log.close()

    def tell(self, command, *arguments):
        """Has the worker run a command of `worker.Server`; returns its result.

        Raises:
            ContenderError: if it failed, with its traceback or the last that it printed.
        """
        try:
            pickle.dump((command, arguments), self.process.stdin)
            self.process.stdin.flush()
            outcome, result = pickle.load(self.process.stdout)
        except (BrokenPipeError, EOFError):
            outcome, result = "died", self._last_words()
        if outcome != "done":
            raise ContenderError(f"{self.name} {outcome} at `{command}`:\n{result}")
        return result

    def age(self):
        """Returns the seconds since the process was started."""
        return time.perf_counter() - self.started

    def _last_words(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-2_000:] or "it printed nothing"
