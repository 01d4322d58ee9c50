"""Options out of arguments, and whatever stands on standard error: a line each."""

import contextlib
import io
import re
import sys
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import tyro

from albert_jax.catalogue import load_experiment
from albert_jax.config import PretrainingExperiment, UserError, nearest
from albert_jax.config.finetuning import FinetuningExperiment


def parse(
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


def parse_experiment(
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


def note(line: str) -> None:
    """Something that the user should hear of, beside the command's output."""
    print("albert-jax:", *line.split(), file=sys.stderr)
