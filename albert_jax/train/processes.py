"""Several processes as one run: who they are, what the first does, where they meet.

Every process runs the same program over the same mesh. What leaves the devices, files
and lines, is the first one's business; what decides the way of all is agreed upon.
"""

import importlib.util
import itertools
import os
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from albert_jax.config import UserError

# Set by a launcher in its tasks -> what says how many there are.
_TASKS = {
    "SLURM_STEP_NODELIST": "SLURM_NTASKS",
    "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_SIZE",
}
_PATIENCE = 7 * 24 * 3600 * 1000  # ms; the first may have a whole corpus to prepare
# Seconds that one that ends waits for the others to end; then they end with an error.
_FAREWELL = 30
_meetings = itertools.count()


def join(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Joins the other processes of the run; does nothing where there are none.

    Without arguments JAX finds them on a TPU pod, under SLURM and under Open MPI. Comes
    before anything that touches a device.

    Raises:
      UserError: only some are given, they contradict each other, or JAX does not know
        the launcher.
    """
    given = {
        "coordinator_address": coordinator_address,
        "num_processes": num_processes,
        "process_id": process_id,
    }
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == 3:
        _join_launched()
        return
    if missing:
        raise UserError(
            f"{' and '.join(missing)} must be given too, or none of "
            f"{', '.join(given)} where a launcher tells them"
        )
    host, _, port = coordinator_address.rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(
            f"coordinator_address is {coordinator_address!r}, but it must be HOST:PORT"
        )
    if not 0 <= process_id < num_processes:
        raise UserError(
            f"process_id is {process_id}, but it must be 0 to num_processes - 1 = "
            f"{num_processes - 1}"
        )
    jax.distributed.initialize(
        coordinator_address,
        num_processes,
        process_id,
        cluster_detection_method="deactivate",
        shutdown_timeout_seconds=_FAREWELL,
    )


def _join_launched() -> None:
    tasks = [os.environ.get(n, "1") for mark, n in _TASKS.items() if mark in os.environ]
    launched = any(count != "1" for count in tasks)
    # A single task is none: JAX would show it one of its GPUs only.
    if not launched and (tasks or not importlib.util.find_spec("libtpu")):
        return
    try:
        jax.distributed.initialize(shutdown_timeout_seconds=_FAREWELL)
    except ValueError as error:
        # So it says that it knows no such launcher; libtpu alone makes no pod.
        if "should be defined" not in str(error):
            raise
        if launched:
            raise UserError(
                "a launcher has started several processes, but JAX does not find them; "
                "give --coordinator-address, --num-processes and --process-id"
            ) from error


def first() -> bool:
    """Whether this process writes and prints: one does."""
    return jax.process_index() == 0


def alone() -> bool:
    """Whether it is the only one."""
    return jax.process_count() == 1


def meet(place: str) -> None:
    """Waits until every process has come to this place of the program."""
    if alone():
        return
    from orbax.checkpoint import multihost

    # Not a collective of the devices: those give up on a late process after 30 s.
    wait = multihost.get_barrier_sync_fn()
    wait(key=f"albert_jax {next(_meetings)}: {place}", timeout_ms=_PATIENCE)


def agreed(value: int) -> int:
    """The first process's value, of less than 31 bits, for all of them."""
    if alone():
        return value
    meet("agreed")
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def alike(value: int) -> bool:
    """Whether all processes have the same value, of less than 31 bits."""
    if alone():
        return True
    meet("alike")
    return len(set(multihost_utils.process_allgather(np.int32(value)).tolist())) == 1


def preemption() -> Callable[[], bool]:
    """To be asked before every step: once any process has had a SIGTERM, it says yes to
    all of them, before the same step."""
    steps = itertools.count()
    return lambda: multihost_utils.reached_preemption_sync_point(next(steps))
