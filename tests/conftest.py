import numpy as np
import pytest


@pytest.fixture(scope="session")
def images():
    """Binary images of nothing in particular: uint8 [64, 14, 14]."""
    return (np.random.default_rng(0).random((64, 14, 14)) < 0.2).astype(np.uint8)


@pytest.fixture(scope="session")
def digits():
    """Ten simple patterns with noise in place of MNIST: 640 / 100 / 60 images."""
    from patterns import patterns  # here, so that the process which hands out tests stays light

    return patterns()
