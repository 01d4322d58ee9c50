"""The lab's notes are what ``report`` makes of the logs beside them."""

import json

import numpy as np
import pages
import pytest

from albert_jax.catalogue import load_experiment, load_study
from albert_jax.finetuning.evaluation import rule_of
from albert_jax.finetuning.results import Spread
from albert_jax.identity import to_dict
from albert_jax.study.markdown import markdown
from albert_jax.study.report import describe_study
from albert_jax.study.results import read_study
from albert_jax.study.table import table_csv

LAB = pages.ROOT / "docs" / "lab"
NOTES = {path.parent.name: path.parent for path in LAB.glob("*/study.json")}
parametrized = pytest.mark.parametrize("name", NOTES)


@parametrized
def test_a_note_is_what_its_logs_say(name):
    report = NOTES[name] / "report"
    committed = json.loads((report / "report.json").read_text())
    document = describe_study(read_study(NOTES[name]))
    document["figures"] = committed["figures"]
    assert document == committed
    assert (report / "report.md").read_text() == markdown(document)
    assert (report / "table.csv").read_text() == table_csv(document)
    for figure in document["figures"]:
        assert (report / f"{figure}.png").stat().st_size < 200_000


@parametrized
def test_a_note_is_of_the_study_that_is_in_the_repository(name):
    file = f"experiments/ablations/{name.replace('-', '_')}.py"
    study = to_dict(load_study(str(pages.ROOT / file), "lab"))
    record = json.loads((NOTES[name] / "study.json").read_text())
    assert record["study"] == json.loads(json.dumps(study))
    assert study["seeds"] >= 5


def test_there_are_notes():
    assert NOTES


# Tasks of experiments/small_tasks.py: their rows in the tables, by the deciding score.
TASKS = {
    "sst2": "SST-2, accuracy",
    "cola": "CoLA, Matthews",
    "stsb": "STS-B, Pearson",
    "mrpc": "MRPC, accuracy",
    "rte": "RTE, accuracy",
    "squad": "SQuAD 1.1, F1",
    "race-middle": "RACE-middle, accuracy",
}


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
@pytest.mark.parametrize("task", TASKS)
def test_the_tables_of_tasks_are_what_the_seeds_scored(task, page):
    made = load_experiment(str(pages.ROOT / f"experiments/small_tasks.py:{task}"))
    metric = made.task.metrics[0]
    assert metric in TASKS[task].lower()
    percent = 1 if metric == "f1" else 100  # SQuAD's own script gives percent.
    arms = []
    for arm in (task, f"{task}-scratch"):
        scored = json.loads((LAB / "small-tasks" / f"{arm}.json").read_text())
        assert scored["seeds"] == list(made.all_seeds)
        assert scored["rule"] == rule_of(made)
        arms.append(percent * np.array(scored["scores"][metric]["values"]))
    pretrained, random = arms
    cells = [cell(pretrained), cell(random), cell(pretrained - random, sign="+")]
    lines = (pages.ROOT / page).read_text().splitlines()
    (row,) = (line for line in lines if line.startswith(f"| {TASKS[task]} |"))
    assert f"| {' | '.join(cells)} |" in row


def cell(values, sign="-"):
    """A mean over seeds and its 95 % interval; a plus before what is above zero."""
    spread = Spread.of(values.tolist())
    low, high = spread.interval
    return f"{spread.mean:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"
