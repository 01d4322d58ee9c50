"""What a study trains: arms and seeds as runs, in the study's order."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from albert_jax.config import PretrainingExperiment
from albert_jax.config.finetuning import FinetuningExperiment
from albert_jax.config.study import Study


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one process trains: some seeds of an arm, or a task after them."""

    arm: str
    task: str | None
    seeds: tuple[int, ...]
    experiment: PretrainingExperiment | FinetuningExperiment
    folder: Path
    after: "Run | None"
    """The run that it starts from."""

    @property
    def title(self) -> str:
        """For a reader: "attention-e128, seeds 0-4, sst2"."""
        parts = [self.arm, name_of_seeds(self.seeds, " ")]
        return ", ".join([*parts, self.task] if self.task else parts)


def plan(
    study: Study, folder: Path, steps: Mapping[str, int], together: int
) -> tuple[Run, ...]:
    """Every run of a study: an arm after the one that it starts from, tasks after their
    arm.

    Args:
      folder: the study's.
      steps: of every arm, after the budget.
      together: seeds that are trained in one program.
    """
    made: dict[Path, Run] = {}
    for arm in study.arms:
        for seeds in groups(study.seeds, together):
            name, start = name_of_seeds(seeds), study.starts.get(arm)
            after = made[folder / start / name] if start else None
            experiment = study.experiment(arm, seeds[0], len(seeds))
            if after:
                experiment = replace(experiment, init=str(after.folder))
            trained = Run(
                arm=arm,
                task=None,
                seeds=seeds,
                experiment=at_steps(experiment, steps[arm]),
                folder=folder / arm / name,
                after=after,
            )
            tuned = [_tuning(study, trained, task) for task in study.tasks]
            made |= {run.folder: run for run in (trained, *tuned)}
    return tuple(made.values())


def groups(seeds: int, together: int) -> list[tuple[int, ...]]:
    """The seeds from 0 on, so many in a program."""
    return [
        tuple(range(first, min(first + together, seeds)))
        for first in range(0, seeds, together)
    ]


def name_of_seeds(seeds: tuple[int, ...], mark: str = "-") -> str:
    """ "seed-3", or "seeds-0-4"."""
    if len(seeds) == 1:
        return f"seed{mark}{seeds[0]}"
    return f"seeds{mark}{seeds[0]}-{seeds[-1]}"


def at_steps(experiment: PretrainingExperiment, steps: int) -> PretrainingExperiment:
    """The experiment at another length: it warms up and is evaluated at the same shares
    of it. Lines of the log and checkpoints stay as far apart as they were."""
    share = steps / experiment.steps
    if steps == experiment.steps:
        return experiment
    warmup = round(experiment.optimizer.warmup_steps * share)
    every = max(1, round(experiment.evaluation.every * share))
    return replace(
        experiment,
        steps=steps,
        optimizer=replace(experiment.optimizer, warmup_steps=warmup),
        evaluation=replace(experiment.evaluation, every=every),
    )


def _tuning(study: Study, trained: Run, task: FinetuningExperiment) -> Run:
    """A task after a run, seed by seed."""
    name = task.task.name
    folder = trained.folder.parent / name
    if len(trained.seeds) < study.seeds:
        folder /= trained.folder.name
    experiment = replace(
        task,
        name=f"{study.name}/{trained.arm}/{name}",
        init=str(trained.folder),
        seed=trained.seeds[0],
        seeds=len(trained.seeds),
    )
    return Run(
        arm=trained.arm,
        task=name,
        seeds=trained.seeds,
        experiment=experiment,
        folder=folder,
        after=trained,
    )
