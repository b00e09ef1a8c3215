"""Noise against its authors' known answers, and against the normal distribution."""

import math

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from vae_tf.engine import noise


@pytest.mark.parametrize(  # "known answers" that the authors of Threefry published
    ("key", "counters", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_known_answers(key, counters, expected):
    counters = [tf.constant(counter, tf.uint32) for counter in counters]
    bits = noise.threefry(tf.constant(key, tf.uint32), *counters)
    assert tuple(int(word) for word in bits) == expected


def test_noise_is_standard_normal_and_independent():
    def values_at(rows, numbers, dimensions=3):
        key = tf.constant([7, 0], tf.uint32)
        rows, numbers = tf.constant(rows, tf.int32), tf.constant(numbers, tf.int32)
        return noise.normals(key, rows, numbers, dimensions).numpy()

    values = values_at(np.arange(60), np.arange(500))  # [500, 60, 3]
    assert values.shape == (500, 60, 3)
    assert scipy.stats.kstest(values.ravel(), "norm").pvalue > 1e-3
    assert len(np.unique(values)) > 0.98 * values.size
    bound = 5 / math.sqrt(500 * 60)
    for a, b in [
        (values[1:], values[:-1]),
        (values[:, 1:], values[:, :-1]),
        (values[..., 1:], values[..., :-1]),
    ]:
        assert abs((a * b).mean()) < bound
        assert abs(((a**2 - 1) * (b**2 - 1)).mean()) < 2 * bound
    np.testing.assert_array_equal(values_at([5, 3], [9, 2, 400]), values[[9, 2, 400]][:, [5, 3]])
    assert np.isfinite(values).all()


def test_noise_is_the_same_compiled_or_not_and_whatever_is_drawn_beside():
    def draw(images):
        return noise.normals(
            tf.constant([3, 2**32 - 1], tf.uint32), tf.range(images), tf.range(4), 8
        )

    plain, compiled = draw(50), tf.function(draw, jit_compile=True)(50)
    np.testing.assert_allclose(compiled, plain, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(draw(7), plain[:, :7])


def test_noise_of_a_batch_of_unknown_size():
    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)])
    def draw(rows):
        return noise.normals(tf.constant([3, 1], tf.uint32), rows, tf.range(4), 5)

    assert draw(tf.range(6)).shape == (4, 6, 5)
