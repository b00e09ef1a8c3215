"""The hardware limit of a bound: the decoder's matrix products of all draws, in NumPy.

The encoder sees every image once, which is next to nothing beside thousands of draws.
"""

import numpy as np

from . import IMAGES_PER_CHUNK, SAMPLES_PER_CHUNK, layers


class Peer:
    """Makes the products, chunk by chunk; there is no bound."""

    def __init__(self, images, hidden_units, latent_dim, seed):
        size = min(IMAGES_PER_CHUNK, len(images))
        self.chunks, rows = -(-len(images) // size), size * SAMPLES_PER_CHUNK
        random = np.random.default_rng(seed)
        self.products = []
        for inputs, outputs in layers(images[0].size, hidden_units, latent_dim)[1]:
            x = random.standard_normal((rows, inputs), np.float32)
            weight = random.standard_normal((inputs, outputs), np.float32)
            self.products.append((x, weight, x @ weight))  # with room for the result

    def bound(self, num_samples):
        """Goes through all draws."""
        for _ in range(self.chunks * -(-num_samples // SAMPLES_PER_CHUNK)):
            for x, weight, result in self.products:
                np.matmul(x, weight, out=result)
