"""The model against SciPy, integrals, finite differences and another process."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_tf import VAE

tfd = tfp.distributions


@pytest.fixture(scope="module")
def vae():
    return VAE(seed=3)


def test_weight_count_is_the_writeups(vae):
    assert vae.count_params() == 53_716
    assert vae.encoder.count_params() + vae.decoder.count_params() == 53_716


def test_architecture_follows_its_arguments():
    vae = VAE(latent_dim=3, hidden_units=5, image_shape=(4, 6))
    assert vae.count_params() == (24 + 1) * 5 + (5 + 1) * 6 + (3 + 1) * 5 + (5 + 1) * 24
    assert vae.sample(2).shape == (2, 4, 6)


def test_batch_and_event_shapes(vae, images):
    prior, posterior = vae.prior(), vae.posterior(images)
    likelihood = vae.likelihood(tf.zeros([7, 5, 8]))
    for distribution, base in ((prior, tfd.Normal), (posterior, tfd.Normal)):
        assert isinstance(distribution, tfd.Independent)
        assert isinstance(distribution.distribution, base)
    assert isinstance(likelihood.distribution, tfd.Bernoulli)
    assert (prior.batch_shape, prior.event_shape) == ([], [8])
    assert (posterior.batch_shape, posterior.event_shape) == ([64], [8])
    assert (likelihood.batch_shape, likelihood.event_shape) == ([7, 5], [14, 14])


def test_log_likelihood_is_scipys_and_the_distributions(vae, images):
    latents = np.random.default_rng(0).normal(size=(3, 64, 8)).astype(np.float32)
    found = vae.log_likelihood(images, latents)
    logits = vae.decoder.predict(latents.reshape(-1, 8), verbose=0).reshape(3, 64, 14, 14)
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = scipy.stats.bernoulli(probabilities).logpmf(images).sum(axis=(-2, -1))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(found, vae.likelihood(latents).log_prob(images), rtol=1e-5)


def test_kl_is_the_integral_and_monte_carlos(vae, images):
    posterior, prior = vae.posterior(images[:4]), scipy.stats.norm()
    loc, scale = (np.asarray(f(), np.float64) for f in (posterior.mean, posterior.stddev))
    kl = vae.elbo_terms(images[:4], seed=[0, 0]).kl.numpy()
    integrals = np.zeros_like(loc)
    for i in np.ndindex(loc.shape):
        q = scipy.stats.norm(loc[i], scale[i])
        integrals[i], _ = scipy.integrate.quad(
            lambda z, q=q: q.pdf(z) * (q.logpdf(z) - prior.logpdf(z)), *q.interval(1 - 1e-15)
        )
    np.testing.assert_allclose(kl, integrals.sum(axis=1), rtol=1e-5)
    draws = posterior.sample(20_000, seed=[1, 2])
    ratios = (posterior.log_prob(draws) - vae.prior().log_prob(draws)).numpy()
    errors = ratios.std(axis=0) / np.sqrt(len(ratios))
    assert (np.abs(ratios.mean(axis=0) - kl) < 5 * errors).all()


def test_terms_of_several_draws_are_means_of_their_log_likelihoods(images):
    vae = VAE(seed=3)
    vae.decoder.set_weights([5 * weights for weights in vae.decoder.get_weights()])
    found = vae.elbo_terms(images, seed=[5, 6], num_samples=50).log_likelihood
    latents = vae.posterior(images).sample(50, seed=[5, 6])
    each = np.stack([vae.likelihood(z).log_prob(images) for z in latents])
    np.testing.assert_allclose(found, each.mean(axis=0), rtol=1e-4)
    at_the_mean_code = vae.likelihood(tf.reduce_mean(latents, axis=0)).log_prob(images)
    assert np.mean(at_the_mean_code) > np.mean(found) + 10  # what the writeup took: not a bound


def test_elbo_is_the_difference(vae, images):
    terms = vae.elbo_terms(images, seed=[0, 0])
    np.testing.assert_array_equal(terms.elbo, terms.log_likelihood - terms.kl)


def test_gradient_is_the_finite_difference(images):
    vae = VAE(latent_dim=2, hidden_units=3, seed=1)

    def elbo():
        return tf.reduce_sum(vae.elbo_terms(images[:4], seed=[0, 1]).elbo)

    with tf.GradientTape() as tape:
        value = elbo()
    gradients = tape.gradient(value, vae.trainable_variables)
    rng = np.random.default_rng(0)
    for variable, gradient in zip(vae.trainable_variables, gradients, strict=True):
        start = variable.numpy()
        direction = rng.normal(size=start.shape).astype(np.float32)
        step, sums = 1e-2, []
        for sign in (-1, 1):
            variable.assign(start + sign * step * direction)
            sums.append(float(elbo()))
        variable.assign(start)
        slope = (sums[1] - sums[0]) / (2 * step)
        np.testing.assert_allclose(slope, np.sum(direction * gradient), rtol=2e-2, atol=2e-2)


def test_training_step_descends_the_gradient_of_minus_elbo(images):
    vae = VAE(seed=2, beta=3.0)
    vae.compile(keras.optimizers.SGD(0.5), jit_compile=False, run_eagerly=True)
    before = [variable.numpy() for variable in vae.trainable_variables]
    with tf.GradientTape() as tape:
        terms = vae.elbo_terms(images, seed=[2, 0])  # seed, and no update yet
        loss = tf.reduce_mean(3.0 * terms.kl - terms.log_likelihood)
    gradients = tape.gradient(loss, vae.trainable_variables)
    logs = vae.train_on_batch(images, return_dict=True)
    for variable, old, gradient in zip(vae.trainable_variables, before, gradients, strict=True):
        np.testing.assert_allclose(variable, old - 0.5 * gradient, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logs["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(logs["kl"], tf.reduce_mean(terms.kl), rtol=1e-5)


def test_evaluate_weighs_a_short_last_batch_by_its_size(vae, images):
    vae.compile()
    logs = vae.evaluate(images[:40], batch_size=32, verbose=0, return_dict=True)
    posterior = vae.posterior(images[:40])
    kl = tfd.kl_divergence(posterior, vae.prior())
    np.testing.assert_allclose(logs["kl"], np.mean(kl), rtol=1e-5)
    assert logs == vae.evaluate(images[:40], batch_size=32, verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["loss"], logs["kl"] - logs["log_likelihood"], rtol=1e-5)


def test_evaluation_draws_other_noise_for_each_batch(images):
    vae = VAE(seed=3)
    vae.compile()
    twice = np.concatenate([images, images])
    once = vae.evaluate(images, batch_size=64, verbose=0, return_dict=True)
    both = vae.evaluate(twice, batch_size=64, verbose=0, return_dict=True)
    assert both["kl"] == pytest.approx(once["kl"], rel=1e-6)
    assert both["log_likelihood"] != pytest.approx(once["log_likelihood"], rel=1e-6)


def test_predict_and_call_reconstruct_from_the_posterior_mean(vae, images):
    expected = vae.likelihood(vae.posterior(images).mean()).mean()
    np.testing.assert_allclose(vae(images), expected, rtol=1e-6)
    np.testing.assert_allclose(vae.predict(images, verbose=0), expected, rtol=1e-4)


def test_samples_and_reconstructions_are_seeded_draws(vae, images):
    for draw in (lambda **kw: vae.sample(500, **kw), lambda **kw: vae.reconstruct(images, **kw)):
        means, draws = np.asarray(draw(mean=True)), np.asarray(draw())
        assert draws.dtype == np.uint8
        assert set(np.unique(draws)) == {0, 1}
        np.testing.assert_array_equal(draws, draw(seed=0))
        assert (draws != np.asarray(draw(seed=1))).any()
        # Draws of the very means: their squared error is the Bernoulli variance.
        variance = (means * (1 - means)).mean()
        assert ((draws - means) ** 2).mean() == pytest.approx(variance, rel=0.05)


def test_prior_samples_are_standard_normal_codes(vae):
    codes = vae.prior().sample(5_000, seed=[0, 0]).numpy()
    assert scipy.stats.kstest(codes.ravel(), "norm").pvalue > 1e-3


def test_save_and_load_in_another_process(tmp_path, images):
    vae = VAE(latent_dim=4, beta=0.5, num_samples=2, seed=7)
    vae.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-2, 50)))
    vae.fit(images, batch_size=16, epochs=2, verbose=0)
    vae.save(tmp_path / "vae.keras")
    vae.encoder.save(tmp_path / "encoder.keras")
    vae.decoder.save(tmp_path / "decoder.keras")
    np.save(tmp_path / "images.npy", images)
    script = """
import sys, keras, numpy as np, vae_tf
folder = sys.argv[1]
images = np.load(folder + "/images.npy")
vae = keras.saving.load_model(folder + "/vae.keras", safe_mode=True)
encoder = keras.saving.load_model(folder + "/encoder.keras")
decoder = keras.saving.load_model(folder + "/decoder.keras")
codes = encoder.predict(images, verbose=0)
state = [v.numpy() for v in vae.optimizer.variables]
out = dict(config=str(vae.get_config()), outputs=vae(images).numpy(), codes=codes,
           decoded=decoder.predict(codes[:, :4], verbose=0))
vae.fit(images, batch_size=16, epochs=1, verbose=0)
out |= {f"more{i}": v.numpy() for i, v in enumerate(vae.trainable_variables)}
np.savez(folder + "/out.npz", **out, **{f"state{i}": v for i, v in enumerate(state)})
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=120)
    out = np.load(tmp_path / "out.npz")
    assert str(out["config"]) == str(vae.get_config())
    np.testing.assert_array_equal(out["outputs"], vae(images))
    np.testing.assert_array_equal(out["codes"], vae.encoder.predict(images, verbose=0))
    np.testing.assert_array_equal(
        out["decoded"], vae.decoder.predict(out["codes"][:, :4], verbose=0)
    )
    for i, variable in enumerate(vae.optimizer.variables):
        np.testing.assert_array_equal(out[f"state{i}"], variable)
    vae.fit(images, batch_size=16, epochs=1, verbose=0)  # goes on as the loaded one did
    for i, variable in enumerate(vae.trainable_variables):
        np.testing.assert_array_equal(out[f"more{i}"], variable)


@settings(max_examples=25, deadline=None)
@given(
    scale=st.floats(1e-3, 1e6),
    seed=st.integers(0, 2**31 - 1),
    ink=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_terms_and_gradients_stay_finite_at_extreme_weights(scale, seed, ink):
    vae = VAE(latent_dim=2, hidden_units=4, image_shape=(3, 3))
    rng = np.random.default_rng(seed)
    for variable in vae.trainable_variables:
        variable.assign(scale * rng.normal(size=variable.shape))
    images = (rng.random((5, 3, 3)) < ink).astype(np.uint8)
    with tf.GradientTape() as tape:
        terms = vae.elbo_terms(images, seed=[0, 0])
        value = tf.reduce_sum(terms.elbo)
    assert np.isfinite(terms).all()
    assert (np.asarray(terms.kl) >= -1e-4).all()
    assert (np.asarray(terms.log_likelihood) <= 0).all()
    assert all(np.isfinite(g).all() for g in tape.gradient(value, vae.trainable_variables))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"latent_dim": 0}, ValueError),
        ({"latent_dim": -3}, ValueError),
        ({"latent_dim": 2.5}, TypeError),
        ({"latent_dim": "8"}, TypeError),
        ({"latent_dim": True}, TypeError),
        ({"latent_dim": 2**40}, ValueError),
        ({"hidden_units": 0}, ValueError),
        ({"image_shape": (14,)}, ValueError),
        ({"image_shape": (14, 0)}, ValueError),
        ({"image_shape": 14}, ValueError),
        ({"beta": -1}, ValueError),
        ({"beta": np.nan}, ValueError),
        ({"beta": "1"}, TypeError),
        ({"num_samples": 0}, ValueError),
        ({"seed": -1}, ValueError),
        ({"seed": 2**31}, ValueError),
        ({"seed": 0.5}, TypeError),
    ],
)
def test_bad_arguments_are_named(arguments, error):
    (name,) = arguments
    with pytest.raises(error, match=name):
        VAE(**arguments)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x: x * 0.5, ValueError, "0 and 1"),
        (lambda x: x * 255, ValueError, "Binarize"),
        (lambda x: x * -1.0, ValueError, "0 and 1"),
        (lambda x: np.where(x, np.nan, 0.0), ValueError, "0 and 1"),
        (lambda x: np.where(x, np.inf, 0.0), ValueError, "0 and 1"),
        (lambda x: x[0], ValueError, r"\(14, 14\)"),
        (lambda x: x[:, :13], ValueError, r"\(64, 13, 14\)"),
        (lambda x: x[..., None], ValueError, r"\(64, 14, 14, 1\)"),
        (lambda x: x[:0], ValueError, r"\(0, 14, 14\)"),
        (lambda x: x.astype(str), TypeError, "dtype"),
        (lambda x: x.astype(object), TypeError, "object"),
        (lambda x: x * 1j, TypeError, "complex"),
    ],
)
def test_bad_images_are_refused_before_training(images, change, error, message):
    vae = VAE()
    vae.compile()
    before = [variable.numpy() for variable in vae.variables]
    with pytest.raises(error, match=message):
        vae.fit(change(images), verbose=0)
    for variable, old in zip(vae.variables, before, strict=True):
        np.testing.assert_array_equal(variable, old)
