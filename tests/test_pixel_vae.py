"""`PixelVAE`: pixels in turn and a learned prior, against loops, enumeration and integration."""

import itertools
import shutil

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from tensorflow_probability import distributions as tfd

import vae_tf
from vae_tf.engine import course, run_folder
from vae_tf.engine.distributions import Normal
from vae_tf.engine.pixels_in_turn import BEFORE, BEFORE_OR_SAME, PixelsInTurn

HEIGHT, WIDTH = SHAPE = (2, 3)
ALL_IMAGES = np.array(list(itertools.product([0, 1], repeat=6))).reshape(-1, *SHAPE)  # [64, 2, 3]


def small(**kwargs):
    """Returns a tiny PixelVAE whose weights are random, so that nothing is nearly symmetric."""
    sizes = {"features": 4, "layers": 3, "context": 2, "code_units": 3, "components": 3}
    vae = vae_tf.PixelVAE(
        **sizes | {"latent_dim": 2, "hidden_units": 5, "image_shape": SHAPE, "seed": 1} | kwargs
    )
    rng = np.random.default_rng(7)
    vae.set_weights([0.7 * rng.normal(size=weight.shape) for weight in vae.get_weights()])
    return vae


def some_latents(count, dim=2):
    return np.random.default_rng(3).normal(size=(count, dim)).astype(np.float32)


def logit_of_pixel(vae, context, image, y, x):
    """Returns the logit of one pixel, by loops over what it may see: in NumPy, float64.

    Args:
        context: what the decoder says of this code, [height, width, C].
        image: [height, width], 0 or 1.
    """
    kernels, biases = ([np.asarray(each, float) for each in of] for of in (vae.kernels, vae.biases))
    height, width = image.shape
    hidden = len(kernels) - 1

    def features(number, y, x):  # of one pixel, from layer `number`
        if not (0 <= y < height and 0 <= x < width):
            return np.zeros(1 if number < 0 else kernels[number].shape[1])
        if number < 0:
            return np.array([2.0 * image[y, x] - 1])
        offsets = BEFORE if number == 0 else BEFORE_OR_SAME
        seen = [features(number - 1, y + down, x + right) for down, right in offsets]
        inputs = np.concatenate([*seen, context[y, x]])
        outputs = np.tanh(inputs @ kernels[number] + biases[number])
        return outputs + (features(number - 1, y, x) if number else 0)

    last = np.concatenate([features(hidden - 1, y, x), context[y, x]])
    return (last @ kernels[-1] + biases[-1])[0]


def test_places_come_before():
    assert [len(BEFORE), len(BEFORE_OR_SAME)] == [24, 5]
    assert all(down < 0 or (down == 0 and right < 0) for down, right in BEFORE)
    assert BEFORE_OR_SAME[-1] == (0, 0)
    assert all(down < 0 or (down == 0 and right < 0) for down, right in BEFORE_OR_SAME[:-1])


@pytest.mark.parametrize("shape", [(2, 3), (5, 4), (1, 6), (6, 1)])
def test_log_prob_is_that_of_a_loop_over_pixels(shape):
    vae, latents = small(image_shape=shape, layers=2), some_latents(3)
    images = np.random.default_rng(0).integers(0, 2, (3, *shape))
    likelihood, contexts = vae.likelihood(latents), np.asarray(vae.decode(latents), float)
    each = np.zeros(images.shape)
    for n, y, x in np.ndindex(*images.shape):
        logit = logit_of_pixel(vae, contexts[n], images[n], y, x)
        each[n, y, x] = scipy.special.log_expit(logit if images[n, y, x] else -logit)
    upper = likelihood.upper(1).log_prob(images[:, :1])
    np.testing.assert_allclose(upper, each[:, :1].sum(axis=(1, 2)), atol=1e-5)
    np.testing.assert_allclose(likelihood.log_prob(images), each.sum(axis=(1, 2)), atol=1e-5)


def test_probabilities_sum_to_one():
    likelihood = small().likelihood(some_latents(4)[:, None])
    assert [*likelihood.batch_shape, *likelihood.event_shape] == [4, 1, *SHAPE]
    np.testing.assert_allclose(tf.reduce_sum(likelihood.prob(ALL_IMAGES), axis=1), 1, atol=1e-5)


def test_no_pixel_sees_itself_or_a_later_one():
    vae = small(image_shape=(6, 5))
    context = vae.decode(some_latents(1))
    images = tf.Variable(np.random.default_rng(1).random((1, 6, 5)), dtype=tf.float32)
    with tf.GradientTape() as tape:
        _, logits = PixelsInTurn(context, list(zip(vae.kernels, vae.biases, strict=True)))._logits(
            images
        )
    jacobian = np.reshape(tape.jacobian(logits, images), (30, 30))  # [logit, pixel]
    assert (np.triu(jacobian) == 0).all()
    seen = np.tril(np.ones((30, 30)), -1).astype(bool)
    rows, columns = np.divmod(np.arange(30), 5)
    near = (rows[:, None] - rows <= 3) & (np.abs(columns[:, None] - columns) <= 3)
    assert (jacobian[seen & near] != 0).all()  # and each sees all that are before and near


def test_draws_are_as_frequent_as_they_are_probable():
    likelihood = small().likelihood(some_latents(1)[0])
    draws = np.asarray(likelihood.sample(20_000, seed=[0, 1])).reshape(-1, 6)
    assert draws.dtype == np.uint8
    counts = np.bincount(draws @ 2 ** np.arange(5, -1, -1), minlength=64)
    probable = np.asarray(likelihood.prob(ALL_IMAGES), float)
    probable /= probable.sum()
    assert scipy.stats.chisquare(counts, 20_000 * probable).pvalue > 1e-3
    mean = np.einsum("n,nhw->hw", probable, ALL_IMAGES)
    many = small().likelihood(tf.repeat(some_latents(1), 2_000, axis=0)).mean()  # of 64,000 draws
    np.testing.assert_allclose(np.mean(many, axis=0), mean, atol=4 * 0.5 / np.sqrt(64_000))
    another = np.asarray(likelihood.sample(20_000, seed=[0, 2])).reshape(-1, 6)
    assert (another != draws).any()


def test_draws_follow_their_noise_pixel_by_pixel():
    vae, seed = small(image_shape=(4, 5)), [5, 6]
    latents = some_latents(7)
    noise = tf.random.stateless_uniform([1, 7, 4, 5], seed)[0].numpy()
    contexts = np.asarray(vae.decode(latents), float)
    expected = np.zeros((7, 4, 5), int)
    for n, y, x in np.ndindex(*expected.shape):
        logit = logit_of_pixel(vae, contexts[n], expected[n], y, x)
        expected[n, y, x] = noise[n, y, x] < scipy.special.expit(logit)
    np.testing.assert_array_equal(vae.likelihood(latents).sample(seed=seed), expected)


def test_chunks_do_not_matter(monkeypatch):
    vae, latents = small(), some_latents(10)
    whole = vae.likelihood(latents).sample(seed=[1, 2]).numpy()
    monkeypatch.setattr("vae_tf.engine.pixels_in_turn.IMAGES_PER_CHUNK", 4)
    np.testing.assert_array_equal(vae.likelihood(latents).sample(seed=[1, 2]), whole)


def test_what_is_given_stays_and_the_rest_is_drawn_given_it():
    likelihood = small().likelihood(tf.repeat(some_latents(1), 20_000, axis=0))
    is_given = np.array([[True, True, True], [False, False, False]])
    image = np.array([[1, 0, 1], [1, 1, 1]])  # of which the last row is not looked at
    found = likelihood.complete(np.tile(image, (20_000, 1, 1)), is_given, [3, 4]).numpy()
    assert (found[:, 0] == image[0]).all()
    joint = np.asarray(small().likelihood(some_latents(1)[0]).prob(ALL_IMAGES), float)
    fits = (ALL_IMAGES[:, 0] == image[0]).all(axis=1)
    counts = np.bincount(found[:, 1] @ [4, 2, 1], minlength=8)
    assert scipy.stats.chisquare(counts, 20_000 * joint[fits] / joint[fits].sum()).pvalue > 1e-3


def test_bound_against_enumeration_and_integration():
    vae = small()
    points = np.linspace(-9, 9, 91)
    grid = np.stack(np.meshgrid(points, points), axis=-1).reshape(-1, 1, 2).astype(np.float32)
    weights = np.exp(vae.prior().log_prob(grid[:, 0])) * (points[1] - points[0]) ** 2
    logits, loc, log_scale = (
        np.asarray(each, float) for each in (vae.prior_logits, vae.prior_loc, vae.prior_log_scale)
    )
    density = sum(
        share * scipy.stats.multivariate_normal(m, np.diag(s**2)).pdf(grid[:, 0])
        for share, m, s in zip(scipy.special.softmax(logits), loc, np.exp(log_scale), strict=True)
    )
    np.testing.assert_allclose(weights, density * (points[1] - points[0]) ** 2, rtol=1e-3)
    joint = np.concatenate(
        [np.asarray(vae.likelihood(part).prob(ALL_IMAGES)) for part in np.array_split(grid, 10)]
    )  # [G, 64]
    marginal = weights @ joint
    np.testing.assert_allclose(marginal.sum(), 1, atol=1e-3)
    own = vae_tf.evaluate(vae, ALL_IMAGES, num_samples=1_000)
    assert (own.elbo < own.marginal_log_likelihood).all()
    assert (own.marginal_log_likelihood < np.log(marginal) + 0.05).all()

    def wide(images):  # reaches all that the prior does, where a random encoder's posterior fails
        zeros = tf.zeros([images.shape[0], 2])
        return tfd.Independent(Normal(zeros, zeros + 2.5), 1)

    found = vae_tf.evaluate(vae, ALL_IMAGES, num_samples=20_000, posterior=wide)
    np.testing.assert_allclose(found.marginal_log_likelihood, np.log(marginal), atol=0.06)


def test_gradients_are_those_of_finite_differences():
    vae = small()
    images, seed = ALL_IMAGES[::7], [1, 2]

    def loss():
        return float(tf.reduce_sum(vae.loss_per_image(images, seed, 1.0)[0]))

    with tf.GradientTape() as tape:
        value = tf.reduce_sum(vae.loss_per_image(images, seed, 1.0)[0])
    weights = [vae.kernels[1], vae.biases[0], vae.prior_loc, vae.prior_logits, vae.prior_log_scale]
    for weight, gradient in zip(weights, tape.gradient(value, weights), strict=True):
        direction = np.random.default_rng(0).normal(size=weight.shape).astype(np.float32)
        before, step = weight.numpy(), 1e-2
        sides = []
        for sign in (1, -1):
            weight.assign(before + sign * step * direction)
            sides.append(loss())
        weight.assign(before)
        slope = (sides[0] - sides[1]) / (2 * step)
        assert slope == pytest.approx(float(np.sum(gradient * direction)), rel=0.02, abs=0.02)


@pytest.fixture(scope="module")
def stripes():
    """Images of two kinds, whose pixels depend on each other."""
    rng = np.random.default_rng(0)
    phases, slopes = rng.integers(0, 4, (2, 400, 1, 1))
    y, x = np.mgrid[:6, :6]
    return vae_tf.from_arrays(((x + y * (slopes % 2) + phases) % 4 < 2).astype(int), name="stripes")


@pytest.fixture
def recipe():
    return vae_tf.Recipe(updates=60, batch_size=20, learning_rate=1e-2, evaluate_every=20)


def new(**kwargs):
    sizes = {"features": 6, "layers": 2, "context": 2, "code_units": 5, "components": 4}
    return vae_tf.PixelVAE(**sizes | {"latent_dim": 2, "image_shape": (6, 6), "seed": 2} | kwargs)


def elbo(vae, images):
    return np.mean(vae.elbo_terms(images, [0, 1], num_samples=20).elbo)


@pytest.mark.slow
def test_training_in_blocks_is_kerass_own_and_learns(stripes):
    """Keras's own path runs step by step here, so that one of the two is compiled."""
    found, images = [], stripes.train.images[:50]
    for options in ({"jit_compile": True}, {"run_eagerly": True}):
        vae = new()
        vae.compile(keras.optimizers.Adam(1e-2), **options)
        vae.fit(images, batch_size=20, epochs=5, verbose=0)
        found.append(vae.get_weights())
    for ours, own, initial in zip(*found, new().get_weights(), strict=True):
        np.testing.assert_allclose(ours, own, atol=2e-4)
        assert np.abs(ours - initial).max() > 2e-3  # the prior's as well
    assert elbo(vae, images) > elbo(new(), images) + 2


@pytest.mark.slow  # `test_resume.py` has other models resume
def test_training_learns_and_resumes(stripes, recipe, tmp_path, monkeypatch):
    write = run_folder.RunFolder.write

    def write_and_keep(folder, arrays):
        write(folder, arrays)
        if len(arrays["log_likelihood"]) == 20:  # what a run that is stopped here leaves
            shutil.copytree(folder.directory, tmp_path / "stopped")

    monkeypatch.setattr(course, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(run_folder.RunFolder, "write", write_and_keep)
    whole, _ = vae_tf.train(stripes, recipe, new(), verbose=0, directory=tmp_path / "whole")
    monkeypatch.setattr(run_folder.RunFolder, "write", write)
    images = stripes.validation.images
    assert elbo(whole, images) > elbo(new(), images) + 5
    assert all(
        (a != b).any() for a, b in zip(new().get_weights(), whole.get_weights(), strict=True)
    )
    resumed, _ = vae_tf.train(stripes, recipe, new(), verbose=0, directory=tmp_path / "stopped")
    for ours, theirs in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_saved_models_are_the_same(tmp_path):
    vae = small()
    vae.save(tmp_path / "pixel.keras")
    loaded = vae_tf.load_model(tmp_path / "pixel.keras")
    assert type(loaded) is vae_tf.PixelVAE
    assert loaded.get_config() == vae.get_config()
    np.testing.assert_array_equal(loaded.sample(20, seed=3), vae.sample(20, seed=3))
    images = ALL_IMAGES[:5]
    np.testing.assert_array_equal(
        loaded.reconstruct(images, mean=True), vae.reconstruct(images, mean=True)
    )
    np.testing.assert_allclose(vae.predict(images, verbose=0), vae(images), atol=1e-6)


def test_equal_seeds_give_equal_weights():
    pairs = zip(new().get_weights(), new().get_weights(), strict=True)
    assert all((a == b).all() for a, b in pairs)
    other = new(seed=3)
    assert (np.asarray(other.kernels[0]) != np.asarray(new().kernels[0])).any()
    assert (np.asarray(other.prior_loc) != np.asarray(new().prior_loc)).any()


def whole(policy):
    return pytest.param(policy, True, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("policy", "is_compiled"),
    [("mixed_float16", False), *map(whole, ["float64", "mixed_float16", "mixed_bfloat16"])],
)
def test_other_policies_train_draw_and_bound(policy, is_compiled, stripes):
    vae, images = new(dtype=policy), stripes.train.images
    vae.compile(keras.optimizers.Adam(1e-3), run_eagerly=not is_compiled)
    before = vae.get_weights()
    vae.fit(images if is_compiled else images[:60], batch_size=20, verbose=0)
    assert all((a != b).any() for a, b in zip(before, vae.get_weights(), strict=True))
    assert vae.sample(5).dtype == np.uint8
    assert vae.sample(5, mean=True).dtype == vae.float_type
    plain = new()
    plain.set_weights(vae.get_weights())
    found = elbo(vae, images[:50])
    assert found == pytest.approx(elbo(plain, images[:50]), rel=0.02)
    if is_compiled:
        bounds = [vae_tf.evaluate(each, images[:50], num_samples=20).elbo for each in (vae, plain)]
        np.testing.assert_allclose(*bounds, rtol=0.02)


def test_default_size():
    assert vae_tf.PixelVAE().count_params() <= 130_000


@pytest.mark.parametrize("name", ["features", "layers", "context", "code_units", "components"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "3", None, True])
def test_bad_sizes_are_named(name, value):
    with pytest.raises((TypeError, ValueError), match=name):
        vae_tf.PixelVAE(**{name: value})


def test_grey_images_are_refused():
    with pytest.raises(ValueError, match="0 and 1"):
        vae_tf.evaluate(small(), np.full((3, *SHAPE), 0.5))


def test_mixture_prior_alone(stripes):
    vae = vae_tf.MixtureVAE(components=4, latent_dim=2, image_shape=(6, 6), seed=1)
    prior = vae.prior()
    assert [*prior.batch_shape, *prior.event_shape] == [2]
    vae.compile()
    before = vae.get_weights()
    vae.train_step(stripes.train.images)
    assert all((a != b).any() for a, b in zip(before, vae.get_weights(), strict=True))
    terms = vae.elbo_terms(stripes.validation.images, [0, 0], num_samples=10)
    assert terms.kl.shape == (len(stripes.validation.images),)
    assert np.isfinite(terms.elbo).all()


@pytest.mark.slow
def test_mixture_prior_alone_is_trained_by_a_recipe(stripes, recipe):
    vae = vae_tf.MixtureVAE(components=4, latent_dim=2, image_shape=(6, 6), seed=1)
    images = stripes.validation.images
    before = elbo(vae, images)
    vae, _ = vae_tf.train(stripes, recipe, vae, verbose=0)
    found = vae_tf.evaluate(vae, images, num_samples=20)
    assert found.kl.shape == (len(images),)
    assert found.elbo.mean() > before + 5
