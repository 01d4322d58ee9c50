"""The command that trains a study: study."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from albert_jax.catalogue import load_study
from albert_jax.cli.console import open_console, run_prepare, say
from albert_jax.cli.parsing import note, parse
from albert_jax.cli.stopping import say_stopped, signals
from albert_jax.config import UserError, nearest
from albert_jax.config.study import Study
from albert_jax.identity import to_dict

if TYPE_CHECKING:
    from rich.console import Console

    from albert_jax.study.machine import Place
    from albert_jax.study.plan import Run
    from albert_jax.study.record import Record
    from albert_jax.study.standing import Standing


@dataclass(frozen=True)
class _Study:
    """Trains the arms and seeds of a study, then reports; a second call goes on where
    the first stopped, and tries again what failed."""

    file: tyro.conf.Positional[str]
    """A file that defines STUDIES, such as experiments/ablations/sharing.py."""
    scale: str = "lab"
    """Which of the file's studies: lab or paper."""
    workdir: Path | None = None
    """Folder of the study; runs/NAME by default, runs/NAME-SCALE unless that is lab."""
    arms: tuple[str, ...] = ()
    """Train these alone; all by default."""
    seeds: int | None = None
    """How many, from 0 on; as the study says by default."""
    jobs: int | None = None
    """Runs at once, each in a process with its share of the cores or GPUs; by default
    as many as cores on a CPU, else one."""
    together: int | None = None
    """Seeds of an arm that one program trains at once; by default as many as fit."""
    sources: tuple[str, ...] = ()
    """Text that takes the place of the arms' corpus."""
    vocabulary: str | None = None
    """A SentencePiece .model that takes the place of the arms'."""
    accept_changes: bool = False
    """Go on although settings differ from the folder's."""
    processes: int | None = None
    """Worker processes that prepare the corpus; one a core by default."""
    prepare: bool = False
    """Only prepare the corpus, fix every arm's steps and list the runs: what comes
    before a SLURM array (experiments/launch/slurm_study.sh)."""
    array_task: int | None = None
    """Train only the run of this number, in this process: one task of an array."""


def study(arguments: Sequence[str]) -> int:
    options = parse(_Study, arguments, "study")
    chosen = _adjusted(load_study(options.file, options.scale), options)
    suffix = "" if options.scale == "lab" else f"-{options.scale}"
    folder = options.workdir or Path("runs") / f"{chosen.name}{suffix}"
    if options.array_task is not None:
        return _train_one(options, chosen, folder)
    return _train_several(options, chosen, folder, arguments)


def _adjusted(chosen: Study, options: _Study) -> Study:
    """The study as the options have it."""
    for arm in options.arms:
        if arm not in chosen.arms:
            raise UserError(
                f"arms names {arm!r}, but the study {chosen.name} has "
                f"{', '.join(chosen.arms)}{nearest(arm, chosen.arms)}"
            )
    for name in ("seeds", "together"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise UserError(f"{name} is {value}, but it must be above 0")
    given = {"sources": options.sources, "vocabulary": options.vocabulary}
    given = {name: value for name, value in given.items() if value}
    arms = {
        name: replace(arm, corpus=replace(arm.corpus, **given))
        for name, arm in chosen.arms.items()
    }
    return replace(chosen, arms=arms, seeds=options.seeds or chosen.seeds)


def _train_several(
    options: _Study, chosen: Study, folder: Path, arguments: Sequence[str]
) -> int:
    from albert_jax.cli.standings import Standings
    from albert_jax.study.machine import Machine, places
    from albert_jax.study.plan import plan
    from albert_jax.study.runner import train_all
    from albert_jax.study.standing import is_finished

    machine = Machine.of(chosen, _at_paper_scale(options))
    jobs = options.jobs or machine.jobs
    old, wanted = _records(
        options, chosen, folder, machine.together(chosen.seeds, jobs)
    )
    wanted = replace(wanted, paper_parameters=dict(machine.paper_parameters))
    shared = places(machine, jobs, wanted.together)
    console = open_console()
    record = _decide(options, chosen, folder, old, wanted, shared, console)
    runs = plan(chosen, folder, record.steps, record.together)
    mine = [run for run in runs if not options.arms or run.arm in options.arms]
    _prepare_for([run for run in mine if not is_finished(run)], options, console)
    record.write(folder)
    if options.prepare:
        return _list(runs, arguments, console)
    with signals(together=False) as stopping, Standings(console) as shown:
        ended = train_all(
            mine,
            shared,
            shown.observe,
            stopping,
            accept_changes=options.accept_changes,
        )
    if stopping.signal:
        return say_stopped(console, f"in {folder}", stopping)
    from albert_jax.cli.report import report

    report([str(folder)])
    return _conclude(ended)


def _train_one(options: _Study, chosen: Study, folder: Path) -> int:
    """A task of an array."""
    from albert_jax.programs import keep_programs
    from albert_jax.study.plan import plan
    from albert_jax.study.standing import is_finished, read_failure
    from albert_jax.study.worker import train

    old, wanted = _records(options, chosen, folder, together=1)
    if old is None:
        raise UserError(
            f"{folder} is no study yet: run albert-jax study {options.file} --prepare, "
            "with the same options, first"
        )
    runs = plan(chosen, folder, old.steps, wanted.together)
    if not 0 <= options.array_task < len(runs):
        raise UserError(
            f"array_task is {options.array_task}, but it must be 0 to {len(runs) - 1}"
        )
    run, console = runs[options.array_task], open_console()
    if run.after and not is_finished(run.after):
        if error := read_failure(run.after):
            raise UserError(f"{run.title} starts from {run.after.title}: {error}")
        note(f"{run.title} starts from {run.after.title}, not finished yet: later")
        return os.EX_TEMPFAIL
    say(console, f"{run.title}: {run.folder}")
    keep_programs(report=note)
    with signals(together=False) as stopping:
        train(
            run,
            accept_changes=options.accept_changes,
            console=console,
            report=note,
            stopping=stopping,
        )
    if stopping.signal and not is_finished(run):
        return say_stopped(console, f"in {run.folder}", stopping)
    return 0


def _at_paper_scale(options: _Study) -> Study | None:
    """The same study at the paper's scale, if the file has it."""
    try:
        return load_study(options.file, "paper")
    except UserError:
        return None


def _records(
    options: _Study, chosen: Study, folder: Path, together: int
) -> "tuple[Record | None, Record]":
    """What the study's folder was begun with, if it was; and what it should be, but
    for steps.

    Args:
      together: where neither the options nor the folder say.
    """
    from albert_jax.study.record import Record, read_record, refuse_changes

    old = read_record(folder)
    together = options.together or (old.together if old else together)
    wanted = Record(
        study=to_dict(chosen),
        scale=options.scale,
        together=min(together, chosen.seeds),
    )
    if old and options.array_task is None:
        refuse_changes(folder, old, wanted, accept_changes=options.accept_changes)
    elif old:  # A task writes no record, so that it has nothing to accept.
        way = f"albert-jax study {options.file} --prepare --accept-changes, with the "
        way += "same options, first"
        refuse_changes(folder, old, wanted, accept_changes=False, way=way)
    return old, wanted


def _decide(
    options: _Study,
    chosen: Study,
    folder: Path,
    old: "Record | None",
    wanted: "Record",
    shared: "Sequence[Place]",
    console: "Console",
) -> "Record":
    """The record with every arm's steps, which may have to be measured."""
    from albert_jax.study.budget import decide_steps
    from albert_jax.study.measurement import measure_steps
    from albert_jax.study.plan import plan

    def measure(arms: Sequence[str]) -> dict[str, float]:
        own = {arm: chosen.arms[arm].steps for arm in chosen.arms}
        _prepare_for(plan(chosen, folder, own, wanted.together), options, console)
        say(console, f"measuring a step of {', '.join(arms)}")
        with signals(together=False) as stopping:
            measured = measure_steps(
                chosen, arms, folder, shared, wanted.together, stopping
            )
        if stopping.signal:
            raise SystemExit(say_stopped(console, f"in {folder}", stopping))
        for arm, seconds in measured.items():
            say(console, f"{arm}: {1000 * seconds:,.1f} ms a step")
        return measured

    return decide_steps(chosen, old, wanted, measure)


def _prepare_for(runs: "Sequence[Run]", options: _Study, console: "Console") -> None:
    """Prepares what these runs read, each corpus once."""
    corpora = {
        (run.experiment.corpus, run.experiment.model.vocab_size): run.experiment
        for run in runs
        if run.task is None
    }
    for experiment in corpora.values():
        run_prepare(experiment, options.processes, console)


def _list(runs: "Sequence[Run]", arguments: Sequence[str], console: "Console") -> int:
    """Shows the tasks of an array, and how to submit it."""
    for number, run in enumerate(runs):
        say(console, f"{number:4}  {run.title}: {run.experiment.steps:,} steps")
    given = shlex.join(word for word in arguments if word != "--prepare")
    say(
        console,
        f"{len(runs)} runs: sbatch --array=0-{len(runs) - 1} "
        f"experiments/launch/slurm_study.sh {given}",
    )
    return 0


def _conclude(ended: "Sequence[Standing]") -> int:
    """Names what failed; returns the exit code."""
    failed = [one for one in ended if one.state != "finished"]
    for one in failed:
        note(f"{one.run.title} {one.state}: {one.error or 'run it again'}")
    if failed:
        note(f"{len(failed)} of {len(ended)} runs did not finish")
    return 1 if failed else 0
