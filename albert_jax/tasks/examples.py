"""One example of each kind of task, as read from a file; labels are numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from albert_jax.config import UserError, nearest
from albert_jax.config.tasks import Task


@dataclass(frozen=True)
class TextExample:
    """A text or a pair; ``label`` is a place in the task's labels, or a number."""

    id: str
    text: str
    text_pair: str | None = None
    label: int | float | None = None


@dataclass(frozen=True)
class WordsExample:
    """Words, and a label (its place in the task's labels) for each."""

    id: str
    words: tuple[str, ...]
    labels: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Answer:
    """``context[start : start + len(text)]``."""

    text: str
    start: int


@dataclass(frozen=True)
class QuestionExample:
    """A question about a context; no answers: it has none there. ``answers`` is None
    where nothing is known of them."""

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...] | None = None


@dataclass(frozen=True)
class ChoiceExample:
    """A question about a passage, with choices; ``label`` is the right one's place."""

    id: str
    passage: str
    question: str
    choices: tuple[str, ...]
    label: int | None = None
    level: str | None = None
    """RACE's ``middle`` or ``high``."""


Example = TextExample | WordsExample | QuestionExample | ChoiceExample


def place(label: str, task: Task, where: str) -> int:
    """The place of a label in the task's.

    Raises:
      UserError: it is none of them.
    """
    if label not in task.labels:
        raise UserError(
            f"{where}: {task.label} is {label!r}, but labels is "
            + ", ".join(map(repr, task.labels))
            + nearest(label, task.labels)
        )
    return task.labels.index(label)


def answers_of(
    given: Sequence[tuple[str, int]], context: str, task: Task, where: str
) -> tuple[Answer, ...]:
    """Answers, each checked to be where it says.

    Raises:
      UserError: one is empty or elsewhere, or there must be one and is none.
    """
    if not given and not task.unanswerable:
        raise UserError(
            f"{where} has no answer; if questions may have none, set unanswerable"
        )
    for text, start in given:
        if not text.strip():
            raise UserError(f"{where} has an empty answer; take the question out")
        there = context[start : start + len(text)] if start >= 0 else ""
        if there != text:
            found = context.find(text)
            cure = f"it is at {found}" if found >= 0 else "it is nowhere in it"
            raise UserError(
                f"{where}: the answer {text!r:.60} is not at character {start} of its "
                f"context, where {there!r:.60} stands; {cure}"
            )
    return tuple(Answer(text, start) for text, start in given)


def refuse_duplicates(examples: Sequence[Example], places: Sequence[str]) -> None:
    """Raises UserError if two examples have one id; predictions are kept by it."""
    first: dict[str, str] = {}
    for example, where in zip(examples, places, strict=True):
        if example.id in first:
            raise UserError(
                f"{where} has the id {example.id!r}, as {first[example.id]} has; ids "
                "must differ, since predictions are kept by them"
            )
        first[example.id] = where


_TYPES = {str: "text", list: "a list", int: "a whole number"}


def value_of(record: Any, name: str, where: str, type_: type = object) -> Any:
    """A value of a row or of a JSON object, by its name.

    Raises:
      UserError: it is no object, has none of that name, or one of another type.
    """
    if not isinstance(record, Mapping):
        raise UserError(f"{where} is {record!r:.40}, but it must be an object")
    if name not in record:
        raise UserError(
            f"{where} has no {name!r}, only {', '.join(map(repr, record))}"
            + nearest(name, record)
        )
    value = record[name]
    if not isinstance(value, type_) or (type_ is int and isinstance(value, bool)):
        raise UserError(
            f"{where}: {name} is {value!r:.40}, but it must be {_TYPES[type_]}"
        )
    return value
