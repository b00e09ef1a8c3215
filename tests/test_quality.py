"""Each measure of sample quality against an independent way to compute it."""

import os

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial.distance
import scipy.stats

import vae_tf
from vae_tf.analysis import classifier, samples
from vae_tf.pretrained import FOLDER, how_trained

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(60, 5))
OTHERS = 1.3 * RNG.normal(size=(50, 5)) @ RNG.normal(size=(5, 5)) + 0.5
PROBABILITIES = RNG.dirichlet(np.full(10, 0.2), 200)
LABELS = np.array([RNG.choice(10, p=row) for row in PROBABILITIES])
FACTS = how_trained("classifier")


@pytest.fixture(scope="module")
def classifier():
    return quality.load_classifier()


@pytest.fixture(scope="module")
def sample():
    return vae_tf.load_mnist("sample")


def test_classifier_reads_images(classifier, images):
    reading = classifier(images)
    assert reading.features.shape == (64, 216)
    assert reading.logits.shape == (64, 11)
    expected = scipy.special.softmax(reading.logits / FACTS["temperature"], axis=1)
    np.testing.assert_allclose(reading.probabilities, expected, rtol=1e-5, atol=1e-30)
    np.testing.assert_array_equal(reading.classes, reading.logits[:, :10].argmax(axis=1))
    assert "36,219 weights" in repr(classifier)


def test_logits_are_a_layer_above_the_features(classifier, images):
    reading = classifier(images)
    kernel, bias = classifier.network.get_layer("logits").get_weights()
    np.testing.assert_allclose(reading.logits, reading.features @ kernel + bias, atol=1e-4)
    assert (reading.features >= 0).all()


def test_classifier_knows_the_digits_that_it_was_trained_on(classifier, sample):
    assert (classifier(sample.test.images).classes == sample.test.labels).mean() >= 0.97
    assert FACTS["accuracy"]["test"] >= 0.97
    assert FACTS["digits"] == 60_000


def test_classifier_tells_noise_from_digits(classifier, sample):
    noise = RNG.permuted(sample.train.images, axis=0)[:1_000]  # each pixel from a digit of its own
    noise, real = (
        quality.recognition(classifier(x).probabilities) for x in (noise, sample.test.images)
    )
    assert noise.confident.mean < 0.02 < 0.9 < real.confident.mean
    assert noise.no_digit.mean > 0.9 > 0.02 > real.no_digit.mean


@pytest.mark.skipif(not os.environ.get("VAE_TF_MNIST_DIR"), reason="VAE_TF_MNIST_DIR is not set")
def test_classifier_is_right_about_97_percent_of_test_digits_or_more(classifier):
    test = vae_tf.load_mnist().test
    accuracy = (classifier(test.images).classes == test.labels).mean()
    assert accuracy >= 0.97
    assert accuracy == pytest.approx(FACTS["accuracy"]["test"], abs=5e-4)


def test_classifier_does_not_care_which_images_stand_beside(classifier, images):
    alone = np.concatenate([classifier(images[i : i + 1]).logits for i in range(3)])
    np.testing.assert_allclose(classifier(images).logits[:3], alone, atol=1e-4)


def test_training_finds_the_classes(digits):
    trained = quality.train_classifier(digits, epochs=4, batch_size=32)
    assert (trained(digits.test.images).classes == digits.test.labels).mean() > 0.9
    logits, labels = trained(digits.validation.images).logits, digits.validation.labels
    assert trained.temperature == quality.fit_temperature(logits, labels)
    shipped = quality.load_classifier().network
    assert [w.shape for w in trained.network.weights] == [w.shape for w in shipped.weights]


def test_weights_fit_beside_the_others():
    assert (FOLDER / "classifier.keras").stat().st_size < 400_000


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_softmax(temperature):
    logits = 300 * FEATURES
    expected = scipy.special.softmax(logits / temperature, axis=1)
    np.testing.assert_allclose(quality.softmax(logits, temperature), expected, rtol=1e-12)


def test_temperature_comes_back():
    logits = np.log(RNG.dirichlet(np.ones(10), 20_000))
    labels = (logits + RNG.gumbel(size=logits.shape)).argmax(axis=1)  # of softmax(logits)
    assert quality.fit_temperature(3 * logits, labels) == pytest.approx(3, rel=0.05)


def test_temperature_makes_labels_most_probable():
    logits = 2 * np.log(PROBABILITIES)
    best = quality.fit_temperature(logits, LABELS)
    losses = [
        -scipy.special.log_softmax(logits / t, axis=1)[np.arange(200), LABELS].mean()
        for t in (best, best * 1.02, best / 1.02)
    ]
    assert losses[0] == min(losses)


def test_reliability_by_a_loop():
    found = quality.reliability(PROBABILITIES, LABELS, bins=5)
    rows, error = [], 0
    for i in range(5):
        inside = [
            (row.max(), row.argmax() == label)
            for row, label in zip(PROBABILITIES, LABELS, strict=True)
            if i / 5 < row.max() <= (i + 1) / 5
        ]
        if inside:
            confidence, accuracy = np.mean(inside, axis=0)
            rows.append((confidence, accuracy, len(inside)))
            error += len(inside) / 200 * abs(accuracy - confidence)
    assert len(rows) == 4  # nobody is less than 20 % sure of the likeliest of ten
    columns = found.confidence, found.accuracy, found.counts
    np.testing.assert_allclose(np.transpose(columns), rows)
    assert found.expected_calibration_error.mean == pytest.approx(error)


def test_reliability_of_hand_made_cases():
    probabilities = np.array([[0.8, 0.2]] * 5 + [[0.0, 1.0]] * 5)
    sure = quality.reliability(probabilities, [0, 0, 0, 0, 1] + [1] * 5, bins=10)
    assert sure.expected_calibration_error.mean == pytest.approx(0)
    wrong = quality.reliability(probabilities, [1] * 5 + [0] * 5, bins=10)
    assert wrong.expected_calibration_error.mean == pytest.approx(0.9)
    np.testing.assert_array_equal(wrong.counts, [5, 5])


def test_error_of_calibration_is_that_of_other_draws():
    probabilities = np.tile([0.7, 0.3], (2_000, 1))
    errors = [
        quality.reliability(probabilities, RNG.random(2_000) > 0.5, resamples=100)
        for _ in range(100)
    ]
    means, deviations = np.transpose([e.expected_calibration_error for e in errors])
    assert means.mean() == pytest.approx(0.2, abs=0.005)
    assert deviations.mean() == pytest.approx(means.std(ddof=1), rel=0.25)


def test_recognition_of_hand_made_cases():
    probabilities = np.zeros((8, 11))
    probabilities[range(8), [0, 0, 0, 0, 1, 1, 2, 2]] = [1, 1, 0.95, 0.9, 0.91, 0.8, 1, 0.3]
    probabilities[:, 10] = 1 - probabilities.sum(axis=1)  # no digit
    found = quality.recognition(probabilities)
    assert found.confident.mean == 5 / 8
    assert found.confident.standard_error == pytest.approx(np.sqrt(5 / 8 * 3 / 8 / 7))
    assert found.no_digit.mean == 1 / 8
    np.testing.assert_array_equal(found.class_shares, [0.5, 0.25, 0.25, 0, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(found.class_errors[:2], np.sqrt([0.25 / 7, 0.1875 / 7]))
    assert found.entropy.mean == pytest.approx(scipy.stats.entropy([0.5, 0.25, 0.25]))


def test_entropy_s_error_is_that_of_other_draws():
    shares = RNG.dirichlet(np.ones(10))

    def draw():
        return quality.recognition(np.eye(11)[RNG.choice(10, 500, p=shares)]).entropy

    means, errors = np.transpose([draw() for _ in range(400)])
    assert means.mean() == pytest.approx(scipy.stats.entropy(shares) - 9 / 1000, abs=0.01)
    assert errors.mean() == pytest.approx(means.std(ddof=1), rel=0.2)


def test_total_variation():
    assert quality.total_variation([1, 2, 3, 3], [3, 2, 1, 3]) == 0
    assert quality.total_variation([0, 0], [1, 2, 3]) == 1
    assert quality.total_variation([0, 0, 0, 1], [0, 1]) == pytest.approx(0.25)


def scaled(mean, deviation, count=4):
    """Features in one dimension of exactly this mean and standard deviation."""
    values = np.linspace(-1, 1, count)
    return (mean + deviation * values / values.std(ddof=1))[:, None]


@pytest.mark.parametrize(("means", "deviations"), [((0, 0), (1, 1)), ((1, -2), (0.5, 3))])
def test_frechet_distance_in_one_dimension(means, deviations):
    found = quality.frechet_distance(
        scaled(means[0], deviations[0]), scaled(means[1], deviations[1], 9)
    )
    expected = (means[0] - means[1]) ** 2 + (deviations[0] - deviations[1]) ** 2
    assert found == pytest.approx(expected, abs=1e-12)


def test_frechet_distance_of_diagonal_gaussians():
    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) * np.sqrt(3 / 4)  # covariance I
    first, second = corners * [1, 2] + [0, 5], corners * [3, 0.5] + [1, 1]
    expected = 1 + 16 + (1 - 3) ** 2 + (2 - 0.5) ** 2
    assert quality.frechet_distance(first, second) == pytest.approx(expected)


def test_frechet_distance_against_scipy():
    root = scipy.linalg.sqrtm(np.cov(FEATURES.T) @ np.cov(OTHERS.T)).real
    expected = np.sum((FEATURES.mean(axis=0) - OTHERS.mean(axis=0)) ** 2)
    expected += np.trace(np.cov(FEATURES.T) + np.cov(OTHERS.T) - 2 * root)
    assert quality.frechet_distance(FEATURES, OTHERS) == pytest.approx(expected, rel=1e-9)
    assert quality.frechet_distance(OTHERS, FEATURES) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_with_fewer_images_than_features():
    assert quality.frechet_distance(FEATURES[:3], FEATURES[:3]) == pytest.approx(0, abs=1e-6)
    assert quality.frechet_distance(FEATURES[:3], FEATURES[3:6]) > 0


def test_frechet_distance_s_bias_is_extrapolated_away():
    counts = [200, 400, 800]
    real, fake = RNG.normal(size=(2, 30, 800, 8))
    values = [
        [quality.frechet_distance(a[:n], b[:n]) for n in counts]
        for a, b in zip(real, fake, strict=True)
    ]
    means = np.mean(values, axis=0)
    np.testing.assert_allclose(means[:-1] / means[1:], 2, rtol=0.15)  # about as 1/N
    assert abs(quality.extrapolate(counts, values).mean()) < 0.2 * means[-1]


def test_extrapolation_of_a_line_is_exact():
    counts = np.array([10, 20, 50])
    values = np.array([3.0, -1.0])[:, None] + 7 / counts
    np.testing.assert_allclose(quality.extrapolate(counts, values), [3, -1])


def brute_force(real, generated, k):
    def covered(points, members):
        reach = []
        for i, member in enumerate(members):
            fellows = [np.linalg.norm(member - m) for j, m in enumerate(members) if j != i]
            reach.append(sorted(fellows)[k - 1])
        inside = [
            any(np.linalg.norm(p - m) <= r for m, r in zip(members, reach, strict=True))
            for p in points
        ]
        return np.mean(inside)

    return covered(generated, real), covered(real, generated)


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_by_brute_force(k):
    found = quality.precision_recall(FEATURES, OTHERS, k)
    assert found == pytest.approx(brute_force(FEATURES, OTHERS, k))
    assert 0 < found[0] < 1
    assert 0 < found[1] < 1


def test_precision_and_recall_of_hand_made_cases():
    modes = np.concatenate([FEATURES[:30], FEATURES[30:] + 100])
    assert quality.precision_recall(modes, modes) == (1, 1)
    assert quality.precision_recall(modes, modes + 1_000) == (0, 0)
    # One mode of two is missing: all that is made is real, half of the real is never made.
    precision, recall = quality.precision_recall(modes, np.tile(FEATURES[:30], (2, 1)))
    assert (precision, recall) == (1, 0.5)
    # A mode too many: half of what is made is real, and all that is real is made.
    assert quality.precision_recall(FEATURES[:30], modes) == (0.5, 1)


def test_halves_vary_as_whole_sets_do():
    real, fake = RNG.normal(size=1_000), 2 * RNG.normal(size=800)

    def difference(a, b):
        return a.mean() - b.mean()

    found = quality.repeated(difference, real, fake, repeats=600)
    # Of 400 out of 1,000, the share not drawn is 0.6; of 400 out of 800, a half.
    expected = np.sqrt(real.var(ddof=1) * 0.6 / 400 + fake.var(ddof=1) / 800)
    assert found.std(ddof=1) == pytest.approx(expected, rel=0.1)
    assert found.mean() == pytest.approx(difference(real, fake), abs=4 * expected / np.sqrt(600))


def test_repeats_share_nothing_within_one_set_and_grow_with_the_count():
    sets = {n: quality.repeated(lambda a, b: (a, b), np.arange(20), count=n) for n in (4, 10)}
    assert sets[10].shape == (10, 2, 10)
    for (a, b), (small, other) in zip(sets[10], sets[4], strict=True):
        assert sorted([*a, *b]) == list(range(20))
        assert set(small) < set(a)
        assert set(other) < set(b)
    assert len({tuple(a) for a, _ in sets[10]}) == 10
    beside = quality.repeated(lambda a, b: (a, b), np.arange(20), -np.arange(30))
    np.testing.assert_array_equal(beside[:, 0], sets[10][:, 0])
    again = quality.repeated(lambda a, b: (a, b), np.arange(20), seed=1)
    assert (again != sets[10]).any()


def test_nearest_by_scipy(images):
    references = images[:40][:, ::-1]
    distances, positions = quality.nearest(images, references, images_per_chunk=7)
    every = scipy.spatial.distance.cdist(
        images.reshape(64, -1), references.reshape(40, -1), "hamming"
    )
    np.testing.assert_array_equal(distances, np.rint(196 * every.min(axis=1)))
    np.testing.assert_array_equal(positions, np.rint(196 * every).argmin(axis=1))


def test_nearest_finds_copies_the_first_of_equals(images):
    references = np.concatenate([images[5:10], images])
    distances, positions = quality.nearest(images, references)
    assert not distances.any()
    np.testing.assert_array_equal(positions[:10], [5, 6, 7, 8, 9, 0, 1, 2, 3, 4])
    one_off = images.copy()
    one_off[:, 3, 4] ^= 1
    assert (quality.nearest(one_off, images)[0] == 1).all()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("softmax", ([1.0],), r"logits must be \[N, F\], N >= 1; received \[1\]"),
        ("softmax", ([[1.0]], 0), "temperature must be > 0; received 0"),
        ("fit_temperature", (FEATURES, [5] * 60), r"labels must be \[60\], 0 to 4; received"),
        ("fit_temperature", (FEATURES, [1] * 59), r"labels must be \[60\], 0 to 4; received"),
        ("reliability", (FEATURES, [1] * 60), "probabilities must be >= 0, with rows of sum 1"),
        ("reliability", (PROBABILITIES, LABELS, 0), r"bins must be in \[1, .*received 0"),
        ("recognition", (PROBABILITIES[:1],), r"probabilities must be \[N, F\], N >= 2"),
        ("recognition", (PROBABILITIES,), r"probabilities must be \[N, 11\]; received \[200, 10\]"),
        ("recognition", (np.eye(11), 1), r"threshold must be in \[0, 1\); received 1"),
        ("total_variation", ([1], [10]), r"others must be \[N\], N >= 1, 0 to 9; received"),
        ("frechet_distance", (FEATURES, OTHERS[:, :3]), "generated must have 5 features, as real"),
        ("frechet_distance", (FEATURES[:1], OTHERS), r"real must be \[N, F\], N >= 2; received"),
        ("frechet_distance", (FEATURES, OTHERS * np.nan), "generated must hold finite numbers"),
        ("precision_recall", (FEATURES, OTHERS, 50), r"neighbours must be in \[1, 49\]; received"),
        ("repeated", (max, FEATURES, None, 31), r"count must be in \[1, 30\]; received 31"),
        ("repeated", (max, FEATURES, None, 3, 1), r"repeats must be in \[2, .*received 1"),
        ("extrapolate", ([5, 5], [1, 2]), "two different ones or more"),
        ("extrapolate", ([5, 6], [1, 2, 3]), r"received \[5.0, 6.0\] and \[3\]"),
        ("nearest", (np.zeros((2, 3, 3)), np.zeros((2, 4, 4))), r"images must be \[N, 4, 4\]"),
        ("nearest", (np.zeros((2, 3, 3)), np.full((1, 3, 3), 9)), "references must hold only 0"),
        ("train_classifier", (None, 0), r"epochs must be in \[1, .*received 0"),
        ("train_classifier", (None, 1, 1, 0), "learning_rate must be > 0; received 0"),
    ],
)  # fmt: skip
def test_errors_name_what_arrived(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(quality, name)(*arguments)


def test_the_classifier_refuses_what_is_no_binary_digit(classifier):
    with pytest.raises(ValueError, match=r"images must be \[N, 14, 14\], N >= 1; received \[2, 28"):
        classifier(np.zeros((2, 28, 28)))
    with pytest.raises(ValueError, match=r"0 and 1; received float64 values in \[0, 0\.5\]"):
        classifier(np.eye(14)[None] / 2)
