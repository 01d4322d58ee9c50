"""RACE: a folder for each level, a file for each passage; or files of many passages."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from albert_jax.config import UserError
from albert_jax.config.tasks import Task
from albert_jax.tasks.examples import ChoiceExample, place, value_of
from albert_jax.tasks.tables import parse_json, read_text


def read_race(
    folder: Path, task: Task, labelled: bool
) -> Iterator[tuple[str, ChoiceExample]]:
    """Where each question is, and the question, in the order of the files' names.

    Files are ``LEVEL/NAME.txt`` with a JSON object a line. The id of a question is
    that of its passage and its number there, from 0.

    Raises:
      UserError: no such folder, none of RACE's files in it, or a file not of its form.
    """
    paths = sorted(folder.rglob("*.txt"))
    if not paths:
        raise UserError(
            f"{folder} has no .txt files; name RACE's train, dev or test folder, or "
            "one level in it"
        )
    for path in paths:
        for line in filter(str.strip, read_text(path).split("\n")):
            yield from _questions(parse_json(line, str(path)), path, task, labelled)


def _questions(
    passage: Any, path: Path, task: Task, labelled: bool
) -> Iterator[tuple[str, ChoiceExample]]:
    if not isinstance(passage, dict):
        raise UserError(f"{path} is {passage!r:.40}, but it must be an object")
    names = ["id", "article", "questions", "options"]
    if labelled or "answers" in passage:
        names.append("answers")
    record = {name: value_of(passage, name, str(path), "field") for name in names}
    questions = record["questions"]
    answers = record.get("answers", [None] * len(questions))
    if not len(questions) == len(record["options"]) == len(answers):
        raise UserError(
            f"{path} has {len(questions)} questions, {len(record['options'])} lists "
            f"of options and {len(answers)} answers; there must be as many of each"
        )
    for number, (question, options, answer) in enumerate(
        zip(questions, record["options"], answers, strict=True)
    ):
        where = f"{path}, question {number}"
        if len(options) != len(task.labels):
            raise UserError(
                f"{where} has {len(options)} options, but it must have "
                f"{len(task.labels)}"
            )
        label = None if answer is None else place(answer, task, where)
        id_ = f"{record['id']}-{number}"
        yield (
            where,
            ChoiceExample(
                id_,
                record["article"],
                question,
                tuple(options),
                label,
                path.parent.name,
            ),
        )
