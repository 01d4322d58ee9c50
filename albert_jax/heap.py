"""What a process has freed stays with it, for its next step.

XLA allocates a program's temporary memory anew in every call. On a CPU it comes from
the C library, and glibc gives blocks of more than 32 MiB back to the system at once,
which then hands them out again page by page, filled with zeros.

For command lines: a library leaves such choices to whoever imports it.
"""

import ctypes
import os

# What mallopt(3) calls the parameters that the environment knows by these names.
_MALLOPT = {
    "MALLOC_TRIM_THRESHOLD_": -1,
    "MALLOC_MMAP_MAX_": -4,
    "MALLOC_ARENA_MAX": -8,
}


def keep_heap() -> None:
    """Lets the C library keep what is freed.

    The process then holds its peak of memory until it ends. Nothing is done where the
    environment says itself how to allocate, or where the C library is not glibc. Call
    it before threads are started.
    """
    chosen = any(name.startswith("MALLOC_") for name in os.environ)
    if chosen or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        for name, value in settings(len(os.sched_getaffinity(0))).items():
            mallopt(_MALLOPT[name], value)


def settings(cores: int) -> dict[str, int]:
    """How to allocate on so many cores, by the names of environment variables.

    Blocks of more than 64 MiB are kept in the main arena alone. Threads of one core
    can share it; those of several have their own, since sharing one took from a step
    of the demo all that keeping had won.
    """
    kept = {"MALLOC_MMAP_MAX_": 0, "MALLOC_TRIM_THRESHOLD_": -1}
    return kept | {"MALLOC_ARENA_MAX": 1} if cores == 1 else kept
