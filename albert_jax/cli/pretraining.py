"""The commands for pretraining: prepare, pretrain."""

import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

import tyro

from albert_jax.cli.console import open_console, run_prepare, say
from albert_jax.cli.parsing import note, parse_experiment
from albert_jax.cli.stopping import say_stopped, signals
from albert_jax.config import PretrainingExperiment, UserError

_Experiment = Annotated[PretrainingExperiment, tyro.conf.arg(name="")]


@dataclass(frozen=True)
class _Prepare:
    """Prepares an experiment's vocabulary and tokenised corpus, once."""

    experiment: _Experiment
    processes: int | None = None
    """Worker processes; one a core by default."""
    beam_pipeline_options: str | None = None
    """Lets Apache Beam write the shards, on as many machines as it has, which all see
    the corpus and the prepared folder: "runner=FlinkRunner,..."."""


@dataclass(frozen=True)
class _Pretrain:
    """Pretrains an experiment; a second call resumes where the first stopped."""

    experiment: _Experiment
    workdir: Path | None = None
    """Folder of the run; runs/NAME by default."""
    accept_changes: bool = False
    """Resume although settings differ from the run's."""
    processes: int | None = None
    """Worker processes that prepare the corpus; one a core by default."""
    coordinator_address: str | None = None
    """HOST:PORT where the first of several processes waits for the others. Found by
    itself, with the next two, on a TPU pod, under SLURM and under Open MPI."""
    num_processes: int | None = None
    """How many processes train together, each started with the same settings."""
    process_id: int | None = None
    """Which of them this is, from 0."""


def prepare(arguments: Sequence[str]) -> None:
    options = parse_experiment(_Prepare, arguments, "prepare")
    run_prepare(
        options.experiment,
        options.processes,
        open_console(),
        beam=options.beam_pipeline_options,
    )


def pretrain(arguments: Sequence[str]) -> int:
    options = parse_experiment(_Pretrain, arguments, "pretrain")
    from albert_jax.train import processes

    processes.join(
        options.coordinator_address, options.num_processes, options.process_id
    )
    try:
        return _pretrain_joined(options)
    except Exception as error:
        if processes.alone() or isinstance(error, UserError):
            raise
        _leave(error)


def _leave(error: Exception) -> NoReturn:
    """Ends one of several processes, without waiting for those that may be gone."""
    import jax

    traceback.print_exception(error)
    note(
        f"process {jax.process_index()} of {jax.process_count()} stops; if another one "
        "has ended, start all of them again: the run goes on from its last checkpoint"
    )
    sys.stdout.flush()
    os._exit(1)


def _pretrain_joined(options: _Pretrain) -> int:
    from albert_jax.interop.pretraining import check_init, pretrain
    from albert_jax.train import processes
    from albert_jax.train.run import CHECKPOINTS
    from albert_jax.train.sharding import check_division, make_mesh

    experiment = options.experiment
    workdir = options.workdir or Path("runs") / experiment.name
    # Mistakes in the mesh and in init come to light before hours of preparation.
    check_division(make_mesh(experiment.mesh), experiment)
    if experiment.init is not None and not (workdir / CHECKPOINTS).exists():
        check_init(experiment)
    console = None
    if processes.first():
        console = open_console()
        run_prepare(experiment, options.processes, console)
    processes.meet("the corpus is prepared")
    with signals(together=not processes.alone()) as stopping:
        metrics = pretrain(
            experiment,
            workdir,
            report=note,
            accept_changes=options.accept_changes,
            console=console,
            stopping=stopping,
        )
    if stopping.signal and metrics["step"] < experiment.steps:
        return say_stopped(console, f"at step {metrics['step']:,}", stopping)
    if not processes.first():
        return 0
    accuracy = metrics["eval/masked_lm_accuracy"]
    baseline = metrics["eval/unigram_accuracy"]
    say(
        console,
        f"held-out masked-LM accuracy {accuracy:.1%}, {accuracy / baseline:.1f} times "
        f"the unigram baseline of {baseline:.1%}",
    )
    say(console, f"the run is {workdir}; its curves are {workdir / 'curves.png'}")
    return 0
