"""Studies: arms that differ in one thing, trained with the same seeds and compared."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from albert_jax.config.checks import (
    UserError,
    nearest,
    require,
    require_choice,
    require_positive,
)
from albert_jax.config.finetuning import FinetuningExperiment
from albert_jax.config.pretraining import PretrainingExperiment

BUDGETS = ("tokens", "flops", "time")
EXPECTED = ("above", "below", "about")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A conclusion of the paper, as a number that a study can decide.

    The number is a weighted sum of arms' results, taken for each seed: of two arms
    their difference, of four the difference of two differences. It is decided by the
    95 % interval of its mean over seeds: *reproduced* where all of the interval is as
    expected, *not reproduced* where none of it is, else *undecided*.
    """

    text: str
    """What the paper says, in our words."""
    source: str
    """Where it says so: "Table 4", "section 4.5"."""
    contrast: Mapping[str, float]
    """Arm -> weight; the weights add up to 0."""
    metric: str
    """A metric of the log, such as ``eval/masked_lm_accuracy``, or of a task,
    ``sst2/accuracy``."""
    expected: Literal["above", "below", "about"] = "above"
    """Above 0, below 0, or at most ``margin`` away from it."""
    margin: float = 0.0
    """What counts as no difference, in the metric's unit, where ``about`` is
    expected."""

    def __post_init__(self) -> None:
        require_choice("claim.expected", self.expected, EXPECTED)
        total = sum(self.contrast.values())
        if not self.contrast or abs(total) > 1e-9:
            raise UserError(
                f"claim.contrast is {dict(self.contrast)!r}, but it must name arms "
                "with weights that add up to 0"
            )
        if (self.expected == "about") != (self.margin > 0):
            raise UserError(
                f"claim.margin is {self.margin!r} where {self.expected!r} is expected; "
                "a margin above 0 belongs to 'about', and to it alone"
            )


@dataclass(frozen=True, kw_only=True)
class Study:
    """A question, the arms that answer it, and what the paper answered.

    All arms of a seed see the same documents in the same order, as far as their data
    settings are the same: comparisons between arms are paired by seed.

    Raises:
      UserError: an arm that is named does not exist, or a field is out of range.
    """

    name: str
    question: str
    """In one sentence."""
    arms: Mapping[str, PretrainingExperiment]
    """Name -> experiment, in the order of the paper's table. Their ``name``, ``seed``
    and ``seeds`` are set by the study."""
    baseline: str
    """The arm that every other one is compared with."""
    seeds: int = 5
    """Seeds an arm, from 0 on."""
    budget: Literal["tokens", "flops", "time"] = "tokens"
    """What all arms get the same of: the steps of each are its own (``tokens``), or
    those of the baseline, divided by what a step costs in FLOPs by formula, or in
    seconds as measured before the first arm is trained."""
    starts: Mapping[str, str] = field(default_factory=dict)
    """Arm -> the arm that it goes on from, seed by seed, with fresh moments."""
    metrics: tuple[str, ...] = (
        "eval/masked_lm_accuracy",
        "eval/sentence_order_accuracy",
    )
    """What the report shows of every arm, the deciding one first."""
    tasks: tuple[FinetuningExperiment, ...] = ()
    """What every arm and seed is fine-tuned for afterwards; their ``init``, ``seed``
    and ``seeds`` are set by the study."""
    paper: Mapping[str, Mapping[str, float | str]] = field(default_factory=dict)
    """Arm -> column of the paper's table -> its number, as printed."""
    table: str = ""
    """Which table that is, "Table 4"; empty where the paper prints none."""
    claims: tuple[Claim, ...] = ()
    """What the paper concludes."""

    def __post_init__(self) -> None:
        require_positive(self, "seeds")
        require_choice("budget", self.budget, BUDGETS)
        require(bool(self.arms), "arms", self.arms, "at least one arm")
        require(bool(self.metrics), "metrics", self.metrics, "at least one metric")
        named = {
            "baseline": [self.baseline],
            "starts": [*self.starts, *self.starts.values()],
            "paper": self.paper,
            "claims": [arm for claim in self.claims for arm in claim.contrast],
        }
        for name, arms in named.items():
            for arm in arms:
                if arm not in self.arms:
                    raise UserError(
                        f"{name} names the arm {arm!r}, but the study {self.name} has "
                        f"{', '.join(self.arms)}{nearest(arm, self.arms)}"
                    )
        # An arm is trained after the one that it starts from.
        order = list(self.arms)
        for arm, start in self.starts.items():
            if order.index(start) >= order.index(arm):
                raise UserError(
                    f"starts says that {arm!r} goes on from {start!r}, which must "
                    "stand before it among the arms"
                )

    def experiment(self, arm: str, seed: int, seeds: int = 1) -> PretrainingExperiment:
        """An arm's experiment for ``seeds`` seeds from ``seed`` on, before ``budget``
        and ``starts`` are seen to."""
        return replace(
            self.arms[arm], name=f"{self.name}/{arm}", seed=seed, seeds=seeds
        )
