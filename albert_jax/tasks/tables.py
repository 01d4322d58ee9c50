"""Tables of examples, by named columns: TSV as GLUE publishes it, CSV, JSON lines,
TensorFlow Datasets."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from albert_jax.config import UserError
from albert_jax.config.tasks import Split, Task
from albert_jax.tasks.examples import (
    ChoiceExample,
    Example,
    QuestionExample,
    TextExample,
    WordsExample,
    answers_of,
    place,
    value_of,
)

TFDS = "tfds:"

Report = Callable[[str], None]
# Where each row is, for messages, and its values by the names of columns.
Rows = list[tuple[str, dict[str, Any]]]


def read_text(path: Path) -> str:
    """A file of UTF-8, without its byte order mark.

    Raises:
      UserError: it cannot be read, is not UTF-8, or is empty.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 at byte offset {error.start}; convert it "
            "(iconv -t utf-8)"
        ) from None
    if not text.strip():
        raise UserError(f"{path} is empty; it must hold at least one example")
    return text


def parse_json(text: str, where: str) -> Any:
    """A JSON value.

    Raises:
      UserError: it is none.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{where} is not JSON: {error}") from None


def file_rows(path: Path, split: Split, skip_broken_rows: bool, report: Report) -> Rows:
    """The rows of a .tsv, .csv or .jsonl.

    Raises:
      UserError: an unknown kind of file, a row of the wrong width, no row at all.
    """
    if path.suffix not in (".tsv", ".csv", ".jsonl"):
        raise UserError(f"{path} is no table; its name must end in .tsv, .csv, .jsonl")
    text = read_text(path)
    if path.suffix == ".jsonl":
        rows = list(_jsonl(text, path))
    else:
        table = _tsv(text) if path.suffix == ".tsv" else _csv(text)
        rows = list(_named(table, path, split, skip_broken_rows, report))
    if not rows:
        raise UserError(f"{path} has a first row alone; it must hold an example")
    return rows


def _tsv(text: str) -> Iterator[tuple[int, list[str]]]:
    # No quoting: in the published files quotes are part of the text, and unbalanced.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.rstrip("\r").split("\t")


def _csv(text: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""))
    for row in reader:
        if row:
            yield reader.line_num, row


def _jsonl(text: str, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{path}, line {number}"
            value = parse_json(line, where)
            if not isinstance(value, dict):
                raise UserError(f"{where} is {value!r:.40}, but it must be an object")
            yield where, value


def _named(
    rows: Iterator[tuple[int, list[str]]],
    path: Path,
    split: Split,
    skip_broken_rows: bool,
    report: Report,
) -> Iterator[tuple[str, dict[str, Any]]]:
    names, broken = list(split.columns), []
    if split.first_row == "names":
        _, first = next(rows)
        names = names or first
        if len(first) != len(names):
            raise UserError(
                f"{path} has {len(first)} columns, but columns names {len(names)}"
            )
    if len(set(names)) < len(names):
        raise UserError(f"{path} names a column twice: {', '.join(map(repr, names))}")
    for number, row in rows:
        where = f"{path}, line {number}"
        if len(row) == len(names):
            yield where, dict(zip(names, row, strict=True))
        elif skip_broken_rows:
            broken.append(number)
        else:
            raise UserError(
                f"{where} has {len(row)} columns, but there are {len(names)}; mend "
                "the row, or set skip_broken_rows to leave such rows out"
            )
    if broken:
        report(
            f"{path}: {len(broken)} rows of a wrong number of columns are left out, "
            f"the first in line {broken[0]}"
        )


def tfds_rows(name: str) -> Rows:
    """The rows of ``tfds:NAME#SPLIT``.

    Raises:
      UserError: no split is named, there is no such set or split, or no TFDS.
    """
    spec, _, split = name.removeprefix(TFDS).partition("#")
    if not split:
        raise UserError(f"{name} names no split; write {name}#train or the like")
    try:
        from albert_jax.data.datasets import examples
    except ModuleNotFoundError as error:
        raise UserError(
            f"{name} needs {error.name}: pip install albert_jax[tfds]"
        ) from None
    rows = enumerate(examples(spec, split))
    return [(f"{name}, example {number}", row) for number, row in rows]


def table_examples(
    rows: Rows, task: Task, split: Split, labelled: bool
) -> Iterator[tuple[str, Example]]:
    """Where each example is, and the example.

    Args:
      rows: of a table.
      task: of any kind.
      split: where they come from.
      labelled: whether there must be labels; else they are read where there are any.

    Raises:
      UserError: a column lacks, or a value is not what the task allows.
    """
    if not task.labels and task.kind in ("classification", "tokens"):
        raise UserError(_labels_there(rows, task, split))
    make = _MAKERS[task.kind]
    for number, (where, row) in enumerate(rows):
        id_ = str(number)
        if split.id is not None:
            id_ = str(value_of(row, split.id, where))
        label = row.get(task.label)
        if labelled and value_of(row, task.label, where) is None:
            raise UserError(f"{where} has no label in {task.label}")
        yield where, make(task, row, id_, label, where)


def _labels_there(rows: Rows, task: Task, split: Split) -> str:
    given = [(where, value_of(row, task.label, where)) for where, row in rows]
    if task.kind == "tokens":
        lists = [_split(labels, task.label, where) for where, labels in given]
        there = {label for labels in lists for label in labels}
    else:
        there = {str(label) for _, label in given if label is not None}
    some = sorted(there)[:20]
    return (
        f"labels is empty, but it must name every label; {split.path} has "
        f"{' '.join(some)}{' ...' if len(some) < len(there) else ''}"
    )


def _text_example(
    task: Task, row: dict[str, Any], id_: str, label: Any, where: str
) -> TextExample:
    pair = None if task.text_pair is None else value_of(row, task.text_pair, where, str)
    if label is not None:
        if task.kind == "regression":
            label = _number(label, task.label, where)
        else:
            label = place(str(label), task, where)
    return TextExample(id_, value_of(row, task.text, where, str), pair, label)


def _number(value: Any, column: str, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{where}: {column} is {value!r:.40}, but it must be a number")
    return number


def _words_example(
    task: Task, row: dict[str, Any], id_: str, label: Any, where: str
) -> WordsExample:
    words = _split(value_of(row, task.text, where), task.text, where)
    if not words:
        raise UserError(f"{where}: {task.text} is empty; it must hold a word")
    labels = None
    if label is not None:
        given = _split(label, task.label, where)
        labels = tuple(place(one, task, where) for one in given)
        if len(labels) != len(words):
            raise UserError(
                f"{where} has {len(words)} words in {task.text}, but {len(labels)} "
                f"labels in {task.label}"
            )
    return WordsExample(id_, words, labels)


def _split(value: Any, column: str, where: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(value.split())
    if isinstance(value, list):
        return tuple(map(str, value))
    raise UserError(
        f"{where}: {column} is {value!r:.40}, but it must be text or a list"
    )


def _question_example(
    task: Task, row: dict[str, Any], id_: str, label: Any, where: str
) -> QuestionExample:
    context = value_of(row, task.text_pair, where, str)
    answers = None
    if label is not None:
        texts = [str(one) for one in (label if isinstance(label, list) else [label])]
        texts = [] if texts == [""] else texts
        given = _starts(task, row, texts, context, where)
        answers = answers_of(list(zip(texts, given, strict=True)), context, task, where)
    return QuestionExample(id_, value_of(row, task.text, where, str), context, answers)


def _starts(
    task: Task, row: dict[str, Any], texts: list[str], context: str, where: str
) -> list[int]:
    if not texts:
        return []
    if task.answer_start is None:
        for text in texts:
            if context.count(text) > 1:
                raise UserError(
                    f"{where}: the answer {text!r:.60} occurs {context.count(text)} "
                    "times; set answer_start to the column that says which is meant"
                )
        return [context.find(text) for text in texts]
    value = value_of(row, task.answer_start, where)
    starts = value if isinstance(value, list) else [value]
    numbers = [_number(one, task.answer_start, where) for one in starts]
    if not all(number.is_integer() for number in numbers):
        raise UserError(
            f"{where}: {task.answer_start} is {value!r:.40}, but it must be a whole "
            "number"
        )
    if len(numbers) != len(texts):
        raise UserError(
            f"{where} has {len(texts)} answers in {task.label}, but {len(numbers)} "
            f"places in {task.answer_start}"
        )
    return list(map(int, numbers))


def _choice_example(
    task: Task, row: dict[str, Any], id_: str, label: Any, where: str
) -> ChoiceExample:
    return ChoiceExample(
        id_,
        value_of(row, task.text_pair, where, str),
        value_of(row, task.text, where, str),
        tuple(value_of(row, column, where, str) for column in task.choices),
        None if label is None else place(str(label), task, where),
    )


_MAKERS = {
    "classification": _text_example,
    "regression": _text_example,
    "tokens": _words_example,
    "span": _question_example,
    "choice": _choice_example,
}
