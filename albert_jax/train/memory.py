"""What becomes of the memory that a step on a CPU frees."""

import ctypes

# Parameters of glibc's mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Lets the C library keep what a step frees for the next one.

    On a CPU, XLA allocates a step's temporary memory anew each time, and glibc hands
    that much back to the system at once, which then clears every page of it again: 5 %
    of a base step, a fifth of the demo's. Holds for the whole process, so it is a
    program's to call, not a library's, and before JAX starts its threads, which may not
    share one heap else. Other C libraries have no ``mallopt``; there it does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_ARENA_MAX, 1)
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
