import json
import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

import vae_tf
from vae_tf.analysis.writeup import WriteupVAE, audit, kl_difference, train_writeup
from vae_tf.data import Dataset, Split
from vae_tf.model import SMALLEST_SCALE, VAE


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 2, (40, 3, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def writeup():
    model = WriteupVAE(latent_dim=2, hidden_units=5, image_shape=(3, 3))
    model.compile()
    model.optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(1)
    for part, spread in ((model.encoder, 0.6), (model.decoder, 1.2)):
        part.set_weights([spread * rng.normal(size=w.shape) for w in part.get_weights()])
    return model


@pytest.fixture(scope="module")
def audited(writeup, images):
    return audit(writeup, np.repeat(images, 20, axis=0), num_samples=50)


def encode(model, images):
    """loc and σ, of either sign, in NumPy from raw weights: [N, 2] each."""
    w0, b0, w1, b1 = (w.astype(float) for w in model.encoder.get_weights())
    return np.split(np.tanh(images.reshape(len(images), -1) @ w0 + b0) @ w1 + b1, 2, axis=1)


def log_likelihood(model, images, latents):
    w0, b0, w1, b1 = (w.astype(float) for w in model.decoder.get_weights())
    means = scipy.special.expit(np.tanh(latents @ w0 + b0) @ w1 + b1)
    return scipy.stats.bernoulli(means).logpmf(images.reshape(len(images), -1)).sum(axis=-1)


def expected_terms(model, images, noise_scale, kl_scale):
    """E[log p(x|z)] by quadrature with one scale, and the KL by the textbook with the other."""
    loc, sigma = encode(model, images)
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    noise = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 1, 2)
    share = np.outer(weights, weights).reshape(-1, 1) / weights.sum() ** 2
    latents = loc + noise_scale * np.abs(sigma) * noise
    variance = (kl_scale * sigma) ** 2
    kl = 0.5 * (variance + loc**2 - 1 - np.log(variance)).sum(axis=1)
    return (share * log_likelihood(model, images, latents)).sum(axis=0), kl


def test_the_fixture_has_scales_of_both_signs(writeup, images):
    _, sigma = encode(writeup, images)
    assert (sigma > 0.05).any()
    assert (sigma < -0.05).any()


def test_printed_number_against_numpy_with_the_same_draws(writeup, images):
    terms = writeup.elbo_terms(images, seed=[3, 0])
    loc, sigma = encode(writeup, images)
    draws = writeup.posterior(images).sample(2, seed=[3, 0]).numpy()
    averaged = (draws[0] + draws[1]) / 2  # before decoding, as the writeup did
    np.testing.assert_allclose(
        terms.log_likelihood, log_likelihood(writeup, images, averaged), rtol=1e-4, atol=1e-5
    )
    kl = 0.5 * (sigma**2 + loc**2 - 1 - np.log(sigma**2)).sum(axis=1)  # log(std²), as it stood
    np.testing.assert_allclose(terms.kl, kl, rtol=1e-3)


# The noise that reaches the decoder, and the scale that the KL term knows of, in units of σ.
@pytest.mark.parametrize(
    ("name", "noise_scale", "kl_scale"),
    [
        ("printed", math.sqrt(0.5), 1),
        ("decoded", math.sqrt(0.5), math.sqrt(0.5)),
        ("declared", 1, 1),
    ],
)
def test_each_number_against_quadrature(writeup, images, audited, name, noise_scale, kl_scale):
    expected_likelihood, expected_kl = expected_terms(writeup, images, noise_scale, kl_scale)
    if name == "printed":
        # 800 estimates of 40 expectations: four standard errors of the noise are well below 0.3.
        expected = (expected_likelihood - expected_kl).mean()
        assert audited.printed.mean == pytest.approx(expected, abs=0.3)
        return
    evaluation = getattr(audited, name)
    np.testing.assert_allclose(evaluation.kl, np.repeat(expected_kl, 20), rtol=1e-3)
    found = evaluation.log_likelihood.reshape(40, 20).mean(axis=1)
    np.testing.assert_allclose(found, expected_likelihood, atol=0.5)
    assert found.mean() == pytest.approx(expected_likelihood.mean(), abs=0.05)


def test_the_term_explains_the_kl(writeup, images, audited):
    difference = kl_difference(writeup, images)
    _, sigma = encode(writeup, images)
    by_hand = (0.5 * math.log(2) - sigma**2 / 4).sum(axis=1)
    np.testing.assert_allclose(difference, by_hand, atol=1e-4)
    found = audited.decoded.kl - audited.declared.kl
    np.testing.assert_allclose(found, np.repeat(difference, 20), atol=1e-4)
    assert audited.kl_difference.mean == pytest.approx(difference.mean())


def test_proper_bounds_stay_below_log_p_and_the_printed_number_does_not(writeup):
    # q(z|x) = p(z), and a decoder that likes codes near 0 a little better: a smaller noise scale
    # helps it, and costs nothing where the KL does not know of it.
    model = WriteupVAE.from_config(writeup.get_config())
    model.encoder.layers[2].set_weights([np.zeros((5, 4)), np.array([0, 0, 1.0, 1.0])])
    kernel, bias = np.zeros((2, 5)), np.array([1.5, -1.5, 1.5, -1.5, 0])
    kernel[0, :2] = kernel[1, 2:4] = 1
    bump = 0.5 * np.array([1, -1, 1, -1, 0])[:, None] * np.ones((5, 9))
    model.decoder.layers[0].set_weights([kernel, bias])
    model.decoder.layers[1].set_weights([bump, np.zeros(9)])
    ones = np.ones((4_000, 3, 3), np.uint8)
    axis = np.linspace(-8, 8, 81)
    latents = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 1, 2)
    log_joint = log_likelihood(model, ones[:1], latents)[:, 0]
    log_joint += scipy.stats.norm.logpdf(latents).sum(axis=(1, 2))
    exact = scipy.special.logsumexp(log_joint) + 2 * math.log(axis[1] - axis[0])
    for scale in (1, math.sqrt(0.5)):
        likelihood, kl = expected_terms(model, ones[:1], scale, scale)
        assert (likelihood - kl).item() < exact
    likelihood, kl = expected_terms(model, ones[:1], math.sqrt(0.5), 1)
    printed = model.elbo_terms(ones, seed=[0, 0]).elbo.numpy()
    error = 4 * float(printed.std()) / math.sqrt(4_000)
    assert printed.mean() == pytest.approx((likelihood - kl).item(), abs=error)
    assert printed.mean() > exact + error


@pytest.mark.parametrize("sigma", [0.0, 1e-30, -1e-9, 1e-3, -2.0])
def test_no_nan_whatever_the_scale(images, sigma):
    model = WriteupVAE(latent_dim=2, hidden_units=5, image_shape=(3, 3))
    model.encoder.layers[2].set_weights([np.zeros((5, 4)), np.array([1, -1, sigma, sigma])])
    posterior = model.posterior(images)
    np.testing.assert_allclose(posterior.stddev(), abs(sigma) + SMALLEST_SCALE, rtol=1e-5)
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(model.elbo_terms(images, seed=[0, 0]).elbo)
    gradients = tape.gradient(loss, model.trainable_variables)
    assert np.isfinite(loss)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_the_two_posteriors_differ_by_root_two_alone(writeup, images):
    declared, decoded = writeup.posterior(images), writeup.decoded_posterior(images)
    loc, sigma = encode(writeup, images)
    np.testing.assert_allclose(declared.mean(), loc, atol=1e-5)
    np.testing.assert_allclose(decoded.mean(), loc, atol=1e-5)
    np.testing.assert_allclose(declared.stddev(), np.abs(sigma), atol=1e-5)
    np.testing.assert_allclose(decoded.stddev(), np.abs(sigma) / math.sqrt(2), atol=1e-5)


def test_decoded_posterior_is_that_of_averaged_draws(writeup, images):
    draws = writeup.posterior(images).sample([20_000, 2], seed=[1, 2]).numpy()
    averaged, decoded = draws.mean(axis=1), writeup.decoded_posterior(images)
    np.testing.assert_allclose(averaged.std(axis=0), decoded.stddev(), rtol=0.04, atol=1e-4)
    np.testing.assert_allclose(averaged.mean(axis=0), decoded.mean(), atol=0.05)


def test_the_estimator_is_kept_away_from_the_model():
    assert WriteupVAE.elbo_terms is not VAE.elbo_terms
    assert not hasattr(vae_tf, "WriteupVAE")


@pytest.mark.slow
def test_recipe_trains_through_fit():
    rng = np.random.default_rng(0)
    patterns = rng.random((10, 14, 14)) < 0.2

    def split(count):
        labels = np.arange(count) % 10
        noise = rng.random((count, 14, 14)) < 0.05
        return Split((patterns[labels] ^ noise).astype(np.uint8), labels.astype(np.uint8))

    digits = Dataset(split(330), split(50), split(50), "sample")
    vae, history = train_writeup(digits, seed=1, epochs=2)
    assert isinstance(vae, WriteupVAE)
    assert sum(w.numpy().size for w in vae.trainable_variables) == 53_716
    assert len(history.updates["loss"]) == 2 * 11  # batches of 32, the last one short
    assert history.history["val_loss"][-1] < history.history["val_loss"][0] - 5
    assert vae.optimizer.learning_rate.numpy() == pytest.approx(2e-3)


def test_summary_and_text(audited):
    summary = json.loads(json.dumps(audited.summary()))
    assert set(summary) == {"printed", "decoded", "declared", "kl_difference"}
    assert summary["decoded"]["elbo"]["mean"] == pytest.approx(audited.decoded.elbo.mean())
    assert str(audited.printed) in str(audited)
    assert str(audited.declared.estimates["elbo"]) in str(audited)
