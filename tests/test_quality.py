"""All measures of samples at once, the second judge, and completions, against other ways."""

import numpy as np
import pytest
import scipy.special
from sklearn.ensemble import ExtraTreesClassifier
from test_pixel_vae import ALL_IMAGES, SHAPE, small

import vae_tf
from vae_tf.analysis import classifier, completion, quality, samples


@pytest.fixture(scope="module")
def real_digits():
    return vae_tf.load_mnist("sample")


@pytest.fixture(scope="module")
def sets(real_digits):
    images = real_digits.train.images
    return images[:300], images[300:600], images[600:1_600]


def test_measures_are_those_of_their_own_functions(sets):
    drawn, real, train = sets
    drawn = np.where(np.random.default_rng(0).random(drawn.shape) < 0.03, 1 - drawn, drawn)
    found = quality.measure(drawn, real, train, repeats=4)
    judge = classifier.load_classifier()
    reading, among = judge(drawn), judge(real)
    top = reading.probabilities[:, :10].max(axis=1)
    assert found["confident_percent"].mean == pytest.approx(100 * np.mean(top > 0.9))
    none = 100 * np.mean(reading.probabilities[:, 10] > top)
    assert found["no_digit_percent"].mean == pytest.approx(none)
    apart = [[np.sum(a != b) for b in train] for a in drawn[:20]]
    assert (samples.nearest(drawn[:20], train)[0] == np.min(apart, axis=1)).all()
    copies = 100 * np.mean([(train == image).all(axis=(1, 2)).any() for image in drawn])
    assert found["copies_percent"].mean == pytest.approx(copies)
    halves = samples.repeated(samples.frechet_distance, among.features, reading.features, repeats=4)
    assert found["frechet"].mean == pytest.approx(halves.mean())
    assert found["frechet"].standard_error == pytest.approx(halves.std(ddof=1))
    assert set(found) == set(quality.measure(None, real, train, repeats=4))


def test_real_digits_are_the_floor_and_noise_is_found_out(sets):
    _, real, train = sets
    floor = quality.measure(None, real, train, repeats=4)
    noise = np.random.default_rng(1).random(real.shape) < real.mean(axis=0)
    worse = quality.measure(noise.astype(np.uint8), real, train, repeats=4)
    assert worse["confident_percent"].mean < floor["confident_percent"].mean - 50
    assert worse["frechet"].mean > 3 * floor["frechet"].mean
    assert worse["precision"].mean < floor["precision"].mean


def test_the_forest_is_scikit_learns_and_its_threshold_nine_in_tens(real_digits):
    train, validation = real_digits.train.balanced(30), real_digits.validation.balanced(20)
    forest = quality.fit_forest(train, validation, trees=20, seed=3)
    rows = validation.images.reshape(len(validation), -1)
    own = ExtraTreesClassifier(20, random_state=3).fit(
        train.images.reshape(len(train), -1), train.labels
    )
    votes = own.predict_proba(rows).max(axis=1)
    np.testing.assert_allclose(forest.confidence(validation.images), votes)
    share = forest.recognised_percent(validation.images)
    assert share.mean == pytest.approx(100 * np.mean(votes >= forest.threshold))
    assert 88 <= share.mean <= 97  # votes are in twentieths, so that many are equal


def grid():
    points = np.linspace(-7, 7, 61)
    return np.stack(np.meshgrid(points, points), axis=-1).reshape(-1, 1, 2).astype(np.float32)


@pytest.mark.parametrize("kind", ["pixels in turn", "pixels apart"])
@pytest.mark.slow
def test_completions_are_draws_given_what_is_given(kind, monkeypatch):
    monkeypatch.setattr(completion, "CODES_PER_CHUNK", 500)  # the images are small
    if kind == "pixels in turn":
        vae = small()
    else:
        vae = vae_tf.VAE(latent_dim=2, hidden_units=5, image_shape=SHAPE)
        rng = np.random.default_rng(2)
        vae.set_weights([2 * rng.normal(size=weight.shape) for weight in vae.get_weights()])
    latents = grid()
    weights = scipy.special.softmax(np.asarray(vae.prior().log_prob(latents[:, 0]), float))
    joint = weights @ np.asarray(vae.likelihood(latents).prob(ALL_IMAGES), float)  # p(x), [64]
    image = ALL_IMAGES[np.argmax(joint)]
    fits = (ALL_IMAGES[:, 0] == image[0]).all(axis=1)
    expected = joint[fits] / joint[fits].sum()  # of the lower row, in the order of binary numbers
    counts = np.zeros(8)
    for seed in range(20):  # codes are shared within a call
        found = completion.complete(vae, np.tile(image, (100, 1, 1)), 1, 500, seed)
        assert (found.images[:, 0] == image[0]).all()
        assert ((found.effective >= 1) & (found.effective <= 500)).all()
        counts += np.bincount(found.images[:, 1] @ [4, 2, 1], minlength=8)
    shares, error = counts / counts.sum(), np.sqrt(expected * (1 - expected) / counts.sum())
    assert (np.abs(shares - expected) < 4 * error + 0.02).all()


def test_chunks_of_codes_and_images_do_not_matter(monkeypatch):
    whole = completion.complete(small(), ALL_IMAGES, 1, num_codes=60, seed=2)
    monkeypatch.setattr(completion, "CODES_PER_CHUNK", 7)
    monkeypatch.setattr(completion, "IMAGES_PER_CHUNK", 9)
    parts = completion.complete(small(), ALL_IMAGES, 1, num_codes=60, seed=2)
    np.testing.assert_array_equal(parts.images, whole.images)
    np.testing.assert_allclose(parts.effective, whole.effective, rtol=1e-4)


def test_bad_completions_are_named():
    vae, images = small(), ALL_IMAGES[:3]
    for arguments, word in (
        ({"rows": 0}, "rows"),
        ({"rows": 2}, "rows"),
        ({"rows": 1, "num_codes": 0}, "num_codes"),
        ({"rows": 1, "seed": -1}, "seed"),
    ):
        with pytest.raises(ValueError, match=word):
            completion.complete(vae, images, **arguments)
    with pytest.raises(ValueError, match="images must be"):
        completion.complete(vae, images[:, :1], 1)
