"""What commands say on standard output, and how far a preparation is."""

import contextlib
from typing import TYPE_CHECKING

from albert_jax.config import PretrainingExperiment

if TYPE_CHECKING:
    from rich.console import Console


def open_console() -> "Console":
    from rich.console import Console

    return Console()


def say(console: "Console | None", line: str) -> None:
    if console:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def run_prepare(
    experiment: PretrainingExperiment,
    processes: int | None,
    console: "Console",
    *,
    beam: str | None = None,
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
            beam=beam,
            report=lambda line: say(console, line),
            progress=progress,
        )
    train, heldout = (manifest["splits"][split] for split in ("train", "heldout"))
    say(
        console,
        f"{experiment.corpus.prepared}: {train['documents']:,} documents, "
        f"{train['tokens']:,} tokens to train on; {heldout['documents']:,} documents, "
        f"{heldout['tokens']:,} tokens held out",
    )
