"""The command for a study's report: report."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from albert_jax.cli.parsing import parse


@dataclass(frozen=True)
class _Report:
    """Writes the report of a study's runs, finished or not: tables beside the paper's
    numbers, claims with their verdicts, figures."""

    study: tyro.conf.Positional[Path]
    """Folder of the study."""
    output: Path | None = None
    """Folder of the report; report/ in the study's by default."""
    json: bool = False
    """Print the report as one JSON document and nothing else; files are written all the
    same."""


def report(arguments: Sequence[str]) -> None:
    options = parse(_Report, arguments, "report")
    from albert_jax.study.report import JSON, write_report

    written = write_report(options.study, options.output or options.study / "report")
    text = written.with_name(JSON).read_text()
    if options.json:
        print(text, end="")
        return
    for line in summary(json.loads(text)):
        print(line)
    print(f"the report is {written}")


def summary(document: Mapping[str, Any]) -> Iterator[str]:
    """How much of the study there is, and what it says of every claim."""
    states = [
        seed["state"]
        for arm in document["arms"].values()
        for seed in arm["progress"].values()
    ]
    yield (
        f"{document['study']}: {states.count('finished')} of {len(states)} seeds of "
        f"{len(document['arms'])} arms are finished"
    )
    for claim in document["claims"]:
        reason = f" ({claim['reason']})" if claim["reason"] else ""
        yield f"  {claim['verdict']}{reason}: {claim['text']} ({claim['source']})"
