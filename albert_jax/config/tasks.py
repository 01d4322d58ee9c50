"""Tasks that a model is fine-tuned for: a task is a value, the published ones a table.

One's own set is a task too: its kind, its files, and what their columns are called.
"""

import re
from dataclasses import dataclass, field
from typing import Literal

from albert_jax.config.checks import (
    UserError,
    nearest,
    require_choice,
    require_positive,
)

# Of entities, where labels are O, B-TYPE, I-TYPE and the like.
ENTITY_METRICS = ("entity_f1", "entity_precision", "entity_recall")
# What a task asks for, the head that answers, and the metrics there are. The first
# metric is the one that counts where nothing else is said.
KINDS = {
    "classification": (
        "AlbertForSequenceClassification",
        ("accuracy", "f1", "f1_macro", "matthews"),
    ),
    "regression": (
        "AlbertForSequenceClassification",
        ("pearson", "spearman", "mean_squared_error"),
    ),
    "tokens": (
        "AlbertForTokenClassification",
        ("accuracy", "f1_macro", *ENTITY_METRICS),
    ),
    "span": ("AlbertForQuestionAnswering", ("f1", "exact")),
    "choice": ("AlbertForMultipleChoice", ("accuracy",)),
}
SPLITS = ("train", "dev", "test")
FORMATS = ("table", "squad", "race")
LETTERS = ("A", "B", "C", "D")


@dataclass(frozen=True, kw_only=True)
class Split:
    """A file of examples."""

    path: str | None = None
    """Below the task's ``folder``: a .tsv, .csv or .jsonl, a .json of SQuAD's form, or
    RACE's folder of levels. Or ``tfds:NAME#SPLIT``, a table out of TensorFlow Datasets,
    with classes by their names (the ``tfds`` extra). None: there is no such split."""
    columns: tuple[str, ...] = ()
    """Names of a table's columns, where its first row does not give them, or calls
    them otherwise than the other splits."""
    first_row: Literal["names", "example"] = "names"
    """What the first row of a .tsv or .csv is."""
    id: str | None = None
    """The column that tells examples apart; none: their number, from 0."""

    def __post_init__(self) -> None:
        require_choice("first_row", self.first_row, ("names", "example"))
        if self.first_row == "example" and not self.columns:
            raise UserError(
                "first_row is 'example', but columns is empty; name every column"
            )


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is asked, where examples come from, what their columns mean, what counts.

    Columns are those of a .tsv or .csv, or the fields of a .jsonl. Without Python::

        --task.kind classification --task.train.path mine.csv --task.text review
        --task.label stars --task.labels 1 2 3 4 5

    Raises:
      UserError: a field is out of range, or two fields contradict each other.
    """

    name: str
    kind: Literal["classification", "regression", "tokens", "span", "choice"]
    """One label for a text or a pair; a number; a label for every word; an answer
    inside a text; one of several choices."""
    folder: str = "."
    """Where relative paths of splits start."""
    train: Split = field(default_factory=Split)
    dev: Split = field(default_factory=Split)
    test: Split = field(default_factory=Split)
    format: Literal["table", "squad", "race"] = "table"
    """How files are laid out; ``table`` is .tsv (read without quoting, as GLUE's), .csv
    or .jsonl, by the name."""
    skip_broken_rows: bool = False
    """Leave out rows of another number of columns, and say how many, instead of
    refusing the file; the published QQP has some."""

    text: str = "text"
    """Column of the text; of the words (a list, or between spaces) of ``tokens``; of
    the question of ``span`` and ``choice``."""
    text_pair: str | None = None
    """Column of the second text; of the text that holds the answer or passage."""
    label: str = "label"
    """Column of the label or number; of the words' labels; of the answer's text; of
    the right choice, as one of ``labels``."""
    answer_start: str | None = None
    """Column of the answer's first character, from 0; none: answers occur once."""
    choices: tuple[str, ...] = ()
    """Columns of the choices."""
    labels: tuple[str, ...] = ()
    """Every label, in the order of the head's outputs; the names of the choices."""
    unanswerable: bool = False
    """Questions may have no answer: SQuAD 2.0's head, loss and scores. In tables, such
    a question has an empty answer."""
    metrics: tuple[str, ...] = ()
    """The first decides; none: the first of the kind."""
    submission: str | None = None
    """File of predictions in a GLUE submission."""
    test_rows: int | None = None
    """Examples that the published test split has."""

    max_length: int = 512
    """Most pieces in a row (paper, Table 14)."""
    question_length: int = 64
    """Most pieces of a ``span``'s question."""
    stride: int = 128
    """Pieces from one chunk of a long text to the next."""
    answer_length: int = 30
    """Most pieces of an answer."""
    null_threshold: float = 0.0
    """A question has no answer where its null odds are at least this."""
    choice_length: int = 128
    """Most pieces of a ``choice``'s question and choice together: the last ones."""

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, KINDS)
        require_choice("format", self.format, FORMATS)
        if not self.metrics:
            object.__setattr__(self, "metrics", KINDS[self.kind][1][:1])
        for metric in self.metrics:
            require_choice("metrics", metric, KINDS[self.kind][1])
        require_positive(
            self,
            "max_length",
            "question_length",
            "stride",
            "answer_length",
            "choice_length",
        )
        longest = {"span": "question_length", "choice": "choice_length"}.get(self.kind)
        if longest and getattr(self, longest) > self.max_length - 4:
            raise UserError(
                f"max_length is {self.max_length}, but {longest} = "
                f"{getattr(self, longest)} and three special pieces leave no room in "
                "it for a text; raise the one or lower the other"
            )
        if len(set(self.labels)) != len(self.labels):
            raise UserError(f"labels is {self.labels}, but it names one label twice")
        if self.kind == "choice" and self.format == "table":
            if len(self.choices) < 2 or len(self.choices) != len(self.labels):
                raise UserError(
                    f"choices is {self.choices} and labels is {self.labels}, but there "
                    "must be two choices or more, and a label for each"
                )
        if self.kind in ("span", "choice") and self.format == "table":
            if self.text_pair is None:
                raise UserError(
                    f"text_pair is None, but kind {self.kind!r} needs the column of "
                    "the text that the question is about"
                )
        if set(ENTITY_METRICS) & set(self.metrics):
            for label in self.labels:
                if label != "O" and not re.fullmatch("[BIESLU]-.+", label):
                    raise UserError(
                        f"metrics asks for entities, so labels must be 'O', 'B-TYPE', "
                        f"'I-TYPE' and the like, but one is {label!r}; take 'accuracy'"
                    )
        if "f1" in self.metrics and self.kind == "classification":
            if len(self.labels) != 2:
                raise UserError(
                    f"metrics has 'f1', that of the second of two labels, but labels "
                    f"is {self.labels}; take 'f1_macro'"
                )

    @property
    def head(self) -> str:
        """The public name of the model that answers."""
        if self.kind == "span" and self.unanswerable:
            return "AlbertForQuestionAnsweringWithBeam"
        return KINDS[self.kind][0]


_BINARY = ("0", "1")
_ENTAILMENT = ("entailment", "not_entailment")
_MNLI = ("contradiction", "entailment", "neutral")
_COLA = ("source", "label", "star", "sentence")
_DIAGNOSTIC = ("semantics", "structure", "logic", "knowledge", "domain")


def _glue(name: str, folder: str, rows: int, **fields) -> Task:
    defaults = dict(
        kind="classification",
        train=Split(path=f"{folder}/train.tsv"),
        dev=Split(path=f"{folder}/dev.tsv"),
        test=Split(path=f"{folder}/test.tsv", id="index"),
        folder="glue",
        text="sentence1",
        text_pair="sentence2",
        submission=f"{folder}.tsv",
        test_rows=rows,
    )
    return Task(name=name, **(defaults | fields))


def _mnli(name: str, match: str, submission: str, rows: int) -> Task:
    return _glue(
        name,
        "MNLI",
        rows,
        dev=Split(path=f"MNLI/dev_{match}.tsv", id="index"),
        test=Split(path=f"MNLI/test_{match}.tsv", id="index"),
        label="gold_label",
        labels=_MNLI,
        submission=submission,
    )


def _squad(name: str, version: str, **fields) -> Task:
    splits = {
        split: Split(path=f"{split}-{version}.json") for split in ("train", "dev")
    }
    return Task(
        name=name,
        kind="span",
        format="squad",
        folder="squad",
        metrics=("f1", "exact"),
        **splits,
        **fields,
    )


def _race(name: str, level: str) -> Task:
    return Task(
        name=name,
        kind="choice",
        format="race",
        folder="RACE",
        labels=LETTERS,
        **{split: Split(path=f"{split}{level}") for split in SPLITS},
    )


_PUBLISHED = (
    _glue(
        "cola",
        "CoLA",
        1063,
        train=Split(path="CoLA/train.tsv", columns=_COLA, first_row="example"),
        dev=Split(path="CoLA/dev.tsv", columns=_COLA, first_row="example"),
        text="sentence",
        text_pair=None,
        labels=_BINARY,
        metrics=("matthews", "accuracy"),
    ),
    _glue("sst2", "SST-2", 1821, text="sentence", text_pair=None, labels=_BINARY),
    _glue(
        "mrpc",
        "MRPC",
        1725,
        text="#1 String",
        text_pair="#2 String",
        label="Quality",
        labels=_BINARY,
        metrics=("accuracy", "f1"),
    ),
    _glue(
        "qqp",
        "QQP",
        390_965,
        dev=Split(path="QQP/dev.tsv", id="id"),
        test=Split(path="QQP/test.tsv", id="id"),
        text="question1",
        text_pair="question2",
        label="is_duplicate",
        labels=_BINARY,
        metrics=("accuracy", "f1"),
        skip_broken_rows=True,
    ),
    _glue(
        "stsb",
        "STS-B",
        1379,
        kind="regression",
        label="score",
        metrics=("pearson", "spearman"),
    ),
    _mnli("mnli", "matched", "MNLI-m.tsv", 9796),
    _mnli("mnli-mismatched", "mismatched", "MNLI-mm.tsv", 9847),
    _glue(
        "qnli", "QNLI", 5463, text="question", text_pair="sentence", labels=_ENTAILMENT
    ),
    _glue("rte", "RTE", 3000, labels=_ENTAILMENT),
    _glue("wnli", "WNLI", 146, labels=_BINARY),
    # Trained on MNLI. The full file has the labels, and other names for its columns.
    _glue(
        "ax",
        "AX",
        1104,
        train=Split(path="MNLI/train.tsv"),
        dev=Split(
            path="diagnostic/diagnostic-full.tsv",
            columns=(*_DIAGNOSTIC, "sentence1", "sentence2", "gold_label"),
        ),
        test=Split(path="diagnostic/diagnostic.tsv", id="index"),
        label="gold_label",
        labels=_MNLI,
        metrics=("matthews", "accuracy"),
    ),
    _squad("squad1", "v1.1", max_length=384),
    _squad("squad2", "v2.0", unanswerable=True),
    _race("race", ""),
    _race("race-middle", "/middle"),
    _race("race-high", "/high"),
)
TASKS = {task.name: task for task in _PUBLISHED}


def published(name: str) -> Task:
    """The published task of a name.

    Raises:
      UserError: there is none.
    """
    if name not in TASKS:
        raise UserError(
            f"task is {name!r}, but it must be one of {', '.join(TASKS)}"
            + nearest(name, TASKS)
        )
    return TASKS[name]
