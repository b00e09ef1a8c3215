import itertools

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from vae_tf.analysis import baselines
from vae_tf.analysis.baselines import BernoulliMixture, fit_mixture, independent_pixels, uniform

tfd = tfp.distributions

EVERY = np.array(list(itertools.product([0, 1], repeat=9)), np.uint8).reshape(-1, 3, 3)


@pytest.fixture(scope="module")
def planted():
    """Three components that are easy to tell apart."""
    rng = np.random.default_rng(0)
    means = np.where(rng.random((3, 6, 6)) < 0.5, 0.1, 0.9)
    return BernoulliMixture(np.array([0.5, 0.3, 0.2]), means)


@pytest.fixture(scope="module")
def images(planted):
    return planted.sample(4_000, seed=1)


def test_log_likelihood_against_scipy():
    rng = np.random.default_rng(2)
    mixture = BernoulliMixture(rng.dirichlet(np.ones(4)), rng.uniform(0.01, 0.99, (4, 3, 3)))
    joint = scipy.stats.bernoulli(mixture.means).logpmf(EVERY[:, None]).sum(axis=(2, 3))
    expected = scipy.special.logsumexp(joint, b=mixture.weights, axis=1)
    np.testing.assert_allclose(mixture.log_likelihood(EVERY), expected, rtol=1e-10)


def test_log_likelihood_is_that_of_tfp_s_mixture(planted, images):
    weights, means = tf.constant(planted.weights), tf.constant(planted.means)
    pixels = tfd.Independent(tfd.Bernoulli(probs=means, dtype=tf.float64), 2)
    expected = tfd.MixtureSameFamily(tfd.Categorical(probs=weights), pixels).log_prob(images[:200])
    np.testing.assert_allclose(planted.log_likelihood(images[:200]), expected, rtol=1e-10)


@pytest.mark.parametrize("fitted", [1, 3, 8])
def test_probabilities_of_all_images_sum_to_one(fitted):
    mixture, _ = fit_mixture(EVERY[::7], fitted, seed=3)
    assert scipy.special.logsumexp(mixture.log_likelihood(EVERY)) == pytest.approx(0, abs=1e-10)


def test_extreme_means_stay_finite():
    mixture = BernoulliMixture(np.array([0.5, 0.5]), np.full((2, 40, 40), 1e-12))
    values = mixture.log_likelihood(np.ones((1, 40, 40)))
    assert values == pytest.approx(1_600 * np.log(1e-12))


def test_uniform_is_the_same_for_every_image():
    expected = np.full(512, -9 * np.log(2))
    np.testing.assert_allclose(uniform((3, 3)).log_likelihood(EVERY), expected)
    assert uniform().log_likelihood(np.zeros((1, 14, 14)))[0] == pytest.approx(-135.857, abs=1e-3)


def test_independent_pixels_are_smoothed_frequencies(images):
    model = independent_pixels(images[..., None], smoothing=2.0)  # a channel is left out
    frequencies = (images.sum(axis=0) + 2) / (len(images) + 4)
    np.testing.assert_allclose(model.means[0], frequencies, rtol=1e-6)
    expected = scipy.stats.bernoulli(frequencies).logpmf(images[:50]).sum(axis=(1, 2))
    np.testing.assert_allclose(model.log_likelihood(images[:50]), expected, rtol=1e-6)


@pytest.mark.parametrize("smoothing", [1e-3, 0.1, 3.0])
def test_em_never_lowers_its_objective(images, smoothing):
    _, objective = fit_mixture(images[:500], 6, smoothing, max_iterations=60, tolerance=0)
    assert len(objective) > 5
    assert np.diff(objective).min() > -1e-5  # nats per image; float32
    assert objective[-1] > objective[0] + 1


def test_objective_is_the_penalized_likelihood(images):
    few = images[:200]
    mixture, _ = fit_mixture(few, 3, 0.5, max_iterations=4, tolerance=0)
    _, objective = fit_mixture(few, 3, 0.5, max_iterations=5, tolerance=0)
    penalty = 0.5 * np.log(mixture.means * (1 - mixture.means)).sum()
    expected = (mixture.log_likelihood(few).sum() + penalty) / 200
    assert objective[4] == pytest.approx(expected, rel=1e-5)


def test_em_recovers_a_planted_mixture(planted, images):
    mixture, _ = fit_mixture(images, 3, seed=4)
    distance = np.abs(mixture.means[:, None] - planted.means).mean(axis=(2, 3))  # [found, planted]
    match = distance.argmin(axis=0)
    assert sorted(match) == [0, 1, 2]
    np.testing.assert_allclose(mixture.weights[match], planted.weights, atol=0.03)
    np.testing.assert_allclose(mixture.means[match], planted.means, atol=0.06)
    held_out = planted.sample(2_000, seed=9)
    gap = planted.log_likelihood(held_out) - mixture.log_likelihood(held_out)
    assert abs(gap.mean()) < 0.1
    assert (
        mixture.log_likelihood(held_out).mean()
        > independent_pixels(images).log_likelihood(held_out).mean() + 1
    )


def test_fit_does_not_depend_on_chunks(images, monkeypatch):
    whole, _ = fit_mixture(images[:300], 4, seed=1, max_iterations=10)
    expected = whole.log_likelihood(images[:300])
    monkeypatch.setattr(baselines, "IMAGES_PER_CHUNK", 70)
    cut, _ = fit_mixture(images[:300], 4, seed=1, max_iterations=10)
    np.testing.assert_allclose(cut.means, whole.means, atol=1e-5)
    np.testing.assert_allclose(cut.log_likelihood(images[:300]), expected, atol=1e-4)


def test_same_seed_same_mixture_other_seed_other(images):
    means = [fit_mixture(images[:300], 5, seed=seed)[0].means for seed in (1, 1, 2)]
    np.testing.assert_array_equal(means[0], means[1])
    assert np.abs(means[0] - means[2]).max() > 0.01


def test_as_many_components_as_images_stay_finite():
    few = EVERY[100:108]
    mixture, objective = fit_mixture(few, 8, smoothing=0.01)
    assert np.isfinite(objective).all()
    assert np.isfinite(mixture.log_likelihood(EVERY)).all()


def test_samples_follow_the_model(planted):
    samples = planted.sample(20_000, seed=3)
    assert samples.shape == (20_000, 6, 6)
    assert samples.dtype == np.uint8
    expected = np.tensordot(planted.weights, planted.means, axes=1)
    np.testing.assert_allclose(samples.mean(axis=0), expected, atol=0.02)
    # Pixels of a mixture depend on each other: the covariance of two of them, in closed form.
    a, b = planted.means[:, 0, 0], planted.means[:, 2, 3]
    covariance = planted.weights @ (a * b) - (planted.weights @ a) * (planted.weights @ b)
    assert abs(covariance) > 0.03
    measured = np.cov(samples[:, 0, 0], samples[:, 2, 3])[0, 1]
    assert measured == pytest.approx(covariance, abs=0.01)
    np.testing.assert_array_equal(samples, planted.sample(20_000, seed=3))
    assert (samples[:100] != planted.sample(100, seed=4)).any()


def test_means_are_of_the_components_that_samples_come_from():
    mixture = BernoulliMixture([0.3, 0.7], [[[1e-9, 0.25]], [[1 - 1e-9, 0.75]]])
    draws, means = (mixture.sample(2_000, seed=5, mean=mean) for mean in (False, True))
    assert means.dtype == np.float32
    np.testing.assert_array_equal(means[:, 0, 1], 0.25 + 0.5 * draws[:, 0, 0])


def test_sampled_entropy_agrees_with_log_likelihood():
    mixture, _ = fit_mixture(EVERY[::5], 3, seed=1)
    exact = mixture.log_likelihood(EVERY)
    entropy = -(np.exp(exact) * exact).sum()
    values = mixture.log_likelihood(mixture.sample(20_000, seed=5))
    assert -values.mean() == pytest.approx(entropy, abs=5 * values.std() / np.sqrt(20_000))


def test_repr_names_components_and_pixels(planted):
    assert repr(planted) == "BernoulliMixture(3 components, 6x6 pixels)"
    assert repr(uniform()) == "BernoulliMixture(1 component, 14x14 pixels)"
