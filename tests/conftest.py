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


@pytest.fixture
def compilations(monkeypatch):
    """What XLA is given to compile, as long as the test runs: a list that grows."""
    from vae_tf.engine import compiled

    given, traced = [], compiled._traced

    def noting(function, specs, **options):
        if options.get("jit_compile"):
            given.append(function)
        return traced(function, specs, **options)

    monkeypatch.setattr(compiled, "_traced", noting)
    monkeypatch.setattr(compiled, "_kept", type(compiled._kept)())
    return given
