"""How many compiled kernels a process keeps on a CPU."""

from __future__ import annotations

import os

_N_KERNELS = "128"


def keep_few_kernels() -> None:
    """Let oneDNN keep 128 kernels, not one for each of the last 1,024 shapes, which take more than a megabyte apiece.

    To be called before anything is computed. A number that is set in the environment stays.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _N_KERNELS)
