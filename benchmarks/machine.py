"""Facts about the machine that figures need beside them; no names of hosts, users or folders."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path

PACKAGES = ("vae_tf", "tensorflow", "keras", "tensorflow-probability", "jax", "torch", "numpy")


def facts(threads):
    """Returns a dict of text and numbers."""
    schedulable = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count()))(0)
    return {
        "cpu": _cpu_model(),
        "cores": len(schedulable),
        "cores_used": min(threads, len(schedulable)),
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def load():
    """Returns how many other processes were running on average in the last minute, or None."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _cpu_model():
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"


def _gpu():
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        names = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split(
            "\n"
        )
        if names[0]:
            return f"{names[0]}: there, but not run on"
    return "none: not run"


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
