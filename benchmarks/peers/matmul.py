"""The hardware limit: the eleven matrix products of an update, in NumPy, and nothing else.

Four forward; backward two for every layer but the first, whose input needs no gradient.
"""

import numpy as np

from . import LATENT_DIM, layers


class Peer:
    """Makes the products of an epoch; trains nothing, so there is no ELBO."""

    elbo = None

    def __init__(self, images, batch_size, seed, hidden_units=128):
        self.updates_per_epoch = -(-len(images) // batch_size)
        random = np.random.default_rng(seed)
        self.products = []
        encoder, decoder = layers(images[0].size, hidden_units, LATENT_DIM)
        for number, (inputs, outputs) in enumerate(encoder + decoder):
            x, weight, gradient = (
                random.standard_normal(shape, np.float32)
                for shape in ((batch_size, inputs), (inputs, outputs), (batch_size, outputs))
            )
            self.products += [(x, weight), (x.T, gradient)]
            if number > 0:
                self.products += [(gradient, weight.T)]
        self.products = [(a, b, a @ b) for a, b in self.products]  # with room for the result

    def train(self, epochs, after_epoch):
        """Goes through `epochs` epochs, or until `after_epoch()` is true."""
        for _ in range(epochs):
            for _ in range(self.updates_per_epoch):
                for a, b, result in self.products:
                    np.matmul(a, b, out=result)
            if after_epoch():
                break
