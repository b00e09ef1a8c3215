"""Fashion-MNIST, checked file by file, from a directory or from Keras."""

import os
from pathlib import Path

from . import providers


def load(source):
    """Returns grey images of clothes and where they are from.

    Args:
        source: as for `vae_tf.load_fashion_mnist`, which says what is raised.

    Returns:
        Parts of (images [N, 28, 28], labels [N]), both uint8, in the order of their content: the
        training set and the test set; and the name of the source.
    """
    directory = os.environ.get("VAE_TF_FASHION_MNIST_DIR")
    if isinstance(source, str) and source == "auto" and directory:
        try:
            parts = _from_directory(directory)
        except (OSError, ValueError) as error:
            error.add_note("VAE_TF_FASHION_MNIST_DIR names this directory.")
            raise
        return _in_content_order("directory", parts)
    if isinstance(source, str) and source == "auto":
        source = "keras"
    if isinstance(source, str) and source == "keras":
        try:
            parts = providers.fashion_from_keras()
        except ConnectionError as error:
            error.add_note(
                "Load it once online, or set VAE_TF_FASHION_MNIST_DIR to a directory of its four "
                "files, as they are distributed: train-images-idx3-ubyte.gz and so on."
            )
            raise
    elif isinstance(source, (str, os.PathLike)) and os.path.isdir(os.path.expanduser(source)):
        parts, source = _from_directory(source), "directory"
    else:
        raise ValueError(
            'source must be "auto", "keras" or the path of a directory of the four Fashion-MNIST '
            f"files; received {source!r}."
        )
    return _in_content_order(source, parts)


def _from_directory(directory):
    return providers.from_directory(Path(directory).expanduser(), providers.FASHION_FILES)


def _in_content_order(source, parts):
    named = zip(("train", "test"), parts, strict=True)
    return [providers.in_content_order(source, *each) for each in named], source
