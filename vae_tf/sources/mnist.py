"""MNIST from the first place that has it: our cache, a directory, and the providers in turn."""

import functools
import os
import warnings
from pathlib import Path

import numpy as np

from ..engine import atomic
from . import providers

CACHE_FORMAT = 2  # 1 held 14x14 images, in a file of another name


def load(source):
    """Returns grey digits and where they are from.

    Args:
        source: as for `vae_tf.load_mnist`, which says what is raised.

    Returns:
        Parts of (images [N, 28, 28], labels [N]), both uint8, in the order of their content: the
        training set and the test set, or the sample alone; and the name of the source.
    """
    if isinstance(source, str) and source == "auto":
        return _search()
    if isinstance(source, str) and source in providers.PROVIDERS:
        return _serve(source, providers.PROVIDERS[source](providers.why_unreachable))
    if isinstance(source, (str, os.PathLike)) and os.path.isdir(os.path.expanduser(source)):
        return _serve("directory", providers.from_directory(Path(source).expanduser()))
    raise ValueError(
        'source must be "auto", "tfds", "keras", "sample" or the path of a directory of the four '
        f"MNIST files; received {source!r}."
    )


def _search():
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
            return _serve("directory", providers.from_directory(directory))
        except (OSError, ValueError) as error:
            error.add_note("VAE_TF_MNIST_DIR names this directory; unset it to look elsewhere.")
            raise
    reasons.append("directory: VAE_TF_MNIST_DIR is not set")
    unreachable = functools.cache(providers.why_unreachable)  # asks once, not once a provider
    for name, provider in providers.PROVIDERS.items():
        try:
            found = _serve(name, provider(unreachable))
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


def _serve(source, parts):
    """Returns parts of (images [N, 28, 28], labels [N]), verified and cached, and their source."""
    parts = providers.verified(source, parts)
    if source != "sample":
        _write_cache(parts)
    return parts, source


def _cache_file():
    folder = os.environ.get("VAE_TF_CACHE")
    folder = folder or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "vae_tf")
    return Path(folder).expanduser() / "mnist_28x28.npz"


def _read_cache():
    file = _cache_file()
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        if (version := int(stored["version"])) != CACHE_FORMAT:
            raise ValueError(f"{file}: expected format {CACHE_FORMAT}, found format {version}")
        parts = [(stored[f"{name}_images"], stored[f"{name}_labels"]) for name in ("train", "test")]
    for name, part in zip(("train", "test"), parts, strict=True):
        providers.check_content(str(file), name, *part)
    return parts, "cache"


def _write_cache(parts):
    """Stores the digits in one step, so that no reader ever meets half a file."""
    try:
        file = _cache_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        (images, labels), (test_images, test_labels) = parts
        with atomic.replacing(file) as temporary:
            np.savez_compressed(  # 11 MB; 55 MB if it were not compressed
                temporary,
                version=CACHE_FORMAT,
                train_images=images,
                train_labels=labels,
                test_images=test_images,
                test_labels=test_labels,
            )
    except Exception as error:
        warnings.warn(f"MNIST is not cached: {_phrase(error)}.", stacklevel=6)


def _phrase(error):
    """Returns an error as one short line."""
    line = " ".join(f"{type(error).__name__}: {error}".split())
    return line if len(line) <= 200 else f"{line[:200]}..."
