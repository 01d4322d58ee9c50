"""Options out of arguments, and whatever stands on standard error: a line each."""

import contextlib
import io
import re
import sys
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import tyro

from albert_jax.config import UserError, nearest


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
