"""Signals that ask a command to save and end."""

import contextlib
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from albert_jax.cli.console import say

if TYPE_CHECKING:
    from rich.console import Console


class Stopping:
    """Whether to stop before the next step, and the signal that asks for it.

    Of several processes, each knows after the same step.
    """

    def __init__(self, together: bool) -> None:
        self.signal: int | None = None
        self._preempted = None
        if together:
            from albert_jax.train.processes import preemption

            self._preempted = preemption()

    def __call__(self) -> bool:
        if self._preempted and self._preempted():
            self.signal = signal.SIGTERM
        return self.signal is not None


@contextlib.contextmanager
def signals(together: bool) -> Iterator[Stopping]:
    """Waits for the first SIGINT or SIGTERM; a second SIGINT interrupts at once.

    Of several processes, SIGTERM is left to JAX, and SIGINT interrupts.
    """
    stopping = Stopping(together)

    def receive(number: int, frame: Any) -> None:
        stopping.signal = number
        signal.signal(signal.SIGINT, signal.default_int_handler)

    numbers = () if together else (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, receive) for number in numbers}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def say_stopped(console: "Console | None", where: str, stopping: Stopping) -> int:
    """Says that a command was stopped and how to go on; returns the exit code."""
    say(console, f"stopped and saved {where}; to go on, run it again")
    return 128 + stopping.signal
