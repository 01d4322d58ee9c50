"""Files of predictions: names, headers, ids, counts; all of them, or none."""

import json
import zipfile
from pathlib import Path

import pytest

from albert_jax.config import UserError
from albert_jax.config.tasks import TASKS, Task
from albert_jax.tasks.answers import Answered, Candidate
from albert_jax.tasks.examples import (
    ChoiceExample,
    QuestionExample,
    TextExample,
    WordsExample,
)
from albert_jax.tasks.predictions import (
    read_predictions,
    write_predictions,
    write_submission,
)

# What https://gluebenchmark.com takes: the eleven tables, and how long they are.
TABLES = {
    "CoLA.tsv": 1063,
    "SST-2.tsv": 1821,
    "MRPC.tsv": 1725,
    "STS-B.tsv": 1379,
    "QQP.tsv": 390_965,
    "MNLI-m.tsv": 9796,
    "MNLI-mm.tsv": 9847,
    "QNLI.tsv": 5463,
    "RTE.tsv": 3000,
    "WNLI.tsv": 146,
    "AX.tsv": 1104,
}


def texts(count):
    return [TextExample(str(i), "text") for i in range(count)]


@pytest.mark.parametrize(
    ("name", "predictions", "lines"),
    [
        ("cola", [0, 1], ["0\t0", "1\t1"]),
        ("rte", [0, 1], ["0\tentailment", "1\tnot_entailment"]),
        ("mnli", [2, 0], ["0\tneutral", "1\tcontradiction"]),
        ("stsb", [5.25, -0.5, 3.14159], ["0\t5.000", "1\t0.000", "2\t3.142"]),
    ],
)
def test_a_table_of_glue(tmp_path, name, predictions, lines):
    task = TASKS[name]
    (path,) = write_predictions(task, texts(len(predictions)), predictions, tmp_path)
    assert path == tmp_path / task.submission
    assert path.read_text() == "\n".join(["index\tprediction", *lines, ""])
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Path:
    """Eleven tables as the server takes them; all but the longest written by us."""
    folder = tmp_path_factory.mktemp("tables")
    for task in TASKS.values():
        if task.name == "qqp":
            lines = "\n".join(f"{i}\t1" for i in range(task.test_rows))
            (folder / task.submission).write_text(f"index\tprediction\n{lines}\n")
        elif task.submission is not None:
            constant = [2.5 if task.kind == "regression" else 1] * task.test_rows
            write_predictions(task, texts(task.test_rows), constant, folder)
    return folder


def test_a_submission_is_eleven_tables(tables, tmp_path):
    path = tmp_path / "submission.zip"
    write_submission(tables, path)
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == sorted(TABLES)
        assert archive.testzip() is None
        for name, count in TABLES.items():
            header, *lines = archive.read(name).decode().splitlines()
            assert header.split("\t") == ["index", "prediction"]
            assert [line.split("\t")[0] for line in lines] == list(
                map(str, range(count))
            )
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("WNLI.tsv", lambda t: None, "has no WNLI.tsv; GLUE takes all 11 tables"),
        ("WNLI.tsv", lambda t: t[6:], "WNLI.tsv, line 1 is 'prediction'"),
        ("WNLI.tsv", lambda t: t + "146\t1\n", "has 147 predictions, but wnli has 146"),
        (
            "WNLI.tsv",
            lambda t: t.replace("\n5\t", "\n4\t"),
            "WNLI.tsv, line 7 has index '4', but it must be 5",
        ),
        (
            "RTE.tsv",
            lambda t: t.replace("\n0\tnot_", "\n0\tnon_"),
            "RTE.tsv, line 2 predicts 'non_entailment', but it must be entailment",
        ),
        ("STS-B.tsv", lambda t: t.replace("2.5", "5.5", 1), "a number from 0 to 5"),
    ],
)
def test_a_bad_table_is_refused_and_nothing_is_written(
    tables, tmp_path, name, change, message
):
    for path in tables.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / name).unlink()
    if (text := change((tables / name).read_text())) is not None:
        (tmp_path / name).write_text(text)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(UserError, match=message):
        write_submission(tmp_path, out / "submission.zip")
    assert not list(out.iterdir())


QUESTIONS = [QuestionExample(id, "Who?", "Zoë, or I.") for id in ("q1", "q2")]
ANSWERED = [
    Answered((Candidate("Zoë", 1.5, 0.5), Candidate("I", 0.0, 0.25)), -1.0),
    Answered((Candidate("I", 1.0, 0.0),), 2.0),
]


def test_squad_2_has_predictions_and_null_odds(tmp_path):
    paths = write_predictions(TASKS["squad2"], QUESTIONS, ANSWERED, tmp_path)
    names = ["predictions.json", "nbest_predictions.json", "null_odds.json"]
    assert [path.name for path in paths] == names
    answers, best, odds = (json.loads(path.read_text()) for path in paths)
    assert answers == {"q1": "Zoë", "q2": ""}
    assert odds == {"q1": -1.0, "q2": 2.0}
    assert best["q1"][1] == {"text": "I", "start_score": 0.0, "end_score": 0.25}
    assert read_predictions(paths[0], QUESTIONS) == ["Zoë", ""]


def test_squad_1_has_no_null_odds(tmp_path):
    answered = [Answered(one.candidates) for one in ANSWERED]
    paths = write_predictions(TASKS["squad1"], QUESTIONS, answered, tmp_path)
    assert [p.name for p in paths] == ["predictions.json", "nbest_predictions.json"]
    assert read_predictions(paths[0], QUESTIONS) == ["Zoë", "I"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"q1": ""}', "has no answer to q2 .1 in all"),
        ('{"q1": "", "q2": "", "q3": ""}', "an answer to what is no question, q3"),
        ("[]", "must be an object"),
        ("{", "is not JSON"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(tmp_path, text, message):
    path = tmp_path / "predictions.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_predictions(path, QUESTIONS)


def test_race_has_the_letters_of_each_passage(tmp_path):
    ids = ("high1.txt-0", "high1.txt-1", "middle-2.txt-0")
    examples = [ChoiceExample(id, "", "", ("", "", "", "")) for id in ids]
    (path,) = write_predictions(TASKS["race"], examples, [1, 3, 0], tmp_path)
    assert path.name == "answers.json"
    letters = {"high1.txt": ["B", "D"], "middle-2.txt": ["A"]}
    assert json.loads(path.read_text()) == letters


def test_ones_own_task_has_json_lines(tmp_path):
    task = Task(name="mine", kind="tokens", labels=("O", "X"))
    words = [WordsExample("7", ("a", "b", "c"))]
    (path,) = write_predictions(task, words, [(1, 0, -1)], tmp_path)
    record = {"id": "7", "prediction": ["X", "O", None]}
    assert json.loads(path.read_text()) == record
    task = Task(name="mine", kind="regression")
    (path,) = write_predictions(task, texts(1), [9.5], tmp_path)
    assert json.loads(path.read_text()) == {"id": "0", "prediction": 9.5}
    task = Task(name="mine", kind="classification", labels=("no", "yes"))
    (path,) = write_predictions(task, texts(1), [1], tmp_path / "new" / "folder")
    assert json.loads(path.read_text()) == {"id": "0", "prediction": "yes"}


def test_no_file_is_left_if_one_cannot_be_written(tmp_path, monkeypatch):
    write = Path.write_text

    def fails(path, *args, **options):
        if "null_odds" in path.name:
            raise OSError("disk full")
        return write(path, *args, **options)

    monkeypatch.setattr(Path, "write_text", fails)
    with pytest.raises(OSError, match="disk full"):
        write_predictions(TASKS["squad2"], QUESTIONS, ANSWERED, tmp_path)
    assert not list(tmp_path.iterdir())
