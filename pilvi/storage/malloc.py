"""How the C library treats the memory of large pieces: keep it for the next one instead of giving it back at once.

By default glibc returns every freed block of some hundred KiB to the kernel, and the next piece of an object faults each of its
pages in again. On a stream of 64 MiB that was more than half of all CPU: 80-117 ms a GET with it, 37-44 ms without (2 cores,
Python 3.11, encrypted, pieces of 1 MiB). What is kept is bounded: TRIM_BYTES for each of ARENAS.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache

TRIM_BYTES = 8 << 20
MMAP_BYTES = 4 << 20
ARENAS = 2

# The numbers of <malloc.h>, the same for every glibc; other C libraries have no mallopt and are left as they are.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


@lru_cache(1)
def keep_large_pieces() -> bool:
    """Ask once for the whole process; whether the C library can."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_ARENA_MAX, ARENAS), (_M_MMAP_THRESHOLD, MMAP_BYTES), (_M_TRIM_THRESHOLD, TRIM_BYTES))
    taken = [mallopt(option, value) == 1 for option, value in settings]
    return all(taken)
