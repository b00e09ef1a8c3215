"""vae_tf of another checkout, which comes first in this process's PYTHONPATH: the code before."""

import os
from pathlib import Path

import vae_tf

from .ours import Peer  # noqa: F401 - the same calls, which both know

if not Path(vae_tf.__file__).is_relative_to(os.environ["PYTHONPATH"]):
    raise ImportError(f"the code before was to be measured; found {vae_tf.__file__}")
