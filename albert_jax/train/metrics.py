"""Weighted means, and the log that keeps them: JSON lines, TensorBoard, W&B.

tensorboardX and wandb are optional, and imported only where a log uses them.
"""

import importlib.util
import json
import math
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from numbers import Integral
from pathlib import Path
from typing import Any, SupportsFloat

import jax

from albert_jax.config import UserError
from albert_jax.model.losses import Sums
from albert_jax.train.progress import Progress

__all__ = ["MetricsLog", "Progress", "Sums", "add", "means", "read_metrics"]


def add(a: Sums, b: Sums) -> Sums:
    """The sums over both parts; a metric that one part lacks counts as nothing there.

    Pure, for use inside or outside ``jit``; ``{}`` is the sum over nothing.
    """
    nothing = (0.0, 0.0)
    return {
        name: tuple(
            x + y
            for x, y in zip(a.get(name, nothing), b.get(name, nothing), strict=True)
        )
        for name in {**a, **b}
    }


def means(sums: Sums) -> dict[str, float]:
    """Metric -> weighted mean, fetched from the devices; none where no weight is."""
    fetched = jax.device_get(sums)
    return {
        name: float(total) / float(weight)
        for name, (total, weight) in fetched.items()
        if weight
    }


class MetricsLog:
    """The metrics of a run, in ``metrics.jsonl`` and wherever else the user looks.

    TensorBoard event files go to ``tensorboard/`` if tensorboardX is installed, and
    Weights & Biases gets them if wandb is installed and ``WANDB_API_KEY`` or
    ``WANDB_MODE`` is set; its run id is kept in ``wandb.id``. A context manager.

    Of several processes only the first one writes.

    Args:
      run: The run's folder.
      resume_step: Step that the run resumes from: what was logged after it is cut off.
        None: the run starts at its beginning, and an earlier attempt's lines go.
    """

    def __init__(self, run: Path, *, resume_step: int | None) -> None:
        self._writers: list[Any] = []
        if jax.process_index() != 0:
            return
        run.mkdir(parents=True, exist_ok=True)
        last = -1 if resume_step is None else resume_step
        self._writers.append(_JsonLines(run / "metrics.jsonl", last))
        if importlib.util.find_spec("tensorboardX"):
            self._writers.append(_TensorBoard(run / "tensorboard", last))
        configured = os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_MODE")
        if configured and importlib.util.find_spec("wandb"):
            self._writers.append(_WeightsAndBiases(run))

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *error: Any) -> None:
        for writer in self._writers:
            writer.close()

    def write(self, step: int, values: Mapping[str, SupportsFloat]) -> None:
        """Log the values that belong to a step: numbers, or arrays of one number."""
        plain = {
            name: int(value) if isinstance(value, Integral) else float(value)
            for name, value in values.items()
        }
        for writer in self._writers:
            writer.write(step, plain)


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a ``metrics.jsonl``; one that a crash cut short is left out."""
    for line in path.read_bytes().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            yield entry


class _JsonLines:
    """One object a line, flushed at once; what is not finite is written as null."""

    def __init__(self, path: Path, last: int) -> None:
        self._path = path
        with _writing(path):
            if path.exists():
                _cut_back(path, last)
            self._file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, step: int, values: dict[str, int | float]) -> None:
        finite = {n: v if math.isfinite(v) else None for n, v in values.items()}
        with _writing(self._path):
            self._file.write(json.dumps({"step": step} | finite) + "\n")

    def close(self) -> None:
        with suppress(OSError):  # Each line was flushed.
            self._file.close()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def _cut_back(path: Path, last: int) -> None:
    """Keep the lines up to step ``last``, and those without one; all or nothing."""
    kept = [entry for entry in read_metrics(path) if entry.get("step", last) <= last]
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in kept)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class _TensorBoard:
    """Event files, written where they are asked for.

    tensorboardX's ``SummaryWriter`` writes from a thread, which on a full disk prints
    tracebacks of its own.
    """

    def __init__(self, folder: Path, last: int) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.summary import scalar

        folder.mkdir(exist_ok=True)
        self._folder, self._event, self._scalar = folder, Event, scalar
        with _writing(folder):
            self._writer = EventsWriter(str(folder / "events"))
            # TensorBoard hides what earlier files hold from this step on.
            begun = SessionLog(status=SessionLog.START)
            self._writer.write_event(Event(step=last + 1, session_log=begun))

    def write(self, step: int, values: dict[str, int | float]) -> None:
        now = time.time()
        with _writing(self._folder):
            for name, value in values.items():
                summary = self._scalar(name, value)
                self._writer.write_event(
                    self._event(wall_time=now, step=step, summary=summary)
                )
            self._writer.flush()

    def close(self) -> None:
        with suppress(OSError):  # Each write was flushed.
            self._writer.close()


class _WeightsAndBiases:
    def __init__(self, run: Path) -> None:
        import wandb

        name = run / "wandb.id"
        if not name.exists():
            name.write_text(uuid.uuid4().hex)
        experiment = run / "experiment.json"
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "albert-jax"),
            name=run.resolve().name,
            id=name.read_text(),
            resume="allow",
            dir=str(run),
            config=json.loads(experiment.read_text()) if experiment.exists() else None,
        )
        # Its own counter cannot go back, as a run that resumes must: log ours beside.
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, values: dict[str, int | float]) -> None:
        self._run.log({"step": step} | values)

    def close(self) -> None:
        self._run.finish()
