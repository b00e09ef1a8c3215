"""A variational autoencoder for MNIST: small, fast, and with numbers that hold."""

from . import data, model, training
from .data import load_mnist
from .model import VAE
from .training import Recipe, train

__all__ = ["VAE", "Recipe", "data", "load_mnist", "model", "train", "training"]
