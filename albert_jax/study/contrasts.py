"""Contrasts of arms: a weighted sum of their scores, seed by seed, and its interval."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from albert_jax.finetuning.results import Spread
from albert_jax.study.results import StudyResults


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of arms' scores over the seeds that all of these arms have."""

    values: Mapping[int, float]
    """Seed -> the sum."""
    missing: tuple[int, ...]
    """Seeds of the study that an arm has no score of."""
    not_finite: tuple[int, ...]
    """Seeds whose score is not a number: they diverged."""

    @property
    def spread(self) -> Spread | None:
        """Mean and interval over the seeds that have a number; none without any."""
        return Spread.of(tuple(self.values.values())) if self.values else None

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval, and 0 is not in it."""
        spread = self.spread
        if spread is None or spread.interval is None:
            return False
        low, high = spread.interval
        return low > 0 or high < 0

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        spread = self.spread
        return {
            "mean": spread and spread.mean,
            "std": spread and spread.std,
            "interval": spread and spread.interval,
            "excludes_zero": self.excludes_zero,
            "seeds": {str(seed): value for seed, value in self.values.items()},
            "missing": self.missing,
            "not_finite": self.not_finite,
        }


def contrast(
    results: StudyResults, weights: Mapping[str, float], metric: str
) -> Contrast:
    """The sum over arms of weight times score, for each seed.

    Pairing by seed takes out what arms of a seed share: their data. One arm of weight
    1 is its level; a minus b is ``{"a": 1, "b": -1}``.
    """
    values, missing, not_finite = {}, [], []
    for seed in range(results.study.seeds):
        scores = [results.arms[a].scores.get(metric, {}).get(seed) for a in weights]
        if None in scores:
            missing.append(seed)
            continue
        terms = [w * score for w, score in zip(weights.values(), scores, strict=True)]
        total = math.fsum(terms) if all(map(math.isfinite, terms)) else math.nan
        if math.isfinite(total):
            values[seed] = total
        else:
            not_finite.append(seed)
    return Contrast(values, tuple(missing), tuple(not_finite))
