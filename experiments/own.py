"""Your own set without writing Python: one arm a kind of task, columns by name.

Hardware: whatever holds the model; a tiny one needs no accelerator.
Expected: nothing published; compare with ``--from-scratch``, and with several seeds.
Command: albert-jax finetune experiments/own.py:classification --init runs/base
    --task.train.path train.csv --task.dev.path dev.csv --task.labels bad good
Measured: not run yet.

Files are .tsv (read without quoting), .csv or .jsonl with a first row, or keys, that
name the columns; an arm expects those below, and ``--task.text`` and its like name
others (``albert-jax finetune experiments/own.py:ARM --help``). A split may have its own
names. Without ``--task.labels`` the labels of the train file are listed, to be copied.

    classification   text, label
    pair             text, text_pair, label
    regression       text, label (a number); --task.text-pair for pairs
    entities         words and labels: lists in .jsonl, or words between spaces;
                     labels are O, B-PER, I-PER and the like. F1 of entities counts
    span             question, context, answer, answer_start (a character, from 0;
                     --task.answer-start None where answers occur once)
    answerable       the same, and the answer may be empty: there is none
    choice           question, passage, a, b, c, d, label: the name of the right column

A whole sweep in one program: ``--learning-rates 1e-5 3e-5 5e-5 --seeds 5``. Afterwards
``albert-jax evaluate RUN``, and ``classify RUN`` or ``answer RUN`` for new texts.
"""

from dataclasses import replace

from albert_jax.config import OptimizerConfig
from albert_jax.config.finetuning import FinetuningExperiment
from albert_jax.config.tasks import Task

TEXT = Task(name="own", kind="classification", max_length=128)
SPAN = Task(
    name="own",
    kind="span",
    text="question",
    text_pair="context",
    label="answer",
    answer_start="answer_start",
    max_length=384,
)
LETTERS = ("a", "b", "c", "d")

TASKS = {
    "classification": TEXT,
    "pair": replace(TEXT, text_pair="text_pair"),
    "regression": replace(TEXT, kind="regression", metrics=("pearson", "spearman")),
    "entities": replace(
        TEXT,
        kind="tokens",
        text="words",
        label="labels",
        metrics=("entity_f1", "entity_precision", "entity_recall", "accuracy"),
    ),
    "span": SPAN,
    "answerable": replace(SPAN, unanswerable=True),
    "choice": Task(
        name="own",
        kind="choice",
        text="question",
        text_pair="passage",
        choices=LETTERS,
        labels=LETTERS,
    ),
}

EXPERIMENTS = {
    arm: FinetuningExperiment(
        name=f"own/{arm}",
        task=task,
        optimizer=OptimizerConfig(name="adamw", learning_rate=3e-5, warmup_steps=100),
        batch_size=32,
        steps=1000,
    )
    for arm, task in TASKS.items()
}
