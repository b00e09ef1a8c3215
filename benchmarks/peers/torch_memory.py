"""PyTorch with the digits in one tensor, shuffled at once, and the fused Adam.

Fused Adam makes the eight small updates in one call: measured 0.92 ms an update instead of 1.17.
"""

import torch

from .torch_model import TorchPeer


class Peer(TorchPeer):
    """An eager loop with what PyTorch offers for small models."""

    def __init__(self, images, batch_size, seed, hidden_units=128):
        super().__init__(images, batch_size, seed, hidden_units, fused=True)

    def epoch(self):
        """Trains for an epoch; returns both terms of every update, [updates, 2]."""
        shuffled = self.images[torch.randperm(len(self.images))]
        terms = [torch.stack(self.update(batch)) for batch in shuffled.split(self.batch_size)]
        return torch.stack(terms)
