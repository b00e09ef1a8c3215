import numpy as np
import pytest

from vae_tf.data import Digits, Split


@pytest.fixture(scope="session")
def images():
    """Binary images of nothing in particular: uint8 [64, 14, 14]."""
    return (np.random.default_rng(0).random((64, 14, 14)) < 0.2).astype(np.uint8)


@pytest.fixture(scope="session")
def digits():
    """Ten simple patterns with noise in place of MNIST: 640 / 100 / 60 images."""
    rng = np.random.default_rng(1)
    patterns = rng.random((10, 14, 14)) < 0.2

    def split(count):
        labels = np.arange(count) % 10
        return Split(
            (patterns[labels] ^ (rng.random((count, 14, 14)) < 0.05)).astype(np.uint8),
            labels.astype(np.uint8),
        )

    return Digits(split(640), split(100), split(60), "sample")
