"""Runs of a study, each in a process of its own, several at once."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from albert_jax.study.machine import Place
from albert_jax.study.plan import Run
from albert_jax.study.standing import (
    FAILED,
    Standing,
    is_finished,
    read_failure,
    write_failure,
)
from albert_jax.study.worker import BUSY, work

Worker = Callable[[Run, Path, bool, float | None], None]
Observer = Callable[[Sequence[Standing]], None]

_POLL_SECONDS = 1.0


def train_all(
    runs: Sequence[Run],
    places: Sequence[Place],
    observe: Observer = lambda standings: None,
    stopping: Callable[[], bool] = lambda: False,
    *,
    accept_changes: bool = False,
    seconds: float | None = None,
    work: Worker = work,
) -> list[Standing]:
    """Trains what is not finished, in order, as many at once as there are places.

    A run that fails, or whose process is killed, does not stop the others, except those
    that start from it. Once ``stopping`` says yes, all save and end.

    Args:
      observe: shown how far every run is, now and then.
      accept_changes: resume although settings differ.
      seconds: train each no longer; see ``work``.
      work: what a process does.

    Returns:
      How far every run is at the end.
    """
    desk = _Desk(runs, work, accept_changes, seconds)
    free = list(places)
    try:
        while True:
            if stopping():
                desk.stop()
            while free and (run := desk.next()):
                desk.start(run, free.pop(0))
            observe(desk.standings())
            if not desk.working:
                return desk.standings()
            processes = [one.process.sentinel for one in desk.working]
            connection.wait(processes, timeout=_POLL_SECONDS)
            free += desk.collect()
    finally:
        for one in desk.working:
            one.process.kill()
            one.process.join()


@dataclass
class _Process:
    """A process that trains a run."""

    run: Run
    place: Place
    process: BaseProcess
    since: tuple[float, int] | None = None
    """When its first step was seen, and which it was."""

    def standing(self) -> Standing:
        now, found = time.monotonic(), Standing.of(self.run, "running")
        if found.step and self.since is None:
            self.since = (now, found.step)
        if self.since is None or found.step == self.since[1]:
            return found
        pace = (now - self.since[0]) / (found.step - self.since[1])
        left = self.run.experiment.steps - found.step
        return replace(found, seconds_left=pace * left)


class _Desk:
    """Which runs wait, which are trained, and what became of the others."""

    def __init__(
        self,
        runs: Sequence[Run],
        work: Worker,
        accept_changes: bool,
        seconds: float | None,
    ) -> None:
        self._runs, self._work = runs, work
        self._arguments: tuple[Any, ...] = (accept_changes, seconds)
        self._timed = seconds is not None
        self._stopped = False
        self._ended: dict[Path, Standing] = {
            run.folder: Standing.of(run, "finished") for run in runs if is_finished(run)
        }
        self._waiting = [run for run in runs if run.folder not in self._ended]
        self.working: list[_Process] = []

    def next(self) -> Run | None:
        """The next run that can be started; those that never can fail."""
        for run in [] if self._stopped else list(self._waiting):
            if run.after is None or is_finished(run.after):
                self._waiting.remove(run)
                return run
            if not self._is_coming(run.after):
                self._waiting.remove(run)
                self._fail(run, f"it starts from {run.after.title}, not finished yet")
        return None

    def _is_coming(self, wanted: Run) -> bool:
        coming = [*self._waiting, *(one.run for one in self.working)]
        return any(run.folder == wanted.folder for run in coming)

    def start(self, run: Run, place: Place) -> None:
        # Before it, so that what is there at the end is of this time.
        (run.folder / FAILED).unlink(missing_ok=True)
        log = run.folder.with_name(f"{run.folder.name}.log")
        spawn = multiprocessing.get_context("spawn")
        process = spawn.Process(target=self._work, args=(run, log, *self._arguments))
        with place.taken():
            process.start()
        self.working.append(_Process(run, place, process))

    def stop(self) -> None:
        """Lets those at work save and end, and starts no more."""
        if not self._stopped:
            for one in self.working:
                one.process.terminate()
        self._stopped = True

    def collect(self) -> list[Place]:
        """Sees to the processes that have ended; returns their places."""
        ended = [one for one in self.working if not one.process.is_alive()]
        for one in ended:
            self.working.remove(one)
            one.process.join()
            self._conclude(one.run, one.process.exitcode)
        return [one.place for one in ended]

    def _conclude(self, run: Run, code: int) -> None:
        if code == 0 and (self._timed or is_finished(run)):
            self._end(run, "finished")
        elif code == 0 or (self._stopped and code < 0):
            self._end(run, "stopped")
        elif code == BUSY:
            self._end(run, "failed", error="another process trains it")
        elif not (error := read_failure(run)):
            log = run.folder.with_name(f"{run.folder.name}.log")
            how = f"by signal {-code}" if code < 0 else f"with {code}"
            self._fail(run, f"its process ended {how}; its log is {log}")
        else:
            self._end(run, "failed", error=error)

    def _fail(self, run: Run, error: str) -> None:
        write_failure(run, error)
        self._end(run, "failed", error=error)

    def _end(self, run: Run, state: Any, **facts: Any) -> None:
        self._ended[run.folder] = Standing.of(run, state, **facts)

    def standings(self) -> list[Standing]:
        """Of all runs, in their order."""
        working = {one.run.folder: one.standing() for one in self.working}
        known = self._ended | working
        return [
            known.get(run.folder) or Standing.of(run, "waiting") for run in self._runs
        ]
