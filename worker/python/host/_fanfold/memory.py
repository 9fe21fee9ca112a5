"""Keeps memory that was freed for the next mini-batch.

A frame of some megabytes takes as much again while it is read, and so do rows while they are made of a result. By default the C library gives large blocks back to the system as soon as
they are free, and the next frame gets them anew, page by page, each zeroed by the kernel: that takes as long as the parsing itself.
"""

import ctypes
import os

# mallopt(3): <malloc.h> of glibc.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
# What frames take; rows are made piece by piece.
FRAMES_BYTES = 1 << 30
ROWS_BYTES = 64 << 20
# Who sets one of these has thought about it.
_OWN_CHOICE = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")


def keep_freed(most_bytes):
    """Tells glibc so; other C libraries have their own ways and are left alone. Blocks up to so many bytes come from the heap then, and so much may
    lie free at its end. A larger one goes back at once, as ever."""
    if any(name in os.environ for name in _OWN_CHOICE):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_TRIM_THRESHOLD, most_bytes)
    mallopt(_M_MMAP_THRESHOLD, most_bytes)
