"""What notebooks find out about trained models: bounds, codes, samples, and their rivals."""

import importlib

__all__ = [
    "baselines",
    "bounds",
    "classifier",
    "completion",
    "latent",
    "quality",
    "results",
    "samples",
    "search",
    "sweeps",
    "writeup",
]


def __getattr__(name):
    """Imports a module on its first use, so that `vae_tf.analysis.bounds` needs no import."""
    if name in __all__:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
