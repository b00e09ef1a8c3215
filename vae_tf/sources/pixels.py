"""Pixels from the grey levels of 28x28 images: halved or not, cut at a threshold, or drawn."""

import numpy as np

SIZES = (14, 28)
# And what they add to a data set's name.
BINARIZATIONS = {"threshold": "", "dynamic": ", dynamically binarized", "none": ", grey"}


def check_form(size, binarization):
    """Does nothing, if there are images of this size and binarization.

    Raises:
        ValueError: if there are none.
    """
    if isinstance(size, bool) or size not in SIZES:
        raise ValueError(f"size must be 14 or 28; received {size!r}.")
    if not isinstance(binarization, str) or binarization not in BINARIZATIONS:
        names = ", ".join(f'"{name}"' for name in BINARIZATIONS)
        raise ValueError(f"binarization must be one of {names}; received {binarization!r}.")


def binarize(images, size=14):
    """Returns uint8 [N, size, size]: 1 where a pixel's level, of 0 to 255, is above 128, else 0.

    Args:
        images: uint8 [N, 28, 28].
        size: 28, or 14, where each pixel is the mean of a block of 2x2.

    Raises:
        ValueError: on any other shape, type or size.
    """
    sums, count = _block_sums(images, size)
    return (sums > 128 * count).astype(np.uint8)


def grey_levels(images, size=28):
    """Returns float32 [N, size, size], levels in [0, 1], of uint8 [N, 28, 28]; as `binarize`."""
    sums, count = _block_sums(images, size)
    return sums.astype(np.float32) / np.float32(255 * count)


def _block_sums(images, size):
    """Returns the sums of the blocks that become pixels, exact in 16 bits, and a block's pixels."""
    check_form(size, "threshold")
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (28, 28):
        raise ValueError(
            "images must be uint8 [N, 28, 28], values 0 to 255; "
            f"received {images.dtype} {list(images.shape)}."
        )
    if size == 28:
        return images.astype(np.uint16), 1
    rows = images[:, 0::2].astype(np.uint16) + images[:, 1::2]  # [N, 14, 28]
    return rows[:, :, 0::2] + rows[:, :, 1::2], 4  # [N, 14, 14], at most 1,020


def draw_once(levels, seed):
    """Returns uint8 images of the shape of levels in [0, 1], each pixel 1 with that probability."""
    draws = np.random.default_rng(seed).random(levels.shape, np.float32)
    return (draws < levels).astype(np.uint8)
