"""Memory that a training step on the CPU frees and needs again in the next one."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # glibc's malloc.h
PAD = 64 << 20


def keep_freed_memory() -> bool:
    """Keep freed memory in the process instead of giving it back to the system.

    Activations are large, so that glibc maps each from the system and unmaps it when it is freed; at 256 x 128 a step then
    pays for tens of thousands of page faults. Afterwards the process stays as large as it ever was.

    Returns:
        Whether the C library has such a setting; only glibc's, on Linux, does.
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
