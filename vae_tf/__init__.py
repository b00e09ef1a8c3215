"""A variational autoencoder for MNIST: small, fast, and with numbers that hold.

digits = vae_tf.load_mnist()
vae, history = vae_tf.train(digits, vae_tf.Recipe.writeup(), seed=0)
vae_tf.evaluate(vae, digits.validation.images)
"""

import importlib

from .data import load_mnist
from .evaluation import evaluate
from .explorer import export_explorer
from .model import VAE
from .pretrained import load_pretrained
from .training import Recipe, train

__all__ = [
    "VAE",
    "Recipe",
    "evaluate",
    "export_explorer",
    "figures",
    "load_mnist",
    "load_pretrained",
    "train",
]


def __getattr__(name):
    """Imports on first use what needs more than TensorFlow."""
    if name == "figures":  # matplotlib
        return importlib.import_module(".figures", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
