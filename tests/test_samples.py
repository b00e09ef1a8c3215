"""Each measure of sample quality against an independent way to compute it."""

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial.distance

from vae_tf.analysis import samples

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(60, 5))
OTHERS = 1.3 * RNG.normal(size=(50, 5)) @ RNG.normal(size=(5, 5)) + 0.5


def test_total_variation():
    assert samples.total_variation([1, 2, 3, 3], [3, 2, 1, 3]) == 0
    assert samples.total_variation([0, 0], [1, 2, 3]) == 1
    assert samples.total_variation([0, 0, 0, 1], [0, 1]) == pytest.approx(0.25)


def scaled(mean, deviation, count=4):
    """Features in one dimension of exactly this mean and standard deviation."""
    values = np.linspace(-1, 1, count)
    return (mean + deviation * values / values.std(ddof=1))[:, None]


@pytest.mark.parametrize(("means", "deviations"), [((0, 0), (1, 1)), ((1, -2), (0.5, 3))])
def test_frechet_distance_in_one_dimension(means, deviations):
    found = samples.frechet_distance(
        scaled(means[0], deviations[0]), scaled(means[1], deviations[1], 9)
    )
    expected = (means[0] - means[1]) ** 2 + (deviations[0] - deviations[1]) ** 2
    assert found == pytest.approx(expected, abs=1e-12)


def test_frechet_distance_of_diagonal_gaussians():
    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) * np.sqrt(3 / 4)  # covariance I
    first, second = corners * [1, 2] + [0, 5], corners * [3, 0.5] + [1, 1]
    expected = 1 + 16 + (1 - 3) ** 2 + (2 - 0.5) ** 2
    assert samples.frechet_distance(first, second) == pytest.approx(expected)


def test_frechet_distance_against_scipy():
    root = scipy.linalg.sqrtm(np.cov(FEATURES.T) @ np.cov(OTHERS.T)).real
    expected = np.sum((FEATURES.mean(axis=0) - OTHERS.mean(axis=0)) ** 2)
    expected += np.trace(np.cov(FEATURES.T) + np.cov(OTHERS.T) - 2 * root)
    assert samples.frechet_distance(FEATURES, OTHERS) == pytest.approx(expected, rel=1e-9)
    assert samples.frechet_distance(OTHERS, FEATURES) == pytest.approx(expected, rel=1e-9)


def test_equal_sets_are_no_distance_apart_and_classes_may_be_floats():
    assert 0 <= samples.frechet_distance(FEATURES, FEATURES) < 1e-9
    assert samples.total_variation([0.0, 1.0], np.array([0, 1], np.uint8)) == 0


def test_frechet_distance_with_fewer_images_than_features():
    assert samples.frechet_distance(FEATURES[:3], FEATURES[:3]) == pytest.approx(0, abs=1e-6)
    assert samples.frechet_distance(FEATURES[:3], FEATURES[3:6]) > 0


def test_frechet_distance_s_bias_is_extrapolated_away():
    counts = [200, 400, 800]
    real, fake = RNG.normal(size=(2, 30, 800, 8))
    values = [
        [samples.frechet_distance(a[:n], b[:n]) for n in counts]
        for a, b in zip(real, fake, strict=True)
    ]
    means = np.mean(values, axis=0)
    np.testing.assert_allclose(means[:-1] / means[1:], 2, rtol=0.15)  # about as 1/N
    assert abs(samples.extrapolate(counts, values).mean()) < 0.2 * means[-1]


def test_extrapolation_of_a_line_is_exact():
    counts = np.array([10, 20, 50])
    values = np.array([3.0, -1.0])[:, None] + 7 / counts
    np.testing.assert_allclose(samples.extrapolate(counts, values), [3, -1])


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
    found = samples.precision_recall(FEATURES, OTHERS, k)
    assert found == pytest.approx(brute_force(FEATURES, OTHERS, k))
    assert 0 < found[0] < 1
    assert 0 < found[1] < 1


def test_precision_and_recall_of_hand_made_cases():
    modes = np.concatenate([FEATURES[:30], FEATURES[30:] + 100])
    assert samples.precision_recall(modes, modes) == (1, 1)
    assert samples.precision_recall(modes, modes + 1_000) == (0, 0)
    # One mode of two is missing: all that is made is real, half of the real is never made.
    precision, recall = samples.precision_recall(modes, np.tile(FEATURES[:30], (2, 1)))
    assert (precision, recall) == (1, 0.5)
    # A mode too many: half of what is made is real, and all that is real is made.
    assert samples.precision_recall(FEATURES[:30], modes) == (0.5, 1)


def test_halves_vary_as_whole_sets_do():
    real, fake = RNG.normal(size=1_000), 2 * RNG.normal(size=800)

    def difference(a, b):
        return a.mean() - b.mean()

    found = samples.repeated(difference, real, fake, repeats=600)
    # Of 400 out of 1,000, the share not drawn is 0.6; of 400 out of 800, a half.
    expected = np.sqrt(real.var(ddof=1) * 0.6 / 400 + fake.var(ddof=1) / 800)
    assert found.std(ddof=1) == pytest.approx(expected, rel=0.1)
    assert found.mean() == pytest.approx(difference(real, fake), abs=4 * expected / np.sqrt(600))


def test_repeats_share_nothing_within_one_set_and_grow_with_the_count():
    sets = {n: samples.repeated(lambda a, b: (a, b), np.arange(20), count=n) for n in (4, 10)}
    assert sets[10].shape == (10, 2, 10)
    for (a, b), (small, other) in zip(sets[10], sets[4], strict=True):
        assert sorted([*a, *b]) == list(range(20))
        assert set(small) < set(a)
        assert set(other) < set(b)
    assert len({tuple(a) for a, _ in sets[10]}) == 10
    beside = samples.repeated(lambda a, b: (a, b), np.arange(20), -np.arange(30))
    np.testing.assert_array_equal(beside[:, 0], sets[10][:, 0])
    again = samples.repeated(lambda a, b: (a, b), np.arange(20), seed=1)
    assert (again != sets[10]).any()


def test_nearest_by_scipy(images):
    references = images[:40][:, ::-1]
    distances, positions = samples.nearest(images, references)
    every = scipy.spatial.distance.cdist(
        images.reshape(64, -1), references.reshape(40, -1), "hamming"
    )
    np.testing.assert_array_equal(distances, np.rint(196 * every.min(axis=1)))
    np.testing.assert_array_equal(positions, np.rint(196 * every).argmin(axis=1))


def test_nearest_finds_copies_the_first_of_equals(images):
    references = np.concatenate([images[5:10], images])
    distances, positions = samples.nearest(images, references)
    assert not distances.any()
    np.testing.assert_array_equal(positions[:10], [5, 6, 7, 8, 9, 0, 1, 2, 3, 4])
    many = np.tile(images, (200, 1, 1))  # more than are compared at once, by several threads
    np.testing.assert_array_equal(samples.nearest(images, many)[1], range(64))
    one_off = images.copy()
    one_off[:, 3, 4] ^= 1
    assert (samples.nearest(one_off, images)[0] == 1).all()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
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
    ],
)  # fmt: skip
def test_errors_name_what_arrived(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(samples, name)(*arguments)
