"""What the writeup's numbers are, for the audit of them and for nothing else.

Three names are kept apart. "The writeup" is the document and the numbers that it printed. "The
writeup, run again" is its recipe with its own estimator, trained here: `train_writeup`.
`Recipe.writeup()` is this package's objective on the same data and for as many updates.

The writeup averaged two draws of z before decoding. The decoder then sees noise of scale σ/√2,
while the KL term was that of scale σ: each term is right for a posterior of its own. The printed
sum is therefore not a bound on log p(x), though it looks like one; it is an easy step to take.
Trained so, the model has two proper bounds:

posterior   scale   what it is                                 code
declared    |σ|     the one whose KL the writeup subtracted    vae.posterior(images)
decoded     |σ|/√2  the one whose codes its decoder was given  vae.decoded_posterior(images)

KL[decoded] − KL[declared] = Σ_j (½ log 2 − σ_j²/4), at most 2.77 nats for 8 latent dimensions.
Everything is in nats per image. `WriteupVAE` is for this comparison; `VAE` is the model to use.
"""

import dataclasses
import math

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from ..engine import checks
from ..engine.distributions import Normal, kl_divergence
from ..engine.noise import PRINTED
from ..evaluation import Estimate, Evaluation, evaluate
from ..model import SMALLEST_SCALE, VAE, ElboTerms

tfd = tfp.distributions

DRAWS = 2  # of z, averaged before decoding
EPOCHS = 19  # of 10,000 digits in batches of 32: 5,947 updates


@keras.saving.register_keras_serializable(package="vae_tf")
class WriteupVAE(VAE):
    """The model of the writeup, run again: its network, its objective and its estimator.

    Its encoder puts out σ itself, of either sign: σ and −σ are the same Gaussian.
    """

    def posterior(self, images):
        """Returns q(z|x) as declared, of scale |σ|: batch shape [B], event shape [L]."""
        loc, unconstrained = tf.split(self.encode(images), 2, axis=-1)  # [B, L] each
        # σ passes through 0 on its way from one sign to the other, where log σ² has no value.
        return tfd.Independent(Normal(loc, tf.abs(unconstrained) + SMALLEST_SCALE), 1)

    def decoded_posterior(self, images):
        """Returns the distribution of the mean of `DRAWS` draws from q(z|x): scale |σ|/√2."""
        declared = self.posterior(images)
        scale = declared.stddev() / math.sqrt(DRAWS)
        return tfd.Independent(Normal(declared.mean(), scale), 1)

    def elbo_terms(self, images, seed, num_samples=1):
        """Returns the two terms as the writeup computed them. Their difference is not a bound.

        Args:
            images: [B, height, width], values 0 or 1.
            seed: two integers.
            num_samples: how often to repeat the estimate, each from `DRAWS` draws of z.

        Returns:
            `ElboTerms`, each [B], in nats.
        """
        posterior = self.posterior(images)
        draws = posterior.sample(num_samples * DRAWS, seed=checks.seed_pair(seed))
        draws = tf.reshape(draws, [num_samples, DRAWS, -1, self.latent_dim])
        latents = tf.reduce_mean(draws, axis=1)  # over the draws, before decoding
        log_likelihood = self.likelihood(latents).log_prob(images)  # [num_samples, B]
        kl = kl_divergence(posterior, self.prior(), latents)
        return ElboTerms(tf.reduce_mean(log_likelihood, axis=0), kl)


@dataclasses.dataclass(frozen=True)
class Audit:
    """One set of images through a trained `WriteupVAE`.

    Attributes:
        printed: what the writeup's own estimator says.
        decoded, declared: proper bounds of the same weights under either posterior.
        kl_difference: Σ_j (½ log 2 − σ_j²/4), which the printed KL leaves out.
    """

    printed: Estimate
    decoded: Evaluation
    declared: Evaluation
    kl_difference: Estimate

    def summary(self):
        """Returns the numbers worth keeping: a dict of plain numbers, for `results.json`."""
        return {
            "printed": self.printed._asdict(),
            "decoded": self.decoded.summary(),
            "declared": self.declared.summary(),
            "kl_difference": self.kl_difference._asdict(),
        }

    def __str__(self):
        decoded, declared = self.decoded.estimates["elbo"], self.declared.estimates["elbo"]
        return "\n".join(
            [
                f"printed by the writeup's estimator      {self.printed}",
                f"ELBO, posterior that it decoded (σ/√2)  {decoded}",
                f"ELBO, posterior that it declared (σ)    {declared}",
                f"KL of the first less KL of the second   {self.kl_difference}",
            ]
        )


def train_writeup(digits, seed=0, epochs=EPOCHS, verbose=0):
    """Trains the writeup, run again: its model by its recipe, Adam at 2e-3, halved on a plateau.

    The writeup does not say how long it waited for a plateau; here it is 2 epochs without a lower
    loss on the validation digits. With either of two seeds tried that never happened.

    Args:
        digits: what `load_mnist` returns; 1,000 training digits of each class are used.
        seed: of weights, noise and order of the digits.
        epochs: 19 as in the writeup, or fewer for a quick look.
        verbose: as in `keras.Model.fit`.

    Returns:
        `(vae, history)`: a trained `WriteupVAE`, and Keras's `History`, whose `loss` and `val_loss`
        are the writeup's curves turned upside down.
    """
    images = digits.train.balanced(1_000).images
    vae = WriteupVAE(image_shape=images.shape[1:], seed=seed)
    _initialize(vae, seed)
    vae.compile(keras.optimizers.Adam(2e-3))
    history = vae.fit(
        images,
        batch_size=32,
        epochs=epochs,
        validation_data=(digits.validation.images,),
        callbacks=[keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=2)],
        verbose=verbose,
    )
    return vae, history


def _initialize(vae, seed):
    """Draws weights and biases as PyTorch, the writeup's library, does: ±1/√inputs, uniform.

    It matters here: σ cannot cross 0 easily, as log σ² is −∞ there. These small kernels and random
    biases give σ_j one sign for most digits at the start; Keras's would give it either.
    """
    rng = np.random.default_rng(seed)
    weights = vae.trainable_variables
    for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
        limit = 1 / math.sqrt(kernel.shape[0])
        kernel.assign(rng.uniform(-limit, limit, kernel.shape))
        bias.assign(rng.uniform(-limit, limit, bias.shape))


def audit(vae, images, num_samples=500, seed=0, verbose=0):
    """Says what the writeup would print for these images, and what bounds the weights give.

    Args:
        vae: a `WriteupVAE`.
        images: [N, height, width], values 0 or 1.
        num_samples: K of the importance-weighted bounds, an int >= 1.
        seed: an int in [0, 2³¹).
        verbose: 1 shows progress.

    Returns:
        `Audit`, in nats per image.

    Raises:
        TypeError, ValueError: if an argument is of the wrong kind, shape or range.
    """
    checks.instance("vae", vae, WriteupVAE, "a WriteupVAE")
    images = vae.checked_images(images)
    return Audit(
        printed=Estimate.of(vae.elbo_terms(images, seed=[seed, PRINTED]).elbo),
        decoded=evaluate(vae, images, num_samples, seed, verbose, vae.decoded_posterior),
        declared=evaluate(vae, images, num_samples, seed, verbose),
        kl_difference=Estimate.of(kl_difference(vae, images)),
    )


def kl_difference(vae, images):
    """Returns what the KL of the decoded posterior has over the declared one's, in nats: [N].

    Args:
        vae: a `WriteupVAE`.
        images: [N, height, width], values 0 or 1.
    """
    variance = vae.posterior(vae.checked_images(images)).variance().numpy()  # [N, L]
    # Scale σ/√n in place of σ: log √n from the KL's log scale, −σ² (1 − 1/n) / 2 from its variance.
    each = 0.5 * math.log(DRAWS) - variance * (1 - 1 / DRAWS) / 2
    return each.sum(axis=1, dtype=np.float64)  # over latent dimensions
