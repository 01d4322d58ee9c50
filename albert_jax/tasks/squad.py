"""SQuAD's JSON (v1.1, v2.0, and of their form): articles, paragraphs, questions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from albert_jax.config import UserError
from albert_jax.config.tasks import Task
from albert_jax.tasks.examples import Answer, QuestionExample, answers_of, value_of
from albert_jax.tasks.tables import parse_json, read_text


def read_squad(
    path: Path, task: Task, labelled: bool
) -> Iterator[tuple[str, QuestionExample]]:
    """Where each question is, and the question.

    Raises:
      UserError: not of SQuAD's form, or an answer is not where it says.
    """
    whole = parse_json(read_text(path), str(path))
    for a, article in enumerate(value_of(whole, "data", str(path), list)):
        where = f"{path}, article {a}"
        for p, paragraph in enumerate(value_of(article, "paragraphs", where, list)):
            yield from _questions(
                paragraph, path, f"{where}, paragraph {p}", task, labelled
            )


def _questions(
    paragraph: Any, path: Path, where: str, task: Task, labelled: bool
) -> Iterator[tuple[str, QuestionExample]]:
    context = value_of(paragraph, "context", where, str)
    if not context.strip():
        raise UserError(f"{where} has an empty context; take it out")
    for question in value_of(paragraph, "qas", where, list):
        id_ = str(value_of(question, "id", where))
        at = f"{path}, question {id_}"
        answers = None
        if labelled or "answers" in question:
            answers = _answers(question, context, task, at)
        text = value_of(question, "question", at, str)
        yield at, QuestionExample(id_, text, context, answers)


def _answers(question: Any, context: str, task: Task, where: str) -> tuple[Answer, ...]:
    listed = value_of(question, "answers", where, list)
    impossible = bool(question.get("is_impossible", not listed))
    if impossible == bool(listed):
        raise UserError(
            f"{where} says is_impossible is {impossible}, but it has {len(listed)} "
            "answers"
        )
    given = [
        (value_of(one, "text", where, str), value_of(one, "answer_start", where, int))
        for one in listed
    ]
    return answers_of(given, context, task, where)
