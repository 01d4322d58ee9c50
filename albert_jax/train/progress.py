"""How far a long job is: a bar on a terminal, plain lines in a log.

rich is imported only where there is a console to print through.
"""

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, SupportsFloat

if TYPE_CHECKING:
    from rich.console import Console


class Progress:
    """How far a long job is: a bar on a terminal, else a line now and then.

    A context manager. ``update`` may be called as often as one likes.

    Args:
      total: Where the job ends, in ``unit``.
      initial: Where it starts; a resumed run does not start at 0.
      unit: "steps", "bytes" (shown as kB, MB, ...) or the name of what is counted.
      console: What to print through; without one nothing is printed.
    """

    def __init__(
        self,
        total: int,
        *,
        initial: int = 0,
        unit: str = "steps",
        console: "Console | None" = None,
    ) -> None:
        self._total, self._initial, self._unit = total, initial, unit
        self._console = console
        shown: _Bar | _Lines | None = None
        if console is not None:
            shown = (_Bar if console.is_interactive else _Lines)(self)
        self._shown = shown

    def __enter__(self) -> "Progress":
        if self._shown:
            self._shown.start()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._shown:
            self._shown.stop()

    def update(
        self, step: int, values: Mapping[str, SupportsFloat] | None = None
    ) -> None:
        """The job has come to ``step``; without values, the last ones stay shown."""
        if self._shown:
            self._shown.update(
                step, {name: float(value) for name, value in (values or {}).items()}
            )

    def message(self, text: str) -> None:
        """Print a line of text, above the bar if there is one."""
        if self._console is not None:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def position(self, step: int) -> str:
        """Where the job is: "1,200/20,000 steps" or "1.2 GB of 3.4 GB"."""
        if self._unit == "bytes":
            from rich.filesize import decimal

            return f"{decimal(step)} of {decimal(self._total)}"
        return f"{step:,}/{self._total:,} {self._unit}"


# Shown in curves and in the log, but not worth the reader's eye at every moment.
_UNSHOWN = {
    "step",
    "tokens",
    "learning_rate",
    "train/gradient_norm",
    "train/sentence_order_loss",
    "train/next_sentence_loss",
}

# One for every matrix, and not shown either.
_RATIO = "train/trust_ratio/"

# Shares, shown in percent.
_SHARES = ("accuracy", "real token share", "data wait", "MFU")


def describe(values: dict[str, float]) -> str:
    """Metrics as a reader likes them: "masked LM loss 6.123, 31.4k tokens/s"."""
    return ", ".join(
        _describe_one(name, value)
        for name, value in values.items()
        if not (name in _UNSHOWN or name.startswith(_RATIO) or "/seed-" in name)
    )


def _describe_one(name: str, value: float) -> str:
    label = name.removeprefix("train/").replace("eval/", "held-out ")
    label = label.replace("_lm_", "_LM_").replace("_", " ")
    label = label.replace("mfu", "MFU")
    if label.endswith(" per second"):
        amount = f"{value / 1000:,.1f}k" if value >= 10_000 else f"{value:,.0f}"
        return f"{amount} {label.removesuffix(' per second')}/s"
    if label == "documents":
        return f"{value:,.0f} documents"
    if label.endswith(_SHARES):
        return f"{label} {100 * value:.1f} %"
    return f"{label} {value:#.4g}"


class _Bar:
    """The bar, its estimate of the time left, and the latest values below."""

    def __init__(self, progress: Progress) -> None:
        from rich import progress as rich_progress
        from rich.console import Group
        from rich.live import Live
        from rich.text import Text

        self._progress = progress
        self._bar = rich_progress.Progress(
            rich_progress.BarColumn(bar_width=None),
            rich_progress.TextColumn("{task.fields[position]}"),
            rich_progress.TaskProgressColumn(),
            rich_progress.TimeRemainingColumn(elapsed_when_finished=True),
            expand=True,
            auto_refresh=False,
        )
        self._task = self._bar.add_task(
            "",
            total=progress._total,
            completed=progress._initial,
            position=progress.position(progress._initial),
        )
        self._values = ""
        self._live = Live(
            console=progress._console,
            refresh_per_second=4,
            get_renderable=lambda: Group(
                self._bar, Text(self._values, style="dim", overflow="ellipsis")
            ),
        )

    def start(self) -> None:
        self._live.start()

    def stop(self) -> None:
        self._live.stop()

    def update(self, step: int, values: dict[str, float]) -> None:
        self._values = describe(values) or self._values
        self._bar.update(
            self._task, completed=step, position=self._progress.position(step)
        )


class _Lines:
    """Plain lines for a log: the first, the last, and between them ever more rarely."""

    _SHORTEST, _LONGEST = 10.0, 300.0  # seconds between two lines

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._first: tuple[float, int] | None = None  # when, and at which step
        self._printed = -math.inf
        self._waiting: tuple[int, str] | None = None

    def start(self) -> None:
        """Nothing is printed before there is something to say."""

    def stop(self) -> None:
        if self._waiting:
            self._print(*self._waiting, time.monotonic())

    def update(self, step: int, values: dict[str, float]) -> None:
        now = time.monotonic()
        self._first = self._first or (now, step)
        pause = 0.05 * (now - self._first[0])
        pause = min(max(pause, self._SHORTEST), self._LONGEST)
        self._waiting = (step, describe(values))
        if now - self._printed >= pause or step >= self._progress._total:
            self._print(*self._waiting, now)

    def _print(self, step: int, values: str, now: float) -> None:
        assert self._first is not None
        (since, first), total = self._first, self._progress._total
        line = f"{self._progress.position(step)} ({100 * step / max(total, 1):.0f} %)"
        if first < step < total:
            left = (now - since) / (step - first) * (total - step)
            hours, rest = divmod(round(left), 3600)
            line += f", {hours}:{rest // 60:02}:{rest % 60:02} left"
        self._progress.message(line + (f": {values}" if values else ""))
        self._printed, self._waiting = now, None
