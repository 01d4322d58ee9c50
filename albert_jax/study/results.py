"""What a study's folder holds: how far every arm and seed has come, and its metrics.

    study.json                      the study, its scale, every arm's steps
    ARM/seeds-0-4/, ARM/seed-3/     runs of several seeds, or of one: metrics.jsonl
    ARM/TASK/                       fine-tuned: results-dev.json, of some or all seeds
    .../failed.json                 why a run failed

A run of several seeds logs each seed's value as ``METRIC/seed-N``. Checkpoints are not
looked at: the small files of a study suffice.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from albert_jax.config import PretrainingExperiment, UserError
from albert_jax.config.finetuning import FinetuningExperiment
from albert_jax.config.study import Claim, Study
from albert_jax.identity import from_dict
from albert_jax.study.record import STUDY
from albert_jax.study.standing import FAILED
from albert_jax.train.metrics import read_metrics
from albert_jax.train.run import METRICS

RESULTS = "results-dev.json"
UNIGRAM = "eval/unigram_accuracy"

Curve = Mapping[int, float]
"""Step -> value."""


@dataclass(frozen=True)
class Progress:
    """How far a seed of an arm has come."""

    state: Literal["finished", "unfinished", "failed", "not started"]
    step: int = 0
    """The last one that was logged."""
    error: str = ""
    """Why it failed, in one line."""


@dataclass(frozen=True)
class Arm:
    """What there is of one arm."""

    name: str
    experiment: PretrainingExperiment
    steps: int
    """After the study's budget."""
    progress: Mapping[int, Progress]
    """Of every seed of the study."""
    curves: Mapping[str, Mapping[int, Curve]]
    """Held-out metric -> seed -> what was logged."""
    scores: Mapping[str, Mapping[int, float]]
    """Metric of the last step, or of a task -> seed -> value; NaN where it was none.
    Of seeds that are not finished there is nothing."""
    failed_tasks: Mapping[str, str] = field(default_factory=dict)
    """Task -> why its fine-tuning failed."""
    unigram: float | None = None
    """What always answering the commonest piece comes to on its held-out rows."""


@dataclass(frozen=True)
class StudyResults:
    """A study and what its arms came to, in the study's order."""

    study: Study
    scale: str
    arms: Mapping[str, Arm]
    paper_parameters: Mapping[str, int]
    """Arm -> parameters of its counterpart at the paper's scale, where that is said."""


def read_study(folder: str | Path) -> StudyResults:
    """All that a study's folder tells.

    Raises:
      UserError: not a study's folder, a file in it is damaged, or a run in it is not
        the study's.
    """
    folder = Path(folder)
    if not (folder / STUDY).is_file():
        raise UserError(
            f"{folder} is not a study: it has no {STUDY}, which albert-jax study writes"
        )
    record = _read_json(folder / STUDY)
    try:
        study = study_of(record["study"])
        scale, steps = record["scale"], dict(record["steps"])
    except KeyError as error:
        raise UserError(f"{folder / STUDY} is damaged: no {error}") from None
    arms = {name: _read_arm(folder, study, name, steps[name]) for name in study.arms}
    return StudyResults(study, scale, arms, record.get("paper_parameters", {}))


def study_of(values: Mapping[str, Any]) -> Study:
    """The study that ``to_dict`` was made of."""
    kinds = {"claims": Claim, "tasks": FinetuningExperiment}
    parsed = {
        name: tuple(from_dict(kinds[name], one) for one in value)
        if name in kinds
        else value
        for name, value in values.items()
    }
    arms = {
        name: from_dict(PretrainingExperiment, one)
        for name, one in values["arms"].items()
    }
    return from_dict(Study, parsed | {"arms": arms})


def _read_arm(folder: Path, study: Study, name: str, steps: int) -> Arm:
    progress = dict.fromkeys(range(study.seeds), Progress("not started"))
    curves: dict[str, dict[int, Curve]] = {}
    unigram = None
    for _, run, seeds in _runs(folder / name):
        log = _Log(run, seeds, _failure(run, folder))
        reached = log.progress(steps)
        for seed in seeds:
            if seed not in progress:
                raise UserError(
                    f"{run} has seed {seed}, but the study's are 0 to {study.seeds - 1}"
                )
            if progress[seed].state == "finished":
                if reached.state == "finished":
                    raise UserError(
                        f"{run} has seed {seed}, which another run of {name} has too; "
                        "remove one of them"
                    )
                continue
            progress[seed] = reached
            for metric, curve in log.curves(seed).items():
                curves.setdefault(metric, {})[seed] = curve
        if log.unigram is not None:
            unigram = log.unigram
    finished = {s for s, reached in progress.items() if reached.state == "finished"}
    scores: dict[str, dict[int, float]] = {
        metric: {
            seed: curve[steps]
            for seed, curve in by_seed.items()
            if seed in finished and steps in curve
        }
        for metric, by_seed in curves.items()
    }
    failed = {}
    for task in study.tasks:
        called = task.task.name
        scored, error = _read_task(folder, folder / name / called)
        scores |= {f"{called}/{one}": by_seed for one, by_seed in scored.items()}
        if error:
            failed[called] = error
    return Arm(name, study.arms[name], steps, progress, curves, scores, failed, unigram)


def _runs(folder: Path) -> list[tuple[int, Path, tuple[int, ...]]]:
    """The first seed, folder and all seeds of every run of an arm or task, in order."""
    found = []
    for run in folder.glob("seed*"):
        if named := re.fullmatch(r"seeds?-(\d+)(?:-(\d+))?", run.name):
            first, last = int(named[1]), int(named[2] or named[1])
            found.append((first, run, tuple(range(first, last + 1))))
    return sorted(found)


class _Log:
    """The held-out metrics of a run; of a step logged twice, the later line holds."""

    def __init__(self, run: Path, seeds: tuple[int, ...], error: str) -> None:
        self._seeds, self._error = seeds, error
        self._values: dict[str, dict[int, float]] = {}
        self._last = 0
        self.unigram: float | None = None
        path = run / METRICS
        for entry in read_metrics(path) if path.is_file() else ():
            step = entry.pop("step", None)
            if not isinstance(step, int):
                continue
            self._last = max(self._last, step)
            self.unigram = entry.pop(UNIGRAM, self.unigram)
            for metric, value in entry.items():
                if metric.startswith("eval/"):
                    number = math.nan if value is None else float(value)
                    self._values.setdefault(metric, {})[step] = number

    def progress(self, steps: int) -> Progress:
        """Of all seeds, which go on together: finished once the last step is
        evaluated."""
        if any(steps in curve for curve in self._values.values()):
            return Progress("finished", steps)
        if self._error:
            return Progress("failed", self._last, self._error)
        return Progress("unfinished", self._last)

    def curves(self, seed: int) -> dict[str, Curve]:
        """Metric -> its values for a seed."""
        if len(self._seeds) == 1:
            return self._values
        ending = f"/seed-{seed}"
        return {
            metric.removesuffix(ending): curve
            for metric, curve in self._values.items()
            if metric.endswith(ending)
        }


def _read_task(folder: Path, task: Path) -> tuple[dict[str, dict[int, float]], str]:
    """Score -> seed -> value of the fine-tuning runs of a task, and why one failed."""
    scores: dict[str, dict[int, float]] = {}
    errors = []
    for run in (task, *(run for _, run, _ in _runs(task))):
        if not (run / RESULTS).is_file():
            errors.append(_failure(run, folder))
            continue
        record = _read_json(run / RESULTS)
        for name, spread in record["scores"].items():
            values = [math.nan if v is None else v for v in spread["values"]]
            by_seed = dict(zip(record["seeds"], values, strict=True))
            scores.setdefault(name, {}).update(by_seed)
    return scores, next(filter(None, errors), "")


def _failure(run: Path, folder: Path) -> str:
    """Why a run failed, without where the study lies; empty if it did not."""
    if not (run / FAILED).is_file():
        return ""
    error = str(_read_json(run / FAILED)["error"])
    for path in (folder.resolve(), folder):
        error = error.replace(f"{path}/", "")
    return error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
