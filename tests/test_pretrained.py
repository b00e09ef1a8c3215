"""The weights that come with the package: what they are, and the numbers that they give."""

import os
from pathlib import Path

import numpy as np
import pytest

import vae_tf
from vae_tf import pretrained
from vae_tf.analysis import results

PUBLISHED = results.read(Path(__file__).parent.parent / "figures")


@pytest.mark.parametrize("name", ["writeup", "full"])
def test_loads_offline_and_works(name, images):
    vae = vae_tf.load_pretrained(name)
    assert type(vae) is vae_tf.VAE
    assert vae.count_params() == 53_716
    assert vae.seed == pretrained.SEED
    assert vae(images).shape == (64, 14, 14)
    before, made = vae.get_weights()[0], int(vae.optimizer.iterations)
    vae.train_step(images)  # it can be trained further
    assert (vae.get_weights()[0] != before).any()
    assert int(vae.optimizer.iterations) == made + 1


def test_samples_look_like_digits_not_noise():
    means = np.asarray(vae_tf.load_pretrained("full").sample(500, mean=True))
    assert 0.08 < means.mean() < 0.18  # MNIST has 0.127
    assert np.mean((means < 0.05) | (means > 0.95)) > 0.6


def test_weights_take_less_than_a_megabyte():
    assert sum(file.stat().st_size for file in pretrained.FOLDER.iterdir()) < 1_000_000


@pytest.mark.skipif(not os.environ.get("VAE_TF_MNIST_DIR"), reason="VAE_TF_MNIST_DIR is not set")
@pytest.mark.parametrize("name", ["writeup", "full"])
def test_published_bounds_are_those_of_these_weights(name):
    digits = vae_tf.load_mnist()
    found = vae_tf.evaluate(vae_tf.load_pretrained(name), digits.test.images, num_samples=20)
    published = PUBLISHED[f"Recipe.{name}(), test"]
    assert found.kl.mean() == pytest.approx(published["kl"]["mean"], abs=0.001)
    assert found.elbo.mean() == pytest.approx(published["elbo"]["mean"], abs=0.02)
