"""PyTorch: an eager loop with its own distributions, Adam and learning-rate schedule."""

import math

import torch
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from . import IMAGES_PER_CHUNK, LITERATURE, SAMPLES_PER_CHUNK, layers

torch.set_num_threads(1)  # two wait for each other longer than such small products take
torch.distributions.Distribution.set_default_validate_args(False)


def network(shapes):
    """Returns tanh layers of these inputs and outputs, the last of them linear."""
    modules = []
    for inputs, outputs in shapes:
        modules += [nn.Linear(inputs, outputs), nn.Tanh()]
    return nn.Sequential(*modules[:-1])


class VAE(nn.Module):
    """A Gaussian posterior and a Bernoulli likelihood, of flat images."""

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = network(encoder), network(decoder)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def posterior(self, images):
        """Returns q(z|x), of batch shape [B, L]."""
        loc, unconstrained = self.encoder(images).chunk(2, dim=-1)
        return Normal(loc, nn.functional.softplus(unconstrained) + 1e-6)

    def log_likelihood(self, latents, images):
        """Returns log p(x|z) of latents [K, B, L]: [K, B]."""
        return Bernoulli(logits=self.decoder(latents)).log_prob(images).sum(-1)

    def log_weights(self, posterior, latents, images):
        """Returns log w of latents [K, B, L]: [K, B]."""
        log_ratio = posterior.log_prob(latents) - Normal(0.0, 1.0).log_prob(latents)
        return self.log_likelihood(latents, images) - log_ratio.sum(-1)

    def loss(self, images, noise, objective):
        """Returns minus the objective, the mean over images, in nats.

        Args:
            images: [B, pixels], values 0 or 1.
            noise: [K, B, L], standard normal.
            objective: "elbo" or "iwae".
        """
        posterior = self.posterior(images)
        latents = posterior.loc + posterior.scale * noise
        if objective == "elbo":
            kl = kl_divergence(posterior, Normal(0.0, 1.0)).sum(-1)
            return (kl - self.log_likelihood(latents, images).mean(0)).mean()
        log_sum = self.log_weights(posterior, latents, images).logsumexp(0)  # over draws
        return (math.log(len(noise)) - log_sum).mean()


def share_of_peak(schedule):
    """Returns a function of an update's number, from 0: its learning rate in units of the peak."""
    rising = round(schedule.warmup * schedule.updates)

    def share(number):
        if number < rising:
            return number / rising
        return 0.5 * (1 + math.cos(math.pi * (number - rising) / (schedule.updates - rising)))

    return share


def optimizer(parameters, schedule):
    """Returns Adam, and what sets its learning rate after every update."""
    adam = torch.optim.Adam(parameters, schedule.learning_rate, eps=1e-7, fused=True)
    return adam, torch.optim.lr_scheduler.LambdaLR(adam, share_of_peak(schedule))


class Peer:
    """A Python loop over batches."""

    def __init__(self, levels, schedule):
        self.levels, self.schedule = torch.from_numpy(levels).flatten(1), schedule
        self.shapes = layers(self.levels.shape[1], **LITERATURE)

    def train(self, objective, draws, seed):
        """Trains new weights."""
        torch.manual_seed(seed)
        self.model = VAE(*self.shapes)
        adam, rates = optimizer(self.model.parameters(), self.schedule)
        for rows in self.order():
            images = torch.bernoulli(self.levels[rows])
            noise = torch.randn(draws, len(rows), LITERATURE["latent_dim"])
            adam.zero_grad()
            self.model.loss(images, noise, objective).backward()
            adam.step()
            rates.step()

    def order(self):
        """Returns the rows of every batch, of a new permutation in each pass: [updates, B]."""
        size, updates = self.schedule.batch_size, self.schedule.updates
        passes = math.ceil(updates * size / len(self.levels))
        rows = torch.cat([torch.randperm(len(self.levels)) for _ in range(passes)])
        return rows[: updates * size].reshape(updates, size)

    def weights(self):
        """Returns kernel and bias of each layer, from the images on: arrays."""
        return [each.detach().numpy().T for each in self.model.parameters()]

    @torch.inference_mode()
    def bounds(self, images, num_samples):
        """Returns the importance-weighted bound of each binary image, in nats: [N]."""
        found = []
        for chunk in torch.from_numpy(images).float().flatten(1).split(IMAGES_PER_CHUNK):
            posterior = self.model.posterior(chunk)
            counts = [SAMPLES_PER_CHUNK] * (num_samples // SAMPLES_PER_CHUNK)
            counts += [num_samples % SAMPLES_PER_CHUNK] * (num_samples % SAMPLES_PER_CHUNK > 0)
            log_weights = [
                self.model.log_weights(posterior, posterior.sample((count,)), chunk)
                for count in counts
            ]
            log_sum = torch.cat(log_weights).double().logsumexp(0)  # over draws: [B]
            found.append(log_sum - math.log(num_samples))
        return torch.cat(found).numpy()
