"""What is wrong with a value, said so that it can be mended."""

import difflib
from collections.abc import Iterable
from typing import Any


class UserError(ValueError):
    """A mistake that the user can mend; its message is one line and names the cure."""


def nearest(word: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """A "; did you mean ...?" for the known word closest to ``word``, or nothing."""
    match = difflib.get_close_matches(word, [str(k) for k in known], 1, cutoff)
    return f"; did you mean {match[0]!r}?" if match else ""


def require(condition: bool, name: str, value: Any, allowed: str) -> None:
    if not condition:
        raise UserError(f"{name} is {value!r}, but it must be {allowed}")


def require_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    choices = tuple(choices)
    if value not in choices:
        listed = ", ".join(map(repr, choices))
        raise UserError(
            f"{name} is {value!r}, but it must be one of {listed}"
            + nearest(str(value), choices)
        )


def require_positive(owner: Any, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        require(value > 0, name, value, "above 0")


def require_share(owner: Any, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        require(0.0 <= value < 1.0, name, value, "at least 0 and below 1")
