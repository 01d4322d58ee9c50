"""Questions about contexts -> chunks of a length, and answers as spans of pieces.

The layout and the rules are those of the official ``squad_utils``; answers are aligned
by the characters that each piece stands for, so that none is dropped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from albert_jax.config.tasks import Task
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.tasks.examples import Answer, QuestionExample
from albert_jax.tasks.rows import Row, row_inputs


@dataclass(frozen=True)
class Chunk(Row):
    """``[CLS] question [SEP] part of the context [SEP]``."""

    first: int = field(kw_only=True)
    """Column of the part's first piece."""
    offsets: Int[np.ndarray, "p 2"] = field(kw_only=True)
    """Where in the context each piece of the part comes from."""
    most_context: Bool[np.ndarray, " p"] = field(kw_only=True)
    """Whether no other chunk shows more of what surrounds the piece; only then may an
    answer start there."""


def chunks_of(
    task: Task, examples: Sequence[QuestionExample], tokenizer: Tokenizer
) -> Iterator[Chunk]:
    """The chunks of every question: ``stride`` pieces on from one to the next.

    A chunk without the whole of the (first) answer is kept, as in the official code:
    its answer is at 0, [CLS], and it counts as impossible.
    """

    @lru_cache(maxsize=1)
    def context_of(text: str) -> tuple[np.ndarray, np.ndarray]:
        return tokenizer.encode_with_offsets(text)

    questions = tokenizer.encode_batch([e.question for e in examples])
    for number, (example, question) in enumerate(zip(examples, questions, strict=True)):
        ids, offsets = context_of(example.context)
        question = question[: task.question_length]
        room = task.max_length - 3 - len(question)
        parts = list(windows(len(ids), room, task.stride))
        span = None
        if example.answers:
            span = span_of(offsets, example.answers[0])
        most = most_context(parts)
        for part, (begin, end) in enumerate(parts):
            inputs = row_inputs(tokenizer, question, ids[begin:end])
            first = len(question) + 2
            if task.unanswerable:
                allowed = np.zeros(len(inputs["input_ids"]), np.int32)
                allowed[0] = allowed[first:-1] = 1
                inputs["answer_mask"] = allowed
            targets: dict[str, Any] = {}
            if example.answers is not None:
                inside = span is not None and begin <= span[0] and span[1] < end
                start, stop = np.subtract(span, begin) + first if inside else (0, 0)
                targets = {"start_positions": int(start), "end_positions": int(stop)}
                if task.unanswerable:
                    targets["is_impossible"] = int(not inside)
            yield Chunk(
                number,
                inputs,
                targets,
                first=first,
                offsets=offsets[begin:end],
                most_context=most[begin:end] == part,
            )


def windows(pieces: int, room: int, stride: int) -> Iterator[tuple[int, int]]:
    """[begin, end) of parts of at most ``room`` pieces, up to the last piece."""
    begin = 0
    while True:
        end = min(begin + room, pieces)
        yield begin, end
        if end == pieces:
            return
        begin += min(room, stride)


def most_context(parts: Sequence[tuple[int, int]]) -> Int[np.ndarray, " p"]:
    """For each piece, the part that shows most of what surrounds it: the most of the
    smaller of its two sides, plus a hundredth of the part's length; the first of
    equals (``_check_is_max_context``)."""
    places = np.arange(parts[-1][1])
    begins, ends = np.array(parts).T[..., None]
    smaller = np.minimum(places - begins, ends - 1 - places)
    scores = np.where(smaller >= 0, smaller + 0.01 * (ends - begins), -1)
    return scores.argmax(axis=0)


def span_of(offsets: Int[np.ndarray, "p 2"], answer: Answer) -> tuple[int, int] | None:
    """The first and last piece that hold characters of an answer; none, if it is made
    of nothing that becomes a piece (a lone accent)."""
    starts, ends = offsets.T
    first = int(np.searchsorted(ends, answer.start, side="right"))
    end = answer.start + len(answer.text)
    last = int(np.searchsorted(starts, end, side="left")) - 1
    return (first, last) if first <= last else None


def text_of(
    context: str, offsets: Int[np.ndarray, "p 2"], first: int, last: int
) -> str:
    """The characters of the context that pieces from ``first`` to ``last`` hold."""
    return context[offsets[first, 0] : offsets[last, 1]].strip()
