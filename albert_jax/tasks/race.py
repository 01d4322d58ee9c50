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
    where = str(path)
    id_ = value_of(passage, "id", where, str)
    article = value_of(passage, "article", where, str)
    questions = value_of(passage, "questions", where, list)
    options = value_of(passage, "options", where, list)
    answers = [None] * len(questions)
    if labelled or "answers" in passage:
        answers = value_of(passage, "answers", where, list)
    if not len(questions) == len(options) == len(answers):
        raise UserError(
            f"{path} has {len(questions)} questions, {len(options)} lists of options "
            f"and {len(answers)} answers; there must be as many of each"
        )
    for number, (question, choices, answer) in enumerate(
        zip(questions, options, answers, strict=True)
    ):
        where = f"{path}, question {number}"
        texts = [question, *choices]
        if len(choices) != len(task.labels) or not all(
            isinstance(t, str) for t in texts
        ):
            raise UserError(
                f"{where} is {question!r:.40} with the options {choices!r:.80}, but it "
                f"must be text with {len(task.labels)} options"
            )
        label = None if answer is None else place(str(answer), task, where)
        level = path.parent.name
        yield (
            where,
            ChoiceExample(
                f"{id_}-{number}", article, question, tuple(choices), label, level
            ),
        )
