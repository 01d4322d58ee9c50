"""How a metric is called and printed: its label, its unit, its decimals."""

from dataclasses import dataclass

from albert_jax.config.study import Study

_NAMES = {
    "masked_lm": "masked-LM",
    "sentence_order": "sentence-order",
    "next_sentence": "next-sentence",
}
_CHANCE = ("eval/sentence_order_accuracy", "eval/next_sentence_accuracy")


@dataclass(frozen=True)
class Metric:
    """A metric of the log, or of a task as ``TASK/SCORE``."""

    name: str
    label: str
    scale: float
    """What its values are multiplied with to be printed."""
    unit: str
    """Then of one point: "%", "nats", or nothing."""
    decimals: int

    @property
    def heading(self) -> str:
        """Label and unit."""
        return f"{self.label}, {self.unit}" if self.unit else self.label

    @property
    def difference_unit(self) -> str:
        """Of a difference: percentage points where values are in percent."""
        return "points" if self.unit == "%" else self.unit

    @property
    def chance(self) -> float | None:
        """What guessing comes to, where that is known beforehand."""
        return 0.5 if self.name in _CHANCE else None

    def format(self, value: float) -> str:
        """A level, such as "25.31"."""
        return f"{self.scale * value:.{self.decimals}f}".replace("-", "−")

    def format_signed(self, value: float) -> str:
        """A difference, such as "+1.20" or "−0.35"."""
        return f"{self.scale * value:+.{self.decimals}f}".replace("-", "−")


def metric_of(name: str, study: Study) -> Metric:
    """By the name that a study gives it. Shares are printed in percent."""
    where, _, score = name.partition("/")
    label = score if where == "eval" else f"{where} {score}"
    for ours, printed in _NAMES.items():
        label = label.replace(ours, printed)
    label = label.replace("_", " ")
    if name.endswith("_loss"):
        return Metric(name, label, 1.0, "nats", 4)
    if name.endswith("mean_squared_error"):
        return Metric(name, label, 1.0, "", 4)
    # SQuAD's scripts give percent themselves.
    spans = {one.task.name for one in study.tasks if one.task.kind == "span"}
    return Metric(name, label, 1.0 if where in spans else 100.0, "%", 2)


def shown_metrics(study: Study) -> list[Metric]:
    """What the report has columns of: the study's metrics, then its tasks' scores."""
    tasks = [one.task for one in study.tasks]
    scores = [f"{task.name}/{score}" for task in tasks for score in task.metrics]
    return [metric_of(name, study) for name in (*study.metrics, *scores)]
