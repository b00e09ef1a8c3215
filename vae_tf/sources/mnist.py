"""MNIST from the first place that has it: our cache, a directory, and the providers in turn."""

import functools
import os
import warnings
from pathlib import Path

import numpy as np

from ..engine import atomic
from . import providers

# SHA-256 of what the cache holds: 14x14 images, one bit a pixel, then labels, in the splits' order.
CACHED = "a0bef22dd4551fc24e4d457622487b606886b2c96d1b777f8bb0a9cc35837c23"
CACHE_FORMAT = 1


def load(source, binarize):
    """Returns images [N, 14, 14] and labels [N], in the splits' order, and where they are from.

    Args:
        source: as for `vae_tf.load_mnist`, which says what is raised.
        binarize: makes images [N, 14, 14] of grey ones [N, 28, 28].
    """
    if isinstance(source, str) and source == "auto":
        return _search(binarize)
    if isinstance(source, str) and source in providers.PROVIDERS:
        parts = providers.PROVIDERS[source](providers.why_unreachable)
        return _serve(source, parts, binarize)
    if isinstance(source, (str, os.PathLike)) and os.path.isdir(os.path.expanduser(source)):
        parts = providers.from_directory(Path(source).expanduser())
        return _serve("directory", parts, binarize)
    raise ValueError(
        'source must be "auto", "tfds", "keras", "sample" or the path of a directory of the four '
        f"MNIST files; received {source!r}."
    )


def _search(binarize):
    reasons = []
    try:
        return _read_cache()
    except (FileNotFoundError, NotADirectoryError):
        reasons.append("cache: nothing stored yet")
    except Exception as error:  # whatever is wrong with it, it is never trusted nor in the way
        reasons.append(f"cache: {_phrase(error)}")
        warnings.warn(f"The MNIST cache is not used: {_phrase(error)}.", stacklevel=4)
    if directory := providers.mnist_dir():
        try:
            return _serve("directory", providers.from_directory(directory), binarize)
        except (OSError, ValueError) as error:
            error.add_note("VAE_TF_MNIST_DIR names this directory; unset it to look elsewhere.")
            raise
    reasons.append("directory: VAE_TF_MNIST_DIR is not set")
    unreachable = functools.cache(providers.why_unreachable)  # asks once, not once a provider
    for name, provider in providers.PROVIDERS.items():
        try:
            found = _serve(name, provider(unreachable), binarize)
        except Exception as error:  # packages that do not fit together raise anything at import
            reasons.append(f"{name}: {_phrase(error)}")
            continue
        if name == "sample":
            warnings.warn(
                "This is the 5,000-digit sample, not all of MNIST: do not compare its numbers with "
                f"others. {'; '.join(reasons)}. To get all of it, load once online, or set "
                "VAE_TF_MNIST_DIR to a directory of its four files.",
                stacklevel=4,
            )
        return found
    raise OSError(f"No provider could serve MNIST. {'; '.join(reasons)}.")


def _serve(source, parts, binarize):
    """Returns what is in parts of (images [N, 28, 28], labels [N]), verified and cached."""
    parts = providers.verified(source, parts)
    images = np.concatenate([binarize(images) for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    if source != "sample":
        _write_cache(images, labels)
    return images, labels, source


def _cache_file():
    folder = os.environ.get("VAE_TF_CACHE")
    folder = folder or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "vae_tf")
    return Path(folder).expanduser() / "mnist_14x14.npz"


def _read_cache():
    file = _cache_file()
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        version, data = int(stored["version"]), stored["digits"].tobytes()
    if (found := providers.sha256(data)) != CACHED or version != CACHE_FORMAT:
        raise ValueError(
            f"{file}: expected format {CACHE_FORMAT} with SHA-256 {CACHED}, "
            f"found format {version} with {found}"
        )
    count = len(data) * 2 // 51  # 25.5 bytes a digit: 196 bits of image and a byte of label
    data = np.frombuffer(data, np.uint8)
    images = np.unpackbits(data[:-count], count=count * 196).reshape(count, 14, 14)
    return images, data[-count:].copy(), "cache"


def _write_cache(images, labels):
    """Stores the digits in one step, so that no reader ever meets half a file."""
    try:
        file = _cache_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(file) as temporary:
            digits = np.concatenate([np.packbits(images), labels])
            np.savez(temporary, version=CACHE_FORMAT, digits=digits)
    except Exception as error:
        warnings.warn(f"MNIST is not cached: {_phrase(error)}.", stacklevel=6)


def _phrase(error):
    """Returns an error as one short line."""
    line = " ".join(f"{type(error).__name__}: {error}".split())
    return line if len(line) <= 200 else f"{line[:200]}..."
