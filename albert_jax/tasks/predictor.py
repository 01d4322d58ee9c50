"""A task's head on examples: their rows, its outputs; compiled once a shape."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn
from jaxtyping import PyTree

from albert_jax.config.tasks import Task
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.tasks.buckets import Batch, Buckets
from albert_jax.tasks.evaluation import Prediction, predict
from albert_jax.tasks.examples import Example
from albert_jax.tasks.features import features_of
from albert_jax.tasks.rows import Row, refuse_too_long


class Predictor:
    """What a model says of examples, with any parameters.

    Args:
      model: the task's head.
      tokenizer: the model's.
      task: of any kind.
    """

    def __init__(self, model: nn.Module, tokenizer: Tokenizer, task: Task) -> None:
        self._tokenizer, self._task = tokenizer, task
        self._longest = model.config.max_position_embeddings

        def outputs(variables: PyTree, batch: Batch) -> PyTree:
            inputs = dict(batch)
            if "answer_mask" in inputs:
                inputs["p_mask"] = inputs.pop("answer_mask") == 0
            return model.apply(variables, **inputs)

        # One function for all parameters, so that a shape is compiled once.
        self._outputs = jax.jit(outputs)

    def rows(self, examples: Sequence[Example]) -> list[Row]:
        """The rows of examples (``tasks.features.features_of``).

        Raises:
          UserError: a row is longer than the model's positions.
        """
        rows = features_of(self._task, examples, self._tokenizer)
        refuse_too_long(rows, self._longest)
        return rows

    def outputs(self, variables: PyTree, rows: Sequence[Row]) -> list[Any]:
        """What the head returns for each row, in NumPy, without the batch's axis."""
        run = Buckets(
            self._outputs,
            variables,
            longest=self._longest,
            pad_id=self._tokenizer.pad_id,
        )
        return run([row.inputs for row in rows])

    def predict(
        self, variables: PyTree, examples: Sequence[Example], rows: Sequence[Row]
    ) -> list[Prediction]:
        """What the model says of each example (``tasks.evaluation.predict``)."""
        return predict(self._task, examples, rows, self.outputs(variables, rows))
