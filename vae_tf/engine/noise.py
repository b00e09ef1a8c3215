"""Standard normal noise, every number of it a function of a key and its own place alone.

TensorFlow's stateless generators depend on the whole shape, give other numbers with XLA than
without, and take three times as long.
"""

import tensorflow as tf

from . import replicas

# A key is a seed and the number of a stream. Training's streams have the numbers of its updates.
# All else has a negative number: evaluation, refinement in `inference_gaps`, the history of a
# training run, the writeup's printed number, and `reconstruct`.
EVALUATION, REFINEMENT, HISTORY, PRINTED, RECONSTRUCTION = -1, -2, -3, -4, -5


def normals(key, rows, numbers, dimensions):
    """Returns noise [S, B, dimensions], of rows (images) and draws of these numbers.

    Compiled or not, on every machine, it is the same but for rounding.

    Args:
        key: two uint32; other keys give independent noise.
        rows: ints [B].
        numbers: ints [S].
        dimensions: an int >= 1.
    """
    pairs = -(-dimensions // 2)
    places = numbers[:, None, None] * pairs + tf.range(pairs)  # [S, 1, pairs]
    bits = threefry(key, tf.cast(rows[:, None], tf.uint32), tf.cast(places, tf.uint32))
    bits = tf.concat(bits, axis=-1)[..., :dimensions]
    # 23 bits, and a half: uniform numbers that float32 holds exactly, never 0 or 1.
    bits = tf.bitwise.right_shift(bits, tf.constant(9, tf.uint32))
    return tf.math.ndtri((tf.cast(bits, tf.float32) + 0.5) * 2.0**-23)


def draw_pixels(levels, seed):
    """Returns images [B, height, width] of 0 and 1, each pixel 1 with the probability of its level.

    Images of 0 and 1 stay as they are. Each pixel's noise is a function of the seed, its image's
    place in the batch and its own place; a probability is rounded to a multiple of 2⁻¹⁶.

    Args:
        levels: [B, height, width], numbers in [0, 1].
        seed: two int32.

    Returns:
        float32, of the shape of levels.
    """
    levels = tf.cast(levels, tf.float32)
    rows, pixels = tf.shape(levels)[0], levels.shape[1] * levels.shape[2]
    places_in_batch = replicas.rows_before(rows) + tf.range(rows)
    quarter = -(-pixels // 4)
    # Places from 2³¹ on: `normals`, of the same key, has those below.
    places = tf.cast(tf.range(quarter), tf.uint32) + tf.constant(2**31, tf.uint32)
    key = tf.bitcast(replicas.told_apart(seed), tf.uint32)
    words = tf.concat(
        threefry(key, tf.cast(places_in_batch[:, None], tf.uint32), places), axis=-1
    )  # [B, pixels / 2]
    halves = words & 0xFFFF, tf.bitwise.right_shift(words, tf.constant(16, tf.uint32))
    parts = tf.cast(tf.concat(halves, axis=-1)[:, :pixels], tf.int32)
    draws = tf.reshape((tf.cast(parts, tf.float32) + 0.5) * 2.0**-16, tf.shape(levels))
    return tf.cast(draws < levels, tf.float32)


def threefry(key, first, second):
    """Returns two uint32 tensors, random bits for a key [2] and two uint32 tensors of counters.

    Counters, and what is returned, are of one shape, or broadcast to it.

    Source: Salmon et al. (2011), Parallel Random Numbers: As Easy as 1, 2, 3; Threefry-2x32-20.
    """
    keys = [key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDA]
    first, second = first + keys[0], second + keys[1]
    for group in range(5):
        for rotation in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            first += second
            left = tf.bitwise.left_shift(second, tf.constant(rotation, tf.uint32))
            right = tf.bitwise.right_shift(second, tf.constant(32 - rotation, tf.uint32))
            second = (left | right) ^ first
        first += keys[(group + 1) % 3]
        second += keys[(group + 2) % 3] + (group + 1)
    return first, second
