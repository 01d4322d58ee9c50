"""How far the runs of a study are: a live table on a terminal, else plain lines."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from albert_jax.cli.console import say
from albert_jax.study.plan import name_of_seeds
from albert_jax.study.standing import Standing, seconds_left

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Between two lines on how far the runs under way are, where there is no table.
_PAUSE_SECONDS = 300.0


class Standings:
    """Shows them whenever ``observe`` is called; a context manager."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._live: Any = None
        self._states: dict[str, str] = {}
        self._printed = time.monotonic()
        if console.is_interactive:
            from rich.live import Live

            self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> "Standings":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._live:
            self._live.stop()

    def observe(self, standings: Sequence[Standing]) -> None:
        """How far every run is now."""
        if self._live:
            self._live.update(_table(standings, self._console.height), refresh=True)
            return
        now = time.monotonic()
        due = now - self._printed >= _PAUSE_SECONDS
        for one in standings:
            title = one.run.title
            changed = self._states.get(title, "waiting") != one.state
            self._states[title] = one.state
            if changed or (due and one.state == "running"):
                say(self._console, f"{title}: {_described(one)}")
        if due:
            say(self._console, _summary(standings))
            self._printed = now


def _described(one: Standing) -> str:
    """ "running, step 1,200 of 11,000, masked-LM loss 6.123, 1:02:03 left"."""
    parts = [one.state]
    if one.step:
        parts.append(f"step {_step(one)}")
    if one.loss is not None:
        parts.append(f"masked-LM loss {one.loss:.3f}")
    if one.seconds_left is not None:
        parts.append(f"{_clock(one.seconds_left)} left")
    return ", ".join([*parts, one.error] if one.error else parts)


def _summary(standings: Sequence[Standing]) -> str:
    counts = [
        f"{count} {state}"
        for state in ("finished", "running", "waiting", "stopped", "failed")
        if (count := sum(one.state == state for one in standings))
    ]
    left = seconds_left(standings)
    estimate = f"; about {_clock(left)} of pretraining left" if left else ""
    return f"runs: {', '.join(counts)}{estimate}"


def _table(standings: Sequence[Standing], height: int) -> "Table":
    from rich.table import Table

    table = Table(caption=_summary(standings), caption_justify="left")
    for name in ("arm", "seeds"):
        table.add_column(name)
    for name in ("step", "masked-LM loss", "left"):
        table.add_column(name, justify="right")
    # More than fit: those that something happens to.
    if len(standings) > max(height - 6, 1):
        standings = [s for s in standings if s.state not in ("waiting", "finished")]
    for one in standings:
        run = one.run
        left = _clock(one.seconds_left) if one.seconds_left is not None else one.state
        table.add_row(
            f"{run.arm}, {run.task}" if run.task else run.arm,
            name_of_seeds(run.seeds, " ").split()[1],
            _step(one),
            "" if one.loss is None else f"{one.loss:.3f}",
            left,
        )
    return table


def _step(one: Standing) -> str:
    return f"{one.step:,} of {one.run.experiment.steps:,}"


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
