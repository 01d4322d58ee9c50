"""Predictions as files: GLUE's tables and zip, SQuAD's and RACE's JSON, JSON lines."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Any

from albert_jax.config import UserError
from albert_jax.config.tasks import TASKS, Task
from albert_jax.data.shards import replacing
from albert_jax.tasks.answers import Answered
from albert_jax.tasks.evaluation import NOT_SEEN, Prediction
from albert_jax.tasks.examples import Example, QuestionExample
from albert_jax.tasks.tables import parse_json, read_text

_HEADER = "index\tprediction"


def write_predictions(
    task: Task,
    examples: Sequence[Example],
    predictions: Sequence[Prediction],
    folder: Path,
) -> list[Path]:
    """Writes what a task's server or script reads; all files, or none.

    GLUE: the task's file in a submission. SQuAD and other spans: ``predictions.json``,
    ``nbest_predictions.json``, and ``null_odds.json`` for SQuAD 2.0. RACE:
    ``answers.json``, the letters of each passage. Else ``predictions.jsonl``.

    Returns:
      the files.
    """
    if task.kind == "span":
        files = _answer_files(task, examples, predictions)
    elif task.format == "race":
        files = {"answers.json": _dump(_letters(task, examples, predictions))}
    elif task.submission is not None:
        pairs = zip(examples, predictions, strict=True)
        lines = [f"{e.id}\t{_label(task, p)}\n" for e, p in pairs]
        files = {task.submission: f"{_HEADER}\n{''.join(lines)}"}
    else:
        pairs = zip(examples, predictions, strict=True)
        lines = [{"id": e.id, "prediction": _named(task, p)} for e, p in pairs]
        files = {"predictions.jsonl": "".join(f"{json.dumps(li)}\n" for li in lines)}
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for name, text in files.items():
            temporary = stack.enter_context(replacing(folder / name))
            temporary.write_text(text, encoding="utf-8")
    return [folder / name for name in files]


def _answer_files(
    task: Task, examples: Sequence[Example], predictions: Sequence[Answered]
) -> dict[str, str]:
    answered = {e.id: p for e, p in zip(examples, predictions, strict=True)}
    files = {
        "predictions.json": {
            id_: one.given(task.null_threshold) for id_, one in answered.items()
        },
        "nbest_predictions.json": {
            id_: [vars(candidate) for candidate in one.candidates]
            for id_, one in answered.items()
        },
    }
    if task.unanswerable:
        files["null_odds.json"] = {id_: one.null_odds for id_, one in answered.items()}
    return {name: _dump(value) for name, value in files.items()}


def _dump(value: Any) -> str:
    return json.dumps(value, indent=4, ensure_ascii=False) + "\n"


def _letters(
    task: Task, examples: Sequence[Example], predictions: Sequence[int]
) -> dict[str, list[str]]:
    pairs = zip(examples, predictions, strict=True)
    passages = groupby(pairs, lambda pair: pair[0].id.rpartition("-")[0])
    return {id_: [task.labels[p] for _, p in group] for id_, group in passages}


def _label(task: Task, prediction: int | float) -> str:
    if task.kind == "regression":
        # STS-B's scores go from 0 to 5; the server takes no others.
        return f"{min(max(prediction, 0.0), 5.0):.3f}"
    return task.labels[prediction]


def _named(task: Task, prediction: Prediction) -> Any:
    """A prediction in the words of the user's file; null for words that were cut."""
    match prediction:
        case float():
            return prediction
        case tuple():
            return [None if p == NOT_SEEN else task.labels[p] for p in prediction]
    return task.labels[prediction]


def read_predictions(path: Path, examples: Sequence[QuestionExample]) -> list[str]:
    """The answer to each question, out of a ``predictions.json`` as published.

    Raises:
      UserError: a question has none, or an answer is to no question.
    """
    given = parse_json(read_text(path), str(path))
    if not isinstance(given, Mapping):
        raise UserError(f"{path} must be an object: answers by the ids of questions")
    ids = {example.id for example in examples}
    for what, some in (
        ("no answer to", ids - given.keys()),
        ("an answer to what is no question,", given.keys() - ids),
    ):
        if some:
            raise UserError(
                f"{path} has {what} {min(some)} ({len(some)} in all); it must answer "
                "every question of the split"
            )
    return [given[example.id] for example in examples]


def write_submission(folder: Path, path: Path) -> None:
    """Zips the eleven tables in ``folder`` for GLUE's server, which takes no fewer.

    Raises:
      UserError: a table lacks, or its header, ids, count or predictions are not those
        of the task's published test split.
    """
    tasks = [task for task in TASKS.values() if task.submission is not None]
    missing = [t.submission for t in tasks if not (folder / t.submission).is_file()]
    if missing:
        raise UserError(
            f"{folder} has no {', '.join(missing)}; GLUE takes all {len(tasks)} tables"
        )
    tables = {t.submission: _checked(folder / t.submission, t) for t in tasks}
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, text in tables.items():
            archive.writestr(name, text, zipfile.ZIP_DEFLATED)


def _checked(path: Path, task: Task) -> str:
    text = read_text(path)
    header, *lines = text.removesuffix("\n").split("\n")
    if header != _HEADER:
        raise UserError(f"{path}, line 1 is {header!r}, but it must be {_HEADER!r}")
    if len(lines) != task.test_rows:
        raise UserError(
            f"{path} has {len(lines)} predictions, but {task.name} has "
            f"{task.test_rows} test examples"
        )
    for number, line in enumerate(lines):
        index, _, value = line.partition("\t")
        where = f"{path}, line {number + 2}"
        if index != str(number):
            raise UserError(f"{where} has index {index!r}, but it must be {number}")
        if task.kind == "regression":
            allowed = value.replace(".", "", 1).isdigit() and 0 <= float(value) <= 5
        else:
            allowed = value in task.labels
        if not allowed:
            known = ", ".join(task.labels) or "a number from 0 to 5"
            raise UserError(f"{where} predicts {value!r}, but it must be {known}")
    return text
