"""The model in PyTorch, and what the PyTorch contenders have in common."""

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own custom
from torch import nn

from . import LATENT_DIM, layers


class VAE(nn.Module):
    """196 → 128 tanh → 8 + 8 and 8 → 128 tanh → 196 logits, or of other widths."""

    def __init__(self, pixels, hidden_units):
        super().__init__()
        both = layers(pixels, hidden_units, LATENT_DIM)
        encoder, decoder = ([nn.Linear(*shape) for shape in shapes] for shapes in both)
        self.encoder = nn.Sequential(nn.Flatten(), encoder[0], nn.Tanh(), encoder[1])
        self.decoder = nn.Sequential(decoder[0], nn.Tanh(), decoder[1])
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, images):
        """Returns both terms of the ELBO, means over images [B, height, width], in nats."""
        loc, unconstrained = self.encoder(images).chunk(2, dim=-1)
        scale = F.softplus(unconstrained) + 1e-6
        logits = self.decoder(loc + scale * torch.randn_like(scale))
        pixels = images.flatten(1)
        surprise = F.binary_cross_entropy_with_logits(logits, pixels, reduction="sum")
        kl = (0.5 * (loc.square() + scale.square() - 1) - scale.log()).sum()
        return -surprise / len(images), kl / len(images)


class TorchPeer:
    """Trains epoch by epoch; a subclass gives `epoch`."""

    def __init__(self, images, batch_size, seed, hidden_units=128, **adam_options):
        torch.manual_seed(seed)
        self.device = torch.get_default_device()
        self.images, self.batch_size = self.on_device(images), batch_size
        self.updates_per_epoch = -(-len(images) // batch_size)
        self.terms = self.model = VAE(images[0].size, hidden_units)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=2e-3, eps=1e-7, **adam_options
        )

    def on_device(self, images):
        """Returns images as floats, where the model is."""
        return torch.from_numpy(images).float().to(self.device)

    def update(self, batch):
        """Makes one weight update; returns both terms of the ELBO."""
        log_likelihood, kl = self.terms(batch)
        self.optimizer.zero_grad()
        (kl - log_likelihood).backward()
        self.optimizer.step()
        return log_likelihood.detach(), kl.detach()

    def train(self, epochs, after_epoch):
        """Trains for `epochs` epochs, or until `after_epoch()` is true."""
        for _ in range(epochs):
            self.history = self.epoch()
            if after_epoch():
                break

    @torch.inference_mode()
    def elbo(self, images):
        """Returns the mean ELBO of images, in nats."""
        log_likelihood, kl = self.model(self.on_device(images))
        return (log_likelihood - kl).item()
