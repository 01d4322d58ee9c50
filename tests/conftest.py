"""What tests stand on: JAX on the CPU, no display, real data where it is found."""

import atexit
import gc
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import pytest

# Set before JAX starts, here and in every process that a test starts. What is already
# set wins: JAX_PLATFORMS=cuda runs the tests on a GPU.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")
# Tests compile far more than they compute: without these a tiny model's training step
# takes five times as long to compile. Products stay as fast, the rest becomes slower.
# One LLVM module a program: as tests keep every core busy, more only add up.
_FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if version("jaxlib").startswith("0.10."):
    _FLAGS += " --xla_cpu_use_fusion_emitters=false"  # Later versions do not know it.
os.environ.setdefault("XLA_FLAGS", _FLAGS)
# A program that several tests, workers or processes need is compiled once: the folder
# is this run's alone, and goes with it.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _PROGRAMS = tempfile.mkdtemp(prefix="albert_jax-programs-")
    atexit.register(shutil.rmtree, _PROGRAMS, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _PROGRAMS
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Processes that tests start need not compile the package's source, each one anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# JAX keeps what it has traced, and Python looks through all of it for garbage again and
# again: a twentieth of the time of the tests, at its own thresholds (700, 10, 10).
gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data: ALBERT_JAX_DATA, or shared/data beside the clone."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ALBERT_JAX_DATA", beside))
    if not folder.is_dir():
        pytest.skip("no real data: set ALBERT_JAX_DATA to the folder that holds it")
    return folder
