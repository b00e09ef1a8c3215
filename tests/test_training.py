"""Recipes and training: what they promise about data, noise and history."""

import csv
import dataclasses

import keras
import numpy as np
import pytest

from vae_tf import VAE, Recipe, train

SHORT = Recipe(
    updates=45,
    batch_size=32,
    learning_rate=5e-3,
    images_per_class=50,
    beta=0.5,
    kl_warmup=0.2,
    evaluate_every=20,
)


def train_small(digits, recipe, seed):
    return train(digits, recipe, VAE(latent_dim=3, hidden_units=29, seed=seed), verbose=0)


@pytest.fixture(scope="module")
def trained(digits):
    return train_small(digits, SHORT, 4)


def test_history_has_a_row_per_update_and_evaluations_between(trained):
    vae, history = trained
    assert int(vae.optimizer.iterations) == 45
    assert (vae.latent_dim, vae.hidden_units, vae.beta, vae.kl_warmup) == (3, 29, 0.5, 9)
    assert history.log_likelihood.shape == history.kl.shape == (45,)
    np.testing.assert_array_equal(history.updates, np.arange(1, 46))
    np.testing.assert_array_equal(history.evaluated, [20, 40, 45])
    for terms in (history.training, history.validation):
        assert terms["kl"].shape == terms["log_likelihood"].shape == (3,)
    assert history.validation["log_likelihood"][-1] > history.validation["log_likelihood"][0]


def test_evaluations_are_sampled_elbo_terms_of_equally_many_digits(trained, digits):
    vae, history = trained
    split = digits.train.balanced(50)
    for images, terms in (
        (split.images[:100], history.training),
        (digits.validation.images, history.validation),
    ):
        assert len(images) == 100
        found = terms["log_likelihood"][-1], terms["kl"][-1]
        posterior = vae.posterior(images)
        kl = np.mean(0.5 * (np.square(posterior.mean()) + np.square(posterior.stddev()) - 1), 0)
        kl = np.sum(kl - np.mean(np.log(posterior.stddev()), axis=0))
        assert found[1] == pytest.approx(kl, rel=1e-4)
        draws = np.array(
            [np.mean(vae.elbo_terms(images, [1, i]).log_likelihood) for i in range(40)]
        )
        at_the_mean = np.mean(vae.likelihood(posterior.mean()).log_prob(images))
        assert abs(found[0] - draws.mean()) < 5 * draws.std()
        assert at_the_mean > draws.mean() + 2 * draws.std()  # so it was not evaluated there


def test_csv_holds_the_history(trained, tmp_path):
    _, history = trained
    history.to_csv(tmp_path / "history.csv")
    with (tmp_path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 45
    np.testing.assert_allclose([float(row["kl"]) for row in rows], history.kl, rtol=1e-6)
    evaluated = [row for row in rows if row["validation_kl"]]
    assert [int(row["update"]) for row in evaluated] == [20, 40, 45]
    values = [float(row["training_log_likelihood"]) for row in evaluated]
    np.testing.assert_allclose(values, history.training["log_likelihood"], rtol=1e-6)


def test_same_seed_same_bits_and_other_seed_other(trained, digits):
    vae, history = trained
    again, same = train_small(digits, SHORT, 4)
    for a, b in zip(vae.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(history.kl, same.kl)
    other, _ = train_small(digits, SHORT, 5)
    assert (other.get_weights()[0] != vae.get_weights()[0]).any()


@pytest.mark.slow
def test_looking_does_not_disturb(trained, digits):
    often, _ = train_small(digits, dataclasses.replace(SHORT, evaluate_every=7), 4)
    for a, b in zip(trained[0].get_weights(), often.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_validation_digits_do_not_influence_training(trained, digits):
    vae, _ = trained
    swapped = dataclasses.replace(digits, validation=digits.test)
    again, _ = train_small(swapped, SHORT, 4)
    for a, b in zip(vae.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_writeups_recipe():
    recipe = Recipe.writeup()
    assert (recipe.updates, recipe.batch_size, recipe.images_per_class) == (5_947, 32, 1_000)
    assert (recipe.beta, recipe.kl_warmup, recipe.num_samples) == (None, None, None)
    assert recipe.updates == -(-10_000 // 32) * 19  # 19 passes
    assert dataclasses.replace(recipe, images_per_class=None) == Recipe()


def test_the_rate_rises_linearly_then_falls_along_a_cosine():
    recipe = Recipe(updates=1_000, batch_size=32, learning_rate=0.01, warmup=0.1)
    schedule = recipe.optimizer()._learning_rate
    rate = [float(schedule(step)) for step in range(1_000)]
    rise = 0.01 * np.arange(100) / 100
    fall = 0.005 * (1 + np.cos(np.pi * np.arange(900) / 900))
    np.testing.assert_allclose(rate, np.concatenate([rise, fall]), rtol=1e-4, atol=1e-8)


def test_averaging_is_the_optimizers(trained):
    averaging = dataclasses.replace(SHORT, averaging=0.9).optimizer()
    assert type(averaging) is keras.optimizers.Adam
    assert (averaging.use_ema, averaging.ema_momentum) == (True, 0.9)
    assert not trained[0].optimizer.use_ema


@pytest.mark.slow
def test_a_recipe_leaves_alone_what_it_does_not_say(digits):
    recipe = Recipe(updates=3, batch_size=32, learning_rate=1e-3)
    vae = VAE(2, 5, beta=2.5, kl_warmup=7, num_samples=3, seed=9)
    trained, _ = train(digits, recipe, vae, verbose=0)
    assert trained is vae
    assert (vae.beta, vae.kl_warmup, vae.num_samples, vae.seed) == (2.5, 7, 3, 9)
    recipe = dataclasses.replace(recipe, beta=0.5, kl_warmup=1 / 3, num_samples=2)
    train(digits, recipe, vae, seed=4, verbose=0)
    assert (vae.beta, vae.kl_warmup, vae.num_samples, vae.seed) == (0.5, 1, 2, 4)


@pytest.mark.slow
def test_without_a_model_the_writeups_is_trained(digits):
    recipe = Recipe(updates=2, batch_size=32, learning_rate=1e-3)
    vae, _ = train(digits, recipe, seed=6, verbose=0)
    same, _ = train(digits, recipe, VAE(seed=6), verbose=0)
    assert vae.count_params() == 53_716
    for a, b in zip(vae.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
