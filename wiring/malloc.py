"""Where processes that pass pictures on get their memory from."""

from __future__ import annotations

import ctypes

# From glibc's malloc.h; mallopt(3) explains them.
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8

#: Buffers of this size and more are given back as soon as they are free: the size of a stream's pieces.
THRESHOLD_BYTES = 64 * 1024
MAX_ARENAS = 2


def bound_malloc() -> None:
    """Have large buffers given back to the system as soon as they are free; what is forked inherits it.

    Left alone, glibc keeps what streams pass through, in up to eight pools per processor core, and
    raises the size from which it does not: 20 large streams at once then cost several times the memory
    that they hold (docs/benchmarks.md), and a worker of jobs grows with each picture that it renders.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return  # not glibc: nothing of this is true there
    mallopt(M_ARENA_MAX, MAX_ARENAS)
    mallopt(M_MMAP_THRESHOLD, THRESHOLD_BYTES)
