"""A split of a task as a list of examples, wherever it comes from."""

import warnings
from pathlib import Path

from albert_jax.config.checks import UserError, require_choice
from albert_jax.config.tasks import SPLITS, Split, Task
from albert_jax.tasks.examples import Example, refuse_duplicates
from albert_jax.tasks.race import read_race
from albert_jax.tasks.squad import read_squad
from albert_jax.tasks.tables import (
    TFDS,
    Report,
    file_rows,
    table_examples,
    tfds_rows,
)


def read_examples(
    task: Task, split: str, report: Report = warnings.warn
) -> list[Example]:
    """Every example of ``train``, ``dev`` or ``test``, in the files' order.

    ``test`` need not have labels. Ids of ``dev`` and ``test`` differ; those of
    ``train`` are not used, and need not (TyDiQA's do not).

    Args:
      task: published or one's own.
      split: which of its files.
      report: told of rows that are left out.

    Raises:
      UserError: what cannot be read, by file and row.
    """
    require_choice("split", split, SPLITS)
    source: Split = getattr(task, split)
    if source.path is None:
        raise UserError(f"{task.name} has no {split} split; set {split}.path")
    path = Path(task.folder).expanduser() / source.path
    labelled = split != "test"
    if task.format == "squad":
        pairs = read_squad(path, task, labelled)
    elif task.format == "race":
        pairs = read_race(path, task, labelled)
    elif source.path.startswith(TFDS):
        pairs = table_examples(tfds_rows(source.path), task, source, labelled)
    else:
        rows = file_rows(path, source, task.skip_broken_rows, report)
        pairs = table_examples(rows, task, source, labelled)
    places, examples = [], []
    for where, example in pairs:
        places.append(where)
        examples.append(example)
    if not examples:
        raise UserError(f"{path} has no example in it")
    if split != "train":
        refuse_duplicates(examples, places)
    return examples
