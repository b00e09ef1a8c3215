"""Solutions of the exercises of 10_make_it_yours; `python notebooks/solve.py 10` runs them."""

import dataclasses

import keras
import numpy as np
import scipy.special
import tensorflow as tf
import tensorflow_probability as tfp

import vae_tf
from vae_tf.analysis import classifier, latent
from vae_tf.evaluation import Estimate

tfd = tfp.distributions
RECIPE = vae_tf.Recipe(updates=1_000, batch_size=100, learning_rate=5e-3, evaluate_every=1_000)


class LearnedPrior(vae_tf.VAE):
    """A VAE whose prior is a mixture of ten normal distributions, learned."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        start = keras.initializers.RandomNormal(stddev=1.0, seed=self.seed)
        self.places = self.add_weight([10, self.latent_dim], start, name="places")
        self.log_widths = self.add_weight([10, self.latent_dim], "zeros", name="log_widths")
        self.logits = self.add_weight([10], "zeros", name="logits")

    def prior(self):
        parts = tfd.MultivariateNormalDiag(self.places, tf.exp(self.log_widths))
        return tfd.MixtureSameFamily(tfd.Categorical(logits=self.logits), parts)


def exercise_1(digits):
    """Measures how well two priors fit the codes of 8 latents, and how good samples are."""
    judge, count, found = classifier.load_classifier(), 2_000, {"training_seed": 0}
    for name, model in {"N(0, I)": vae_tf.VAE, "learned mixture": LearnedPrior}.items():
        vae, _ = vae_tf.train(digits, RECIPE, model(), verbose=0)
        posterior = vae.posterior(digits.train.images)
        together = latent.AggregatePosterior(posterior.mean(), posterior.stddev())
        codes = together.sample(count)
        log_prior = vae.prior().log_prob(codes.astype(np.float32)).numpy()
        cut = (np.asarray(vae.sample(count, mean=True)) > 0.5).astype(np.uint8)
        recognised = classifier.recognition(judge(cut).probabilities).confident
        found[name] = {
            "elbo": Estimate.of(vae_tf.evaluate(vae, digits.validation.images, 200).elbo)._asdict(),
            "KL of all codes from the prior": Estimate.of(
                together.log_prob(codes) - log_prior
            )._asdict(),
            "recognised (%)": Estimate(*(100 * value for value in recognised))._asdict(),
        }
    return found | {"num_samples": count, "updates": RECIPE.updates}


class Marked(vae_tf.VAE):
    """A VAE whose first row of pixels is for the encoder alone: it is drawn without the code."""

    def likelihood(self, latents):
        logits = self.decode(latents)  # [..., 14, 14]
        first = tf.fill(tf.shape(logits[..., :1, :]), scipy.special.logit(np.float32(0.1)))
        logits = tf.concat([first, logits[..., 1:, :]], axis=-2)
        return tfd.Independent(tfd.Bernoulli(logits=logits, dtype=tf.uint8), 2)


def marked(split, labels):
    """Returns a split with a pixel of ink in the first row, at the label's place."""
    images = split.images.copy()
    images[:, 0] = 0
    images[np.arange(len(images)), 0, labels] = 1
    return dataclasses.replace(split, images=images)


def exercise_2(digits):
    """Tells the encoder each digit's class, and not the decoder, with two seeds."""
    found = {"log 10": np.log(10), "updates": RECIPE.updates, "training_seeds": [0, 1]}

    def all_marked(of_split):  # all splits, with the labels that a function gives each
        names = "train", "validation", "test"
        splits = {name: getattr(digits, name) for name in names}
        splits = {name: marked(split, of_split(split)) for name, split in splits.items()}
        return dataclasses.replace(digits, **splits)

    without = all_marked(lambda split: np.zeros_like(split.labels))
    with_label = all_marked(lambda split: split.labels)
    wrong = marked(digits.validation, (digits.validation.labels + 1) % 10)
    evaluations = {"no label": [], "label": [], "wrong label": []}
    for seed in (0, 1):
        plain, _ = vae_tf.train(without, RECIPE, Marked(seed=seed), verbose=0)
        told, _ = vae_tf.train(with_label, RECIPE, Marked(seed=seed), verbose=0)
        for kind, vae, split in (
            ("no label", plain, without.validation),
            ("label", told, with_label.validation),
            ("wrong label", told, wrong),
        ):
            evaluations[kind].append(vae_tf.evaluate(vae, split.images, num_samples=200))
    elbo = {kind: np.array([e.elbo for e in each]) for kind, each in evaluations.items()}
    for kind, each in evaluations.items():
        gain = elbo[kind] - elbo["no label"]  # [seeds, N]
        found[kind] = {
            "kl": float(np.mean([e.kl for e in each])),
            "elbo": Estimate.of(elbo[kind].mean(axis=0))._asdict(),
            "elbo gained": Estimate.of(gain.mean(axis=0))._asdict(),
            "of each seed": gain.mean(axis=1),
        }
    return found


class Laplace(vae_tf.VAE):
    """A VAE whose posterior has heavier tails than a normal distribution."""

    def posterior(self, images):
        loc, unconstrained = tf.split(self.encode(images), 2, axis=-1)  # [B, L] each
        return tfd.Independent(tfd.Laplace(loc, tf.nn.softplus(unconstrained) + 1e-6), 1)


class Correlated(vae_tf.VAE):
    """A VAE whose posterior is a normal distribution with covariances."""

    def make_encoder(self):
        triangle = self.latent_dim * (self.latent_dim + 1) // 2
        return keras.Sequential(
            [
                keras.Input(self.image_shape),
                keras.layers.Flatten(),
                keras.layers.Dense(self.hidden_units, "tanh"),
                keras.layers.Dense(self.latent_dim + triangle),
            ]
        )

    def posterior(self, images):
        loc, triangle = tf.split(self.encode(images), [self.latent_dim, -1], axis=-1)
        root = tfp.bijectors.FillScaleTriL()(triangle)  # [B, L, L], of the covariance
        return tfd.MultivariateNormalTriL(loc, root)


def exercise_3(digits):
    """Trains with three kinds of posterior, for 5,000 updates."""
    recipe = dataclasses.replace(RECIPE, updates=5_000, evaluate_every=5_000)
    models = {"diagonal normal": vae_tf.VAE, "Laplace": Laplace, "with covariances": Correlated}
    found, plain = {"updates": recipe.updates, "training_seed": 0, "num_samples": 200}, None
    for name, model in models.items():
        vae, _ = vae_tf.train(digits, recipe, model(), verbose=0)
        evaluation = vae_tf.evaluate(vae, digits.validation.images, num_samples=200)
        plain = plain or evaluation
        found[name] = {
            "elbo": Estimate.of(evaluation.elbo)._asdict(),
            "elbo gained": Estimate.of(evaluation.elbo - plain.elbo)._asdict(),
            "bound gained": Estimate.of(
                evaluation.marginal_log_likelihood - plain.marginal_log_likelihood
            )._asdict(),
        }
    return found


class FreeBits(vae_tf.VAE):
    """A VAE that pays only for what a latent spends beyond some nats."""

    free = 1.0

    def loss_per_image(self, images, seed, kl_weight):
        terms = self.elbo_terms(images, seed, self.num_samples)
        posterior, prior = self.posterior(images).distribution, self.prior().distribution
        each = tfd.kl_divergence(posterior, prior)  # [B, L]
        paid = tf.reduce_sum(tf.maximum(each, self.free), axis=-1)  # over latents
        return kl_weight * paid - terms.log_likelihood, terms


def exercise_4(digits):
    """Trains with β = 4 and with 0, 0.5, 1 and 2 free nats for each latent."""
    free = (0.0, 0.5, 1.0, 2.0)
    found = {"updates": RECIPE.updates, "training_seed": 0, "free nats": free}
    for nats in free:
        model = type("FreeBitsOf", (FreeBits,), {"free": nats})
        vae, _ = vae_tf.train(digits, RECIPE, model(beta=4.0), verbose=0)
        evaluation = vae_tf.evaluate(vae, digits.validation.images, num_samples=200)
        found[f"{nats:g} nats free"] = {
            "elbo": Estimate.of(evaluation.elbo)._asdict(),
            "kl": Estimate.of(evaluation.kl)._asdict(),
            "kl per latent, from and to": [
                evaluation.kl_per_dimension.min(),
                evaluation.kl_per_dimension.max(),
            ],
        }
    return found
