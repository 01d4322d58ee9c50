"""Compiled programs, kept from one start to the next.

For command lines: a library leaves such choices to whoever imports it.
"""

import os
import platform
from collections.abc import Callable
from pathlib import Path

import jax

from albert_jax.identity import digest


def keep_programs(report: Callable[[str], None]) -> None:
    """Lets JAX keep what it compiles where ``JAX_COMPILATION_CACHE_DIR`` says, or else
    in ``albert_jax`` in the user's cache folder (``XDG_CACHE_HOME`` or ``~/.cache``).

    Call it before anything is compiled.

    Args:
      report: hears why nothing is kept, if the folder cannot be made.
    """
    # Loading a program takes milliseconds, so that all but the smallest are worth it.
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(home, "albert_jax", processor())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        report(f"compiled programs are not kept: {folder}: {error.strerror}")
    else:
        jax.config.update("jax_compilation_cache_dir", str(folder))


def processor() -> str:
    """A name for this kind of processor: JAX does not look whether a program that is
    kept uses what this one lacks, and a cache folder may serve several machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    kinds = ("model name", "flags", "CPU part", "Features")
    described = sorted({line for line in lines if line.startswith(kinds)})
    return f"{platform.machine()}-{digest(described)[:12]}"
