"""The command depth: a pretraining run from within, layer by layer."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from albert_jax.cli.parsing import note, parse

if TYPE_CHECKING:
    from albert_jax.study.depth import Depth


@dataclass(frozen=True)
class _Depth:
    """Shows what happens from layer to layer of a pretraining run, on rows that were
    held out: how far a layer moves its input (Figure 1 of the paper), where its heads
    look, and what each pass through shared weights adds to their gradient."""

    run: tyro.conf.Positional[Path]
    """Folder of the run; the prepared corpus must be where it was."""
    against: Path | None = None
    """Another run, on the same rows and, in the figure, the same axes."""
    rows: int = 64
    """Held-out rows to look at."""
    seed: int | None = None
    """Which of a run's seeds; its first by default."""
    figure: Path | None = None
    """Also draw it, as PNG or SVG."""
    json: bool = False
    """Print one JSON document and nothing else."""


def depth(arguments: Sequence[str]) -> None:
    """The command depth."""
    options = parse(_Depth, arguments, "depth")
    if options.figure:
        from albert_jax.train.curves import check_figure

        check_figure(options.figure)
    from albert_jax.programs import keep_programs
    from albert_jax.study.depth import depth_of_runs

    keep_programs(report=note)
    folders = [options.run] + ([options.against] if options.against else [])
    found = depth_of_runs(folders, options.rows, seed=options.seed, report=note)
    if options.figure:
        from albert_jax.study.depth_figure import draw_depth

        draw_depth(found, options.figure)
    if options.json:
        against = {"against": found[1].as_dict()} if options.against else {}
        print(json.dumps(found[0].as_dict() | against, indent=1))
        return
    for one in found:
        for line in _lines(one):
            print(line)
    if options.figure:
        print(f"the figure is {options.figure}")


_HEADINGS = ("layer", "distance", "angle", "entropy", "heads", "attention", "ffn")


def _lines(depth: "Depth") -> Iterator[str]:
    """The table of one run, and a line for all weights that several passes use."""
    profile, gradients = depth.profile, depth.gradients
    yield (
        f"{depth.name}: {depth.rows:,} held-out rows, {profile.tokens:,} tokens; "
        f"sharing {depth.config.share}, groups {depth.config.num_hidden_groups}"
    )
    yield "distance: L2, input to output; angle: degrees; entropy: of attention, nats,"
    yield (
        f"mean, lowest and highest head ({profile.uniform_entropy:.2f} if all keys had "
        "the same weight);"
    )
    yield "attention, ffn: norms of each pass's gradient"
    yield "{:>5}  {:>8}  {:>6}  {:>7}  {:>11}  {:>9}  {:>9}".format(*_HEADINGS)
    norms = zip(gradients.norms("attention"), gradients.norms("ffn"), strict=True)
    for i, (block, (attention, ffn)) in enumerate(
        zip(depth.blocks, norms, strict=True)
    ):
        heads = profile.entropy[i]
        spread = f"{heads.min():.2f} - {heads.max():.2f}"
        yield (
            f"{block:>5}  {profile.distance[i]:8.2f}  {profile.angle[i]:6.1f}  "
            f"{heads.mean():7.2f}  {spread:>11}  {attention:9.3g}  {ffn:9.3g}"
        )
    for kind in ("attention", "ffn"):
        for owner, share in gradients.agreement(kind).items():
            passes = int((gradients.owners[kind] == owner).sum())
            yield (
                f"{kind}_{owner}, {passes} passes: their gradients add up to "
                f"{share:.2f} of what they would if all agreed "
                f"(orthogonal: {passes**-0.5:.2f})"
            )
