"""One's own sets of every kind, from files with named columns to scores."""

import csv
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_task

from albert_jax.catalogue import load_experiment
from albert_jax.config import UserError
from albert_jax.config.tasks import Split
from albert_jax.finetuning.finetune import finetune
from albert_jax.tasks.entities import entities, entity_scores
from albert_jax.train.metrics import read_metrics

OWN = Path(__file__).parents[1] / "experiments" / "own.py"
NAMES = ("river", "mountain")


def row_of(arm, number):
    """Text of a few words, and what stands first in it."""
    rng = random.Random(number)
    name = NAMES[number % 2]
    rest = rng.choices("the of and a in to is".split(), k=3)
    text = " ".join([name, *rest])
    match arm:
        case "pair":
            other = NAMES[rng.randrange(2)]
            label = "same" if other == name else "other"
            return {"text": text, "text_pair": other, "label": label}
        case "regression":
            return {"text": text, "label": 3.0 * (number % 2) + 0.1 * rng.random()}
        case "entities":
            return {"words": text.split(), "labels": ["B-X", "O", "O", "O"]}
        case "span" | "answerable":
            answer = "" if arm == "answerable" and number % 3 == 0 else name
            row = {"question": "what is", "context": f"{rest[0]} {text}"}
            return row | {"answer": answer, "answer_start": len(rest[0]) + 1}
        case "choice":
            choices = {"a": name, "b": "twelve", "c": "it", "d": "you"}
            return {"question": "which", "passage": text, "label": "a"} | choices
    return {"text": text, "label": name}


def write(folder, arm, form):
    for split, count in (("train", 24), ("dev", 8)):
        rows = [row_of(arm, number) for number in range(count)]
        path = folder / f"{split}.{form}"
        if form == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            continue
        with path.open("w", newline="") as file:
            tabs = {"delimiter": "\t"} if form == "tsv" else {}
            table = csv.DictWriter(file, rows[0].keys(), **tabs)
            table.writeheader()
            table.writerows(rows)


LABELS = {
    "classification": NAMES,
    "pair": ("same", "other"),
    "entities": ("O", "B-X", "I-X"),
    "choice": ("a", "b", "c", "d"),
}
FORMS = {
    "classification": "csv",
    "pair": "tsv",
    "regression": "csv",
    "entities": "jsonl",
    "span": "csv",
    "answerable": "jsonl",
    "choice": "tsv",
}


def experiment_of(arm, folder):
    form = FORMS[arm]
    write(folder, arm, form)
    experiment = load_experiment(f"{OWN}:{arm}")
    task = replace(
        experiment.task,
        folder=str(folder),
        train=Split(path=f"train.{form}"),
        dev=Split(path=f"dev.{form}"),
        labels=LABELS.get(arm, ()),
        max_length=32,
        question_length=8,
        choice_length=8,
    )
    return replace(
        experiment,
        task=task,
        dropout=0.0,
        classifier_dropout=0.0,
        optimizer=replace(experiment.optimizer, learning_rate=0.01, warmup_steps=1),
        batch_size=8,
        steps=12,
        log_every=1,
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A model that was fine-tuned already, for something else: its head is dropped."""
    folder = tmp_path_factory.mktemp("source") / "model"
    head = "AlbertForSequenceClassification"
    return small_task.write_source(folder, head, num_labels=3)


@pytest.mark.parametrize("arm", FORMS)
def test_every_kind_is_trained_from_a_file_of_ones_own(arm, source, tmp_path):
    experiment = replace(experiment_of(arm, tmp_path), init=source)
    said = []
    ended = finetune(experiment, tmp_path / "run", report=said.append)
    assert any("AlbertModel has no classifier: ignored" in line for line in said)
    scores = ended.results.scores
    assert list(scores)[: len(experiment.task.metrics)] == [*experiment.task.metrics]
    assert ended.results.examples == 8
    names = ("train/label_loss", "train/start_loss")
    lines = list(read_metrics(tmp_path / "run" / "metrics.jsonl"))
    losses = [line[n] for line in lines for n in names if n in line]
    assert len(losses) == 12 and np.mean(losses[9:]) < np.mean(losses[:3])
    assert np.isfinite([spread.mean for spread in scores.values()]).all()


# Counted by seqeval 1.2.2 (``get_entities``, ``f1_score``), in its default mode.
GOLDEN = {
    "O B-X I-X O B-X": {("X", 1, 2), ("X", 4, 4)},
    "I-X I-X O I-Y": {("X", 0, 1), ("Y", 3, 3)},
    "B-X B-X I-Y": {("X", 0, 0), ("X", 1, 1), ("Y", 2, 2)},
    "B-X E-X S-X E-Y E-Y": {("X", 0, 1), ("X", 2, 2), ("Y", 3, 3), ("Y", 4, 4)},
    "E-X I-X": {("X", 0, 0), ("X", 1, 1)},
    "B-X I-X B-X-Y I-X-Y": {("X", 0, 1), ("X-Y", 2, 3)},
    "O O": set(),
    "": set(),
}


@pytest.mark.parametrize("labels", GOLDEN)
def test_entities_are_conlls(labels):
    assert entities(labels.split()) == GOLDEN[labels]


def test_entities_of_bilou():
    assert entities("B-X I-X L-X U-X".split()) == {("X", 0, 2), ("X", 3, 3)}


def test_entity_scores_count_all_texts_together():
    true = ["O O B-X I-X I-X I-X O", "B-Y I-Y O", "O O"]
    given = ["O O O B-X I-X I-X O", "B-Y I-Y O", "O B-X"]
    split = [[line.split() for line in lines] for lines in (given, true)]
    found = entity_scores(*split)
    assert found["entity_precision"] == pytest.approx(1 / 3)
    assert found["entity_recall"] == 0.5 and found["entity_f1"] == 0.4
    nothing = entity_scores([["O"]], [["O"]])
    assert set(nothing.values()) == {0.0}
    with pytest.raises(UserError, match="one is 'X'; take 'accuracy'"):
        task = load_experiment(f"{OWN}:entities").task
        replace(task, labels=("O", "X"))
