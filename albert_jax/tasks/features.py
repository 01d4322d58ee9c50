"""Examples -> rows of piece ids, as the official code builds them, of any length.

Padding and batching are left to who runs the model: rows of a length belong together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Int

from albert_jax.config.tasks import Task
from albert_jax.data.normalization import normalize
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.tasks.examples import (
    ChoiceExample,
    Example,
    TextExample,
    WordsExample,
)
from albert_jax.tasks.rows import Row, row_inputs
from albert_jax.tasks.spans import chunks_of

# Texts that are encoded at once: enough for every core, little memory for padding.
_AT_ONCE = 1024


@dataclass(frozen=True)
class WordsRow(Row):
    """A row of words."""

    columns: Int[np.ndarray, " w"] = field(kw_only=True)
    """Where each word's first piece is, of the words that fit."""


def features_of(
    task: Task, examples: Sequence[Example], tokenizer: Tokenizer
) -> list[Row]:
    """Rows of at most ``task.max_length`` pieces, in the examples' order.

    A text or a pair is one row. A question about a context is a ``spans.Chunk`` for
    every part of it. A choice is a row each, one after another.

    Raises:
      UserError: words that do not fit into a row where each has a label.
    """
    make = {"span": chunks_of, "tokens": _words_rows, "choice": _choice_rows}
    return list(make.get(task.kind, _text_rows)(task, examples, tokenizer))


def _text_rows(
    task: Task, examples: Sequence[TextExample], tokenizer: Tokenizer
) -> Iterator[Row]:
    for begin in range(0, len(examples), _AT_ONCE):
        part = examples[begin : begin + _AT_ONCE]
        pairs = [example.text_pair for example in part]
        batch = tokenizer(
            [example.text for example in part],
            None if task.text_pair is None else pairs,
            padding=True,
            truncation=True,
            max_length=task.max_length,
        )
        lengths = batch["attention_mask"].sum(axis=1)
        names = ("input_ids", "token_type_ids")
        for i, (example, length) in enumerate(zip(part, lengths, strict=True)):
            # Copies: a view would keep the whole padded batch.
            inputs = {name: batch[name][i, :length].copy() for name in names}
            yield Row(begin + i, inputs, _labels(example.label))


def _labels(label: int | float | None) -> dict[str, Any]:
    return {} if label is None else {"labels": label}


def _words_rows(
    task: Task, examples: Sequence[WordsExample], tokenizer: Tokenizer
) -> Iterator[WordsRow]:
    words = [word for example in examples for word in example.words]
    # A word that normalises to nothing is unknown, so that every word has a piece.
    unknown = np.array([tokenizer.unk_id], np.int32)
    pieces = iter([ids if len(ids) else unknown for ids in _encoded(tokenizer, words)])
    for number, example in enumerate(examples):
        parts = [next(pieces) for _ in example.words]
        columns = 1 + np.cumsum([0, *map(len, parts)])
        ids = np.concatenate(parts)[: task.max_length - 2]
        columns = columns[:-1][columns[:-1] <= len(ids)]
        inputs = row_inputs(tokenizer, ids)
        targets = {}
        if example.labels is not None:
            labels = np.zeros(len(ids) + 2, np.int32)
            weights = np.zeros(len(ids) + 2, np.float32)
            labels[columns] = example.labels[: len(columns)]
            weights[columns] = 1
            targets = {"labels": labels, "label_weights": weights}
        yield WordsRow(number, inputs, targets, columns=columns)


def _choice_rows(
    task: Task, examples: Sequence[ChoiceExample], tokenizer: Tokenizer
) -> Iterator[Row]:
    """``[CLS] passage [SEP] question and choice [SEP]`` (``race_utils``): of question
    and choice the last pieces stay, of the passage the first ones that still fit."""

    @lru_cache(maxsize=1)
    def passage_of(text: str) -> np.ndarray:
        return tokenizer.encode_batch([text], threads=1)[0]

    texts = [text for e in examples for text in joined(e, tokenizer)]
    pieces = iter(_encoded(tokenizer, texts))
    for number, example in enumerate(examples):
        passage = passage_of(example.passage)
        for _ in example.choices:
            choice = next(pieces)[-task.choice_length :]
            room = task.max_length - 3 - len(choice)
            inputs = row_inputs(tokenizer, passage[:room], choice)
            yield Row(number, inputs, _labels(example.label))


def joined(example: ChoiceExample, tokenizer: Tokenizer) -> list[str]:
    """The question with each choice: in place of every "_", or after a space.

    Both are normalised first, as in the official code: a full-width low line is a
    blank too.
    """
    question = normalize(example.question, tokenizer.rules)
    choices = [normalize(choice, tokenizer.rules) for choice in example.choices]
    if "_" in question:
        return [question.replace("_", choice) for choice in choices]
    return [f"{question} {choice}" for choice in choices]


def _encoded(tokenizer: Tokenizer, texts: list[str]) -> list[np.ndarray]:
    return tokenizer.encode_batch(texts, threads=-1 if len(texts) > 100 else 1)
