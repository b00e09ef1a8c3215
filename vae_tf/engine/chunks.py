"""Sums over many draws for many images, a chunk of both at a time, so that memory is bounded."""

import keras
import numpy as np
import tensorflow as tf

from .compiled import CompiledFunction


def sum_over_draws(add, empty, arrays, counts, images_per_chunk, verbose):
    """Returns sums over draws, one for each image, after each of several numbers of draws.

    Args:
        add: a function that adds draws to sums, compiled once. It takes a chunk of the arrays, a
            list of [B, ...]; three ints, the numbers of the first image, of the first draw, and of
            the draw after the last; and the sums so far, float64 [B] each.
        empty: the sums of no draws, a list of floats.
        arrays: a list of [N, ...].
        counts: the numbers of draws, rising: [C].
        images_per_chunk: B.
        verbose: whether to show progress.

    Returns:
        [len(empty), C, N], float64.
    """
    count, arrays = len(arrays[0]), [tf.constant(each) for each in arrays]
    size = min(images_per_chunk, count)
    found = np.empty((len(empty), len(counts), count))
    progress = keras.utils.Progbar(count, unit_name="image") if verbose else None
    compiled = None
    for start in range(0, count, size):
        # A short last chunk is filled up with the last image: one shape, so one compilation.
        rows = np.arange(start, start + size, dtype=np.int32).clip(max=count - 1)
        chunk = [tf.gather(each, rows) for each in arrays]
        sums = [tf.fill([size], tf.constant(value, tf.float64)) for value in empty]
        stop = min(start + size, count)
        for place, (first, last) in enumerate(zip([0, *counts], counts, strict=False)):
            arguments = chunk, tf.constant([start, first, last]), sums
            compiled = compiled or CompiledFunction(add, *arguments)
            sums = compiled(*arguments)
            found[:, place, start:stop] = [each[: stop - start] for each in sums]
        if progress:
            progress.update(stop)
    return found
