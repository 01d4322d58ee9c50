"""How far a run has come, from its folder alone."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from albert_jax.study.costs import step_flops
from albert_jax.study.plan import Run
from albert_jax.train import manifest
from albert_jax.train.metrics import read_metrics
from albert_jax.train.run import CHECKPOINTS, METRICS

FAILED = "failed.json"

State = Literal["waiting", "running", "stopped", "failed", "finished"]


@dataclass(frozen=True)
class Standing:
    """A run of a study, as a reader of its table sees it."""

    run: Run
    state: State
    step: int = 0
    loss: float | None = None
    """Of masked LM, in training; None where there is none yet."""
    seconds_left: float | None = None
    error: str = ""
    """Why it failed."""

    @classmethod
    def of(cls, run: Run, state: State, **facts: Any) -> "Standing":
        """That of a run now, by the last lines of its log."""
        step, loss = 0, None
        for line in _log(run.folder):
            step = line.get("step", step)
            loss = line.get("train/masked_lm_loss", loss)
        return cls(run, state, step, loss, **facts)


def seconds_left(standings: Sequence[Standing]) -> float | None:
    """An estimate for all pretraining that is left: its FLOPs by formula, at the rate
    of the runs under way; None before they have a pace."""
    coming = [
        (
            standing,
            (standing.run.experiment.steps - standing.step) * _cost(standing.run),
        )
        for standing in standings
        if standing.run.task is None and standing.state in ("running", "waiting")
    ]
    rate = sum(flops / one.seconds_left for one, flops in coming if one.seconds_left)
    return sum(flops for _, flops in coming) / rate if rate else None


def _cost(run: Run) -> int:
    return len(run.seeds) * step_flops(run.experiment)


def is_finished(run: Run) -> bool:
    """Whether the log has the evaluation of the last step.

    Checkpoints need not be there. Where there are some, the last step's must be: it is
    written after the evaluation, and others may start from it.
    """
    last, tuning = run.experiment.steps, run.task is not None
    part = "dev/" if tuning else "eval/"
    if not any(
        line.get("step") == last and any(name.startswith(part) for name in line)
        for line in _log(run.folder)
    ):
        return False
    checkpoints = run.folder / CHECKPOINTS
    return (
        not checkpoints.exists() or (checkpoints / str(last) / manifest.NAME).exists()
    )


def write_failure(run: Run, error: str) -> None:
    """Leaves one line that says why a run failed; see ``read_failure``."""
    line = json.dumps({"error": " ".join(error.split())})
    with suppress(OSError):  # A full disk; whoever waits for the run is told as well.
        run.folder.mkdir(parents=True, exist_ok=True)
        (run.folder / FAILED).write_text(line + "\n")


def read_failure(run: Run) -> str:
    """Why a run failed; empty if it did not."""
    path = run.folder / FAILED
    return json.loads(path.read_text())["error"] if path.exists() else ""


def _log(folder: Path) -> list[dict[str, Any]]:
    path = folder / METRICS
    return list(read_metrics(path)) if path.exists() else []
