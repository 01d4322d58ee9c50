"""What is freed stays with a command's process, and with a study's."""

import os
import platform
import subprocess
import sys

import pytest

from albert_jax.heap import settings

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="the C library is not glibc"
)

_PAGES = """
import os, resource, sys, threading
from pathlib import Path

def fresh_pages():
    bytearray(2**27)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(2**27)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def of_a_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(fresh_pages()))
    thread.start()
    thread.join()
    return found[0]
"""

COMMAND = """
from albert_jax.cli import main
main(["report", "nothing"])
print(fresh_pages())
"""

WORKER = """
from albert_jax.study import worker
worker.train = lambda run, **options: print(fresh_pages())
worker.work(None, Path(sys.argv[1]), False, None)
"""

ON_ONE_CORE = """
os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])
from albert_jax.heap import keep_heap
keep_heap()
print(of_a_thread())
"""

ENVIRONMENT_ALONE = "print(fresh_pages())"


def fresh_pages(program, log, **variables) -> int:
    """Pages that the system hands to a process for 128 MiB, which it had before."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _PAGES + program, str(log)],
        env=kept | variables | {"PYTHONPATH": ":".join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return int(done.stdout or log.read_text())


@pytest.mark.parametrize(
    "program", [COMMAND, WORKER, ON_ONE_CORE], ids=["command", "worker", "one core"]
)
def test_what_is_freed_is_used_again(program, tmp_path):
    assert fresh_pages(program, tmp_path / "log") < 16


def test_settings_are_those_of_the_environment(tmp_path):
    chosen = {name: str(value) for name, value in settings(1).items()}
    assert fresh_pages(ENVIRONMENT_ALONE, tmp_path / "log", **chosen) < 16


@pytest.mark.parametrize(
    "chosen",
    [{"MALLOC_TOP_PAD_": "65536"}, {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=3"}],
    ids=["variable", "tunable"],
)
def test_an_environment_that_says_how_to_allocate_is_left_alone(chosen, tmp_path):
    # Pages may be of 2 MiB.
    assert fresh_pages(COMMAND, tmp_path / "log", **chosen) >= 64
