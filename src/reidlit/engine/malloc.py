"""Memory allocator settings for training on a CPU."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # from malloc.h of glibc
PAD = 64 << 20


def keep_freed_memory() -> bool:
    """Keep freed memory in the process instead of returning it to the system.

    Activations are large, so glibc maps memory for each and unmaps it when it is freed. With 256 x 128 images this
    costs tens of thousands of page faults per step. With these settings, the process keeps its peak memory.

    Returns:
        True if the settings were accepted. Only glibc on Linux has them.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, PAD))
    accepted = [mallopt(option, value) == 1 for option, value in settings]
    return all(accepted)
