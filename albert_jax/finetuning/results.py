"""The scores of several seeds: mean, standard deviation, a 95 % interval."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from albert_jax.data.shards import replacing

# Counts and thresholds among the scores: a mean of them says nothing.
_NO_SCORES = ("total", "thresh")


@dataclass(frozen=True)
class Spread:
    """One metric over seeds."""

    values: tuple[float, ...]
    """In the seeds' order."""
    mean: float
    std: float | None
    """Of a sample (n - 1); none for one seed."""
    interval: tuple[float, float] | None
    """The mean's 95 % interval by Student's t; none for one seed."""

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        count, mean = len(values), float(np.mean(values))
        if count == 1:
            return cls(tuple(values), mean, None, None)
        from scipy.stats import t

        std = float(np.std(values, ddof=1))
        reach = float(t.ppf(0.975, count - 1)) * std / math.sqrt(count)
        return cls(tuple(values), mean, std, (mean - reach, mean + reach))

    def __str__(self) -> str:
        if self.interval is None:
            return f"{self.mean:.4f}"
        low, high = self.interval
        return (
            f"{self.mean:.4f} (standard deviation {self.std:.4f}, 95 % interval "
            f"{low:.4f} to {high:.4f})"
        )


@dataclass(frozen=True)
class Results:
    """What a run came to on a split."""

    task: str
    split: str
    examples: int
    seeds: tuple[int, ...]
    rule: str
    """Which weights were evaluated, and how they were chosen, in words."""
    scores: Mapping[str, Spread]
    """The deciding one first."""
    learning_rate: float | None = None
    """The one that was chosen; none: there was no choice."""
    heldout: Mapping[float, Spread] = field(default_factory=dict)
    """What it was chosen by: every rate's deciding score on held-out examples."""

    @classmethod
    def of(cls, by_seed: Sequence[Mapping[str, float]], **facts: Any) -> "Results":
        """Of each seed's scores."""
        names = [n for n in by_seed[0] if not n.endswith(_NO_SCORES)]
        scores = {n: Spread.of([one[n] for one in by_seed]) for n in names}
        return cls(scores=scores, **facts)

    def as_dict(self) -> dict[str, Any]:
        """JSON values; what is not a number is null."""
        return _finite(asdict(self))

    def write(self, path: Path) -> None:
        """A JSON document, whole or not at all."""
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(self.as_dict(), indent=1) + "\n")

    def lines(self) -> list[str]:
        """For a reader: what was measured on, and a line a metric."""
        seeds = f"{len(self.seeds)} seeds" if len(self.seeds) > 1 else "one seed"
        head = f"{self.task}, {self.examples:,} examples of {self.split}, {seeds}"
        metric = next(iter(self.scores))
        tried = [
            f"  held out, learning rate {rate:g}: {metric} {spread}"
            + (" (chosen)" if rate == self.learning_rate else "")
            for rate, spread in self.heldout.items()
        ]
        scores = [f"  {name} {spread}" for name, spread in self.scores.items()]
        return [f"{head}; weights: {self.rule}", *tried, *scores]


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
