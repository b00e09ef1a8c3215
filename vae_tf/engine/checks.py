"""Checks of arguments: errors that name what arrived and what would do."""

import contextlib
import math
import numbers
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

COUNTS = (  # of whole numbers, though of a type of floats
    tfp.distributions.Binomial,
    tfp.distributions.Geometric,
    tfp.distributions.NegativeBinomial,
    tfp.distributions.Poisson,
)
LARGEST = 1e38  # float32 ends at 3.4e38
MOST_IMAGES = 10**6  # at once: 0.8 GB of 14×14 pixels in float32


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


def one_of(name, value, allowed):
    """Returns one of several texts.

    Raises:
        ValueError: if it is none of them.
    """
    if not isinstance(value, str) or value not in allowed:
        names = " or ".join(f'"{each}"' for each in allowed)
        raise ValueError(f"{name} must be {names}; received {value!r}.")
    return value


def boolean(name, value):
    """Returns True or False.

    Raises:
        TypeError: if it is neither.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False; received {value!r}.")
    return bool(value)


def instance(name, value, classes, wanted):
    """Returns what is of one of these classes.

    Raises:
        TypeError: if it is of another; it names what is wanted, a text such as "a Path".
    """
    if not isinstance(value, classes):
        is_plain = isinstance(value, str | bytes | numbers.Number | None)
        found = repr(value) if is_plain else type(value).__name__
        raise TypeError(f"{name} must be {wanted}; received {found}.")
    return value


def text(name, value):
    """Returns a text that is not empty.

    Raises:
        TypeError: if it is none.
    """
    if not isinstance(value, str) or not value:
        raise TypeError(f"{name} must be a text; received {value!r}.")
    return value


def path(name, value):
    """Returns a path as a `Path`.

    Raises:
        TypeError: if it is neither a string nor a path.
    """
    return Path(instance(name, value, str | os.PathLike, "a string or a Path"))


def function_of_images(name, value):
    """Returns a function.

    Raises:
        TypeError: if it cannot be called.
    """
    return instance(name, value, Callable, "a function of images")


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
        advice = " Leave the channel out." if np.shape(value) == (3,) else ""
        raise ValueError(f"{name} must be (height, width); received {value!r}.{advice}")
    return tuple(integer(name, length, 1, 2**12) for length in value)


def widths(name, value):
    """Returns the width of a layer, an int, or those of several, a tuple of ints.

    Raises:
        TypeError, ValueError: if it is neither, empty, or one is not in [1, 2¹⁶].
    """
    if np.ndim(value) == 0:
        return integer(name, value, 1, 2**16)
    if not len(value):
        raise ValueError(f"{name} must be an int or several; received {value!r}.")
    return tuple(integer(name, width, 1, 2**16) for width in value)


def seed_pair(seed):
    """Returns a seed of two integers, or a tensor of them.

    Raises:
        ValueError: if it is none.
    """
    try:
        pair = tf.convert_to_tensor(seed)
    except (TypeError, ValueError):
        pair = tf.zeros([])
    if pair.shape != [2] or not pair.dtype.is_integer:
        raise ValueError(f"seed must be two integers; received {seed!r}.")
    return tf.cast(pair, tf.int32)


def saved_format(found, newest):
    """Does nothing, if a saved model is of a format that this version reads.

    Raises:
        ValueError: if it is newer.
    """
    if not isinstance(found, int) or not 1 <= found <= newest:
        raise ValueError(
            f"a saved model must be of format {newest} or older; received format {found!r}. "
            "A newer vae_tf wrote it: update vae_tf."
        )


def batch_of_images(images, shape):
    """Returns images as a tensor [B, *shape]; they may be a tensor that is being traced.

    Raises:
        TypeError, ValueError: if they are neither [B, *shape] nor [B, *shape, 1].
    """
    wanted = f"images must be [B, {', '.join(map(str, shape))}]"
    if isinstance(images, dict):
        raise TypeError(
            f"{wanted}; received a dict of {', '.join(map(str, images))}. Have the pipeline "
            "yield images alone, by dataset.map(lambda each: ...)."
        )
    images = tf.convert_to_tensor(images)
    if images.shape[1:] == [*shape, 1]:
        return images[..., 0]
    if not images.shape[1:].is_compatible_with(shape):
        raise ValueError(f"{wanted}; received {images.shape}.{_model_for(images.shape)}")
    return images


def batch_of_latents(latents, latent_dim):
    """Returns latents as a tensor; they may be one that is being traced.

    Raises:
        ValueError: if they are not [..., latent_dim].
    """
    latents = tf.convert_to_tensor(latents)
    if not latents.shape[-1:].is_compatible_with([latent_dim]):
        raise ValueError(f"latents must be [..., {latent_dim}]; received {latents.shape}.")
    return latents


def _model_for(shape):
    """Returns a sentence on the model that takes images of shape [N, height, width]; "" if none."""
    if len(shape) != 3 or not all(shape):
        return ""
    return f" Make the model with image_shape=({shape[1]}, {shape[2]})."


def images(name, values, shape=None, has_model=True):
    """Returns images, [N, height, width] or [N, height, width, 1], as numbers [N, height, width].

    Args:
        shape: (height, width) that they must have, or None.
        has_model: whether it is a model's shape, so that the model could be made for another one.

    Raises:
        TypeError: if they are not numbers.
        ValueError: if they are of another shape, or N is 0.
    """
    values = array(name, values)
    if values.ndim == 4 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 3 or not values.size or values.shape[1:] != tuple(shape or values.shape[1:]):
        wanted = ", ".join(map(str, shape or ("height", "width")))
        advice = _model_for(values.shape) if shape and has_model else ""
        raise ValueError(
            f"{name} must be [N, {wanted}], N >= 1; received {list(values.shape)}.{advice}"
        )
    return values


def _binary_or_grey(values):
    """Returns a sentence on what to do with images of more values than 0 and 1."""
    if values.max() > 1:
        return (
            "Binarize them (images > 127), or divide them by 255 and override the model's "
            "`likelihood` (README, Change it)."
        )
    return (
        "Binarize them (images > 0.5), or override the model's `likelihood` (README, Change it). "
        "VAE(dynamic_binarization=True) takes grey levels in `fit` and `evaluate`, and there alone."
    )


def grey_levels(name, values, shape):
    """Returns images as float32 [N, height, width], levels in [0, 1].

    Raises:
        TypeError, ValueError: as `images`, or if a level is outside.
    """
    values = images(name, values, shape)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(
            f"{name} must be grey levels in [0, 1], or 0 and 1; received {values.dtype} values in "
            f"[{values.min():g}, {values.max():g}]. Divide bytes by 255."
        )
    return values.astype(np.float32)


def binary_images(name, values, shape=None):
    """Returns images as uint8 [N, height, width].

    Args:
        shape: (height, width) that they must have, or None.

    Raises:
        TypeError, ValueError: as `images`, or if they are not all 0 or 1.
    """
    values = images(name, values, shape, has_model=False)
    if not ((values == 0) | (values == 1)).all():
        raise ValueError(
            f"{name} must hold only 0 and 1; received {values.dtype} values in "
            f"[{values.min():g}, {values.max():g}]. {_binary_or_grey(values)}"
        )
    return values.astype(np.uint8)


def differences(there, here):
    """Returns in which names two dicts differ, and both values, as a text; empty if in none."""
    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    return "; ".join(
        f"{name} is {there.get(name)!r} there and {here.get(name)!r} here" for name in names
    )


def distribution_shape(name, distribution, batch, event):
    """Does nothing, if a TFP distribution has this batch shape and this event shape.

    Args:
        name: of the function or the model's method that returned it.

    Raises:
        TypeError: if it is no distribution.
        ValueError: if it is of other shapes.
    """
    if not isinstance(distribution, tfp.distributions.Distribution):
        found = type(distribution).__name__
        raise TypeError(f"{name} must return a TFP distribution; received {found}.")
    batch, event = list(batch), list(event)
    found = distribution.batch_shape, distribution.event_shape
    if found[0].is_compatible_with(batch) and found[1].is_compatible_with(event):
        return
    # One distribution per number, where it should be one of all: what is forgotten most often.
    is_bare = found[1].rank == 0 and found[0].is_compatible_with(batch + event)
    advice = f" Wrap it in tfd.Independent(..., {len(event)})." if is_bare else ""
    raise ValueError(
        f"{name} must have event shape {event}, batch shape {batch}; received event shape "
        f"{found[1]} and batch shape {found[0]}.{advice}"
    )


def supported_images(name, values, likelihood):
    """Returns images [N, height, width] as a likelihood takes them: uint8 bits, or floats.

    Args:
        likelihood: a TFP distribution of batch shape [1]; it is asked which values it has.

    Raises:
        TypeError: if the likelihood is no distribution.
        ValueError: if it is not of images of their shape, or they are outside its support.
    """
    distribution_shape("likelihood", likelihood, [1], values.shape[1:])
    pixels = likelihood
    while hasattr(pixels, "distribution"):  # of which this is made, such as `Independent`
        pixels = pixels.distribution
    if isinstance(pixels, tfp.distributions.Bernoulli):
        return binary_images(name, values)
    kind = type(pixels).__name__
    extremes = np.stack([values.min(axis=0), values.max(axis=0)])  # pixel by pixel
    found = f"received {values.dtype} values in [{extremes.min():g}, {extremes.max():g}]"
    if not np.isfinite(extremes).all():
        raise ValueError(f"{name} must be finite; {found}.")
    dtype = likelihood.dtype.as_numpy_dtype
    is_whole = likelihood.dtype.is_integer or isinstance(pixels, COUNTS)
    if is_whole and not (values == np.round(values)).all():
        raise ValueError(f"{name} must be whole numbers, as {kind} has them; {found}.")
    is_beyond = is_whole and (extremes != extremes.astype(dtype)).any()
    extremes = extremes.astype(dtype)
    if not is_whole:
        support = likelihood.experimental_default_event_space_bijector()
        # What maps numbers to the support has no inverse beyond it; at its ends that is infinite.
        is_beyond = support is not None and np.isnan(support.inverse(extremes)).any()
    with contextlib.suppress(tf.errors.InvalidArgumentError):  # of a class that there is not
        if not is_beyond and np.isfinite(likelihood.log_prob(extremes)).all():
            return values.astype(dtype)
    raise ValueError(f"{name} must be within the support of {kind}; {found}.")


def split(images, labels):
    """Does nothing, if images and labels are such as a `Split` holds.

    Raises:
        TypeError: if they are no arrays.
        ValueError: if they are of another shape, type or range.
    """
    if not isinstance(images, np.ndarray) or not isinstance(labels, np.ndarray | None):
        found = f"{type(images).__name__} and {type(labels).__name__}"
        raise TypeError(f"a split needs NumPy arrays; received {found}.")
    if images.dtype not in (np.uint8, np.float32) or images.ndim != 3:
        raise ValueError(
            "a split needs images [N, height, width] of uint8 or float32; received "
            f"{images.dtype} {list(images.shape)}."
        )
    if images.dtype == np.uint8 and images.max(initial=0) > 1:
        raise ValueError(
            f"a split needs pixels of 0 or 1; received values up to {images.max()}. "
            "Binarize them, as (images > 127).astype(np.uint8), or divide them by "
            "np.float32(255) and override the model's `likelihood` (README, Change it)."
        )
    if labels is not None and (
        labels.shape != images.shape[:1]
        or labels.dtype.kind not in "ui"
        or labels.min(initial=0) < 0
    ):
        raise ValueError(
            f"a split of {len(images):,} images needs as many ints >= 0 for labels; received "
            f"{labels.dtype} {list(labels.shape)}, values {np.unique(labels)[:12].tolist()}."
        )


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


def finite(name, values):
    """Returns an array of floats.

    Raises:
        ValueError: if one is infinite or NaN.
    """
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite; received NaN or an infinity.")
    return values
