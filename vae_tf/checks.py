"""Checks of arguments: errors that name what arrived and what would do."""

import math
import numbers


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
