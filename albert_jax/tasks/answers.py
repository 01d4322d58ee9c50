"""A model's logits over chunks -> the best answers to each question."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from albert_jax.config.tasks import Task
from albert_jax.tasks.examples import QuestionExample
from albert_jax.tasks.spans import Chunk, text_of

N_BEST = 20


def shares(scores: Sequence[float] | np.ndarray) -> list[float]:
    """How scores, or logits, share out 1: their softmax."""
    scores = np.asarray(scores)
    odds = np.exp(scores - scores.max(initial=-np.inf))
    return (odds / odds.sum()).tolist()


@dataclass(frozen=True)
class Candidate:
    """A text of the context, and how well it starts and ends: logits of the span head,
    log-probabilities of SQuAD 2.0's."""

    text: str
    start_score: float
    end_score: float


@dataclass(frozen=True)
class Answered:
    """What a model says to a question."""

    candidates: tuple[Candidate, ...]
    """The best first, no text twice; may be empty."""
    null_odds: float | None = None
    """SQuAD 2.0: the log-odds that there is no answer, the least of all chunks."""

    @property
    def text(self) -> str:
        """The best text, whatever the null odds say."""
        return self.candidates[0].text if self.candidates else ""

    @property
    def probabilities(self) -> list[float]:
        """How the candidates share out 1: a softmax of start and end score together."""
        return shares([c.start_score + c.end_score for c in self.candidates])

    def given(self, threshold: float) -> str:
        """The best text, or "" where the null odds are at least ``threshold``."""
        unanswered = self.null_odds is not None and self.null_odds >= threshold
        return "" if unanswered else self.text


def answers_to(
    task: Task,
    examples: Sequence[QuestionExample],
    chunks: Sequence[Chunk],
    outputs: Sequence[Any],
) -> list[Answered]:
    """The best answers to each question, over all its chunks.

    A span starts and ends in the context, where it starts no other chunk shows more
    around it, and has at most ``answer_length`` pieces. What stands beyond a row's
    pieces, in outputs of padded rows, is not looked at.

    Args:
      task: of kind ``span``.
      examples: the questions.
      chunks: of all questions, in their order.
      outputs: what the task's head returns, for each chunk: the arrays of its output
        without the batch's axis.
    """
    answered = [Answered(())] * len(examples)
    pairs = zip(chunks, outputs, strict=True)
    for number, group in groupby(pairs, lambda pair: pair[0].example):
        members = list(group)
        context = examples[number].context
        spans = [
            span for chunk, output in members for span in _spans(task, chunk, output)
        ]
        spans.sort(key=lambda span: span[0] + span[1], reverse=True)
        best: dict[str, Candidate] = {}
        for start_score, end_score, chunk, first, last in spans:
            text = text_of(context, chunk.offsets, first, last)
            best.setdefault(text, Candidate(text, start_score, end_score))
            if len(best) == N_BEST:
                break
        odds = None
        if task.unanswerable:
            odds = min(float(output.cls_logits) for _, output in members)
        answered[number] = Answered(tuple(best.values()), odds)
    return answered


def _spans(
    task: Task, chunk: Chunk, output: Any
) -> Iterator[tuple[float, float, Chunk, int, int]]:
    """Scores of start and end, the chunk, and the first and last piece of its part."""
    beams = _beams(output) if task.unanswerable else _grid(chunk, output)
    starts, ends, start_scores, end_scores = beams
    first, last = starts - chunk.first, ends - chunk.first
    pieces = len(chunk.offsets)
    allowed = (first >= 0) & (first <= last) & (last < pieces)
    allowed &= last - first < task.answer_length
    # Where a start lies outside, any piece will do: it is not allowed already.
    allowed &= np.append(chunk.most_context, False)[np.clip(first, 0, pieces)]
    for i in np.flatnonzero(allowed):
        scores = float(start_scores[i]), float(end_scores[i])
        yield *scores, chunk, int(first[i]), int(last[i])


def _grid(chunk: Chunk, output: Any) -> tuple[np.ndarray, ...]:
    """Each of the likeliest starts with each of the likeliest ends."""
    length = len(chunk.inputs["input_ids"])
    start_logits = np.asarray(output.start_logits)[:length]
    end_logits = np.asarray(output.end_logits)[:length]
    starts, ends = _likeliest(start_logits), _likeliest(end_logits)
    starts, ends = np.repeat(starts, len(ends)), np.tile(ends, len(starts))
    return starts, ends, start_logits[starts], end_logits[ends]


def _likeliest(logits: np.ndarray) -> np.ndarray:
    """The first of equals comes first, as in the official code."""
    return np.argsort(-logits, kind="stable")[:N_BEST]


def _beams(output: Any) -> tuple[np.ndarray, ...]:
    ends = np.asarray(output.end_top_index)
    per_start = len(ends) // len(output.start_top_index)
    return (
        np.repeat(output.start_top_index, per_start),
        ends,
        np.repeat(output.start_top_log_probs, per_start),
        np.asarray(output.end_top_log_probs),
    )
