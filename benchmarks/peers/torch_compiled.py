"""PyTorch with `torch.compile`, digits in memory, fused Adam.

The forward and backward passes are compiled; batches have one shape, so that this happens once.
"""

import shutil

import torch

from . import Skip, torch_memory


class Peer(torch_memory.Peer):
    """The loop of `torch_memory`, its model compiled."""

    def __init__(self, images, batch_size, seed, hidden_units=128):
        if not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
            raise Skip("torch.compile needs a C++ compiler")
        steps = len(images) // batch_size
        super().__init__(images[: steps * batch_size], batch_size, seed, hidden_units)
        self.terms = torch.compile(self.model)
