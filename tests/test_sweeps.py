"""Sweeps do what training and evaluating one by one do, and compile once for all β."""

import dataclasses

import numpy as np
import pytest

from vae_tf import VAE, Recipe, evaluate, train
from vae_tf.analysis import sweeps

SHORT = Recipe(
    updates=40,
    batch_size=32,
    learning_rate=5e-3,
    latent_dim=3,
    hidden_units=11,
    evaluate_every=40,
)
RECIPES = [
    dataclasses.replace(SHORT, beta=4.0),
    dataclasses.replace(SHORT, latent_dim=2),
    dataclasses.replace(SHORT, kl_warmup=0.5),
]  # three latents train with the first and the last


@pytest.fixture(scope="module")
def swept(digits):
    compiled, traced = [], compiled._traced
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            programs,
            "_traced",
            lambda *args, **kw: compiled.append(bool(kw)) or traced(*args, **kw),
        )
        runs = sweeps.train_all(digits, [*RECIPES, RECIPES[1]], seeds=(0, 3), num_samples=20)
        of_two_shapes = sum(compiled)
        other = dataclasses.replace(SHORT, latent_dim=4)
        sweeps.train_all(digits, [other], num_samples=20)
    assert runs[3] is runs[1]
    return runs[:3], of_two_shapes, sum(compiled) - of_two_shapes


def test_runs_are_those_of_training_and_evaluating_alone(swept, digits):
    runs, *_ = swept
    assert [[run.seed for run in row] for row in runs] == [[0, 3]] * 3
    for row, recipe in zip(runs, RECIPES, strict=True):
        for run in row:
            assert run.recipe == recipe
            assert (run.vae.beta, run.vae.latent_dim) == (recipe.beta, recipe.latent_dim)
    run = runs[0][1]
    vae, history = train(digits, RECIPES[0], seed=3, verbose=0)
    for found, expected in zip(run.vae.get_weights(), vae.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(run.history.kl, history.kl)
    expected = evaluate(vae, digits.validation.images, num_samples=20)
    np.testing.assert_array_equal(run.evaluation.elbo, expected.elbo)
    codes = np.asarray(vae.posterior(digits.validation.images).mean())
    assert run.summary()["active_units"] == np.sum(codes.var(axis=0) > 0.01)
    assert run.summary()["training_seed"] == 3


def test_each_shape_compiles_once_whatever_beta_and_warm_up(swept):
    _, of_two_shapes, of_one = swept
    assert of_two_shapes == 2 * of_one
    assert of_one >= 2  # to train and to evaluate


def test_the_bound_is_true_whatever_beta(swept):
    runs, *_ = swept
    for row in runs:
        for run in row:
            difference = run.evaluation.log_likelihood - run.evaluation.kl
            np.testing.assert_allclose(run.evaluation.elbo, difference, rtol=1e-6)
    strong, weak = (runs[i][0].evaluation.kl.mean() for i in (0, 2))
    assert strong < weak


def test_values_by_digit_are_means_over_seeds(swept):
    runs, *_ = swept
    found = sweeps.by_digit(runs, "kl")
    assert found.shape == (3, 100)
    expected = (runs[1][0].evaluation.kl[7] + runs[1][1].evaluation.kl[7]) / 2
    assert found[1, 7] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"recipes": []}, ValueError, "recipes"),
        ({"recipes": [4.0]}, TypeError, "Recipe"),
        ({"seeds": []}, ValueError, "seeds"),
        ({"seeds": [-1]}, ValueError, "seeds"),
        ({"num_samples": 0}, ValueError, "num_samples"),
        ({"workers": 0}, ValueError, "workers"),
    ],
)
def test_bad_arguments_are_named(digits, change, error, message):
    with pytest.raises(error, match=message):
        sweeps.train_all(digits, **{"recipes": [SHORT], **change})
