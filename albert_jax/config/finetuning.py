"""Fine-tuning runs: a task, what to start from, and how to train."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from albert_jax.config.checks import (
    UserError,
    nearest,
    require,
    require_choice,
    require_positive,
    require_share,
)
from albert_jax.config.pretraining import CheckpointConfig, OptimizerConfig
from albert_jax.config.tasks import Task

RULES = ("last", "best")
_FROZEN = ("embeddings", "layers", "layer_0", "base_model")


@dataclass(frozen=True, kw_only=True)
class FinetuningExperiment:
    """A fine-tuning run, whole: what ``experiment.json`` holds.

    Raises:
      UserError: a field is out of range, or two fields contradict each other.
    """

    name: str
    task: Task
    init: str | None = None
    """What to start from: a run, a folder with Hugging Face's or the official code's
    files, or a name on the hub. Its configuration and vocabulary are the model's. Of a
    run that has all of our seeds, and several, each starts from its own."""
    from_scratch: bool = False
    """Take configuration and vocabulary alone from ``init``, and draw every weight: the
    baseline of a pretrained model."""
    keep_head: bool = False
    """Go on with the head that ``init`` has; else each seed draws a new one."""
    dropout: float | None = None
    """Of hidden states and attention; none: as ``init`` says."""
    classifier_dropout: float = 0.1
    """Before the last layer; the head of SQuAD 1.1 has none, as in the official code
    (Table 14 says 0.1)."""
    frozen: tuple[str, ...] = ()
    """Parts that stay as they are, without gradient, moments and decay: ``embeddings``
    (with the map from E to H), ``layers``, one of them from ``layer_0`` on (and with it
    those that share its weights), ``base_model`` (all but the head)."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            name="adamw", learning_rate=3e-5, warmup_steps=200
        )
    )
    learning_rates: tuple[float, ...] = ()
    """Peaks of the schedule to try at once, each with every seed; the one that is best
    on examples held out of the training split counts. None: the optimizer's alone."""
    batch_size: int = 32
    """Examples a step, over all devices; of long contexts, their chunks."""
    steps: int = 800
    """Length of the run and of its learning-rate schedule."""
    seed: int = 0
    """The first seed: of the head's weights, the order of the data, and dropout."""
    seeds: int = 1
    """Runs at once, with the seeds from ``seed`` on, in one compiled program."""
    rule: Literal["last", "best"] = "last"
    """The weights that count: those of the last step, or the best on examples that are
    held out of the training split. ``dev`` is looked at once, at the end."""
    heldout_fraction: float = 0.1
    """Share of the training split that is held out where there is something to choose:
    weights (``best``) or learning rates; the same for every seed."""
    evaluate_every: int = 100
    """Steps between evaluations on held-out examples, where ``rule`` is best."""
    checkpoint: CheckpointConfig = field(
        default_factory=lambda: CheckpointConfig(every=1000, keep=1)
    )
    log_every: int = 10
    """Steps between lines of the metrics log."""

    def __post_init__(self) -> None:
        require_positive(
            self, "batch_size", "steps", "seeds", "evaluate_every", "log_every"
        )
        require(self.seed >= 0, "seed", self.seed, "0 or more")
        require_choice("rule", self.rule, RULES)
        require_share(self, "classifier_dropout")
        if self.dropout is not None:
            require_share(self, "dropout")
        require(
            0.0 < self.heldout_fraction < 1.0,
            "heldout_fraction",
            self.heldout_fraction,
            "above 0 and below 1",
        )
        for rate in self.learning_rates:
            require(rate > 0, "learning_rates", rate, "above 0")
        if len(set(self.learning_rates)) < len(self.learning_rates):
            raise UserError(
                f"learning_rates is {self.learning_rates}, but it names one rate twice"
            )
        for part in self.frozen:
            if part not in _FROZEN and not re.fullmatch(r"layer_\d+", part):
                raise UserError(
                    f"frozen has {part!r}, but there are {', '.join(_FROZEN)}, and "
                    f"further layers{nearest(part, _FROZEN)}"
                )
        if self.from_scratch and self.keep_head:
            raise UserError(
                "from_scratch and keep_head are both True, but a head that is kept is "
                "not drawn"
            )
        if self.optimizer.warmup_steps > self.steps:
            raise UserError(
                f"optimizer.warmup_steps is {self.optimizer.warmup_steps}, more than "
                f"steps = {self.steps}"
            )

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """Every seed, the first one first."""
        return tuple(range(self.seed, self.seed + self.seeds))

    @property
    def rates(self) -> tuple[float, ...]:
        """Every learning rate; each has all seeds, one rate after another."""
        return self.learning_rates or (self.optimizer.learning_rate,)

    @property
    def holds_out(self) -> bool:
        """Whether something is chosen, on examples that are not trained on."""
        return self.rule == "best" or len(self.rates) > 1

    def best_rate(self, scores: Sequence[float]) -> int:
        """The place of the learning rate whose seeds have the best mean score.

        The first of equals; a score that is not a number is worse than any other.

        Args:
          scores: of every rate and seed, in order; more is better.
        """
        known = [-math.inf if math.isnan(score) else score for score in scores]
        means = [
            math.fsum(known[i : i + self.seeds]) / self.seeds
            for i in range(0, len(known), self.seeds)
        ]
        return means.index(max(means))
