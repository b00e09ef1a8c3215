"""Where figures and published numbers go: the one writer and reader of `results.json`.

What comes from all of MNIST goes into `figures/`, what comes from the 5,000-digit sample into
`figures/sample/`, and what comes from other images into a folder of their name, so that a try never
overwrites what is published.
"""

import json
import numbers
import os
import re
from pathlib import Path

import numpy as np

from ..data import DATASET
from ..engine import atomic, checks


def output_directory(data):
    """Returns the folder for figures and numbers made from these images; makes it if need be.

    It is `figures/` of the repository where notebooks run in it, else of the working directory;
    the environment variable `VAE_TF_FIGURES` names another.
    """
    base = os.environ.get("VAE_TF_FIGURES")
    if not base:
        here = Path.cwd()
        base = (here.parent if here.name == "notebooks" else here) / "figures"
    directory = Path(base)
    if data.is_sample:
        directory /= "sample"
    elif not data.is_mnist:
        name = "-".join(re.findall(r"\w+", data.name.lower()))
        directory /= f"own-{name or 'images'}" if name in ("", "sample") else name
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def record(directory, name, data, values, **provenance):
    """Writes the numbers of one experiment to `results.json`, in place of its earlier ones.

    Args:
        directory: what `output_directory` returns.
        name: of the experiment: the key in the file.
        data: what the numbers come from; recorded as their source.
        values: a dict of numbers, or of dicts of numbers; floats are kept to 6 digits.
        **provenance: seed, counts of digits, draws and updates, and the like.

    Raises:
        TypeError, ValueError: if a number is not finite, or an argument of the wrong kind. Nothing
            is written then.
        FileNotFoundError: if there is no such directory.
    """
    checks.text("name", name)
    if not isinstance(getattr(data, "name", None), str):
        raise TypeError(f"data must be {DATASET}; received {type(data).__name__}.")
    checks.instance("values", values, dict, "a dict of numbers")
    if not Path(directory).is_dir():
        raise FileNotFoundError(f"{directory} is not a folder; use output_directory, or make it.")
    entry = _plain({"data": data.name, **provenance, **values}, name)
    with atomic.locked(Path(directory, ".results.lock")):  # nobody writes between
        results = read(directory)
        results[name] = entry
        with atomic.replacing(Path(directory, "results.json")) as temporary:
            temporary.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


def read(directory):
    """Returns what `results.json` holds: a dict by experiment, empty where there is no file."""
    file = Path(directory, "results.json")
    return json.loads(file.read_text()) if file.exists() else {}


def _plain(value, name):
    """Returns a value as JSON has it, numbers rounded; refuses what is not finite."""
    if isinstance(value, dict):
        return {str(key): _plain(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item, name) for item in value]
    if isinstance(value, str | bool | None | int):
        return value
    if isinstance(value, np.integer):
        return int(value)
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number; received {value!r}.")
    if not np.isfinite(value):
        raise ValueError(f"{name} must be finite to be recorded; received {value}.")
    return float(f"{value:.6g}")
