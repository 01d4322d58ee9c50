"""How long a step of every arm takes, where arms get the same time."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from albert_jax.config import UserError
from albert_jax.config.study import Study
from albert_jax.study.machine import Place
from albert_jax.study.plan import Run, name_of_seeds
from albert_jax.study.runner import Worker, train_all
from albert_jax.study.worker import work
from albert_jax.train.metrics import read_metrics
from albert_jax.train.run import METRICS

_SECONDS = 20.0


def measure_steps(
    study: Study,
    arms: Sequence[str],
    folder: Path,
    places: Sequence[Place],
    together: int,
    stopping: Callable[[], bool],
    work: Worker = work,
) -> dict[str, float]:
    """Seconds a step of each of these arms, with so many seeds together.

    Every arm is trained for some seconds in all places at once, as busy as the machine
    will be, in folders beside the study's that are removed again. Fewer arms are in the
    result where ``stopping`` said yes.

    Raises:
      UserError: an arm failed.
    """
    measured: dict[str, float] = {}
    folder.parent.mkdir(parents=True, exist_ok=True)
    for arm in arms:
        with tempfile.TemporaryDirectory(
            dir=folder.parent, prefix=f".{folder.name}-"
        ) as scratch:
            runs = [
                _trial(study, arm, together, Path(scratch, str(n)))
                for n in range(len(places))
            ]
            ended = train_all(
                runs, places, stopping=stopping, seconds=_SECONDS, work=work
            )
            if stopping():
                break
            for standing in ended:
                if standing.state == "failed":
                    raise UserError(f"{arm} cannot be measured: {standing.error}")
            measured[arm] = median(seconds_a_step(run.folder / METRICS) for run in runs)
    return measured


def seconds_a_step(log: Path) -> float:
    """The mean over the second half of a log with a line for every step."""
    lines = [line for line in read_metrics(log) if "tokens_per_second" in line]
    pairs = list(zip(lines, lines[1:], strict=False))
    half = pairs[len(pairs) // 2 :]
    times = [
        (line["tokens"] - before["tokens"]) / line["tokens_per_second"]
        for before, line in half
    ]
    if not times:
        raise UserError(f"{log} has fewer than two steps, too few to measure one")
    return sum(times) / len(times)


def _trial(study: Study, arm: str, together: int, folder: Path) -> Run:
    """An arm as it will be trained, but logged at every step and hardly evaluated."""
    experiment = study.experiment(arm, 0, together)
    evaluation = replace(
        experiment.evaluation,
        every=experiment.steps,
        rows=experiment.evaluation.batch_size,
    )
    checkpoint = replace(experiment.checkpoint, every=experiment.steps)
    return Run(
        arm=arm,
        task=None,
        seeds=experiment.all_seeds,
        experiment=replace(
            experiment, evaluation=evaluation, checkpoint=checkpoint, log_every=1
        ),
        folder=folder / name_of_seeds(experiment.all_seeds),
        after=None,
    )
