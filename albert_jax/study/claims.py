"""The paper's conclusions, decided by intervals: reproduced, not, or undecided."""

from dataclasses import dataclass
from typing import Literal

from albert_jax.config.study import Claim
from albert_jax.study.contrasts import Contrast, contrast
from albert_jax.study.results import StudyResults


@dataclass(frozen=True)
class Decision:
    """What the seeds say of a claim."""

    claim: Claim
    contrast: Contrast
    verdict: Literal["reproduced", "not reproduced", "undecided"]
    reason: str = ""
    """Why it is undecided."""


def decide(claim: Claim, results: StudyResults) -> Decision:
    """Decides by the 95 % interval of the paired contrast's mean over seeds.

    *Reproduced* where all of the interval is as expected, *not reproduced* where none
    of it is. A claim is undecided as long as one of its seeds diverged: the mean over
    those that did not would favour the arm that diverges.
    """
    found = contrast(results, claim.contrast, claim.metric)
    if reason := _undecidable(claim, found, results):
        return Decision(claim, found, "undecided", reason)
    low, high = found.spread.interval
    if claim.expected == "above":
        all_of_it, some_of_it = low > 0, high > 0
    elif claim.expected == "below":
        all_of_it, some_of_it = high < 0, low < 0
    else:
        margin = claim.margin
        all_of_it = -margin <= low and high <= margin
        some_of_it = low <= margin and -margin <= high
    if all_of_it:
        return Decision(claim, found, "reproduced")
    if not some_of_it:
        return Decision(claim, found, "not reproduced")
    edge = "the margin" if claim.expected == "about" else "0"
    return Decision(claim, found, "undecided", f"the interval reaches across {edge}")


def _undecidable(claim: Claim, found: Contrast, results: StudyResults) -> str:
    """Why there is no interval to decide by, or nothing."""
    if found.not_finite:
        seeds = ", ".join(map(str, found.not_finite))
        return f"not a number for seed {seeds}"
    if len(found.values) > 1:
        return ""
    if found.values:
        return "one seed has no interval"
    without = [
        arm for arm in claim.contrast if not results.arms[arm].scores.get(claim.metric)
    ]
    if without:
        return f"no {claim.metric} of {', '.join(without)}"
    return "its arms have no seed in common"
