"""The code before, with TensorFlow held to one thread, as in `ours_one_thread.py`."""

from . import ours_one_thread  # noqa: F401 - TensorFlow has to be told first
from .before import Peer  # noqa: F401
