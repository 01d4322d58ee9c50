"""A fine-tuned model at work on texts of one's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flax import linen as nn
from jaxtyping import PyTree

from albert_jax.config import UserError
from albert_jax.config.tasks import Task
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.tasks.answers import Answered, shares
from albert_jax.tasks.evaluation import NOT_SEEN, predict
from albert_jax.tasks.examples import Example
from albert_jax.tasks.own_text import example_of
from albert_jax.tasks.predictor import Predictor


@dataclass(frozen=True)
class Classified:
    """A label, or a choice, and how probable each of them is."""

    label: str
    probabilities: dict[str, float]


# By the kind of task: a label or choice; a number; a label for every word (None for
# those cut off); the answers to a question.
Said = Classified | float | tuple[str | None, ...] | Answered


class TaskModel:
    """Says what a task asks for, of texts one by one or of many at once.

    What is compiled when, ``Buckets`` says. ``interop.task.task_of`` finds the task of
    a run or of a folder.

    Raises:
      UserError: the model has not the task's head, or there is no tokenizer.
    """

    def __init__(
        self,
        model: nn.Module,
        variables: PyTree,
        tokenizer: Tokenizer | None,
        task: Task,
    ) -> None:
        if type(model).__name__ != task.head:
            raise UserError(
                f"{type(model).__name__} does not do {task.name}, which needs "
                f"{task.head}"
            )
        if tokenizer is None:
            raise UserError("without a vocabulary there is no reading of texts")
        self.task = task
        self._variables = variables
        self._predictor = Predictor(model, tokenizer, task)

    def __call__(self, *texts: str) -> Said:
        """Of one text; or of a text and its pair, or a question and its context; or of
        a question, its passage and the choices.

        Raises:
          UserError: the task takes another number of texts.
        """
        return self.predict([example_of(texts, self.task, self.task.name, "0")])[0]

    def predict(self, examples: Sequence[Example]) -> list[Said]:
        """Of every example; ``tasks.own_text`` reads them from lines and files.

        Raises:
          UserError: words that do not fit into the model's positions.
        """
        rows = self._predictor.rows(examples)
        outputs = self._predictor.outputs(self._variables, rows)
        predictions = predict(self.task, examples, rows, outputs)
        if self.task.kind in ("regression", "span"):
            return predictions
        if self.task.kind == "tokens":
            return [self._words(places) for places in predictions]
        logits = np.array([output.logits for output in outputs])
        # Each choice is a row of its own.
        logits = logits.reshape(len(examples), len(self.task.labels))
        return [
            self._classified(place, one)
            for place, one in zip(predictions, logits, strict=True)
        ]

    def _words(self, places: tuple[int, ...]) -> tuple[str | None, ...]:
        labels = self.task.labels
        return tuple(None if p == NOT_SEEN else labels[p] for p in places)

    def _classified(self, place: int, logits: Any) -> Classified:
        labels = self.task.labels
        probabilities = dict(zip(labels, shares(logits), strict=True))
        return Classified(labels[place], probabilities)
