"""Codes against scikit-learn, SciPy's densities, integrals and cases worked out by hand."""

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

from vae_tf.analysis import latent


@pytest.fixture(scope="module")
def aggregate():
    rng = np.random.default_rng(0)
    return latent.AggregatePosterior(rng.normal(size=(40, 3)), rng.uniform(0.2, 0.8, size=(40, 3)))


def brute_log_prob(aggregate, latents):
    terms = scipy.stats.norm(aggregate.loc, aggregate.scale).logpdf(latents[:, None]).sum(axis=-1)
    return scipy.special.logsumexp(terms, axis=1) - np.log(len(aggregate.loc))


def gaussian_kl(mean, covariance):
    """KL[N(mean, covariance) || N(0, I)], by the textbook."""
    covariance = np.atleast_2d(covariance)
    excess = np.trace(covariance) + mean @ mean - len(mean)
    return 0.5 * (excess - np.linalg.slogdet(covariance)[1])


def test_moments_and_matched_kl_by_the_textbook(aggregate):
    mean = aggregate.loc.mean(axis=0)
    covariance = np.diag((aggregate.scale**2).mean(axis=0)) + np.cov(aggregate.loc.T, ddof=0)
    np.testing.assert_allclose(aggregate.mean, mean, rtol=1e-9)
    np.testing.assert_allclose(aggregate.covariance, covariance, rtol=1e-9, atol=1e-12)
    assert aggregate.matched_kl == pytest.approx(gaussian_kl(mean, covariance))
    each = [gaussian_kl(mean[[j]], covariance[j, j]) for j in range(3)]
    np.testing.assert_allclose(aggregate.matched_kl_per_dimension, each, rtol=1e-9)
    assert aggregate.matched_kl > aggregate.matched_kl_per_dimension.sum()  # correlations add


def test_draws_have_the_moments(aggregate):
    draws = aggregate.sample(100_000, seed=1)
    np.testing.assert_allclose(draws.mean(axis=0), aggregate.mean, atol=0.02)
    np.testing.assert_allclose(np.cov(draws.T), aggregate.covariance, atol=0.03)


def test_log_prob_is_the_mixtures_in_chunks_too(aggregate, monkeypatch):
    latents = np.random.default_rng(1).normal(size=(50, 3)) * 2
    expected = brute_log_prob(aggregate, latents)
    np.testing.assert_allclose(aggregate.log_prob(latents), expected, rtol=1e-9)
    monkeypatch.setattr(latent, "LATENTS_PER_CALL", 7)
    np.testing.assert_allclose(aggregate.log_prob(latents), expected, rtol=1e-9)
    far = np.full((1, 3), 60.0)  # where densities underflow
    np.testing.assert_allclose(aggregate.log_prob(far), brute_log_prob(aggregate, far), rtol=1e-9)


def test_marginals_are_densities_of_each_dimension(aggregate):
    values = np.linspace(-8, 8, 2_001)
    densities = aggregate.marginal(values)
    assert densities.shape == (3, 2_001)
    expected = scipy.stats.norm(aggregate.loc[:, 1], aggregate.scale[:, 1]).pdf(values[:, None])
    np.testing.assert_allclose(densities[1], expected.mean(axis=1), rtol=1e-9)
    np.testing.assert_allclose(scipy.integrate.trapezoid(densities, values), 1, rtol=1e-6)


def test_marginals_kl_is_the_integral():
    one = latent.AggregatePosterior([[0.7, -0.2]], [[0.5, 0.9]])
    expected = [gaussian_kl(one.loc[0, [j]], one.scale[0, j] ** 2) for j in range(2)]
    np.testing.assert_allclose(one.marginal_kl(), expected, rtol=1e-5)
    two = latent.AggregatePosterior([[-2.0], [2.0]], [[0.1], [0.1]])  # nothing in common
    expected = 0.5 * (0.1**2 + 4 - 1 - 2 * np.log(0.1)) - np.log(2)
    np.testing.assert_allclose(two.marginal_kl(), [expected], rtol=1e-5)


def test_kl_is_the_integral_and_at_least_the_matched_one():
    aggregate = latent.AggregatePosterior([[-1.5], [0.5], [1.2]], [[0.3], [0.5], [0.2]])

    def integrand(z):
        log_q = brute_log_prob(aggregate, np.array([[z]]))[0]
        return np.exp(log_q) * (log_q - scipy.stats.norm.logpdf(z))

    expected, _ = scipy.integrate.quad(integrand, -6, 6, points=[-1.5, 0.5, 1.2], limit=200)
    found = aggregate.kl(20_000, seed=2)
    assert abs(found.mean - expected) < 4 * found.standard_error < 0.05
    assert aggregate.matched_kl < expected
    pointwise = aggregate.log_prob(draws := aggregate.sample(20_000, seed=2))
    gaussian = scipy.stats.norm(aggregate.mean[0], np.sqrt(aggregate.covariance[0, 0]))
    rest = np.mean(pointwise - gaussian.logpdf(draws[:, 0]))  # KL[q(z) || N(m, C)]
    assert found.mean == pytest.approx(aggregate.matched_kl + rest, abs=0.02)


def test_one_digit_or_the_prior_itself_are_known():
    one = latent.AggregatePosterior([[0.7, -0.2]], [[0.5, 0.9]])
    expected = gaussian_kl(one.loc[0], np.diag(one.scale[0] ** 2))
    assert one.matched_kl == pytest.approx(expected, rel=1e-5)
    found = one.kl(20_000)
    assert abs(found.mean - expected) < 4 * found.standard_error
    collapsed = latent.AggregatePosterior(np.zeros((9, 4)), np.ones((9, 4)))
    assert collapsed.matched_kl == pytest.approx(0, abs=1e-12)
    assert collapsed.kl(100).mean == pytest.approx(0, abs=1e-9)


def test_kl_of_digits_far_apart_is_what_log_n_leaves():
    # I(n; z) is log N where posteriors do not overlap, and KL[q(z) || p] = mean KL − I.
    loc = np.array([[-3.0, 0], [3.0, 0], [0, 3.0], [0, -3.0]])
    aggregate = latent.AggregatePosterior(loc, np.full((4, 2), 0.1))
    each = np.sum(0.5 * (0.1**2 + loc**2 - 1 - 2 * np.log(0.1)), axis=1).mean()
    found = aggregate.kl(20_000)
    assert abs(found.mean - (each - np.log(4))) < 4 * found.standard_error


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(3)
    centres = 1.5 * rng.normal(size=(4, 5))
    labels = [rng.integers(4, size=n) for n in (300, 200, 250)]
    return [centres[y] + rng.normal(size=(len(y), 5)) for y in labels], labels


def test_neighbours_are_those_of_brute_force(blobs):
    features, labels = blobs
    found = latent.nearest_neighbours(features, labels, neighbours=(1, 7))

    def predict(k, queries):
        distances = np.linalg.norm(queries[:, None] - features[0][None], axis=-1)
        nearest = labels[0][np.argsort(distances, axis=1)[:, :k]]
        return np.array([np.bincount(votes, minlength=4).argmax() for votes in nearest])

    for k in (1, 7):
        share = np.mean(predict(k, features[1]) == labels[1])
        assert found.validation[k] == pytest.approx(share, abs=0.006)  # one tie of 200
    best = max((1, 7), key=lambda k: np.mean(predict(k, features[1]) == labels[1]))
    right = predict(best, features[2]) == labels[2]
    assert found.choice == best
    assert found.accuracy.mean == pytest.approx(right.mean(), abs=0.005)
    share, error = found.accuracy
    assert error == pytest.approx(np.sqrt(share * (1 - share) / 249))


def test_probe_is_near_the_best_possible_and_chooses_by_validation(blobs):
    features, labels = blobs
    found = latent.linear_probe(features, labels, strengths=(1e-6, 1.0))
    # Equal spheres of equal shares: nearest true centre is the best rule there is, and is linear.
    centres = np.stack([features[0][labels[0] == k].mean(axis=0) for k in range(4)])
    distances = np.linalg.norm(features[2][:, None] - centres, axis=-1)
    best = np.mean(distances.argmin(axis=1) == labels[2])
    assert found.accuracy.mean == pytest.approx(best, abs=0.03)
    assert found.choice == 1.0
    assert found.validation[1.0] > found.validation[1e-6]


def test_test_digits_choose_nothing(blobs):
    features, labels = blobs
    expected = latent.nearest_neighbours(features, labels)
    other = latent.nearest_neighbours(features, [*labels[:2], labels[2][::-1]])
    assert (other.choice, other.validation) == (expected.choice, expected.validation)
    assert other.accuracy.mean < expected.accuracy.mean


def test_principal_components_are_those_of_the_singular_values(blobs):
    features, _ = blobs
    projected, shares = latent.principal_components(features, 2)
    centre = features[0].mean(axis=0)
    _, lengths, axes = np.linalg.svd(features[0] - centre, full_matrices=False)
    np.testing.assert_allclose(shares, (lengths**2 / np.sum(lengths**2))[:2], rtol=1e-9)
    for values, found in zip(features, projected, strict=True):
        expected = (values - centre) @ axes[:2].T
        np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-6, atol=1e-9)


def test_tsne_keeps_neighbours_and_its_seed():
    rng = np.random.default_rng(4)
    labels = np.repeat([0, 1, 2], 20)
    codes = 10 * np.eye(3, 8)[labels] + 0.1 * rng.normal(size=(60, 8))
    points = latent.tsne(codes, perplexity=10)
    assert points.shape == (60, 2)
    np.testing.assert_array_equal(points, latent.tsne(codes, perplexity=10))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e9 * np.eye(60)
    assert (labels[distances.argmin(axis=1)] == labels).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f, y: latent.linear_probe(f[:2], y), ValueError, "three sets"),
        (lambda f, y: latent.linear_probe(f, y[::-1]), ValueError, "three sets"),
        (lambda f, y: latent.linear_probe(f, y, strengths=()), ValueError, "choose"),
        (lambda f, y: latent.linear_probe(f, y, strengths=(0,)), ValueError, "strengths"),
        (lambda f, y: latent.nearest_neighbours(f, y, neighbours=(0,)), ValueError, "neighbours"),
        (lambda f, y: latent.nearest_neighbours(f, y, neighbours=(9.5,)), TypeError, "neighbours"),
        (lambda f, y: latent.principal_components(f, 6), ValueError, "count"),
        (lambda f, y: latent.tsne(f[0], perplexity=300), ValueError, "perplexity"),
        (lambda f, y: latent.tsne(f[0][:, :1]), ValueError, "L >= 2"),
        (lambda f, y: latent.linear_probe(f, [None] * 3), TypeError, "labels must be an array"),
        (lambda f, y: latent.principal_components([f[0][:1]], 1), ValueError, "N >= 2"),
        (lambda f, y: latent.tsne(f[0] * np.nan), ValueError, "finite"),
        (lambda f, y: latent.AggregatePosterior(f[0], 0 * f[0]), ValueError, "scale"),
        (lambda f, y: latent.AggregatePosterior(f[0], f[1]), ValueError, "scale"),
        (lambda f, y: latent.AggregatePosterior(f[0], abs(f[0])).kl(1), ValueError, "num_samples"),
    ],
)
def test_bad_arguments_are_named(blobs, call, error, message):
    with pytest.raises(error, match=message):
        call(*blobs)
