"""A VAE that draws its pixels in turn, from codes of a prior that is learned.

symbol     meaning                                code                     batch, event shape
p(z)       Σ_m π_m N(z; μ_m, σ_m²)                vae.prior()              [],  [L]
p(x|z)     Π_i p(x_i | x_<i, z), row by row       vae.likelihood(latents)  [B], [height, width]

All else is as in `model`. With pixels that are independent given the code, as there, strokes fray,
because neighbours are drawn apart; and codes of N(0, I) fall between those of digits. Here each
pixel knows those drawn before, and the prior is where the codes are.
Sources: Gulrajani et al. (2017), PixelVAE, https://arxiv.org/abs/1611.05013, for the likelihood;
Tomczak & Welling (2018), VAE with a VampPrior, https://arxiv.org/abs/1705.07120, for learned
mixtures as priors.
"""

import math

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from .engine import checks
from .engine.networks import dense_layers, seeds
from .engine.pixels_in_turn import PixelsInTurn, kernel_shapes
from .model import VAE

tfd = tfp.distributions


@keras.saving.register_keras_serializable(package="vae_tf")
class MixtureVAE(VAE):
    """A `VAE` whose prior is a mixture of diagonal Gaussians, trained with the rest.

    The KL is estimated from the draws, because there is no formula for it.

    Args:
        components: of the mixture, an int >= 1.
        **kwargs: of `VAE`.

    Raises:
        TypeError, ValueError: if an argument is no number of its kind, or outside its range.
    """

    def __init__(self, components=100, **kwargs):
        super().__init__(**kwargs)
        self.components = checks.integer("components", components, 1, 2**16)
        shape = (self.components, self.latent_dim)
        (seed,) = seeds([self.seed, 1], 0, 1)
        self.prior_logits = self.add_weight(shape[:1], "zeros", name="prior_logits")
        self.prior_loc = self.add_weight(
            shape, keras.initializers.RandomNormal(stddev=1.0, seed=seed), name="prior_loc"
        )
        self.prior_log_scale = self.add_weight(
            shape, keras.initializers.Constant(-1.0), name="prior_log_scale"
        )

    def prior(self):
        """Returns p(z): batch shape [], event shape [L]."""
        logits, loc, log_scale = (
            tf.cast(weight, self.float_type)
            for weight in (self.prior_logits, self.prior_loc, self.prior_log_scale)
        )
        components = tfd.Independent(tfd.Normal(loc, tf.exp(log_scale)), 1)
        return tfd.MixtureSameFamily(tfd.Categorical(logits=logits), components)

    def get_config(self):
        """Returns the arguments that make this model again, and the number of their format."""
        return super().get_config() | {"components": self.components}


@keras.saving.register_keras_serializable(package="vae_tf")
class PixelVAE(MixtureVAE):
    """A `MixtureVAE` whose likelihood is that of pixels in turn, left to right and row by row.

    The decoder turns the code into `context` numbers for each pixel. A pixel depends on these, and
    on the pixels before it. With pixels in turn a decoder may do without the code: watch the KL.

    Args:
        features: of each pixel in the hidden layers over the pixels before, an int >= 1.
        layers: how many of these, an int >= 1.
        context: numbers that a pixel is told of the code, an int >= 1.
        code_units: width of the decoder's last hidden layer, an int >= 1.
        **kwargs: of `MixtureVAE`.

    Raises:
        TypeError, ValueError: if an argument is no number of its kind, or outside its range.
    """

    def __init__(self, features=32, layers=4, context=7, code_units=48, **kwargs):
        # Before the model is made, because that calls `make_decoder`.
        self.context = checks.integer("context", context, 1, 2**10)
        self.code_units = checks.integer("code_units", code_units, 1, 2**16)
        super().__init__(**kwargs)
        self.features = checks.integer("features", features, 1, 2**10)
        self.num_layers = checks.integer("layers", layers, 1, 64)
        shapes = kernel_shapes(self.features, self.num_layers, self.context)
        self.kernels, self.biases = [], []
        for number, seed in enumerate(seeds([self.seed, 2], 0, len(shapes))):
            shape, initializer = shapes[number], keras.initializers.GlorotUniform(seed)
            self.kernels.append(self.add_weight(shape, initializer, name=f"kernel_{number}"))
            self.biases.append(self.add_weight(shape[1:], "zeros", name=f"bias_{number}"))

    def make_decoder(self):
        """Returns the network from latents [B, L] to [B, height, width, context]; called once."""
        widths = [*np.ravel(self.hidden_units)[::-1], self.code_units]
        shape, dtype = (*self.image_shape, self.context), self.dtype_policy
        # Its layers are numbered after the encoder's: each number has initial weights of its own.
        dense = dense_layers(self.seed, len(widths), widths, math.prod(shape), dtype)
        reshape = keras.layers.Reshape(shape, dtype=dtype)
        return keras.Sequential([keras.Input([self.latent_dim]), *dense, reshape], name="decoder")

    def likelihood(self, latents):
        """Returns p(x|z): batch shape [...], event shape [height, width], of latents [..., L]."""
        weights = zip(self.kernels, self.biases, strict=True)
        layers = [[tf.cast(weight, self.float_type) for weight in layer] for layer in weights]
        return PixelsInTurn(self.decode(latents), layers)

    def get_config(self):
        """Returns the arguments that make this model again, and the number of their format."""
        values = {"features": self.features, "layers": self.num_layers}
        values |= {"context": self.context, "code_units": self.code_units}
        return super().get_config() | values
