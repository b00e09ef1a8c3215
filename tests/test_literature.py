"""Grey levels that training draws from, the importance-weighted objective, and their recipe."""

import functools
import math

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from tensorflow_probability import distributions as tfd

import vae_tf
from vae_tf import VAE, Recipe, pretrained
from vae_tf.engine import noise
from vae_tf.engine.course import Course

SHAPE = (5, 6)


@pytest.fixture(scope="module")
def levels():
    """90 images of grey levels; some are 0 or 1, as most of MNIST's are."""
    rng = np.random.default_rng(0)
    return np.clip(rng.random([90, *SHAPE]) * 1.6 - 0.3, 0, 1).astype(np.float32)


@functools.cache
def drawing(**kwargs):
    """`draw_pixels`, traced once for each shape."""
    return tf.function(noise.draw_pixels, **kwargs)


def drawn(levels, seed, **kwargs):
    return drawing(**kwargs)(tf.constant(levels), tf.constant(seed, tf.int32)).numpy()


# Pixels drawn from grey levels.


def test_pixels_are_drawn_as_often_as_their_levels_say(levels):
    draws = np.stack([drawn(levels, [4, t]) for t in range(400)])  # [T, N, height, width]
    assert set(np.unique(draws)) == {0, 1}
    counts = scipy.stats.binomtest  # exact, for each pixel of some images
    pvalues = [
        counts(int(draws[:, n, i, j].sum()), 400, float(levels[n, i, j])).pvalue
        for n in range(20)
        for i in range(SHAPE[0])
        for j in range(SHAPE[1])
        if 0 < levels[n, i, j] < 1
    ]
    assert min(pvalues) > 1e-3 / len(pvalues)
    sure = (levels == 0) | (levels == 1)
    assert (draws[:, sure] == levels[sure]).all()
    residuals = draws - levels
    between = {
        "pixels": residuals[..., 1:] * residuals[..., :-1],
        "images": residuals[:, 1:] * residuals[:, :-1],
        "updates": residuals[1:] * residuals[:-1],
    }
    for name, products in between.items():
        assert abs(products.mean() / (products.std() / math.sqrt(products.size))) < 4, name


def test_draws_depend_on_seed_update_and_place_alone(levels):
    draws = drawn(levels, [1, 2])
    np.testing.assert_array_equal(draws, drawn(levels, [1, 2], jit_compile=True))
    np.testing.assert_array_equal(draws[:7], drawn(levels[:7], [1, 2]))
    for other in ([1, 3], [2, 2]):
        assert 0.1 < np.mean(drawn(levels, other) != draws) < 0.5
    same = np.broadcast_to(levels[:1], levels.shape)  # one image, at every place of the batch
    assert (drawn(same, [1, 2])[1:] != drawn(same, [1, 2])[0]).any(axis=(1, 2)).all()


def test_pixels_noise_is_not_that_of_the_codes():
    """Both come from one key; the words that they are made of differ."""
    key = tf.constant([5, 9], tf.uint32)
    rows = tf.range(50, dtype=tf.int32)
    uniforms = scipy.stats.norm.cdf(noise.normals(key, rows, tf.range(1), 30)[0])  # [50, 30]
    cuts = np.linspace(0, 1, 17)[1:-1]  # the first four bits of each pixel's noise
    pixels = sum(drawn(np.full([50, *SHAPE], cut, np.float32), [5, 9]) for cut in cuts)
    pixels = pixels.reshape(50, 30) / 15
    for shift in range(30):
        found = scipy.stats.pearsonr(uniforms.ravel(), np.roll(pixels, shift, axis=1).ravel())
        assert found.pvalue > 1e-4


def model(**kwargs):
    return VAE(3, 8, SHAPE, **{"dynamic_binarization": True, "seed": 2} | kwargs)


def fitted(vae, images, epochs=3, **kwargs):
    vae.compile(keras.optimizers.SGD(0.02), **kwargs)
    vae.fit(images, batch_size=16, epochs=epochs, verbose=0)
    return vae.get_weights()


def test_binary_images_train_as_without_drawing(levels):
    images = (levels[:40] > 0.5).astype(np.uint8)
    plain, drawn_anew = (  # step by step, which compiles nothing
        fitted(model(dynamic_binarization=is_on), images, 1, run_eagerly=True)
        for is_on in (False, True)
    )
    for ours, theirs, initial in zip(drawn_anew, plain, model().get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
        assert (ours != initial).any()


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_blocks_draw_what_keras_own_path_draws(levels, objective):
    """Pixels of every update, in a short last batch too; and the noise of tests."""
    models = [model(objective=objective, num_samples=2) for _ in range(2)]
    weights = [
        fitted(vae, levels, 2, run_eagerly=is_eager)  # Keras's own, step by step
        for vae, is_eager in zip(models, (False, True), strict=True)
    ]
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-6)
    losses = [loss_of(vae, levels) for vae in models]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] == loss_of(models[0], levels)  # the same draws again


def loss_of(vae, levels):
    return vae.evaluate(levels, batch_size=16, verbose=0)[0]


def test_an_update_sees_the_pixels_that_its_seed_draws(levels):
    """Each loss is that of the images that `draw_pixels` makes of seed and update."""
    seen = []

    class Watching(VAE):
        def loss_per_image(self, images, seed, kl_weight):
            seen.append((images.numpy(), seed.numpy()))
            return super().loss_per_image(images, seed, kl_weight)

    vae = Watching(3, 8, SHAPE, dynamic_binarization=True, seed=2)
    vae.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    vae.fit(levels[:32], batch_size=16, epochs=2, verbose=0, shuffle=False)
    assert [seed.tolist() for _, seed in seen] == [[2, 0], [2, 1], [2, 2], [2, 3]]
    for place, (images, seed) in enumerate(seen):
        expected = drawn(levels[16 * (place % 2) :][:16], seed)
        np.testing.assert_array_equal(images, expected)
    assert (seen[0][0] != seen[2][0]).any()  # the same digits, drawn anew


@pytest.mark.slow
def test_training_by_a_recipe_evaluates_drawn_digits(levels):
    rng = np.random.default_rng(1)
    splits = [vae_tf.data.Split(levels)]
    splits += [vae_tf.data.Split((rng.random(levels.shape) < levels).astype(np.uint8))] * 2
    data = vae_tf.data.Dataset(*splits, "arrays", "grey", "dynamic")
    recipe = Recipe(updates=20, batch_size=16, evaluate_every=5)
    vae = model()
    recipe.compile(vae)
    course = Course(vae, [levels, splits[1].images], 20, None)
    assert set(np.unique(course.sets[0])) == {0, 1}  # not the levels
    np.testing.assert_array_equal(course.sets[1], splits[1].images)
    vae, history = vae_tf.train(data, recipe, seed=1, verbose=0)
    assert vae.dynamic_binarization
    ends = history.training, history.validation  # of a model that has learned next to nothing
    finals = [end["log_likelihood"][-1] for end in ends]
    assert abs(finals[0] - finals[1]) < 3
    with pytest.raises(ValueError, match=r"only 0 and 1; .*dynamic_binarization=True"):
        vae_tf.train(data, recipe, VAE(image_shape=SHAPE), verbose=0)
    given = VAE(image_shape=SHAPE, dynamic_binarization=True, seed=1)  # what `train` made above
    again, _ = vae_tf.train(data, recipe, given, verbose=0)
    for ours, theirs in zip(again.get_weights(), vae.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("value", [-0.1, 1.5, 255.0, np.nan])
def test_levels_outside_0_to_1_are_refused(levels, value):
    wrong = levels.copy()
    wrong[3, 2, 1] = value
    vae = model()
    vae.compile()
    with pytest.raises(ValueError, match=r"grey levels in \[0, 1\].*received float32"):
        vae.fit(wrong, verbose=0)
    with pytest.raises(ValueError, match="grey levels"):
        vae.evaluate(wrong, verbose=0)
    with pytest.raises(ValueError, match="only 0 and 1"):
        vae_tf.evaluate(vae, levels)  # bounds are of images, not of levels


def test_both_are_saved_with_the_model(levels, tmp_path):
    vae = model(objective="iwae", num_samples=3)
    vae.save(tmp_path / "vae.keras")
    loaded = vae_tf.load_model(tmp_path / "vae.keras")
    assert (loaded.objective, loaded.dynamic_binarization) == ("iwae", True)
    older = {name: value for name, value in vae.get_config().items()}
    del older["objective"], older["dynamic_binarization"]
    assert VAE.from_config(older | {"format": 2}).objective == "elbo"


# The importance-weighted objective.


def weighted_loss(vae, images, latents, log_posterior, kl_weight=1.0):
    """The oracle, in NumPy and SciPy: −log mean w, [B], of given draws [K, B, L]."""
    logits = vae.decode(latents).numpy().astype(np.float64)
    log_likelihood = (logits * images - np.logaddexp(0, logits)).sum(axis=(-2, -1))  # [K, B]
    log_prior = scipy.stats.norm.logpdf(latents).sum(axis=-1)
    log_weights = log_likelihood - kl_weight * (log_posterior - log_prior)
    return math.log(len(latents)) - scipy.special.logsumexp(log_weights, axis=0)


@pytest.mark.parametrize("kl_weight", [1.0, 0.3])
def test_iwae_loss_is_what_scipy_makes_of_the_same_draws(levels, kl_weight):
    images, seed = (levels[:9] > 0.5).astype(np.uint8), [3, 7]
    vae = model(objective="iwae", num_samples=6)
    losses, terms = vae.loss_per_image(images, seed, kl_weight)
    posterior = vae.posterior(images)
    latents = posterior.sample(6, seed=seed).numpy()
    normal = scipy.stats.norm(posterior.mean(), posterior.stddev())
    expected = weighted_loss(vae, images, latents, normal.logpdf(latents).sum(-1), kl_weight)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    elbo = vae.elbo_terms(images, seed, 6)
    np.testing.assert_allclose(terms.log_likelihood, elbo.log_likelihood, rtol=1e-5)
    np.testing.assert_allclose(terms.kl, elbo.kl, rtol=1e-5)
    _, log_likelihood, log_ratio = vae.weigh(posterior, images, 6, seed)
    log_weights = (log_likelihood - kl_weight * log_ratio).numpy()  # [6, 9]
    assert (-losses.numpy() > log_weights.mean(axis=0)).all()  # Jensen, for the same draws


def test_iwae_gradient_is_the_finite_difference(levels):
    images, seed = (levels[:9] > 0.5).astype(np.uint8), [3, 7]
    vae = model(objective="iwae", num_samples=5, dtype="float64")

    def loss():
        return tf.reduce_mean(vae.loss_per_image(images, seed, 1.0)[0])

    with tf.GradientTape() as tape:
        value = loss()
    gradients = tape.gradient(value, vae.trainable_variables)
    rng = np.random.default_rng(0)
    for weight, gradient in zip(vae.trainable_variables, gradients, strict=True):
        start, direction = weight.numpy(), rng.standard_normal(weight.shape)
        step, values = 1e-4, []
        for sign in (1, -1):
            weight.assign(start + sign * step * direction)
            values.append(float(loss()))
        weight.assign(start)
        slope = (values[0] - values[1]) / (2 * step)
        # The noise itself is float32, but fixed; 1e-4 is what the difference's curvature leaves.
        assert slope == pytest.approx(np.sum(gradient.numpy() * direction), rel=1e-3, abs=1e-4)


class Linear(VAE):
    """x = W z + b + 0.5 ε, whose log p(x) and true posterior are known, W's columns orthogonal."""

    def make_encoder(self):
        inputs = keras.Input(self.image_shape)
        flat = keras.layers.Flatten()(inputs)
        return keras.Model(inputs, keras.layers.Dense(2 * self.latent_dim, name="out")(flat))

    def make_decoder(self):
        return keras.Sequential(
            [
                keras.Input([self.latent_dim]),
                keras.layers.Dense(math.prod(self.image_shape)),
                keras.layers.Reshape(self.image_shape),
            ]
        )

    def likelihood(self, latents):
        return tfd.Independent(tfd.Normal(self.decode(latents), 0.5), 2)


@pytest.fixture
def linear():
    """A `Linear` model whose posterior is the true one; with W [30, 2] and b [30]."""
    rng = np.random.default_rng(0)
    columns = np.linalg.qr(rng.standard_normal([30, 2]))[0] * [2.0, 1.0]
    offset = rng.standard_normal(30)
    vae = Linear(2, image_shape=SHAPE, objective="iwae", num_samples=4)
    precision = 1 + (columns**2).sum(axis=0) / 0.25  # of the true posterior
    to_mean = columns / 0.25 / precision  # [30, 2]
    scale = precision**-0.5
    kernel = np.concatenate([to_mean, np.zeros([30, 2])], axis=1)
    bias = np.concatenate([-offset @ to_mean, np.log(np.expm1(scale))])
    vae.encoder.set_weights([kernel, bias])
    vae.decoder.set_weights([columns.T, offset])
    return vae, columns, offset


def exact(images, columns, offset):
    """The oracle: log N(x; b, W Wᵀ + 0.25 I), [N]."""
    covariance = columns @ columns.T + 0.25 * np.eye(30)
    return scipy.stats.multivariate_normal(offset, covariance).logpdf(images.reshape(-1, 30))


def test_under_the_true_posterior_the_iwae_objective_is_log_p_of_x(linear):
    vae, columns, offset = linear
    images = np.random.default_rng(1).standard_normal([6, *SHAPE]).astype(np.float32)
    for num_samples in (1, 4, 50):
        vae.num_samples = num_samples
        losses, _ = vae.loss_per_image(images, [0, 1], 1.0)
        np.testing.assert_allclose(-losses, exact(images, columns, offset), rtol=2e-5)


def test_its_gradient_is_that_of_the_exact_log_likelihood(linear):
    vae, columns, offset = linear
    images = np.random.default_rng(1).standard_normal([6, *SHAPE]).astype(np.float32)
    vae.num_samples = 20_000  # the decoder's gradient is a mean over the draws
    kernel, bias = vae.decoder.trainable_variables
    with tf.GradientTape() as tape:
        bound = -tf.reduce_mean(vae.loss_per_image(images, [0, 1], 1.0)[0])
    gradients = tape.gradient(bound, [kernel, bias])

    def slope(change_columns, change_offset, step=1e-5):
        values = [
            exact(images, columns + s * change_columns, offset + s * change_offset).mean()
            for s in (step, -step)
        ]
        return (values[0] - values[1]) / (2 * step)

    none = np.zeros_like(columns)
    for place in range(0, 30, 5):
        unit = np.eye(30)[place]
        assert float(gradients[1][place]) == pytest.approx(slope(none, unit), abs=0.05)
        for column in range(2):
            change = np.outer(unit, np.eye(2)[column])
            expected = slope(change, np.zeros(30))
            assert float(gradients[0][column, place]) == pytest.approx(expected, abs=0.05)


def test_a_misspelled_objective_trains_nothing(levels):
    vae = model()
    vae.compile()
    vae.objective = "IWAE"
    with pytest.raises(ValueError, match="objective must be"):
        vae.fit(levels, verbose=0)


@pytest.mark.parametrize("name", ["literature", "literature_iwae"])
def test_the_weights_that_ship_followed_the_recipe(name):
    recipe, facts = Recipe.literature(), pretrained.how_trained(name)
    assert recipe.num_samples is None  # the model's own: 1, or IWAE's 5
    assert recipe.images_per_class is None
    assert (facts["batch_size"], facts["learning_rate"]) == (
        recipe.batch_size,
        recipe.learning_rate,
    )
    assert facts["updates"] == recipe.updates
