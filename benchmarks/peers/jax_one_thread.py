"""JAX held to one thread, for the reason in `ours_one_thread.py`: measured 0.85 of the time."""

import os

os.environ["NPROC"] = "1"  # how many processors XLA takes the machine to have, where JAX starts it

from .jax_scan import Peer  # noqa: F401 - XLA has to be told first
