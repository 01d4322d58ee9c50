"""Medians and quartiles of paired repetitions."""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple


class Spread(NamedTuple):
    """The median of some values, and the quartiles that hold the middle half."""

    median: float
    low: float
    high: float

    def __format__(self, form: str) -> str:
        return f"{self.median:{form}} [{self.low:{form}}, {self.high:{form}}]"


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles; of a single value, that value."""
    if len(values) == 1:
        return Spread(*values * 3)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def ratios(theirs: Sequence[float], ours: Sequence[float]) -> Spread:
    """Theirs over ours, round by round: what slows a whole round down cancels."""
    return spread([a / b for a, b in zip(theirs, ours, strict=True)])


def shares(contender: dict[str, Any], limit: dict[str, Any]) -> Spread:
    """FLOP/s of a contender over those of large products in the same round."""
    work = contender["flops"] / limit["flops"]
    pairs = zip(limit["seconds"], contender["seconds"], strict=True)
    return spread([work * least / seconds for least, seconds in pairs])
