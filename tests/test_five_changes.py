"""The five changes that a reader makes, each in one place: everything else has to follow.

Another objective, another likelihood, deeper networks, another prior, other images. Bounds are held
against integration over a grid of two latents, with densities from SciPy.
"""

import itertools

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

import vae_tf
from vae_tf import VAE, Recipe
from vae_tf.analysis import sweeps
from vae_tf.analysis.bounds import bound_curve, inference_gaps

tfd = tfp.distributions
SHAPE = (4, 3)
RECIPE = Recipe(updates=30, batch_size=20, learning_rate=0.02, evaluate_every=10)


@keras.saving.register_keras_serializable(package="tests")
class FreeBits(VAE):
    """An objective that leaves a nat of KL unpunished (Kingma et al., 2016)."""

    def loss_per_image(self, images, seed, kl_weight):
        terms = self.elbo_terms(images, seed, self.num_samples)
        return kl_weight * tf.maximum(terms.kl, 1.0) - terms.log_likelihood, terms


@keras.saving.register_keras_serializable(package="tests")
class ImportanceWeighted(VAE):
    """The importance-weighted bound of five draws for an objective (Burda et al., 2016)."""

    def loss_per_image(self, images, seed, kl_weight):
        posterior = self.posterior(images)
        latents = posterior.sample(5, seed=seed)
        log_likelihood = self.likelihood(latents).log_prob(images)
        log_ratio = posterior.log_prob(latents) - self.prior().log_prob(latents)
        bound = tf.reduce_logsumexp(log_likelihood - log_ratio, axis=0) - np.log(5)
        return -bound, self.elbo_terms(images, seed)


@keras.saving.register_keras_serializable(package="tests")
class Grey(VAE):
    def likelihood(self, latents):
        return tfd.Independent(tfd.Normal(self.decode(latents), 0.3), 2)


@keras.saving.register_keras_serializable(package="tests")
class ContinuousBernoulli(VAE):
    def likelihood(self, latents):
        return tfd.Independent(tfd.ContinuousBernoulli(logits=self.decode(latents)), 2)


@keras.saving.register_keras_serializable(package="tests")
class OwnDecoder(VAE):
    def make_decoder(self):
        return keras.Sequential(
            [
                keras.Input([self.latent_dim]),
                keras.layers.Dense(7, "relu"),
                keras.layers.Dense(SHAPE[0] * SHAPE[1]),
                keras.layers.Reshape(SHAPE),
            ]
        )


@keras.saving.register_keras_serializable(package="tests")
class WidePrior(VAE):
    def prior(self):
        return tfd.Independent(tfd.Normal([0.0, 0.0], [2.0, 2.0]), 1)


@keras.saving.register_keras_serializable(package="tests")
class MixturePrior(VAE):
    def prior(self):
        return tfd.MixtureSameFamily(
            tfd.Categorical(probs=[0.25, 0.75]),
            tfd.MultivariateNormalDiag([[-2.0, 0.0], [1.0, 1.0]], [[0.5, 1.0], [1.0, 0.7]]),
        )


@keras.saving.register_keras_serializable(package="tests")
class LearnedPrior(VAE):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.prior_loc = self.add_weight(
            (4, self.latent_dim), keras.initializers.RandomNormal(seed=1)
        )

    def prior(self):
        components = tfd.MultivariateNormalDiag(self.prior_loc, tf.ones_like(self.prior_loc))
        return tfd.MixtureSameFamily(tfd.Categorical(logits=tf.zeros(4)), components)


CHANGES = {
    "objective": FreeBits,
    "importance-weighted objective": ImportanceWeighted,
    "Normal likelihood": Grey,
    "continuous Bernoulli likelihood": ContinuousBernoulli,
    "deeper": lambda **kwargs: VAE(**kwargs | {"hidden_units": (7, 5)}),
    "own decoder": OwnDecoder,
    "wide prior": WidePrior,
    "mixture prior": MixturePrior,
    "learned prior": LearnedPrior,
}


def make(change, seed=0):
    return CHANGES[change](latent_dim=2, hidden_units=6, image_shape=SHAPE, seed=seed)


def data_for(change):
    rng = np.random.default_rng(0)
    patterns = rng.random((3, *SHAPE))
    grey = np.clip(patterns[np.arange(300) % 3] + 0.1 * rng.normal(size=(300, *SHAPE)), 0, 1)
    is_grey = "likelihood" in change
    return vae_tf.from_arrays(grey if is_grey else (grey > 0.5).astype(int), name="three patterns")


def log_pixels(change, outputs, images):
    """Returns log p(x|z) in NumPy and SciPy, [..., N], of a decoder's outputs [..., 1, h, w]."""
    outputs, images = outputs.astype(float), images.astype(float)
    if change == "Normal likelihood":
        each = scipy.stats.norm.logpdf(images, outputs, 0.3)
    else:
        each = images * outputs - np.logaddexp(0, outputs)
    if change == "continuous Bernoulli likelihood":
        each = each - np.log(continuous_bernoulli_mass(outputs))
    return each.sum(axis=(-2, -1))


def continuous_bernoulli_mass(logits):
    """Returns ∫ λ^x (1 − λ)^(1 − x) dx over [0, 1], which is tanh(a / 2) / a for logit a."""
    logits = np.where(np.abs(logits) < 1e-6, 1e-6, logits)
    return np.tanh(logits / 2) / logits


def test_the_mass_is_the_integral():
    x, logits = np.linspace(0, 1, 2_001), np.array([-7.0, -0.3, 0.0, 1.2])
    odds = logits[:, None]
    mass = np.trapezoid(np.exp(x * odds - np.logaddexp(0, odds)), x)
    np.testing.assert_allclose(continuous_bernoulli_mass(logits), mass, rtol=1e-5)


def log_prior(change, vae, latents):
    normal = scipy.stats.norm
    if change == "wide prior":
        return normal.logpdf(latents, 0, 2).sum(axis=-1)
    if change == "mixture prior":
        first = normal.logpdf(latents, [-2, 0], [0.5, 1]).sum(axis=-1) + np.log(0.25)
        second = normal.logpdf(latents, [1, 1], [1, 0.7]).sum(axis=-1) + np.log(0.75)
        return np.logaddexp(first, second)
    if change == "learned prior":
        each = normal.logpdf(latents[:, None], vae.prior_loc.numpy(), 1).sum(axis=-1)
        return scipy.special.logsumexp(each, axis=1) - np.log(4)
    return normal.logpdf(latents).sum(axis=-1)


def grid_log_marginal(change, vae, images):
    """Returns log p(x) by the trapezoid rule over [−12, 12]²: [N]."""
    axis = np.linspace(-12, 12, 161)
    latents = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)  # [points, 2]
    outputs = vae.decoder.predict(latents, batch_size=5_000, verbose=0)
    log_joint = np.stack([log_pixels(change, outputs, image) for image in images], axis=1)
    log_joint += log_prior(change, vae, latents)[:, None]
    return scipy.special.logsumexp(log_joint, axis=0) + 2 * np.log(axis[1] - axis[0])


def slow(change):
    """Returns a case of a parametrized test that `make test-slow` runs."""
    return pytest.param(change, marks=pytest.mark.slow)


QUICK = ["learned prior"]  # the others are `slow`


@pytest.fixture(
    scope="module",
    params=[each if each in QUICK else slow(each) for each in CHANGES],
)
def trained(request):
    data = data_for(request.param)
    vae = make(request.param)
    before = vae.get_weights()
    vae.compile(keras.optimizers.Adam(0.02))
    losses = vae.fit(data.train.images, batch_size=20, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert all((a != b).any() for a, b in zip(before, vae.get_weights(), strict=True))
    return request.param, vae, data


@pytest.mark.slow
def test_bounds_are_those_of_the_changed_model(trained):
    change, vae, data = trained
    images = data.test.images[:12]
    found = vae_tf.evaluate(vae, images, num_samples=2_000)
    exact = grid_log_marginal(change, vae, images)
    np.testing.assert_allclose(found.marginal_log_likelihood, exact, atol=0.15)
    np.testing.assert_allclose(found.marginal_log_likelihood.mean(), exact.mean(), atol=0.05)
    assert found.elbo.mean() < exact.mean()
    curve = bound_curve(vae, images, [1, 2_000])
    np.testing.assert_allclose(curve[-1], found.marginal_log_likelihood, atol=1e-3)
    gaps = inference_gaps(vae, images[:3], num_samples=500, updates=50)
    np.testing.assert_allclose(gaps.marginal_log_likelihood, exact[:3], atol=0.3)


def test_elbo_is_the_integral_over_the_posterior(trained):
    change, vae, data = trained
    images = data.test.images[:4]
    loc, scale = (np.asarray(f(), float) for f in (
        vae.posterior(images).mean, vae.posterior(images).stddev))  # fmt: skip
    nodes, weights = np.polynomial.hermite_e.hermegauss(30)
    noise = np.array(list(itertools.product(nodes, nodes)))  # [900, 2]
    share = np.prod(list(itertools.product(weights, weights)), axis=1) / weights.sum() ** 2
    found = vae_tf.evaluate(vae, images, num_samples=5_000)
    for n, image in enumerate(images):
        latents = loc[n] + scale[n] * noise
        outputs = vae.decoder.predict(latents, batch_size=5_000, verbose=0)
        log_likelihood = share @ log_pixels(change, outputs, image)
        log_q = scipy.stats.norm.logpdf(latents, loc[n], scale[n]).sum(axis=-1)
        kl = share @ (log_q - log_prior(change, vae, latents))
        np.testing.assert_allclose(found.kl[n], kl, rtol=0.02, atol=0.02)
        np.testing.assert_allclose(found.log_likelihood[n], log_likelihood, rtol=0.01, atol=0.05)
    assert (found.kl_per_dimension is None) == (change in ("mixture prior", "learned prior"))


def test_samples_and_reconstructions_are_of_the_changed_model(trained):
    change, vae, data = trained
    images = data.test.images
    for draws in (vae.sample(500), vae.reconstruct(images)):
        assert draws.shape[1:] == SHAPE
        is_grey = "likelihood" in change
        assert np.isin(draws, (0, 1)).all() != is_grey
    means, draws = vae.sample(2_000, mean=True).numpy(), vae.sample(2_000).numpy()
    if change == "Normal likelihood":
        assert (draws - means).std() == pytest.approx(0.3, rel=0.05)
    np.testing.assert_allclose(draws.mean(axis=0), means.mean(axis=0), atol=0.06)
    assert np.abs(vae.reconstruct(images, mean=True) - images).mean() < 0.35


def test_it_is_saved_and_loaded(trained, tmp_path):
    _, vae, data = trained
    vae.save(tmp_path / "vae.keras")
    loaded = vae_tf.load_model(tmp_path / "vae.keras")
    assert type(loaded) is type(vae)
    for a, b in zip(vae.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    first, second = (vae_tf.evaluate(each, data.test.images, 5).elbo for each in (vae, loaded))
    np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_posteriors_of_other_kinds_give_bounds_of_their_own():
    data, vae = data_for("objective"), make("objective")
    vae_tf.train(data, RECIPE, vae, verbose=0)
    images, shift = data.test.images[:12], np.float32([0.3, -0.2])

    def wide(images):  # so that importance weights are bounded, and their mean quick to converge
        normal = vae.posterior(images).distribution
        return tfd.Normal(normal.loc, 1.5 * normal.scale + 0.2)

    def shifted(images):
        return tfd.TransformedDistribution(
            tfd.Independent(wide(images), 1), tfp.bijectors.Shift(shift)
        )

    def the_same(images):
        return tfd.Independent(tfd.Normal(wide(images).loc + shift, wide(images).scale), 1)

    def correlated(images):
        factors = np.float32([[1.0, 0.0], [0.6, 0.8]])
        return tfd.MultivariateNormalTriL(wide(images).loc, wide(images).scale[..., None] * factors)

    exact = grid_log_marginal("objective", vae, images)
    first, second, third = (
        vae_tf.evaluate(vae, images, 5_000, posterior=each)
        for each in (shifted, the_same, correlated)
    )
    for found in (first, second, third):
        np.testing.assert_allclose(found.marginal_log_likelihood, exact, atol=0.15)
        np.testing.assert_allclose(found.marginal_log_likelihood.mean(), exact.mean(), atol=0.03)
    np.testing.assert_allclose(first.kl, second.kl, atol=0.1)
    np.testing.assert_allclose(first.elbo, second.elbo, atol=0.2)
    assert first.kl_per_dimension is None
    assert second.kl_per_dimension.sum() == pytest.approx(second.kl.mean(), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("change", ["objective", "Normal likelihood", "deeper", "learned prior"])
def test_train_follows_a_recipe_and_goes_on_from_its_folder(change, tmp_path):
    data = data_for(change)
    vae, history = vae_tf.train(data, RECIPE, make(change), verbose=0, directory=tmp_path / "run")
    again, same = vae_tf.train(data, RECIPE, make(change), verbose=0, directory=tmp_path / "run")
    assert len(history.kl) == 30
    np.testing.assert_array_equal(history.kl, same.kl)
    for a, b in zip(vae.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match=r"holds another run: .*initial weights"):
        vae_tf.train(data, RECIPE, make(change, seed=1), verbose=0, directory=tmp_path / "run")


@pytest.mark.slow
def test_a_folder_knows_attributes_that_no_configuration_has(tmp_path):
    class Own(VAE):
        floor = 1.0

        def __init__(self, extra=2, **kwargs):
            super().__init__(**kwargs)
            self.extra = extra

    data, sizes = data_for("objective"), {"latent_dim": 2, "hidden_units": 6, "image_shape": SHAPE}
    run = {"verbose": 0, "directory": tmp_path / "run"}
    vae_tf.train(data, RECIPE, Own(**sizes), **run)
    vae_tf.train(data, RECIPE, Own(**sizes), **run)
    with pytest.raises(ValueError, match="model's extra is 2 there and 3 here"):
        vae_tf.train(data, RECIPE, Own(3, **sizes), **run)
    Own.floor = 2.0
    with pytest.raises(ValueError, match=r"model's floor is 1\.0 there and 2\.0 here"):
        vae_tf.train(data, RECIPE, Own(**sizes), **run)


def test_a_folder_knows_the_class(tmp_path):
    data = data_for("objective")
    vae_tf.train(data, RECIPE, make("objective"), verbose=0, directory=tmp_path / "run")
    plain = VAE(latent_dim=2, hidden_units=6, image_shape=SHAPE)
    with pytest.raises(ValueError, match=r"class is '.*FreeBits' there and '.*VAE' here\. Nothing"):
        vae_tf.train(data, RECIPE, plain, verbose=0, directory=tmp_path / "run")


@pytest.mark.parametrize("change", [slow("own decoder"), slow("learned prior")])
def test_seeds_in_a_sweep(change):
    data = data_for(change)

    def model(seed):
        return make(change, seed)

    ((first, second),) = sweeps.train_all(data, [model], RECIPE, seeds=(0, 1), num_samples=20)
    alone, _ = vae_tf.train(data, RECIPE, model(1), verbose=0)
    for a, b in zip(second.vae.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (first.evaluation.elbo != second.evaluation.elbo).any()


@pytest.mark.parametrize(
    "change", ["Normal likelihood", slow("importance-weighted objective"), slow("deeper")]
)
def test_blocks_train_the_changed_model_as_keras_does(change):
    images, weights = data_for(change).train.images, []
    for options in ({}, {"run_eagerly": True}):
        vae = make(change)
        vae.compile(keras.optimizers.SGD(0.01), **options)
        vae.fit(images, batch_size=20, verbose=0)
        weights.append(vae.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


def test_the_free_bits_loss_is_its_formula():
    data, vae = data_for("objective"), make("objective")
    vae.compile()
    logs = vae.evaluate(data.test.images, batch_size=30, verbose=0, return_dict=True)
    posterior = vae.posterior(data.test.images)
    loc, scale = posterior.mean().numpy(), posterior.stddev().numpy()
    kl = (0.5 * (loc**2 + scale**2 - 1) - np.log(scale)).sum(axis=1)
    expected = np.maximum(kl, 1).mean() - logs["log_likelihood"]
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)
    assert kl.min() < 1 < kl.max()  # so that the floor is in force, and not everywhere


def test_grey_images_are_what_a_grey_likelihood_takes_and_others_do_not():
    images = data_for("Normal likelihood").train.images
    with pytest.raises(ValueError, match="must hold only 0 and 1"):
        make("objective").reconstruct(images)
    make("Normal likelihood").reconstruct(5 * images - 2)  # any number will do
    with pytest.raises(ValueError, match=r"within the support of ContinuousBernoulli; .*\[-"):
        make("continuous Bernoulli likelihood").reconstruct(5 * images - 2)
    with pytest.raises(ValueError, match="must be finite"):
        make("Normal likelihood").reconstruct(np.where(images > 0.5, np.nan, images))
    counts = type("Counts", (VAE,), {"likelihood": lambda self, latents: tfd.Independent(
        tfd.Poisson(log_rate=self.decode(latents)), 2)})(image_shape=SHAPE)  # fmt: skip
    counts.reconstruct(np.round(9 * images))
    with pytest.raises(ValueError, match="within the support of Poisson"):
        counts.reconstruct(-np.round(9 * images))
    with pytest.raises(ValueError, match="must be whole numbers, as Poisson has them"):
        counts.reconstruct(images + 0.25)


def test_levels_that_a_categorical_likelihood_does_not_have_are_refused():
    class Levels(VAE):
        def likelihood(self, latents):
            logits = tf.range(4.0) * self.decode(latents)[..., None]
            return tfd.Independent(tfd.Categorical(logits=logits), 2)

    vae, levels = Levels(image_shape=SHAPE), np.arange(4 * 2 * np.prod(SHAPE)) % 4
    levels = levels.reshape(8, *SHAPE)
    assert np.isfinite(vae_tf.evaluate(vae, levels, num_samples=2).elbo).all()
    for wrong in (levels + 1, levels - 1, levels + 0.5):
        with pytest.raises(ValueError, match=r"images must be .* Categorical"):
            vae_tf.evaluate(vae, wrong, num_samples=2)


def test_images_of_any_size_and_with_a_channel_train_alike():
    images = (np.random.default_rng(0).random((60, 5, 9)) < 0.3).astype(np.uint8)
    weights = []
    for each in (images, images[..., None]):
        vae = VAE(3, 5, (5, 9))
        vae.compile(keras.optimizers.SGD(0.01))
        vae.fit(each, batch_size=20, verbose=0)
        weights.append(vae.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_they_train_by_recipes_and_pipelines_alike():
    images = (np.random.default_rng(0).random((60, 5, 9)) < 0.3).astype(np.uint8)
    weights = []
    for each in (images, images[..., None]):
        data = vae_tf.from_arrays(each, name="noise")
        vae, _ = vae_tf.train(data, RECIPE, VAE(3, 5, (5, 9)), verbose=0)
        weights.append(vae.get_weights())
        assert vae_tf.evaluate(vae, each, 3).elbo.shape == (60,)
        pipeline = tf.data.Dataset.from_tensor_slices(each).batch(20)
        vae.fit(pipeline, verbose=0)
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)
