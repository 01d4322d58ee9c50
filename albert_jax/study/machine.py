"""What a study runs on: its cores or devices, shared out among processes."""

import contextlib
import multiprocessing
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from albert_jax.config import UserError
from albert_jax.config.study import Study

# Share of a device's memory that a formula may fill: it is off by a tenth at times.
_FILLED = 0.8


@dataclass(frozen=True)
class Machine:
    """The devices there are, and what a study asks of them."""

    platform: str
    """As JAX calls it: cpu, gpu or tpu."""
    devices: int
    memory: int
    """Bytes of a device; of a CPU, all that the machine has."""
    needed: int
    """Bytes that one seed of the largest arm needs on a device."""
    paper_parameters: Mapping[str, int]
    """See ``Record``."""

    @classmethod
    def of(cls, study: Study, paper: Study | None) -> "Machine":
        """This machine, looked at from a process of its own: one that has opened an
        accelerator keeps others from it."""
        if os.environ.get("JAX_PLATFORMS") == "cpu":
            return _look(study, paper)
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, spawn) as pool:
            return pool.submit(_look, study, paper).result()

    @property
    def jobs(self) -> int:
        """Runs at once by default: as many as cores on a CPU, else one."""
        return len(os.sched_getaffinity(0)) if self.platform == "cpu" else 1

    def together(self, seeds: int, jobs: int) -> int:
        """As many of the seeds as fit into memory in one program, at least one."""
        memory = self.memory // (jobs if self.platform == "cpu" else 1)
        return min(seeds, max(1, int(_FILLED * memory) // self.needed))


@dataclass(frozen=True)
class Place:
    """A process's part of the machine."""

    cores: tuple[int, ...] = ()
    """That it runs on; all if there are none."""
    environment: Mapping[str, str] = field(default_factory=dict)

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """What is started meanwhile by this thread runs in this place."""
        before = {name: os.environ.get(name) for name in self.environment}
        cores = os.sched_getaffinity(0)
        os.environ.update(self.environment)
        if self.cores:
            os.sched_setaffinity(0, self.cores)
        try:
            yield
        finally:
            os.sched_setaffinity(0, cores)
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def places(machine: Machine, jobs: int, together: int) -> list[Place]:
    """A place for each of the processes that run at once.

    On a CPU every one has its share of the cores: two pinned processes of one thread
    train a small model 1.28 times as fast as one of two threads. Several seeds in one
    program need a single device.

    Raises:
      UserError: more ``jobs`` than cores or devices.
    """
    cores = sorted(os.sched_getaffinity(0))
    cpu = machine.platform == "cpu"
    there = len(cores) if cpu else machine.devices
    if not 0 < jobs <= there:
        raise UserError(
            f"jobs is {jobs}, but it must be 1 to {there}, the number of "
            + ("cores" if cpu else "devices")
        )
    if cpu:
        return [Place(cores=tuple(cores[n::jobs])) for n in range(jobs)]
    if jobs == 1 and (together == 1 or there == 1):
        return [Place()]
    if machine.platform != "gpu":
        raise UserError(
            f"jobs is {jobs} with {together} seeds together, but a {machine.platform}"
            f" of {there} devices is not shared out: give --together 1 and --jobs 1"
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = visible if visible != [""] else [str(n) for n in range(there)]
    each = 1 if together > 1 else there // jobs
    shares = [names[n * each : (n + 1) * each] for n in range(jobs)]
    return [Place(environment={"CUDA_VISIBLE_DEVICES": ",".join(s)}) for s in shares]


def _look(study: Study, paper: Study | None) -> Machine:
    import jax

    from albert_jax.study.parameters import paper_parameters
    from albert_jax.train.footprint import footprint

    device = jax.devices()[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if device.platform != "cpu":
        memory = device.memory_stats()["bytes_limit"]
    needed = [
        footprint(arm)["bytes_per_device"]["total"] for arm in study.arms.values()
    ]
    return Machine(
        platform=device.platform,
        devices=jax.device_count(),
        memory=memory,
        needed=max(needed),
        paper_parameters=paper_parameters(study, paper) if paper else {},
    )
