"""A variational autoencoder for MNIST: small, fast, and with numbers that hold.

digits = vae_tf.load_mnist()
vae, history = vae_tf.train(digits, vae_tf.Recipe.writeup(), seed=0)
vae_tf.evaluate(vae, digits.validation.images)
"""

import importlib

try:
    import keras

    found = keras.config.backend()
except ModuleNotFoundError as error:  # Keras imports its backend
    found = f"one without the package {error.name}"
if found != "tensorflow":
    raise ImportError(
        f"vae_tf needs Keras's backend to be tensorflow; received {found}. Set KERAS_BACKEND, or "
        "the backend in Keras's keras.json, to tensorflow, and start Python anew."
    )

from .data import from_arrays, load_fashion_mnist, load_mnist
from .engine.blocks import DivergenceError
from .engine.loading import load_model
from .evaluation import evaluate
from .explorer import export_explorer
from .model import VAE
from .pixel_vae import MixtureVAE, PixelVAE
from .pretrained import load_pretrained
from .training import History, Recipe, train

__all__ = [
    "VAE",
    "DivergenceError",
    "History",
    "MixtureVAE",
    "PixelVAE",
    "Recipe",
    "VAESummaries",
    "analysis",
    "evaluate",
    "export_explorer",
    "export_networks",
    "figures",
    "from_arrays",
    "load_fashion_mnist",
    "load_mnist",
    "load_model",
    "load_pretrained",
    "train",
]


def __getattr__(name):
    """Imports on first use what not every program needs: figures take matplotlib along."""
    if name in ("analysis", "figures"):
        return importlib.import_module(f".{name}", __name__)
    if (place := {"export_networks": "exports", "VAESummaries": "summaries"}.get(name)) is not None:
        return getattr(importlib.import_module(f".{place}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
