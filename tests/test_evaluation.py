import itertools
import json
import math

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from vae_tf import evaluation
from vae_tf.analysis.bounds import active_units, bound_curve, inference_gaps
from vae_tf.engine.distributions import Normal
from vae_tf.engine.noise import EVALUATION, normals
from vae_tf.evaluation import Estimate, evaluate
from vae_tf.model import SMALLEST_SCALE, VAE

tfd = tfp.distributions

SHAPE, LATENT_DIM = (3, 3), 2


def small_vae(**kwargs):
    vae = VAE(latent_dim=LATENT_DIM, hidden_units=5, image_shape=SHAPE, **kwargs)
    vae.compile()
    vae.optimizer.build(vae.trainable_variables)
    return vae


def key_of(seed):
    return tf.bitcast(tf.constant([seed, EVALUATION]), tf.uint32)


def set_weights(vae, seed, encoder, decoder):
    """Draws Gaussian weights of these standard deviations."""
    rng = np.random.default_rng(seed)
    for part, spread in ((vae.encoder, encoder), (vae.decoder, decoder)):
        part.set_weights([spread * rng.normal(size=w.shape) for w in part.get_weights()])


@pytest.fixture(scope="module")
def vae():
    """A model whose true posteriors are far from Gaussian, with an encoder that knows little."""
    vae = small_vae()
    set_weights(vae, seed=3, encoder=0.3, decoder=1.2)
    kernel, bias = vae.encoder.layers[2].get_weights()
    # Scales above the prior's keep importance weights bounded, and their mean quick to converge.
    vae.encoder.layers[2].set_weights([kernel, bias + np.array([0, 0, 1.2, 1.2])])
    return vae


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 2, (40, *SHAPE)).astype(np.uint8)


# The model once more, in NumPy and float64, from its raw weights.


def encode(vae, images):
    w0, b0, w1, b1 = (w.astype(float) for w in vae.encoder.get_weights())
    out = np.tanh(images.reshape(len(images), -1) @ w0 + b0) @ w1 + b1
    loc, unconstrained = np.split(out, 2, axis=1)
    return loc, np.log1p(np.exp(unconstrained)) + SMALLEST_SCALE


def decode(vae, latents):
    """Logits, [..., 9], of latents [..., L]."""
    w0, b0, w1, b1 = (w.astype(float) for w in vae.decoder.get_weights())
    return np.tanh(latents @ w0 + b0) @ w1 + b1


def log_likelihood(vae, images, latents):
    """log p(x|z) for latents [..., N, L]: [..., N]."""
    logits = decode(vae, latents)
    return (images.reshape(len(images), -1) * logits - np.logaddexp(0, logits)).sum(axis=-1)


def grid_log_marginal(vae, images):
    """log p(x) by the trapezoid rule over [−8, 8]², where all but 1e-14 of the prior lies."""
    axis = np.linspace(-8, 8, 81)
    latents = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)  # [points, 2]
    log_prior = scipy.stats.norm.logpdf(latents).sum(axis=-1)
    logits = decode(vae, latents)
    log_joint = logits @ images.reshape(-1, 9).T.astype(float)  # [points, N]
    log_joint += (log_prior - np.logaddexp(0, logits).sum(axis=-1))[:, None]
    return scipy.special.logsumexp(log_joint, axis=0) + 2 * np.log(axis[1] - axis[0])


def test_oracle_is_scipys_bernoulli(vae, images):
    latents = np.random.default_rng(1).normal(size=(40, 2))
    means = scipy.special.expit(decode(vae, latents))
    expected = scipy.stats.bernoulli(means).logpmf(images.reshape(40, 9)).sum(axis=1)
    np.testing.assert_allclose(log_likelihood(vae, images, latents), expected, rtol=1e-9)


def test_grid_oracle_is_normalized(vae):
    every = np.array(list(itertools.product([0, 1], repeat=9))).reshape(-1, *SHAPE)
    assert scipy.special.logsumexp(grid_log_marginal(vae, every)) == pytest.approx(0, abs=1e-9)


def test_bound_reaches_brute_force_integral(vae, images):
    result = evaluate(vae, images, num_samples=4_000)
    exact = grid_log_marginal(vae, images)
    assert (exact - result.elbo).mean() > 0.1  # so that the bound has something to close
    np.testing.assert_allclose(result.marginal_log_likelihood.mean(), exact.mean(), atol=0.02)
    np.testing.assert_allclose(result.marginal_log_likelihood, exact, atol=0.25)


def test_bounds_are_ordered_and_rise_with_k(vae, images):
    many = np.repeat(images, 50, axis=0)  # 2,000 estimates
    curve = bound_curve(vae, many, num_samples=(1, 5, 25, 200))
    elbo = evaluate(vae, many, num_samples=100).elbo
    exact = np.repeat(grid_log_marginal(vae, images), 50)
    for low, high in itertools.pairwise([*curve, exact]):
        gap = Estimate.of(high - low)
        assert gap.mean > -3 * gap.standard_error
    assert (curve[-1] - curve[0]).mean() > 0.1
    for bound in curve[1:]:
        gap = Estimate.of(bound - elbo)
        assert gap.mean > 3 * gap.standard_error


def test_one_sample_bound_is_an_elbo(vae, images):
    many = np.repeat(images, 50, axis=0)
    result = evaluate(vae, many, num_samples=1)
    loc, scale = encode(vae, images)
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    exact = np.repeat(hermite_elbo(vae, images, loc, scale, nodes, weights), 50)
    for values in (result.marginal_log_likelihood, result.elbo):
        error = Estimate.of(values - exact)
        assert abs(error.mean) < 4 * error.standard_error
    assert (result.marginal_log_likelihood - result.elbo).std() > 0.1  # not the same estimator


def hermite_elbo(vae, images, loc, scale, nodes, weights):
    """The ELBO of diagonal Gaussians by Gauss–Hermite quadrature: [N]."""
    noise = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 1, 2)
    share = np.outer(weights, weights).reshape(-1, 1) / weights.sum() ** 2
    expected = (share * log_likelihood(vae, images, loc + scale * noise)).sum(axis=0)
    return expected - (0.5 * (scale**2 + loc**2 - 1) - np.log(scale)).sum(axis=1)


@pytest.mark.parametrize("num_samples", [1, 45])
def test_bound_is_exact_when_the_decoder_ignores_z(images, num_samples):
    vae = small_vae()
    probabilities = np.linspace(0.1, 0.9, 9)
    vae.decoder.layers[1].set_weights([np.zeros((5, 9)), scipy.special.logit(probabilities)])
    standard = np.log(np.expm1(1 - SMALLEST_SCALE))  # q(z|x) = p(z)
    vae.encoder.layers[2].set_weights([np.zeros((5, 4)), np.array([0, 0, standard, standard])])
    result = evaluate(vae, images, num_samples)
    expected = scipy.stats.bernoulli(probabilities).logpmf(images.reshape(-1, 9)).sum(axis=1)
    np.testing.assert_allclose(result.marginal_log_likelihood, expected, rtol=1e-5)
    np.testing.assert_allclose(result.log_likelihood, expected, rtol=1e-5)
    np.testing.assert_allclose(result.kl, 0, atol=1e-6)


@pytest.mark.parametrize("spread", [0.2, 1.2, 4.0])
def test_agrees_with_numpy_from_raw_weights(images, spread):
    vae, count = small_vae(), 45
    set_weights(vae, seed=5, encoder=spread, decoder=spread)
    result = evaluate(vae, images, count, seed=9)
    loc, scale = encode(vae, images)
    key = key_of(9)
    noise = normals(key, tf.range(40), tf.range(count), LATENT_DIM).numpy()
    latents = loc + scale * noise.astype(float)
    terms = log_likelihood(vae, images, latents)
    log_weights = terms + scipy.stats.norm.logpdf(latents).sum(axis=-1)
    log_weights -= scipy.stats.norm.logpdf(latents, loc, scale).sum(axis=-1)
    kl = 0.5 * (scale**2 + loc**2 - 1) - np.log(scale)
    close = dict(rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(result.log_likelihood, terms.mean(axis=0), **close)
    np.testing.assert_allclose(result.kl, kl.sum(axis=1), **close)
    np.testing.assert_allclose(result.kl_per_dimension, kl.mean(axis=0), **close)
    np.testing.assert_allclose(result.elbo, terms.mean(axis=0) - kl.sum(axis=1), **close)
    expected = scipy.special.logsumexp(log_weights, axis=0) - np.log(count)
    np.testing.assert_allclose(result.marginal_log_likelihood, expected, **close)


def test_agrees_with_pytorch_distributions(vae, images):
    torch = pytest.importorskip("torch")
    result = evaluate(vae, images, num_samples=3, seed=2)
    loc, scale = map(torch.tensor, encode(vae, images))
    posterior = torch.distributions.Normal(loc, scale)
    prior = torch.distributions.Normal(torch.zeros(2), torch.ones(2))
    key = key_of(2)
    noise = normals(key, tf.range(40), tf.range(3), LATENT_DIM).numpy()
    latents = loc + scale * torch.tensor(noise.astype(float))
    w0, b0, w1, b1 = (torch.tensor(w.astype(float)) for w in vae.decoder.get_weights())
    logits = torch.tanh(latents @ w0 + b0) @ w1 + b1
    pixels = torch.tensor(images.reshape(40, 9).astype(float))
    terms = torch.distributions.Bernoulli(logits=logits).log_prob(pixels).sum(-1)
    log_weights = terms + (prior.log_prob(latents) - posterior.log_prob(latents)).sum(-1)
    bound = torch.logsumexp(log_weights, dim=0) - math.log(3)
    kl = torch.distributions.kl_divergence(posterior, prior).sum(-1)
    np.testing.assert_allclose(result.marginal_log_likelihood, bound, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(result.elbo, terms.mean(0) - kl, rtol=1e-4, atol=1e-4)


def test_a_vanishing_scale_keeps_its_digits(images):
    vae = small_vae()
    set_weights(vae, seed=3, encoder=1.0, decoder=1.0)
    bias = np.array([3.0, -3.0, -40.0, -40.0])  # loc far from 0, scale SMALLEST_SCALE
    vae.encoder.layers[2].set_weights([np.zeros((5, 4)), bias])
    result = evaluate(vae, images, num_samples=20)
    key = key_of(0)
    noise = normals(key, tf.range(40), tf.range(20), LATENT_DIM).numpy()
    log_ratio = 2 * math.log(SMALLEST_SCALE) + 0.5 * (noise**2).sum(axis=-1) - 9  # [K, N]
    expected = scipy.special.logsumexp(log_ratio, axis=0) - math.log(20)
    at_loc = log_likelihood(vae, images, np.array([3.0, -3.0]))
    np.testing.assert_allclose(result.marginal_log_likelihood, at_loc + expected, atol=1e-3)


def test_results_do_not_depend_on_chunks(vae, images):
    arrays = ("log_likelihood", "kl", "elbo", "marginal_log_likelihood")
    whole = evaluate(vae, images, num_samples=50, seed=4)
    chunks = dict(images_per_chunk=7, samples_per_chunk=3)  # neither divides its total
    cut = evaluate(vae, images, num_samples=50, seed=4, **chunks)
    first = evaluate(vae, images[:13], num_samples=50, seed=4, **chunks)
    for name in arrays:
        np.testing.assert_allclose(getattr(cut, name), getattr(whole, name), atol=2e-5)
        np.testing.assert_allclose(getattr(first, name), getattr(whole, name)[:13], atol=2e-5)


def test_noise_follows_seed_and_position(vae, images):
    same = np.repeat(images[:1], 40, axis=0)
    result = evaluate(vae, same, num_samples=3, seed=4)
    assert len(np.unique(result.marginal_log_likelihood)) == 40
    other = evaluate(vae, same, num_samples=3, seed=5)
    assert (result.marginal_log_likelihood != other.marginal_log_likelihood).all()
    again = evaluate(vae, same, num_samples=3, seed=4)
    np.testing.assert_array_equal(result.marginal_log_likelihood, again.marginal_log_likelihood)


def test_curve_ends_where_evaluate_does(vae, images):
    curve = bound_curve(vae, images, num_samples=[3, 50], seed=4)
    assert curve.shape == (2, 40)
    for row, count in zip(curve, (3, 50), strict=True):
        expected = evaluate(vae, images, count, seed=4).marginal_log_likelihood
        np.testing.assert_allclose(row, expected, atol=2e-5)


@pytest.mark.slow
def test_a_curve_of_another_posterior_ends_where_evaluate_does(vae, images):
    def wide(images):
        found = vae.posterior(images)
        return tfd.Independent(Normal(found.mean(), 1.5 * found.stddev()), 1)

    curve = bound_curve(vae, images, num_samples=[3, 50], posterior=wide)
    expected = evaluate(vae, images, 50, posterior=wide).marginal_log_likelihood
    np.testing.assert_allclose(curve[-1], expected, atol=2e-5)
    assert (curve[-1] != bound_curve(vae, images, num_samples=[3, 50])[-1]).all()


def test_kl_per_dimension_sums_to_the_kl(vae, images):
    result = evaluate(vae, images, num_samples=1)
    assert result.kl_per_dimension.shape == (LATENT_DIM,)
    assert result.kl_per_dimension.sum() == pytest.approx(result.kl.mean())


@pytest.mark.parametrize(("variance", "expected"), [(0.02, True), (0.005, False)])
def test_active_units_have_a_posterior_mean_that_varies(images, variance, expected):
    vae = small_vae()
    first, last = vae.encoder.layers[1], vae.encoder.layers[2]
    # One hidden unit reads pixel 0; loc 0 follows it, loc 1 is large but the same for all images.
    kernel = np.zeros((9, 5))
    kernel[0, 0] = 1
    on = images[:, 0, 0].std() * np.tanh(1)
    first.set_weights([kernel, np.zeros(5)])
    kernel = np.zeros((5, 4))
    kernel[0, 0] = math.sqrt(variance) / on
    last.set_weights([kernel, np.array([0, 5.0, 0, 0])])
    assert active_units(vae, images).tolist() == [expected, False]


@pytest.mark.slow
def test_refinement_finds_the_best_gaussian(vae, images):
    few = images[:4]
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    gaps = inference_gaps(vae, few, num_samples=2_000, updates=300, draws=32)
    start_loc, start_scale = encode(vae, few)
    best = np.empty(len(few))
    for n, image in enumerate(few):

        def loss(parameters, image=image[None]):
            loc, scale = parameters[None, :2], np.exp(parameters[None, 2:])
            return -hermite_elbo(vae, image, loc, scale, nodes, weights)[0]

        start = np.concatenate([start_loc[n], np.log(start_scale[n])])
        best[n] = -scipy.optimize.minimize(loss, start, method="BFGS", options={"gtol": 1e-4}).fun
    exact = grid_log_marginal(vae, few)
    before = hermite_elbo(vae, few, start_loc, start_scale, nodes, weights)
    assert (best - before).mean() > 0.1  # so that there is something to find
    np.testing.assert_allclose(gaps.elbo, before, atol=0.2)
    np.testing.assert_allclose(gaps.refined_elbo, best, atol=0.1)
    np.testing.assert_allclose(gaps.marginal_log_likelihood, exact, atol=0.1)
    np.testing.assert_allclose(gaps.amortization_gap, best - before, atol=0.25)
    np.testing.assert_allclose(gaps.approximation_gap, exact - best, atol=0.15)
    assert set(gaps.summary()) >= {"amortization_gap", "approximation_gap", "num_samples"}


@pytest.mark.slow
def test_refinement_has_nothing_to_find_where_the_posterior_is_exact(images):
    vae = small_vae()
    vae.decoder.layers[1].set_weights([np.zeros((5, 9)), np.zeros(9)])
    gaps = inference_gaps(vae, images[:4], num_samples=50, updates=300, draws=32)
    np.testing.assert_allclose(gaps.refined_elbo, -9 * math.log(2), atol=0.02)
    np.testing.assert_allclose(gaps.approximation_gap, 0, atol=0.02)


def test_estimate_is_mean_and_standard_error():
    values = np.array([1.0, 2.0, 4.0, 9.0])
    estimate = Estimate.of(values)
    assert estimate.mean == 4
    assert estimate.standard_error == pytest.approx(scipy.stats.sem(values))
    assert str(estimate) == "4.00 ± 1.78"
    assert math.isnan(Estimate.of([1.0]).standard_error)


def test_reports_state_k_and_units(vae, images, capsys):
    result = evaluate(vae, images, num_samples=1_234, verbose=1)
    assert "40/40" in capsys.readouterr().out
    assert "K = 1,234" in repr(result)
    assert "nats per image" in repr(result)
    assert str(result.estimates["elbo"]) in repr(result)
    summary = json.loads(json.dumps(result.summary()))
    assert summary["num_samples"] == 1_234
    assert summary["num_images"] == 40
    assert summary["elbo"]["mean"] == pytest.approx(result.elbo.mean())
    assert len(summary["kl_per_dimension"]) == LATENT_DIM
    evaluate(vae, images, num_samples=3)
    assert capsys.readouterr().out == ""


def test_another_posterior_takes_the_place_of_the_encoders(vae, images):
    twin = small_vae()
    twin.decoder.set_weights(vae.decoder.get_weights())
    result = evaluate(vae, images, num_samples=50, posterior=twin.posterior)
    expected = evaluate(twin, images, num_samples=50)
    np.testing.assert_allclose(result.elbo, expected.elbo, rtol=1e-6)
    np.testing.assert_allclose(
        result.marginal_log_likelihood, expected.marginal_log_likelihood, rtol=1e-6
    )
    assert np.abs(result.elbo - evaluate(vae, images, num_samples=50).elbo).max() > 0.1


def test_posteriors_are_made_of_some_images_at_a_time(vae, images, monkeypatch):
    expected, sizes, posterior = evaluate(vae, images, num_samples=5), [], vae.posterior
    monkeypatch.setattr(evaluation, "AT_ONCE", 7)

    def watched(images):
        sizes.append(images.shape[0])
        return posterior(images)

    found = evaluate(vae, images, num_samples=5, posterior=watched, images_per_chunk=4)
    assert max(sizes) <= 7
    np.testing.assert_allclose(found.kl, expected.kl, rtol=1e-6)
    np.testing.assert_allclose(found.kl_per_dimension, expected.kl_per_dimension, rtol=1e-6)
    np.testing.assert_allclose(found.elbo, expected.elbo, rtol=1e-6)


def test_a_diagonal_gaussian_has_an_exact_kl_however_it_is_made(vae, images):
    class Diagonal(VAE):
        def prior(self):
            return tfd.MultivariateNormalDiag([0.5, 0.0], [2.0, 1.5])

    wide = Diagonal(latent_dim=LATENT_DIM, hidden_units=5, image_shape=SHAPE)
    wide.set_weights(vae.get_weights())
    loc, scale = encode(wide, images)
    centre, width = np.array([0.5, 0.0]), np.array([2.0, 1.5])
    kl = np.log(width / scale) + (scale**2 + (loc - centre) ** 2) / (2 * width**2) - 0.5
    found = evaluate(wide, images, num_samples=2)
    np.testing.assert_allclose(found.kl, kl.sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.kl_per_dimension, kl.mean(axis=0), rtol=1e-5)
    terms = wide.elbo_terms(images, seed=[0, 0])
    np.testing.assert_allclose(terms.kl, kl.sum(axis=1), rtol=1e-5)
