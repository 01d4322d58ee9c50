"""The commands for tasks: finetune, evaluate."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from albert_jax.cli.console import open_console, say
from albert_jax.cli.parsing import note, parse, parse_experiment
from albert_jax.cli.stopping import say_stopped, signals
from albert_jax.config.finetuning import FinetuningExperiment


@dataclass(frozen=True)
class _Finetune:
    """Fine-tunes for a task; a second call resumes where the first stopped."""

    experiment: Annotated[FinetuningExperiment, tyro.conf.arg(name="")]
    workdir: Path | None = None
    """Folder of the run; runs/NAME by default."""
    accept_changes: bool = False
    """Resume although settings differ from the run's."""


@dataclass(frozen=True)
class _Evaluate:
    """Scores a fine-tuning run, and writes its predictions into its folder."""

    run: tyro.conf.Positional[str]
    """Folder of the run."""
    split: Literal["train", "dev", "test"] = "dev"
    """Of the run's task; test need not have labels."""
    json: bool = False
    """Print one JSON document and nothing else."""


def finetune(arguments: Sequence[str]) -> int:
    options = parse_experiment(_Finetune, arguments, "finetune", FinetuningExperiment)
    experiment = options.experiment
    workdir = options.workdir or Path("runs") / experiment.name
    console = open_console()
    from albert_jax.finetuning.finetune import finetune
    from albert_jax.programs import keep_programs

    keep_programs(report=note)
    with signals(together=False) as stopping:
        ended = finetune(
            experiment,
            workdir,
            accept_changes=options.accept_changes,
            console=console,
            report=note,
            stopping=stopping,
        )
    if ended.results is None:
        return say_stopped(console, f"at step {ended.step:,}", stopping)
    for line in ended.results.lines():
        say(console, line)
    say(console, f"the run is {workdir}")
    return 0


def evaluate(arguments: Sequence[str]) -> None:
    options = parse(_Evaluate, arguments, "evaluate")
    from albert_jax.finetuning.evaluation import PREDICTIONS, evaluate_run
    from albert_jax.programs import keep_programs

    keep_programs(report=note)
    results = evaluate_run(options.run, options.split, note)
    if options.json:
        print(json.dumps(results and results.as_dict(), indent=1))
        return
    for line in results.lines() if results else ():
        print(line)
    print(f"predictions are in {Path(options.run) / PREDICTIONS}")
