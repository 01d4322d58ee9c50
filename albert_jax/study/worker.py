"""One run of a study, in the process that trains it."""

import fcntl
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from albert_jax.config import UserError
from albert_jax.heap import keep_heap
from albert_jax.study.plan import Run
from albert_jax.study.standing import FAILED, is_finished, write_failure

if TYPE_CHECKING:
    from rich.console import Console


BUSY = os.EX_TEMPFAIL  # Exit code where another process trains the run.


class BusyError(UserError):
    """Another process trains the run."""


def train(
    run: Run,
    *,
    accept_changes: bool = False,
    console: "Console | None" = None,
    report: Callable[[str], None],
    stopping: Callable[[], bool],
) -> None:
    """Trains a run from where its folder left off; one that is finished is left alone.

    Whatever goes wrong is also written into its folder.

    Args:
      accept_changes, console, report, stopping: see ``pretrain`` and ``finetune``.

    Raises:
      BusyError: another process trains it.
      Exception: what ``pretrain`` and ``finetune`` raise.
    """
    with _held(run.folder):
        if is_finished(run):
            return
        (run.folder / FAILED).unlink(missing_ok=True)
        if run.task is None:
            from albert_jax.interop.pretraining import pretrain as start
        else:
            from albert_jax.finetuning.finetune import finetune as start
        try:
            start(
                run.experiment,
                run.folder,
                accept_changes=accept_changes,
                console=console,
                report=report,
                stopping=stopping,
            )
        except UserError as error:
            write_failure(run, str(error))
            raise
        except Exception as error:
            write_failure(run, f"{type(error).__name__}: {error}")
            raise


def work(run: Run, log: Path, accept_changes: bool, seconds: float | None) -> None:
    """``train`` as the whole of a process, which a runner has started.

    All that it prints is added to a file. SIGTERM lets it save and end, and so does the
    end of the runner. Ctrl-C reaches the whole process group; the runner answers it.

    Args:
      seconds: train no longer, counted from the third step on, but ten steps at least;
        None trains to the end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_heap()
    stopping = _Stopping(seconds)
    log.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(file, stream.fileno())
    from rich.console import Console

    from albert_jax.programs import keep_programs

    console = Console()

    def report(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    keep_programs(report)
    try:
        train(
            run,
            accept_changes=accept_changes,
            console=console,
            report=report,
            stopping=stopping,
        )
    except UserError as error:
        report(str(error))
        sys.exit(BUSY if isinstance(error, BusyError) else 2)
    except Exception:
        traceback.print_exc()
        sys.exit(1)


class _Stopping:
    """Whether to stop before the next step."""

    def __init__(self, seconds: float | None) -> None:
        self._told = False
        self._seconds = seconds
        self._asked, self._since = 0, 0.0
        self._parent = multiprocessing.parent_process()
        signal.signal(signal.SIGTERM, self._receive)

    def _receive(self, number: int, frame: object) -> None:
        self._told = True

    def __call__(self) -> bool:
        self._asked += 1
        if self._asked == 3:  # The first step is compiled.
            self._since = time.monotonic()
        late = (
            self._seconds is not None
            and self._asked > 10
            and time.monotonic() - self._since > self._seconds
        )
        return self._told or late or not self._parent.is_alive()


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """A run's folder, made if need be, for this process alone."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise BusyError(f"{folder} is being trained by another process") from None
    finally:
        os.close(descriptor)
