"""From a model's outputs to predictions of a task, and from these to its scores."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from albert_jax.config import UserError
from albert_jax.config.tasks import ENTITY_METRICS, Task
from albert_jax.tasks.answers import Answered, answers_to
from albert_jax.tasks.entities import OUTSIDE, entity_scores
from albert_jax.tasks.examples import Example, WordsExample
from albert_jax.tasks.metrics import scores
from albert_jax.tasks.rows import Row
from albert_jax.tasks.squad_scores import squad_scores

# The class of a word that no row has room for: always wrong.
NOT_SEEN = -1

Prediction = int | float | tuple[int, ...] | Answered


def predict(
    task: Task, examples: Sequence[Example], rows: Sequence[Row], outputs: Sequence[Any]
) -> list[Prediction]:
    """What the model says of each example.

    Args:
      task: of any kind.
      examples: as read.
      rows: their features, all of them, in order.
      outputs: what the task's head returns, for each row: its output's arrays without
        the batch's axis, NumPy; what belongs to padding is not looked at.

    Returns:
      the place of a label, a number, a place for each word (``NOT_SEEN`` for those cut
      off), the place of a choice, or an ``Answered``.
    """
    if task.kind == "span":
        return answers_to(task, examples, rows, outputs)
    if task.kind == "choice":
        pairs = zip(rows, outputs, strict=True)
        groups = groupby(pairs, lambda pair: pair[0].example)
        return [int(np.argmax([o.logits for _, o in group])) for _, group in groups]
    logits = [np.asarray(output.logits) for output in outputs]
    if task.kind == "regression":
        return [float(one[0]) for one in logits]
    if task.kind == "classification":
        return [int(one.argmax()) for one in logits]
    predictions = []
    for row, one in zip(rows, logits, strict=True):
        seen = one[row.columns].argmax(axis=-1).tolist()
        missing = len(examples[row.example].words) - len(seen)
        predictions.append((*seen, *[NOT_SEEN] * missing))
    return predictions


def evaluate(
    task: Task, examples: Sequence[Example], predictions: Sequence[Prediction]
) -> dict[str, float]:
    """The task's metrics, the deciding one first.

    GLUE's and one's own as shares of 1 (``metrics.scores``), with the accuracy of every
    level of RACE (``accuracy_middle``); SQuAD's in percent (``squad_scores``).

    Raises:
      UserError: an example without a label, or nothing to score.
    """
    _refuse_unlabelled(task, examples)
    if task.kind == "span":
        return _span_scores(task, examples, predictions)
    if task.kind == "tokens":
        return _word_scores(task, examples, predictions)
    true = [example.label for example in examples]
    result = scores(task.metrics, predictions, true)
    if task.format == "race":
        levels = np.array([example.level for example in examples])
        for level in sorted(set(levels.tolist())):
            some = np.flatnonzero(levels == level)
            part = scores(
                ["accuracy"], [predictions[i] for i in some], [true[i] for i in some]
            )
            result[f"accuracy_{level}"] = part["accuracy"]
    return result


def _word_scores(
    task: Task,
    examples: Sequence[WordsExample],
    predictions: Sequence[tuple[int, ...]],
) -> dict[str, float]:
    given = [label for one in predictions for label in one]
    true = [label for example in examples for label in example.labels]
    found = scores([m for m in task.metrics if m not in ENTITY_METRICS], given, true)
    if len(found) < len(task.metrics):
        named = dict(enumerate(task.labels))
        named[NOT_SEEN] = OUTSIDE
        found |= entity_scores(
            [[named[place] for place in one] for one in predictions],
            [[named[place] for place in example.labels] for example in examples],
        )
    return {metric: found[metric] for metric in task.metrics}


def _span_scores(
    task: Task, examples: Sequence[Example], predictions: Sequence[Answered]
) -> dict[str, float]:
    result = squad_scores(
        [[answer.text for answer in example.answers] for example in examples],
        [one.given(task.null_threshold) for one in predictions],
        unanswerable=task.unanswerable,
        texts=[one.text for one in predictions],
        null_odds=[one.null_odds for one in predictions] if task.unanswerable else None,
    )
    first = {name: result[name] for name in task.metrics}
    return first | result


def _refuse_unlabelled(task: Task, examples: Sequence[Example]) -> None:
    name = {"span": "answers", "tokens": "labels"}.get(task.kind, "label")
    for example in examples:
        if getattr(example, name) is None:
            raise UserError(
                f"{task.name}: the example {example.id} has no label to compare with; "
                "only predictions can be written"
            )
