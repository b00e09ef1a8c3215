"""Checks of arguments: errors that name what arrived and what would do."""

import math
import numbers

import numpy as np

LARGEST = 1e38  # float32 ends at 3.4e38
MOST_IMAGES = 10**6  # at once: 0.8 GB in float32


def integer(name, value, low, high=2**31 - 1):
    """Returns an int in [low, high].

    Raises:
        TypeError: if it is not a whole-number type (a bool or 2.0 is not).
        ValueError: if it is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an int; received {value!r}.")
    if not low <= value <= high:
        raise ValueError(f"{name} must be in [{low}, {high}]; received {value}.")
    return int(value)


def number(name, value, low, high=math.inf):
    """Returns a float in [low, high), finite.

    Raises:
        TypeError: if it is not a real number.
        ValueError: if it is out of range or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number; received {value!r}.")
    if not low <= value < high:
        raise ValueError(f"{name} must be in [{low}, {high}); received {value}.")
    return float(value)


def positive(name, value):
    """Returns a float > 0 that float32 can hold.

    Raises:
        TypeError, ValueError: as `number`, or if it is 0.
    """
    if not number(name, value, 0, LARGEST):
        raise ValueError(f"{name} must be > 0; received {value}.")
    return float(value)


def array(name, values):
    """Returns values as an array of real numbers, of any shape.

    Raises:
        TypeError: if they are not numbers, or rows of several lengths.
    """
    try:
        converted = np.asarray(values)
    except ValueError:  # rows of several lengths
        converted = np.empty((), object)
    if converted.dtype.kind not in "buif":
        found = type(values).__name__ if converted.dtype == object else converted.dtype
        raise TypeError(f"{name} must be an array of numbers; received {found}.")
    return converted


def image_shape(name, value):
    """Returns (height, width), two ints.

    Raises:
        TypeError, ValueError: if it is not two ints in [1, 4096].
    """
    if np.ndim(value) != 1 or len(value) != 2:
        raise ValueError(f"{name} must be (height, width); received {value!r}.")
    return tuple(integer(name, length, 1, 2**12) for length in value)


def binary_images(name, images, shape=None):
    """Returns images as uint8 [N, height, width].

    Args:
        shape: (height, width) that they must have, or None.

    Raises:
        TypeError: if they are not numbers.
        ValueError: if they are not [N, height, width] with N >= 1, or not all 0 or 1.
    """
    images = array(name, images)
    if images.ndim != 3 or not images.size or images.shape[1:] != (shape or images.shape[1:]):
        wanted = ", ".join(map(str, shape or ("height", "width")))
        raise ValueError(f"{name} must be [N, {wanted}], N >= 1; received {list(images.shape)}.")
    if not ((images == 0) | (images == 1)).all():
        raise ValueError(
            f"{name} must hold only 0 and 1; received {images.dtype} values in "
            f"[{images.min():g}, {images.max():g}]. Binarize them first (vae_tf.data.binarize)."
        )
    return images.astype(np.uint8)


def image_weights(name, weights, count):
    """Returns weights of images, finite and >= 0, as float32 [count].

    Raises:
        TypeError, ValueError: if they are not.
    """
    weights = array(name, weights).astype(np.float64)  # float16 has no number as large
    if weights.shape != (count,):
        raise ValueError(f"{name} must be [{count}]; received {list(weights.shape)}.")
    if not ((weights >= 0) & (weights < LARGEST)).all():
        found = f"[{weights.min():g}, {weights.max():g}]"
        raise ValueError(f"{name} must be finite and >= 0; received values in {found}.")
    return weights.astype(np.float32)


def table(name, values, rows=1):
    """Returns finite numbers as float64 [N, F].

    Args:
        rows: N is at least this.

    Raises:
        TypeError: if they are not numbers.
        ValueError: if they are not finite, or not [N, F].
    """
    values = array(name, values)
    if values.ndim != 2 or not values.size or len(values) < rows:
        raise ValueError(f"{name} must be [N, F], N >= {rows}; received {list(values.shape)}.")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must hold finite numbers; received {values}.")
    return values.astype(np.float64)
