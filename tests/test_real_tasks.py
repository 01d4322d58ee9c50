"""The published files themselves: what is read from them, features, golden numbers."""

import tarfile
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pages
import pytest

from albert_jax.config.tasks import SPLITS, TASKS, Split, Task
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.tasks.evaluation import evaluate, predict
from albert_jax.tasks.features import features_of
from albert_jax.tasks.predictions import read_predictions
from albert_jax.tasks.reader import read_examples
from albert_jax.tasks.spans import span_of, text_of
from albert_jax.tasks.squad_scores import normalized, squad_scores


@pytest.fixture(scope="module")
def tokenizer(data_folder) -> Tokenizer:
    return Tokenizer.load(data_folder / "30k-clean.model")


def unpacked(archive: Path, folder: Path, under: str = "") -> Path:
    with tarfile.open(archive) as files:
        members = [m for m in files if m.name.startswith(under)]
        files.extractall(folder, members, filter="data")
    return folder


@pytest.fixture(scope="module")
def glue(data_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("glue")
    return unpacked(data_folder / "glue.tar.xz", folder) / "glue"


@pytest.fixture(scope="module")
def squad(data_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("squad")
    return unpacked(data_folder / "squad.tar.xz", folder) / "squad"


@pytest.fixture(scope="module")
def race(data_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("race")
    return unpacked(data_folder / "race.tar.xz", folder, "RACE/dev") / "RACE"


# Rows of every published file that is at hand, but for train splits of over 5,000.
GLUE_ROWS = {
    "cola": (None, 1043, 1063),
    "sst2": (None, 872, 1821),
    "mrpc": (3668, 408, 1725),
    "stsb": (None, 1500, 1379),
    "qnli": (None, 5463, 5463),
    "rte": (2490, 277, 3000),
    "wnli": (635, 71, 146),
    "mnli": (None, 9815, None),
    "qqp": (None, 23496, None),
    "ax": (None, 1104, None),
}
# Where the files at hand are called otherwise than the published ones.
RENAMED = {
    "mnli": Split(path="MNLI/dev_matched.slim.tsv", id="index"),
    "qqp": Split(path="QQP/dev_partial23k.tsv", id="id"),
    "ax": replace(TASKS["ax"].dev, path="AX/AX_diagnostic-full.tsv"),
}


def glue_task(name: str, glue: Path) -> Task:
    task = replace(TASKS[name], folder=str(glue))
    return replace(task, dev=RENAMED.get(name, task.dev))


@pytest.fixture(scope="module")
def dev_sets(glue):
    """The examples of every dev split, once."""
    return {name: read_examples(glue_task(name, glue), "dev") for name in GLUE_ROWS}


def test_every_row_of_glue_is_read(glue, dev_sets):
    for name, counts in GLUE_ROWS.items():
        for split, count in zip(SPLITS, counts, strict=True):
            if count is None:
                continue
            examples = dev_sets[name]
            if split != "dev":
                examples = read_examples(glue_task(name, glue), split)
            assert len(examples) == count, (name, split)
            assert all((e.label is None) == (split == "test") for e in examples)
            if split == "test":
                assert count == TASKS[name].test_rows
                assert [e.id for e in examples] == list(map(str, range(count)))


# The first rows of dev, read by eye: the text, how the second begins, the label.
FIRST_ROWS = {
    "cola": ("The sailors rode the breeze clear of the rocks.", None, "1"),
    "sst2": ("it 's a charming and often affecting journey . ", None, "1"),
    "mrpc": (
        "He said the foodservice pie business doesn't fit the company's long-term "
        "growth strategy.",
        '"The foodservice pie business does not fit our',
        "1",
    ),
    "mnli": ("The new rights are nice enough", "Everyone really likes the", "neutral"),
    "qqp": (
        "What causes stool color to change to yellow?",
        "What can cause stool to come out as little balls?",
        "0",
    ),
    "qnli": (
        "What came into force after the new constitution was herald?",
        "As of that day, the new constitution heralding the Second Republic came",
        "entailment",
    ),
    "wnli": (
        "The drain is clogged with hair. It has to be cleaned.",
        "The hair has to be cleaned.",
        "0",
    ),
    "ax": (
        "The cat sat on the mat.",
        "The cat did not sit on the mat.",
        "contradiction",
    ),
}


def test_rows_of_glue_read_by_eye(dev_sets, tokenizer):
    for name, (text, second, label) in FIRST_ROWS.items():
        task, example = TASKS[name], dev_sets[name][0]
        assert example.text == text
        assert (example.text_pair or "").startswith(second or "")
        assert task.labels[example.label] == label
        (row,) = features_of(task, [example], tokenizer)
        parts = [text] if second is None else [text, example.text_pair]
        seen = "".join(f" {tokenizer.decode(tokenizer.encode(p))} [SEP]" for p in parts)
        assert tokenizer.decode(row.inputs["input_ids"]) == f"[CLS]{seen}"
        first = len(tokenizer.encode(text)) + 2
        assert row.inputs["token_type_ids"].tolist() == (
            [0] * first + [1] * (len(row.inputs["input_ids"]) - first)
        )
    first, *_, last = dev_sets["stsb"]
    assert (first.text, first.label) == ("A man with a hard hat is dancing.", 5.0)
    assert last.label == 0.0
    labels = Counter(example.label for example in dev_sets["ax"])
    assert [labels[i] for i in range(3)] == [258, 460, 386]


def test_race_by_eye(race, tokenizer):
    task = replace(TASKS["race"], folder=str(race))
    examples = read_examples(task, "dev")
    assert Counter(e.level for e in examples) == {"high": 3451, "middle": 1436}
    assert (
        len(read_examples(replace(TASKS["race-middle"], folder=str(race)), "dev"))
        == 1436
    )
    by_id = {example.id: example for example in examples}
    blank, plain = by_id["middle1011.txt-0"], by_id["middle1011.txt-4"]
    assert (blank.question, blank.label) == ("John Denver is a great  _  singer.", 2)
    assert (plain.question, plain.label) == (".Which sentence is right?", 2)
    rows = features_of(task, [blank, plain], tokenizer)
    seen = [tokenizer.decode(row.inputs["input_ids"]) for row in rows]
    article = tokenizer.decode(tokenizer.encode(blank.passage))
    for text, choice in zip(seen, blank.choices, strict=False):
        asked = f"john denver is a great {choice.lower()} singer."
        assert text == f"[CLS] {article} [SEP] {asked} [SEP]"
    assert seen[6].endswith(
        "[SEP] .which sentence is right? john denver is famous to chinese people, too. "
        "[SEP]"
    )
    longest = features_of(task, examples[:100], tokenizer)
    lengths = [len(row.inputs["input_ids"]) for row in longest]
    assert max(lengths) == 512


SQUAD = {
    "squad1": ("dev-v1.1.json", "v1.1_bert_ensemble.json"),
    "squad2": ("dev-v2.0.reconstructed.json", "v2.0_bert_single.json"),
}


@pytest.fixture(scope="module")
def squad_dev(squad):
    """The task and the questions of either dev split, read once."""

    @cache
    def of(name):
        task = replace(TASKS[name], folder=str(squad), dev=Split(path=SQUAD[name][0]))
        return task, read_examples(task, "dev")

    return of


@pytest.mark.parametrize(
    ("name", "count", "exact", "f1"),
    [("squad1", 10570, 86.206, 92.196), ("squad2", 11873, 78.742, 81.775)],
)
def test_the_golden_numbers_of_published_predictions(
    squad, squad_dev, name, count, exact, f1
):
    task, examples = squad_dev(name)
    given = read_predictions(squad / "predictions" / SQUAD[name][1], examples)
    golds = [[answer.text for answer in e.answers] for e in examples]
    found = squad_scores(golds, given, unanswerable=task.unanswerable)
    assert found["total"] == count
    assert (round(found["exact"], 3), round(found["f1"], 3)) == (exact, f1)
    if task.unanswerable:
        assert (found["HasAns_total"], found["NoAns_total"]) == (5928, 5945)
        parts = [
            found[f"{kind}_f1"] * found[f"{kind}_total"] for kind in ("HasAns", "NoAns")
        ]
        assert sum(parts) / count == pytest.approx(found["f1"])


# Questions whose answers all end inside a piece: "four", out of "fourth".
NO_SPAN = {"squad1": ["56dfa1d34a1a83140091ebd4"], "squad2": []}


@pytest.mark.parametrize(
    ("name", "answerable", "first_misses"), [("squad1", 10570, 30), ("squad2", 5928, 6)]
)
def test_the_spans_of_pieces_hold_the_answers(
    squad_dev, tokenizer, name, answerable, first_misses
):
    _, examples = squad_dev(name)
    contexts = {e.context for e in examples}
    offsets = {c: tokenizer.encode_with_offsets(c)[1] for c in contexts}
    examples = [example for example in examples if example.answers]
    assert len(examples) == answerable
    missed, first_missed = [], 0
    for example in examples:
        pieces = offsets[example.context]
        spans = [span_of(pieces, answer) for answer in example.answers]
        held = [normalized(text_of(example.context, pieces, *span)) for span in spans]
        golds = [normalized(answer.text) for answer in example.answers]
        if not set(held) & set(golds):
            missed.append(example.id)
        first_missed += held[0] != golds[0]
    assert missed == NO_SPAN[name]
    assert first_missed == first_misses
    assert len(missed) <= 0.0005 * answerable


@pytest.mark.parametrize("name", SQUAD)
def test_logits_at_the_targets_give_the_answers(squad_dev, tokenizer, name):
    task, examples = squad_dev(name)
    task = replace(task, max_length=384, answer_length=384)
    examples = examples[::20]
    rows = features_of(task, examples, tokenizer)
    assert len(rows) > len(examples)
    assert max(len(row.inputs["input_ids"]) for row in rows) == 384

    def output(row):
        places = row.targets["start_positions"], row.targets["end_positions"]
        if task.unanswerable:
            return SimpleNamespace(
                start_top_index=np.array(places[:1]),
                start_top_log_probs=np.zeros(1),
                end_top_index=np.array(places[1:]),
                end_top_log_probs=np.zeros(1),
                cls_logits=np.float32(2 * row.targets["is_impossible"] - 1),
            )
        logits = np.zeros((2, len(row.inputs["input_ids"])))
        logits[[0, 1], places] = 1.0
        return SimpleNamespace(start_logits=logits[0], end_logits=logits[1])

    predictions = predict(task, examples, rows, list(map(output, rows)))
    for example, prediction in zip(examples, predictions, strict=True):
        expected = ""
        if example.answers:
            _, offsets = tokenizer.encode_with_offsets(example.context)
            span = span_of(offsets, example.answers[0])
            expected = text_of(example.context, offsets, *span)
        assert prediction.given(0.0) == expected
    assert evaluate(task, examples, predictions)["exact"] > 99


def guessed(context: str, length: int, rng: np.random.Generator) -> str:
    """So many neighbouring words of a text, wherever they stand."""
    words = context.split()
    start = rng.integers(max(len(words) - length, 0) + 1)
    return " ".join(words[start : start + length])


def test_what_guessing_scores_stands_in_the_table(dev_sets, race, squad_dev):
    races = replace(TASKS["race-middle"], folder=str(race))
    labelled = {
        "SST-2": dev_sets["sst2"],
        "MRPC": dev_sets["mrpc"],
        "RTE": dev_sets["rte"],
        "RACE-middle": read_examples(races, "dev"),
    }
    scores = {}
    for name, examples in labelled.items():
        ((_, most),) = Counter(e.label for e in examples).most_common(1)
        scores[name] = 100 * most / len(examples)
    # Spans at random, as long as answers are.
    _, examples = squad_dev("squad1")
    golds = [[answer.text for answer in e.answers] for e in examples]
    rng = np.random.default_rng(0)
    lengths = rng.permutation([len(texts[0].split()) for texts in golds])
    given = [guessed(e.context, n, rng) for e, n in zip(examples, lengths, strict=True)]
    scores["SQuAD 1.1"] = squad_scores(golds, given)["f1"]
    lines = (pages.ROOT / "docs/results.md").read_text().splitlines()
    for name, score in scores.items():
        (row,) = (line for line in lines if line.startswith(f"| {name}, "))
        assert row.endswith(f" | {score:.1f} |"), (row, score)
