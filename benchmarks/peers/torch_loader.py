"""PyTorch as the writeup has it: eager, a `DataLoader` over a dataset of digits, default Adam.

The writeup averaged two draws of z before decoding, which is no bound; here, as everywhere, one
draw is decoded. That is a little less work, so the comparison leans towards PyTorch. No worker
processes: handing over batches this small costs more than making them.
"""

from torch.utils.data import DataLoader, TensorDataset

from .torch_model import TorchPeer


class Peer(TorchPeer):
    """The loop of most tutorials."""

    def __init__(self, images, batch_size, seed, hidden_units=128):
        super().__init__(images, batch_size, seed, hidden_units)
        self.loader = DataLoader(TensorDataset(self.images), batch_size, shuffle=True)

    def epoch(self):
        """Trains for an epoch; returns both terms of every update, as floats."""
        history = []
        for (batch,) in self.loader:
            log_likelihood, kl = self.update(batch)
            history.append((log_likelihood.item(), kl.item()))
        return history
