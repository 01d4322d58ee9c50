"""The command line: the only place that prints, asks and exits.

    albert-jax list                                    experiments in ./experiments
    albert-jax inspect   EXPERIMENT [--json]           what it costs; allocates nothing
    albert-jax prepare   EXPERIMENT                    its corpus and vocabulary, once
    albert-jax pretrain  EXPERIMENT [--workdir DIR]    prepares, trains, resumes
    albert-jax fill-mask RUN ["Text with [MASK]." ...] a pretrained model's answers

EXPERIMENT is FILE.py or FILE.py:ARM; every field of it is a flag (--help lists them).

Exit codes: 0 done; 1 a mistake of ours, with a traceback; 2 one of the user's, in one
line; 130 interrupted, 143 terminated, both after saving.
"""

import contextlib
import io
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from albert_jax.catalogue import find_experiments, load_experiment
from albert_jax.config import PretrainingExperiment, UserError, nearest

if TYPE_CHECKING:
    from rich.console import Console

_Experiment = Annotated[PretrainingExperiment, tyro.conf.arg(name="")]


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


@dataclass(frozen=True)
class _Prepare:
    """Prepares an experiment's vocabulary and tokenised corpus, once."""

    experiment: _Experiment
    processes: int | None = None
    """Worker processes; one a core by default."""


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


@dataclass(frozen=True)
class _FillMask:
    """Fills [MASK] in sentences with a run's model."""

    run: tyro.conf.Positional[Path]
    """Folder of a run."""
    text: tyro.conf.Positional[tuple[str, ...]] = field(default=())
    """Sentences with [MASK]; without any, held-out sentences of the run's corpus, each
    with one word masked."""
    top: int = 5
    """Predictions to show for each [MASK]."""
    sentences: int = 8
    """Held-out sentences to show."""


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
        print(f"albert-jax: {_one_line(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("albert-jax: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone, as "| head" does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _list(arguments: Sequence[str]) -> None:
    options = _parse(_List, arguments, "list")
    entries = list(find_experiments(Path.cwd()))
    if not entries:
        raise UserError(f"there are no experiments in {Path.cwd() / 'experiments'}")
    if options.json:
        rows = [{"experiment": e.spec, "summary": e.summary} for e in entries]
        print(json.dumps(rows, indent=1))
        return
    width = max(len(entry.spec) for entry in entries)
    for entry in entries:
        print(f"{entry.spec:{width}}  {entry.summary}")


def _inspect(arguments: Sequence[str]) -> None:
    options = _parse_experiment(_Inspect, arguments, "inspect")
    from albert_jax.model.costs import RowShape, forward_flops, parameter_table

    experiment = options.experiment
    data = experiment.data
    parameters = parameter_table(experiment.model)
    row = RowShape(data.sequence_length, data.predictions, data.pairs)
    flops = forward_flops(experiment.model, row)
    forward = sum(flops.values()) * data.batch_size
    document = {
        "name": experiment.name,
        "parameters": parameters | {"total": sum(parameters.values())},
        "forward_flops_per_row": flops,
        "flops_per_step": {"forward": forward, "forward and backward": 3 * forward},
        "batch": {
            "rows": data.batch_size,
            "tokens per row": data.sequence_length,
            "predictions per row": data.predictions,
            "pairs per row": data.pairs,
            "tokens": data.batch_size * data.sequence_length,
        },
        "steps": experiment.steps,
    }
    if options.figure:
        from albert_jax.figures import draw_sharing

        draw_sharing(experiment.model, options.figure)
    if options.json:
        print(json.dumps(document, indent=1))
        return
    print(f"{experiment.name}: {experiment.steps:,} steps\n")
    _table("parameters", document["parameters"])
    _table("forward FLOPs per row", flops)
    _table("FLOPs per step", document["flops_per_step"])
    _table("batch", document["batch"])


def _prepare(arguments: Sequence[str]) -> None:
    options = _parse_experiment(_Prepare, arguments, "prepare")
    _run_prepare(options.experiment, options.processes, _console())


def _pretrain(arguments: Sequence[str]) -> int:
    from albert_jax.train.memory import keep_freed_memory

    keep_freed_memory()
    options = _parse_experiment(_Pretrain, arguments, "pretrain")
    experiment = options.experiment
    workdir = options.workdir or Path("runs") / experiment.name
    console = _console()
    _run_prepare(experiment, options.processes, console)
    from albert_jax.train.pretrain import pretrain

    with _signals() as received:
        metrics = pretrain(
            experiment,
            workdir,
            accept_changes=options.accept_changes,
            console=console,
            stopping=lambda: bool(received),
        )
    if received and metrics["step"] < experiment.steps:
        _say(
            console,
            f"stopped and saved at step {metrics['step']:,}; to go on, run it again",
        )
        return 128 + received[0]
    accuracy = metrics["eval/masked_lm_accuracy"]
    baseline = metrics["eval/unigram_accuracy"]
    _say(
        console,
        f"held-out masked-LM accuracy {accuracy:.1%}, {accuracy / baseline:.1f} times "
        f"the unigram baseline of {baseline:.1%}",
    )
    _say(console, f"the run is {workdir}; its curves are {workdir / 'curves.png'}")
    return 0


def _fill_mask(arguments: Sequence[str]) -> None:
    options = _parse(_FillMask, arguments, "fill-mask")
    from albert_jax.data.shards import PreparedCorpus
    from albert_jax.tasks.fill_mask import FillMask, masked_sentences, spell
    from albert_jax.train.run import load_run, read_experiment

    model, variables, tokenizer = load_run(
        options.run, report=lambda line: print(f"albert-jax: {line}", file=sys.stderr)
    )
    fill = FillMask(model, variables, tokenizer)
    for text in options.text:
        print(text)
        for predictions in fill(text, options.top):
            print("  " + _shown(predictions))
    if options.text:
        return
    folder = read_experiment(options.run)["experiment"]["corpus"]["prepared"]
    corpus = PreparedCorpus.open(folder, "heldout")
    longest = min(48, model.config.max_position_embeddings)
    examples = masked_sentences(corpus, tokenizer, longest)
    for ids, truth in islice(examples, options.sentences):
        print(spell(tokenizer, ids[1:-1]))
        for predictions in fill.predict(ids, options.top):
            print("  " + _shown(predictions))
        print(f"  was: {spell(tokenizer, truth)}")


def _parse_experiment(kind: type, arguments: Sequence[str], command: str) -> Any:
    """The command's options over the experiment that the first argument names."""
    asks_help = {"-h", "--help"} & set(arguments)
    if not arguments or arguments[0].startswith("-"):
        if not asks_help:
            raise UserError(f"say which: albert-jax {command} experiments/FILE.py")
        return _parse(kind, arguments, f"{command} EXPERIMENT")
    experiment = load_experiment(arguments[0])
    if not isinstance(experiment, PretrainingExperiment):
        raise UserError(f"{arguments[0]} is not a pretraining experiment")
    name = f"{command} {arguments[0]}"
    return _parse(kind, arguments[1:], name, kind(experiment=experiment))


def _parse(
    kind: type, arguments: Sequence[str], command: str, default: Any = None
) -> Any:
    """Options of a command; tyro's boxes become one line and exit code 2."""
    options = {} if default is None else {"default": default}
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                kind, prog=f"albert-jax {command}", args=list(arguments), **options
            )
    except SystemExit as exit:
        if not exit.code:
            raise
        raise UserError(_unboxed(complaint.getvalue())) from None


def _unboxed(box: str) -> str:
    """What a box of tyro's says: its first part, and the nearest name of its second."""
    lines = [line.strip("│╭╮╰╯ ") for line in box.splitlines()]
    rules = [set(line) <= {"─", "-"} for line in lines]
    # The first line is the box's title; an empty one counts as a rule.
    parts = [
        " ".join(line for line, _ in group)
        for rule, group in groupby(
            zip(lines[1:], rules[1:], strict=True), lambda x: x[1]
        )
        if not rule
    ]
    said = re.sub(r"^Error parsing [\w.-]+: (?=\w+ is )", "", parts[0])
    if choice := re.match(r"invalid choice '(.*?)'.*Expected one of \((.*)\)", said):
        return said.rstrip(".") + nearest(choice[1], re.findall(r"'(.*?)'", choice[2]))
    suggested = re.search(r"Perhaps you meant: (--[\w.-]+)", " ".join(parts[1:]))
    return said + (f"; did you mean {suggested[1]}?" if suggested else "")


def _run_prepare(
    experiment: PretrainingExperiment, processes: int | None, console: "Console"
) -> None:
    from albert_jax.data.prepare import prepare
    from albert_jax.train.progress import Progress

    with contextlib.ExitStack() as stack:
        shown: list[Progress] = []

        def progress(done: int, total: int | None, documents: int, tokens: int) -> None:
            if not shown:
                bar = Progress(total or done, unit="bytes", console=console)
                shown.append(stack.enter_context(bar))
            counts = {"documents": documents, "tokens": tokens} if documents else {}
            shown[0].update(done, counts)

        manifest = prepare(
            experiment.corpus,
            experiment.model.vocab_size,
            processes=processes,
            report=lambda line: _say(console, line),
            progress=progress,
        )
    train, heldout = (manifest["splits"][split] for split in ("train", "heldout"))
    _say(
        console,
        f"{experiment.corpus.prepared}: {train['documents']:,} documents, "
        f"{train['tokens']:,} tokens to train on; {heldout['documents']:,} documents, "
        f"{heldout['tokens']:,} tokens held out",
    )


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects the first SIGINT or SIGTERM; a second SIGINT interrupts at once."""
    received: list[int] = []

    def receive(number: int, frame: Any) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {n: signal.signal(n, receive) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _console() -> "Console":
    from rich.console import Console

    return Console()


def _say(console: "Console", line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _table(title: str, rows: dict[str, int]) -> None:
    print(title)
    for name, value in rows.items():
        print(f"  {name:28} {value:>24,}")
    print()


def _shown(predictions: Sequence[Any]) -> str:
    return ", ".join(f"{p.piece} {p.probability:.0%}" for p in predictions)


def _one_line(text: str) -> str:
    return " ".join(text.split())


_COMMANDS: dict[str, Callable[[Sequence[str]], int | None]] = {
    "list": _list,
    "inspect": _inspect,
    "prepare": _prepare,
    "pretrain": _pretrain,
    "fill-mask": _fill_mask,
}
