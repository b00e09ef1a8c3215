from .model import VAE
