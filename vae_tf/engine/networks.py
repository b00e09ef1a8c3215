"""Layers whose weights a seed decides."""

import keras
import numpy as np


def seeds(seed, number, count):
    """Returns the seeds of `count` layers of a seed, from layer `number` on: ints."""
    words = np.random.SeedSequence(seed).generate_state(number + count) >> 1
    return [int(word) for word in words[number:]]


def dense_layers(seed, number, widths, outputs, dtype):
    """Returns hidden tanh layers of these widths, then a linear one.

    Args:
        seed: of the kernels, an int.
        number: of the first layer among those that have the seed, from 0.
        widths: ints.
        outputs: the width of the linear layer, an int.
        dtype: a dtype or a dtype policy.
    """
    activations = ["tanh"] * len(widths) + [None]
    layers = zip([*widths, outputs], activations, seeds(seed, number, len(widths) + 1), strict=True)
    return [
        keras.layers.Dense(
            int(width),
            activation,
            kernel_initializer=keras.initializers.GlorotUniform(layer_seed),
            name=f"layer_{i}",  # TensorFlow never lets go of those that Keras numbers
            dtype=dtype,
        )
        for i, (width, activation, layer_seed) in enumerate(layers)
    ]
