"""The command line: the only place that prints, asks and exits.

    albert-jax list                                    experiments in ./experiments
    albert-jax inspect   EXPERIMENT [--json]           what it costs; allocates nothing
    albert-jax prepare   EXPERIMENT                    its corpus and vocabulary, once
    albert-jax pretrain  EXPERIMENT [--init SOURCE]    prepares, trains, resumes
    albert-jax finetune  EXPERIMENT --init SOURCE      trains for a task, scores it
    albert-jax evaluate  RUN [--split test] [--json]   scores and predictions again
    albert-jax fill-mask SOURCE ["Text." ... | -]      answers for every [MASK] in it
    albert-jax classify  SOURCE ["Text." ... | -]      what it was fine-tuned to say
    albert-jax answer    SOURCE --question --context   where the answer stands
    albert-jax embed     SOURCE ["Text." ... | -]      vectors of sentences
    albert-jax convert   SOURCE DESTINATION            a folder that others load
    albert-jax depth     RUN [--figure FILE.png]       what happens from layer to layer
    albert-jax study     FILE                          arms and seeds, then the report
    albert-jax report    STUDY [--json]                tables, claims and figures of it

EXPERIMENT is FILE.py or FILE.py:ARM; every field of it is a flag (--help lists them).
SOURCE is a run, a folder with Hugging Face's or the official code's files, or a name on
the hub. STUDY is the folder of a study.

Exit codes: 0 done; 1 a mistake of ours, with a traceback, or a run of a study failed;
2 one of the user's, in one line; 130 interrupted, 143 terminated, both after saving.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import tyro

from albert_jax.catalogue import find_experiments, load_experiment
from albert_jax.cli import depth, own_text, report, study
from albert_jax.cli.console import open_console, run_prepare, say
from albert_jax.cli.parsing import note, parse
from albert_jax.cli.stopping import Stopping, signals
from albert_jax.config import PretrainingExperiment, UserError, nearest
from albert_jax.config.finetuning import FinetuningExperiment

if TYPE_CHECKING:
    from rich.console import Console

_Experiment = Annotated[PretrainingExperiment, tyro.conf.arg(name="")]
_Finetuning = Annotated[FinetuningExperiment, tyro.conf.arg(name="")]


@dataclass(frozen=True)
class _List:
    """Lists every experiment of ./experiments."""

    json: bool = False
    """Print one JSON document and nothing else."""


@dataclass(frozen=True)
class _Inspect:
    """Shows what an experiment costs; allocates nothing."""

    experiment: _Experiment
    json: bool = False
    """Print one JSON document and nothing else."""
    figure: Path | None = None
    """Also draw which layers share what, as PNG or SVG."""
    device: str | None = None
    """Also compile a step for the mesh, and estimate whether it fits on devices of this
    kind (a100, h100, h200, v4, v5e, v5p, v6e) and how long the run would take."""
    mfu: float = 0.4
    """The share of the device's FLOP/s that training is assumed to use."""
    price: float | None = None
    """Of one device for an hour, in any currency: also tell what the run would cost."""


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


@dataclass(frozen=True)
class _Finetune:
    """Fine-tunes for a task; a second call resumes where the first stopped."""

    experiment: _Finetuning
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


@dataclass(frozen=True)
class _Convert:
    """Writes any ALBERT as a new folder, for transformers or for the official code."""

    source: tyro.conf.Positional[str]
    """A run, a folder, an official checkpoint's prefix, or a name on the hub."""
    destination: tyro.conf.Positional[Path]
    """Folder to write; there must be none."""
    form: Literal["hugging-face", "official"] = "hugging-face"
    """For transformers, or a TensorFlow checkpoint for the official code."""
    head: str | None = None
    """Class of the model, such as AlbertForMaskedLM; as the source says by default."""
    vocabulary: Path | None = None
    """A .model or vocab.txt, where the source has none or another."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__.strip())
        return 0 if arguments else 2
    try:
        command, *rest = arguments
        if command not in _COMMANDS:
            raise UserError(
                f"there is no command {command!r}; there are {', '.join(_COMMANDS)}"
                + nearest(command, _COMMANDS)
            )
        return _COMMANDS[command](rest) or 0
    except UserError as error:
        note(str(error))
        return 2
    except KeyboardInterrupt:
        note("interrupted")
        return 130
    except BrokenPipeError:
        # The reader of our output has gone, as "| head" does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _list(arguments: Sequence[str]) -> int:
    options = parse(_List, arguments, "list")
    broken: list[str] = []
    entries = list(find_experiments(Path.cwd(), broken.append))
    for line in broken:
        note(line)
    if not entries and not broken:
        raise UserError(f"there are no experiments in {Path.cwd() / 'experiments'}")
    if options.json:
        rows = [{"experiment": e.spec, "summary": e.summary} for e in entries]
        print(json.dumps(rows, indent=1))
    else:
        width = max((len(entry.spec) for entry in entries), default=0)
        for entry in entries:
            print(f"{entry.spec:{width}}  {entry.summary}")
    return 2 if broken else 0


def _inspect(arguments: Sequence[str]) -> None:
    options = _parse_experiment(_Inspect, arguments, "inspect")
    from albert_jax.inspection import describe, inspect

    document = inspect(
        options.experiment, options.device, mfu=options.mfu, price=options.price
    )
    if options.figure:
        from albert_jax.figures import draw_sharing

        draw_sharing(options.experiment.model, options.figure)
    if options.json:
        print(json.dumps(document, indent=1))
        return
    for line in describe(document):
        print(line)


def _prepare(arguments: Sequence[str]) -> None:
    options = _parse_experiment(_Prepare, arguments, "prepare")
    run_prepare(
        options.experiment,
        options.processes,
        open_console(),
        beam=options.beam_pipeline_options,
    )


def _pretrain(arguments: Sequence[str]) -> int:
    options = _parse_experiment(_Pretrain, arguments, "pretrain")
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
        return _stopped(console, metrics["step"], stopping)
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


def _finetune(arguments: Sequence[str]) -> int:
    options = _parse_experiment(_Finetune, arguments, "finetune", FinetuningExperiment)
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
        return _stopped(console, ended.step, stopping)
    for line in ended.results.lines():
        say(console, line)
    say(console, f"the run is {workdir}")
    return 0


def _evaluate(arguments: Sequence[str]) -> None:
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


def _convert(arguments: Sequence[str]) -> None:
    options = parse(_Convert, arguments, "convert")
    from albert_jax.interop.pretrained import (
        from_pretrained,
        refuse_occupied,
        save_pretrained,
    )
    from albert_jax.interop.task import task_of
    from albert_jax.model.table import has_labels

    refuse_occupied(options.destination)
    model, variables, tokenizer = from_pretrained(
        options.source,
        options.head,
        vocabulary=options.vocabulary,
        revision=options.revision,
        report=note,
    )
    labels = ()
    if has_labels(type(model).__name__):
        labels = task_of(options.source, model, revision=options.revision).labels
    save_pretrained(
        options.destination,
        model,
        variables,
        tokenizer,
        form=options.form.replace("-", "_"),
        labels=labels,
    )
    print(f"{options.destination}: {type(model).__name__}")
    for file in sorted(options.destination.iterdir()):
        print(f"  {file.name:40} {file.stat().st_size:>14,} bytes")


def _parse_experiment(
    kind: type,
    arguments: Sequence[str],
    command: str,
    wanted: type = PretrainingExperiment,
) -> Any:
    """The command's options over the experiment that the first argument names."""
    asks_help = {"-h", "--help"} & set(arguments)
    if not arguments or arguments[0].startswith("-"):
        if not asks_help:
            raise UserError(f"say which: albert-jax {command} experiments/FILE.py")
        return parse(kind, arguments, f"{command} EXPERIMENT")
    experiment = load_experiment(arguments[0])
    if not isinstance(experiment, wanted):
        what = "fine-tuning" if wanted is FinetuningExperiment else "pretraining"
        raise UserError(f"{arguments[0]} is not a {what} experiment")
    name = f"{command} {arguments[0]}"
    return parse(kind, arguments[1:], name, kind(experiment=experiment))


def _stopped(console: "Console | None", step: int, stopping: Stopping) -> int:
    """Says where a run was stopped; returns the exit code."""
    say(console, f"stopped and saved at step {step:,}; to go on, run it again")
    return 128 + stopping.signal


_COMMANDS: dict[str, Callable[[Sequence[str]], int | None]] = {
    "list": _list,
    "inspect": _inspect,
    "prepare": _prepare,
    "pretrain": _pretrain,
    "finetune": _finetune,
    "evaluate": _evaluate,
    "fill-mask": own_text.fill_mask,
    "classify": own_text.classify,
    "answer": own_text.answer,
    "embed": own_text.embed,
    "convert": _convert,
    "depth": depth.depth,
    "study": study.study,
    "report": report.report,
}
