"""The commands for experiments that nobody runs yet: list, inspect."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from albert_jax.catalogue import find_experiments
from albert_jax.cli.parsing import note, parse, parse_experiment
from albert_jax.config import PretrainingExperiment, UserError


@dataclass(frozen=True)
class _List:
    """Lists every experiment of ./experiments."""

    json: bool = False
    """Print one JSON document and nothing else."""


@dataclass(frozen=True)
class _Inspect:
    """Shows what an experiment costs; allocates nothing."""

    experiment: Annotated[PretrainingExperiment, tyro.conf.arg(name="")]
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


def list_experiments(arguments: Sequence[str]) -> int:
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


def inspect(arguments: Sequence[str]) -> None:
    options = parse_experiment(_Inspect, arguments, "inspect")
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
