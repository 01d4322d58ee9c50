"""One's own texts as examples of a task, without labels: lines, and files of any form.

A task that is read from tables takes the same columns here. SQuAD's are ``question``
and ``context``, RACE's ``question``, ``article`` and the letters of the choices.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from albert_jax.config import UserError
from albert_jax.config.tasks import Split, Task
from albert_jax.tasks.examples import Example
from albert_jax.tasks.tables import Report, Rows, file_rows, read_text, table_examples


def columns_of(task: Task) -> tuple[str, ...]:
    """The columns that a text of one's own must have, in the order of a line's parts.

    A text; or the text and its pair; or the question, the text that it is about, and
    the choices.
    """
    task = _of_tables(task)
    pair = () if task.text_pair is None else (task.text_pair,)
    return (task.text, *pair, *task.choices)


def example_of(parts: Sequence[str], task: Task, where: str, id_: str) -> Example:
    """The example whose columns are ``parts``.

    Raises:
      UserError: there are not as many as the task has columns.
    """
    columns = columns_of(task)
    if len(parts) != len(columns):
        raise UserError(
            f"{where}: there must be {len(columns)} texts ({', '.join(columns)}; in a "
            f"line, tabs between them), but there are {len(parts)}"
        )
    row = {"id": id_} | dict(zip(columns, parts, strict=True))
    (example,) = _examples([(where, row)], _of_tables(task), Split(id="id"))
    return example


def examples_of_lines(
    lines: Sequence[str], task: Task, where: str, first: int = 0
) -> list[Example]:
    """An example for each line; its parts are between tabs where it needs several.

    Args:
      where: what the lines are called in messages.
      first: number of the first one.
    """
    several = len(columns_of(task)) > 1
    return [
        example_of(
            line.split("\t") if several else [line],
            task,
            f"{where}, line {number + 1}",
            str(number),
        )
        for number, line in enumerate(lines, first)
    ]


def examples_of_file(path: Path, task: Task, report: Report) -> list[Example]:
    """The examples of a .txt, one a line, or of a .tsv, .csv or .jsonl with columns.

    Raises:
      UserError: it cannot be read, or a row lacks a column.
    """
    if path.suffix == ".txt":
        lines = [line for line in read_text(path).splitlines() if line.strip()]
        return examples_of_lines(lines, task, str(path))
    rows = file_rows(path, Split(), task.skip_broken_rows, report)
    return list(_examples(rows, _of_tables(task), Split()))


def _of_tables(task: Task) -> Task:
    if task.format == "squad":
        return replace(task, format="table", text="question", text_pair="context")
    if task.format == "race":
        return replace(
            task,
            format="table",
            text="question",
            text_pair="article",
            choices=task.labels,
        )
    return task


def _examples(rows: Rows, task: Task, split: Split) -> Iterator[Example]:
    """Labels are left out, so that they may be anything."""
    bare = [
        (where, {name: value for name, value in row.items() if name != task.label})
        for where, row in rows
    ]
    pairs = table_examples(bare, task, split, labelled=False)
    return (example for _, example in pairs)
