"""Evaluation on held-out documents: always the same rows, masked in the same way."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import jax
import numpy as np
from jaxtyping import Array, PyTree

from albert_jax.config import EvaluationConfig
from albert_jax.data.pipeline import Example, PretrainingData
from albert_jax.model.losses import Sums, named
from albert_jax.train.metrics import add, means
from albert_jax.train.seeds import over_seeds


class HeldOut:
    """Evaluates parameters on the first rows of the held-out documents, those of
    several seeds on the same.

    Args:
      data: rows of the held-out split, for each sentence objective; its seed fixes
        their order and masks. Masked LM is measured on those of the first.
      step: losses of one batch, without dropout.
      place: puts a batch on its devices.
    """

    def __init__(
        self,
        data: Sequence[PretrainingData],
        config: EvaluationConfig,
        step: Callable[[PyTree, dict[str, Array]], Sums],
        place: Callable[[Example], dict[str, Array]],
    ) -> None:
        self._step = step
        self._place = place
        self._batches = {d.config.objective: _batches(d, config) for d in data}
        if "next_sentence" in self._batches:
            _balance(self._batches["next_sentence"])

    def __call__(self, params: PyTree) -> dict[str, float]:
        """Metrics under their names in the log, "eval/..."; of several seeds the mean,
        and each seed's own as ``train/seeds.py`` names it."""
        metrics: dict[str, float] = {}
        for objective, batches in self._batches.items():
            sums: Sums = {}
            for batch in batches:
                sums = add(sums, self._step(params, self._place(batch)))
            sums = jax.device_get(sums)
            found = means(over_seeds(sums) | sums)
            metrics = named(found, objective) | metrics
        return {f"eval/{name}": value for name, value in metrics.items()}

    def unigram(self, piece_counts: np.ndarray) -> float:
        """Masked-LM accuracy of always answering the commonest training piece."""
        commonest = int(piece_counts.argmax())
        batches = next(iter(self._batches.values()))
        right = sum(
            float(((b["masked_labels"] == commonest) * b["masked_weights"]).sum())
            for b in batches
        )
        return right / sum(float(b["masked_weights"].sum()) for b in batches)


def _batches(data: PretrainingData, config: EvaluationConfig) -> list[Example]:
    rows = min(config.rows, data.rows_per_epoch)
    return list(_stack((data[n] for n in range(rows)), config.batch_size))


def _balance(batches: list[Example]) -> None:
    """Gives both labels of the pairs the same weight in all.

    A segment of one sentence has a foreign B, always (official): where rows are short
    most pairs do, and answering so each time must not look like knowing.
    """
    labels = np.stack([batch["sentence_order_label"] for batch in batches])
    weights = np.stack([batch["sentence_order_weights"] for batch in batches])
    there = np.array([(weights * (labels == label)).sum() for label in (0, 1)])
    if there.all():
        for batch, each, label in zip(batches, weights, labels, strict=True):
            scale = there.sum() / (2 * there[label])
            batch["sentence_order_weights"] = (each * scale).astype(each.dtype)


def _stack(examples: Iterator[Example], size: int) -> Iterator[Example]:
    """Batches of ``size`` rows, the last filled with rows that count for nothing."""
    while rows := list(islice(examples, size)):
        nothing = {name: np.zeros_like(value) for name, value in rows[0].items()}
        rows += [nothing] * (size - len(rows))
        yield {name: np.stack([row[name] for row in rows]) for name in nothing}
