"""Sweeps do what training and evaluating one by one do, and compile once for all β."""

import dataclasses
import functools

import numpy as np
import pytest

from vae_tf import VAE, Recipe, evaluate, train
from vae_tf.analysis import sweeps

SHORT = Recipe(updates=40, batch_size=32, learning_rate=5e-3, evaluate_every=40)
SMALL = functools.partial(VAE, latent_dim=3, hidden_units=11)


class Halved(VAE):
    """Another objective: half of the KL, whatever beta."""

    def loss_per_image(self, images, seed, kl_weight):
        return super().loss_per_image(images, seed, kl_weight / 2)


MODELS = [
    functools.partial(SMALL, beta=4.0),
    functools.partial(SMALL, kl_warmup=20),
    functools.partial(Halved, latent_dim=2, hidden_units=(7, 9)),
]  # the first and the second share a program


@pytest.fixture(scope="module")
def swept(digits):
    return sweeps.train_all(digits, MODELS, SHORT, seeds=(0, 3), num_samples=20)


@pytest.mark.slow
def test_each_model_and_seed_is_there_in_order(swept):
    assert [[each.seed for each in row] for row in swept] == [[0, 3]] * 3
    assert [[each.vae.seed for each in row] for row in swept] == [[0, 3]] * 3
    for row, model in zip(swept, MODELS, strict=True):
        for each in row:
            expected = model(seed=each.seed).get_config()
            for name in ("latent_dim", "hidden_units", "beta", "kl_warmup"):
                assert getattr(each.vae, name) == expected[name]
    assert [type(row[0].vae) for row in swept] == [VAE, VAE, Halved]


@pytest.mark.slow
@pytest.mark.parametrize("place", range(3))
def test_results_are_those_of_training_and_evaluating_alone(swept, digits, place):
    found = swept[place][1]
    vae, history = train(digits, SHORT, MODELS[place](seed=3), verbose=0)
    for ours, expected in zip(found.vae.get_weights(), vae.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, expected)
    np.testing.assert_array_equal(found.history.kl, history.kl)
    images = digits.validation.images
    expected = evaluate(vae, images, num_samples=20)
    np.testing.assert_array_equal(found.evaluation.elbo, expected.elbo)
    means = np.asarray(vae.posterior(images).mean())
    summary = found.summary()
    assert summary["active_units"] == np.sum(means.var(axis=0) > 0.01)
    assert (summary["training_seed"], summary["num_samples"]) == (3, 20)
    assert summary["elbo"]["mean"] == pytest.approx(expected.elbo.mean())


@pytest.mark.slow
def test_seeds_give_other_models(swept):
    for row in swept:
        weights = [each.vae.get_weights()[0] for each in row]
        assert (weights[0] != weights[1]).any()


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_workers(swept, digits):
    alone = sweeps.train_all(digits, MODELS[1:], SHORT, seeds=(3,), num_samples=20, workers=1)
    for row, (found,) in zip(swept[1:], alone, strict=True):
        np.testing.assert_array_equal(row[1].evaluation.elbo, found.evaluation.elbo)


def test_what_the_recipe_says_counts_for_all_models(digits):
    recipe = dataclasses.replace(SHORT, beta=3.0, kl_warmup=0.5)
    models = [SMALL, functools.partial(SMALL, beta=9.0, kl_warmup=5)]
    for (found,) in sweeps.train_all(digits, models, recipe, num_samples=20):
        assert (found.vae.beta, found.vae.kl_warmup) == (3.0, 20)


@pytest.mark.slow
def test_models_that_differ_in_numbers_alone_compile_once(digits, compilations):
    sweep = functools.partial(sweeps.train_all, digits, recipe=SHORT, num_samples=20)
    sweep([functools.partial(VAE, 4, 12)])
    of_one = len(compilations)
    assert of_one >= 2  # to train and to evaluate
    numbers = [{"beta": 0.5}, {"beta": 2.0}, {"beta": 4.0, "kl_warmup": 10}]
    sweep([functools.partial(VAE, 4, 12, **each) for each in numbers], seeds=(1, 2))
    assert len(compilations) == of_one


@pytest.mark.slow
def test_the_bound_is_true_whatever_beta(swept):
    for row in swept:
        for each in row:
            difference = each.evaluation.log_likelihood - each.evaluation.kl
            np.testing.assert_allclose(each.evaluation.elbo, difference, rtol=1e-6)
    strong, weak = (swept[i][0].evaluation.kl.mean() for i in (0, 1))
    assert strong < weak


@pytest.mark.slow
def test_values_by_image_are_means_over_seeds(swept):
    found = sweeps.by_image(swept, "kl")
    assert found.shape == (3, 100)
    expected = (swept[1][0].evaluation.kl[7] + swept[1][1].evaluation.kl[7]) / 2
    assert found[1, 7] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"models": []}, ValueError, "models and seeds are needed"),
        ({"models": [4.0]}, TypeError, "models must be functions of a seed.*received 4.0"),
        ({"models": [VAE()]}, TypeError, "models must be functions of a seed.*received <VAE"),
        ({"models": [lambda seed: None]}, TypeError, "models must be functions of a seed"),
        ({"models": [lambda seed: VAE()]}, ValueError, "must take their seed, 1; .* has 0"),
        ({"seeds": []}, ValueError, "models and seeds are needed"),
        ({"seeds": [-1]}, ValueError, "seeds"),
        ({"seeds": [1.5]}, TypeError, "seeds"),
        ({"recipe": "full"}, TypeError, "recipe must be a Recipe"),
        ({"data": None}, TypeError, "data must be"),
        ({"num_samples": 0}, ValueError, "num_samples"),
        ({"workers": 0}, ValueError, "workers"),
    ],
)
def test_bad_arguments_are_named(digits, change, error, message):
    arguments = {"data": digits, "models": [SMALL], "recipe": SHORT, "seeds": [1]}
    with pytest.raises(error, match=message):
        sweeps.train_all(**arguments | change)
