"""The classifier and what is read off it, each against an independent way to compute it."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

import vae_tf
from vae_tf.analysis import classifier
from vae_tf.analysis.classifier import load_classifier, recognition, reliability, softmax
from vae_tf.pretrained import how_trained

RNG = np.random.default_rng(0)
PROBABILITIES = RNG.dirichlet(np.full(10, 0.2), 200)
LABELS = np.array([RNG.choice(10, p=row) for row in PROBABILITIES])
FACTS = how_trained("classifier")


@pytest.fixture(scope="module")
def script():
    """`scripts/train_pretrained.py`, which trains the classifier."""
    path = Path(__file__).parent.parent / "scripts" / "train_pretrained.py"
    spec = importlib.util.spec_from_file_location("train_pretrained", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@pytest.fixture(scope="module")
def reader():
    return load_classifier()


@pytest.fixture(scope="module")
def sample():
    return vae_tf.load_mnist("sample")


def test_classifier_reads_images(reader, images):
    reading = reader(images)
    assert reading.features.shape == (64, 216)
    assert reading.logits.shape == (64, 11)
    expected = scipy.special.softmax(reading.logits / FACTS["temperature"], axis=1)
    np.testing.assert_allclose(reading.probabilities, expected, rtol=1e-5, atol=1e-30)
    np.testing.assert_array_equal(reading.classes, reading.logits[:, :10].argmax(axis=1))
    assert "36,219 weights" in repr(reader)


def test_logits_are_a_layer_above_the_features(reader, images):
    reading = reader(images)
    kernel, bias = reader.network.get_layer("logits").get_weights()
    np.testing.assert_allclose(reading.logits, reading.features @ kernel + bias, atol=1e-4)
    assert (reading.features >= 0).all()


def test_classifier_knows_the_digits_that_it_was_trained_on(reader, sample):
    assert (reader(sample.test.images).classes == sample.test.labels).mean() >= 0.97
    assert FACTS["accuracy"]["test"] >= 0.97
    assert FACTS["digits"] == 60_000


def test_classifier_tells_noise_from_digits(reader, sample):
    noise = RNG.permuted(sample.train.images, axis=0)[:1_000]  # each pixel from a digit of its own
    noise, real = (recognition(reader(x).probabilities) for x in (noise, sample.test.images))
    assert noise.confident.mean < 0.02 < 0.9 < real.confident.mean
    assert noise.no_digit.mean > 0.9 > 0.02 > real.no_digit.mean


@pytest.mark.skipif(not os.environ.get("VAE_TF_MNIST_DIR"), reason="VAE_TF_MNIST_DIR is not set")
def test_classifier_is_right_about_97_percent_of_test_digits_or_more(reader):
    test = vae_tf.load_mnist().test
    accuracy = (reader(test.images).classes == test.labels).mean()
    assert accuracy >= 0.97
    assert accuracy == pytest.approx(FACTS["accuracy"]["test"], abs=5e-4)


def test_classifier_does_not_care_which_images_stand_beside(reader, images):
    alone = np.concatenate([reader(images[i : i + 1]).logits for i in range(3)])
    np.testing.assert_allclose(reader(images).logits[:3], alone, atol=1e-4)


def test_training_finds_the_classes(script, digits):
    trained = script.train_classifier(digits, epochs=4, batch_size=32)
    assert (trained(digits.test.images).classes == digits.test.labels).mean() > 0.9
    logits, labels = trained(digits.validation.images).logits, digits.validation.labels
    assert trained.temperature == script.fit_temperature(logits, labels)
    shipped = load_classifier().network
    assert [w.shape for w in trained.network.weights] == [w.shape for w in shipped.weights]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_softmax(temperature):
    logits = 300 * RNG.normal(size=(60, 5))
    expected = tf.nn.softmax(logits / temperature)
    np.testing.assert_allclose(softmax(logits, temperature), expected, rtol=1e-12, atol=1e-300)


def test_temperature_comes_back(script):
    logits = np.log(RNG.dirichlet(np.ones(10), 20_000))
    labels = (logits + RNG.gumbel(size=logits.shape)).argmax(axis=1)  # of softmax(logits)
    assert script.fit_temperature(3 * logits, labels) == pytest.approx(3, rel=0.05)


def test_temperature_makes_labels_most_probable(script):
    logits = 2 * np.log(PROBABILITIES)
    best = script.fit_temperature(logits, LABELS)
    losses = [
        -scipy.special.log_softmax(logits / t, axis=1)[np.arange(200), LABELS].mean()
        for t in (best, best * 1.02, best / 1.02)
    ]
    assert losses[0] == min(losses)


def test_reliability_by_a_loop():
    found = reliability(PROBABILITIES, LABELS, bins=5)
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
    sure = reliability(probabilities, [0, 0, 0, 0, 1] + [1] * 5, bins=10)
    assert sure.expected_calibration_error.mean == pytest.approx(0)
    wrong = reliability(probabilities, [1] * 5 + [0] * 5, bins=10)
    assert wrong.expected_calibration_error.mean == pytest.approx(0.9)
    np.testing.assert_array_equal(wrong.counts, [5, 5])


def test_error_of_calibration_is_that_of_other_draws():
    probabilities = np.tile([0.7, 0.3], (2_000, 1))
    errors = [reliability(probabilities, RNG.random(2_000) > 0.5, resamples=60) for _ in range(100)]
    means, deviations = np.transpose([e.expected_calibration_error for e in errors])
    assert means.mean() == pytest.approx(0.2, abs=0.005)
    assert deviations.mean() == pytest.approx(means.std(ddof=1), rel=0.25)


def test_recognition_of_hand_made_cases():
    probabilities = np.zeros((8, 11))
    probabilities[range(8), [0, 0, 0, 0, 1, 1, 2, 2]] = [1, 1, 0.95, 0.9, 0.91, 0.8, 1, 0.3]
    probabilities[:, 10] = 1 - probabilities.sum(axis=1)  # no digit
    found = recognition(probabilities)
    assert found.confident.mean == 5 / 8
    assert found.confident.standard_error == pytest.approx(np.sqrt(5 / 8 * 3 / 8 / 7))
    assert found.no_digit.mean == 1 / 8
    np.testing.assert_array_equal(found.class_shares, [0.5, 0.25, 0.25, 0, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(found.class_errors[:2], np.sqrt([0.25 / 7, 0.1875 / 7]))
    assert found.entropy.mean == pytest.approx(scipy.stats.entropy([0.5, 0.25, 0.25]))


def test_entropy_s_error_is_that_of_other_draws():
    shares = RNG.dirichlet(np.ones(10))

    def draw():
        return recognition(np.eye(11)[RNG.choice(10, 500, p=shares)]).entropy

    means, errors = np.transpose([draw() for _ in range(400)])
    assert means.mean() == pytest.approx(scipy.stats.entropy(shares) - 9 / 1000, abs=0.01)
    assert errors.mean() == pytest.approx(means.std(ddof=1), rel=0.2)


def test_the_classifier_refuses_what_is_no_binary_digit(reader):
    with pytest.raises(ValueError, match=r"images must be \[N, 14, 14\], N >= 1; received \[2, 28"):
        reader(np.zeros((2, 28, 28)))
    with pytest.raises(ValueError, match=r"0 and 1; received float64 values in \[0, 0\.5\]"):
        reader(np.eye(14)[None] / 2)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("softmax", ([1.0],), r"logits must be \[N, F\], N >= 1; received \[1\]"),
        ("softmax", ([[1.0]], 0), "temperature must be > 0; received 0"),
        ("reliability", (PROBABILITIES - 0.1, LABELS), "must be >= 0, with rows of sum 1"),
        ("reliability", (PROBABILITIES, LABELS, 0), r"bins must be in \[1, .*received 0"),
        ("recognition", (PROBABILITIES[:1],), r"probabilities must be \[N, F\], N >= 2"),
        ("recognition", (PROBABILITIES,), r"probabilities must be \[N, 11\]; received \[200, 10\]"),
        ("recognition", (np.eye(11), 1), r"threshold must be in \[0, 1\); received 1"),
        ("reliability", (PROBABILITIES, [10] * 200), r"labels must be \[200\], 0 to 9; received"),
        ("reliability", (PROBABILITIES, [1] * 199), r"labels must be \[200\], 0 to 9; received"),
    ],
)  # fmt: skip
def test_errors_name_what_arrived(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(classifier, name)(*arguments)
