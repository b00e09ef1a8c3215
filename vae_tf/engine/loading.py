"""Loading models that somebody saved, without having to trust them.

`vae.save("vae.keras")` writes a zip archive of the three members below. `load_model` takes such an
archive of one of our classes and nothing else. No member is written to the disk under a name of its
own, and Keras's safe mode refuses code, such as a Lambda's. A strange file can be wrong; it cannot
run anything, nor write anywhere.
"""

import json
import zipfile

import keras

from . import checks
from .trainer import Trainer

MEMBERS = ["config.json", "metadata.json", "model.weights.h5"]
MAX_CONFIG = 2**20  # bytes; a VAE's takes 2,000


def load_model(path):
    """Loads a model that `vae.save(path)` wrote.

    Args:
        path: of a `.keras` file, a string or a `Path`.

    Returns:
        A `VAE`, or a registered subclass of it, compiled as it was when it was saved.

    Raises:
        TypeError: if `path` is not a path.
        FileNotFoundError: if there is no such file.
        ValueError: if the file is no such model, is damaged, of a newer format, or holds code.
    """
    path = checks.path("path", path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file; give one that vae.save wrote.")
    try:
        _check(path)
        return keras.saving.load_model(path, safe_mode=True)
    except Exception as error:  # whatever zip, JSON, HDF5 and Keras make of a strange file
        raise ValueError(
            f"{path} cannot be loaded; give a file that vae.save wrote. {error}"
        ) from error


def _check(path):
    """Refuses what no `VAE` could have been saved as, before any of it is made."""
    with zipfile.ZipFile(path) as archive:
        if (found := sorted(archive.namelist())) != MEMBERS:
            raise ValueError(f"It must hold {', '.join(MEMBERS)}; received {found}.")
        if (size := archive.getinfo("config.json").file_size) > MAX_CONFIG:
            raise ValueError(f"Its config.json must have {MAX_CONFIG} bytes at most, not {size}.")
        config = json.loads(archive.read("config.json"))
    name = config.get("registered_name") if isinstance(config, dict) else config
    known = keras.saving.get_registered_object(name) if isinstance(name, str) else None
    if not (isinstance(known, type) and issubclass(known, Trainer)):
        raise ValueError(
            f"It must be of class vae_tf>VAE or a registered subclass, not {name!r}. Register a "
            "class of your own: write @keras.saving.register_keras_serializable() above it, and "
            "define it before you save and before you load."
        )
