"""SQuAD's JSON (v1.1, v2.0, and of their form): articles, paragraphs, questions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from albert_jax.config import UserError
from albert_jax.config.tasks import Task
from albert_jax.tasks.examples import QuestionExample, answers_of, value_of
from albert_jax.tasks.tables import parse_json, read_text


def read_squad(
    path: Path, task: Task, labelled: bool
) -> Iterator[tuple[str, QuestionExample]]:
    """Where each question is, and the question.

    Raises:
      UserError: not of SQuAD's form, or an answer is not where it says.
    """
    whole = parse_json(read_text(path), str(path))
    if not isinstance(whole, dict):
        raise UserError(f"{path} is not of SQuAD's form: it has no object with data")
    for a, article in enumerate(value_of(whole, "data", str(path), "field")):
        for p, paragraph in enumerate(_field(article, "paragraphs", path, a)):
            where = f"{path}, article {a}, paragraph {p}"
            context = _text(paragraph, "context", where)
            if not context.strip():
                raise UserError(f"{where} has an empty context; take it out")
            for question in value_of(paragraph, "qas", where, "field"):
                id_ = str(value_of(question, "id", where, "field"))
                at = f"{path}, question {id_}"
                answers = None
                if labelled or "answers" in question:
                    answers = _answers(question, context, task, at)
                text = _text(question, "question", at)
                yield at, QuestionExample(id_, text, context, answers)


def _answers(question: dict[str, Any], context: str, task: Task, where: str):
    listed = value_of(question, "answers", where, "field")
    impossible = bool(question.get("is_impossible", not listed))
    if impossible == bool(listed):
        raise UserError(
            f"{where} says is_impossible is {impossible}, but it has {len(listed)} "
            "answers"
        )
    given = [
        (_text(one, "text", where), value_of(one, "answer_start", where, "field"))
        for one in listed
    ]
    return answers_of(given, context, task, where)


def _field(article: Any, name: str, path: Path, number: int) -> Any:
    where = f"{path}, article {number}"
    if not isinstance(article, dict):
        raise UserError(f"{where} is {article!r:.40}, but it must be an object")
    return value_of(article, name, where, "field")


def _text(record: dict[str, Any], name: str, where: str) -> str:
    value = value_of(record, name, where, "field")
    if not isinstance(value, str):
        raise UserError(f"{where}: {name} is {value!r:.40}, but it must be text")
    return value
