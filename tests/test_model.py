"""The model against SciPy, integrals, finite differences and another process."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_tf import VAE, evaluate

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
    found = vae.likelihood(latents).log_prob(images)
    logits = vae.decoder.predict(latents.reshape(-1, 8), verbose=0).reshape(3, 64, 14, 14)
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = scipy.stats.bernoulli(probabilities).logpmf(images).sum(axis=(-2, -1))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    tfps = tfd.Independent(tfd.Bernoulli(logits=logits), 2)
    np.testing.assert_allclose(found, tfps.log_prob(images), rtol=1e-5)


@pytest.mark.parametrize("logits", [[-30, -17, -1, -1e-3, 1e-3, 1, 17, 30], [-1e30, -88, 88, 1e30]])
def test_log_likelihood_and_its_gradient_at_any_logit(logits):
    logits = np.array(logits)
    vae = VAE(latent_dim=1, hidden_units=2, image_shape=(1, len(logits)))
    weights = vae.decoder.get_weights()
    vae.decoder.set_weights([*weights[:2], 0 * weights[2], logits])
    for pixel in (0, 1):
        images = np.full([3, 1, len(logits)], pixel, np.uint8)
        with tf.GradientTape() as tape:
            found = vae.likelihood(np.zeros([2, 3, 1], np.float32)).log_prob(images)
        gradient = tape.gradient(found, vae.decoder.trainable_variables[-1])
        expected = scipy.special.log_expit((2 * pixel - 1) * logits).sum()
        np.testing.assert_allclose(found, np.full([2, 3], expected), rtol=1e-6)
        slopes = 6 * (pixel - scipy.special.expit(logits))  # of six sums, one per image and draw
        np.testing.assert_allclose(gradient, slopes, rtol=1e-5, atol=1e-6)


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


def test_beta_is_a_value_that_compiled_programs_take(images, compilations):
    terms = []
    for beta, warmup in ((0.0, 0), (20.0, 3)):
        vae = VAE(latent_dim=5, hidden_units=9, beta=beta, kl_warmup=warmup)
        vae.compile(keras.optimizers.Adam(0.01))
        logs = vae.fit(images, batch_size=16, epochs=20, verbose=0).history
        terms.append(logs["kl"][-1])
        np.testing.assert_allclose(
            logs["loss"][-1], beta * logs["kl"][-1] - logs["log_likelihood"][-1], rtol=1e-5
        )
    assert len(compilations) == 1
    assert terms[0] > 4 * terms[1]


def test_evaluation_compiles_once_for_betas_and_seeds_and_is_the_bound(images, compilations):
    found = [
        evaluate(VAE(latent_dim=3, hidden_units=13, beta=beta), images, 5).elbo
        for beta in (0.5, 1.0, 6.0)
    ]
    other = evaluate(VAE(latent_dim=3, hidden_units=13), images, 5, seed=1).elbo
    assert len(compilations) == 1
    assert (other != found[1]).all()
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[2], found[1])


def test_gradient_grows_by_the_kls_per_unit_of_beta(images):
    # In the encoder's last biases the gradient of the KL is known: d KL / d loc = loc, and
    # d KL / d scale = scale − 1 / scale; they reach loc directly and scale through softplus.
    vae, steps = VAE(latent_dim=1, hidden_units=3, seed=5), {}
    posterior = vae.posterior(images)
    loc, scale = (np.asarray(f(), np.float64) for f in (posterior.mean, posterior.stddev))
    slope = 1 - np.exp(-scale)  # of softplus, from its value
    expected = np.mean(np.concatenate([loc, (scale - 1 / scale) * slope], axis=1), axis=0)
    before = vae.get_weights()
    for beta in (0.25, 2.25):
        vae.set_weights(before)
        vae.beta = beta
        vae.compile(keras.optimizers.SGD(1.0))
        fit = {"sample_weight": np.ones(64), "shuffle": False}  # the program of the last test too
        vae.fit(images, batch_size=64, verbose=0, **fit)
        steps[beta] = before[3] - vae.get_weights()[3]  # the encoder's last biases: [loc, scale]
    np.testing.assert_allclose(steps[2.25] - steps[0.25], 2 * expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "length",
    [4, pytest.param(1, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.slow)],
)
def test_warm_up_raises_beta_linearly_whatever_the_blocks(images, length):
    vae = VAE(latent_dim=3, hidden_units=6, beta=4.0, kl_warmup=8)
    vae.compile(keras.optimizers.SGD(0.01), steps_per_execution=length)
    fits = [vae.fit(images, batch_size=16, steps_per_epoch=6, verbose=0) for _ in range(2)]
    logs = {k: np.concatenate([fit.updates[k] for fit in fits]) for k in fits[0].updates}
    weights = (logs["loss"] + logs["log_likelihood"]) / logs["kl"]
    expected = [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4, 4, 4]  # and fitting on goes on
    np.testing.assert_allclose(weights, expected, rtol=1e-2, atol=2e-2)
    logs = vae.evaluate(images, verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["loss"], 4 * logs["kl"] - logs["log_likelihood"], rtol=1e-5)


def test_a_value_that_keras_has_restored_is_the_one_that_is_told():
    vae = VAE(beta=0.1, kl_warmup=7)
    assert vae.beta == 0.1  # as it was given, not rounded to float32
    for variable in vae.variables:
        if variable.name in ("beta", "kl_warmup"):
            variable.assign(2)
    assert (vae.beta, vae.kl_warmup) == (2.0, 2)
    assert vae.get_config()["beta"] == 2.0


def test_beta_is_no_weight_and_stays_exact(images):
    vae = VAE(beta=0.1, kl_warmup=5)
    assert vae.count_params() == 53_716
    assert len(vae.weights) == 8
    assert (vae.beta, vae.kl_warmup) == (0.1, 5)
    copy = VAE.from_config(vae.get_config())
    assert (copy.beta, copy.kl_warmup) == (0.1, 5)
    with pytest.raises(ValueError, match="beta"):
        vae.beta = -0.5
    with pytest.raises(TypeError, match="kl_warmup"):
        vae.kl_warmup = 0.5
    assert (vae.beta, vae.kl_warmup) == (0.1, 5)
    vae.beta, vae.kl_warmup = 3, 0
    vae.compile()
    logs = vae.evaluate(images, verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["loss"], 3 * logs["kl"] - logs["log_likelihood"], rtol=1e-5)
    vae.beta = 7  # no second compile, and the same program
    logs = vae.evaluate(images, verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["loss"], 7 * logs["kl"] - logs["log_likelihood"], rtol=1e-5)


def test_evaluate_weighs_a_short_last_batch_by_its_size(vae, images):
    vae.compile()
    logs = vae.evaluate(images[:40], batch_size=32, verbose=0, return_dict=True)
    posterior = vae.posterior(images[:40])
    kl = tfd.kl_divergence(posterior, vae.prior())
    np.testing.assert_allclose(logs["kl"], np.mean(kl), rtol=1e-5)
    assert logs == vae.evaluate(images[:40], batch_size=32, verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["loss"], logs["kl"] - logs["log_likelihood"], rtol=1e-5)


def test_evaluation_draws_other_noise_for_each_batch(vae, images):
    vae.compile()
    twice = np.concatenate([images[:32], images[:32]])
    once = vae.evaluate(images[:32], batch_size=32, verbose=0, return_dict=True)
    both = vae.evaluate(twice, batch_size=32, verbose=0, return_dict=True)
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


@pytest.mark.slow
def test_save_and_load_in_another_process(tmp_path, images):
    vae = VAE(latent_dim=4, beta=0.3, kl_warmup=11, num_samples=2, seed=7)
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
codes = encoder(images)
state = [v.numpy() for v in vae.optimizer.variables]
out = dict(config=str(vae.get_config()), outputs=vae(images).numpy(), codes=codes,
           decoded=decoder(codes[:, :4]))
vae.fit(images, batch_size=16, epochs=1, verbose=0)
out |= {f"more{i}": v.numpy() for i, v in enumerate(vae.trainable_variables)}
np.savez(folder + "/out.npz", **out, **{f"state{i}": v for i, v in enumerate(state)})
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=600)
    out = np.load(tmp_path / "out.npz")
    assert str(out["config"]) == str(vae.get_config())
    np.testing.assert_array_equal(out["outputs"], vae(images))
    np.testing.assert_array_equal(out["codes"], vae.encoder(images))
    np.testing.assert_array_equal(out["decoded"], vae.decoder(out["codes"][:, :4]))
    for i, variable in enumerate(vae.optimizer.variables):
        np.testing.assert_array_equal(out[f"state{i}"], variable)
    vae.fit(images, batch_size=16, epochs=1, verbose=0)  # goes on as the loaded one did
    for i, variable in enumerate(vae.trainable_variables):
        np.testing.assert_array_equal(out[f"more{i}"], variable)


PATTERNS = {
    "positive": lambda rng, shape: np.ones(shape),
    "negative": lambda rng, shape: -np.ones(shape),
    "either sign": lambda rng, shape: rng.choice([-1.0, 1.0], shape),
    "spread": lambda rng, shape: rng.uniform(-1, 1, shape),
}


@pytest.fixture(scope="module")
def at_the_edge():
    vae = VAE()

    @tf.function(jit_compile=True)
    def terms_and_gradients(images, seed):
        with tf.GradientTape() as tape:
            terms = vae.elbo_terms(images, seed)
            value = tf.reduce_sum(terms.elbo)
        return terms, tape.gradient(value, vae.trainable_variables)

    return vae, terms_and_gradients


@pytest.mark.parametrize("count", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_everything_stays_finite_at_extreme_weights(at_the_edge, count):
    vae, terms_and_gradients = at_the_edge

    @settings(max_examples=count, deadline=None, derandomize=True)
    @given(
        exponents=st.lists(st.floats(-45, 10) | st.just(10.0), min_size=8, max_size=8),
        patterns=st.lists(st.sampled_from(sorted(PATTERNS)), min_size=8, max_size=8),
        seed=st.integers(0, 2**31 - 1),
        ink=st.sampled_from([0.0, 0.5, 1.0]),
    )
    def check(exponents, patterns, seed, ink):
        rng = np.random.default_rng(seed)
        for variable, exponent, pattern in zip(vae.weights, exponents, patterns, strict=True):
            variable.assign(10.0**exponent * PATTERNS[pattern](rng, variable.shape))
        images = (rng.random((4, 14, 14)) < ink).astype(np.uint8)
        terms, gradients = terms_and_gradients(images, tf.constant([0, seed]))
        assert np.isfinite(terms).all()
        assert (np.asarray(terms.kl) >= -1e-4).all()
        assert (np.asarray(terms.log_likelihood) <= 0).all()
        assert all(np.isfinite(gradient).all() for gradient in gradients)
        found = evaluate(vae, images, num_samples=3, seed=seed)
        for name in ("elbo", "log_likelihood", "kl", "marginal_log_likelihood", "kl_per_dimension"):
            assert np.isfinite(getattr(found, name)).all()
        for draw in (
            lambda **kw: vae.sample(4, seed, **kw),
            lambda **kw: vae.reconstruct(images, **kw),
        ):
            means = np.asarray(draw(mean=True))
            assert ((means >= 0) & (means <= 1)).all()  # so none is NaN
            assert np.isin(draw(), (0, 1)).all()

    check()


@pytest.mark.parametrize("weight", [1.1e10, -3e38, np.inf, np.nan])
def test_weights_beyond_the_edge_are_refused(images, weight):
    vae = VAE()
    bias = vae.decoder.layers[-2].bias
    bias.assign(np.where(np.arange(196) == 5, weight, bias))
    for use in (
        lambda: vae.sample(1),
        lambda: vae.reconstruct(images),
        lambda: evaluate(vae, images),
    ):
        with pytest.raises(ValueError, match=r"weights within ±1e\+10; received one of size"):
            use()


def test_a_batch_without_weight_changes_nothing(images):
    vae = VAE(latent_dim=1, hidden_units=3)
    vae.compile(keras.optimizers.SGD(1.0))
    before = vae.get_weights()
    vae.fit(images, sample_weight=np.zeros(64), batch_size=64, verbose=0)
    for old, new in zip(before, vae.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
