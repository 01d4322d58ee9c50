"""finetune and evaluate on the command line, and what they say to a mistake."""

import json
from pathlib import Path

import pytest
import small_task

from albert_jax.cli import main

EXPERIMENT = '''"""Mine: a run of seconds."""
import sys
sys.path.insert(0, {tests!r})
import small_task
from dataclasses import replace
from albert_jax.config.finetuning import FinetuningExperiment
MINE = FinetuningExperiment(
    name="mine", task=replace(small_task.TASK, folder="data"), batch_size=8, steps=4,
    optimizer=replace(FinetuningExperiment(name="", task=small_task.TASK).optimizer,
                      warmup_steps=1),
)
EXPERIMENTS = {{"mine": MINE, "other": MINE}}
'''
SPEC = "experiments/mine.py:mine"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A working directory with an experiment, its data, and two models."""
    for folder in ("experiments", "data"):
        (tmp_path / folder).mkdir()
    file = tmp_path / "experiments" / "mine.py"
    file.write_text(EXPERIMENT.format(tests=str(Path(__file__).parent)))
    small_task.write_examples(tmp_path / "data")
    small_task.write_source(tmp_path / "source")
    small_task.write_source(
        tmp_path / "sorted", "AlbertForSequenceClassification", num_labels=3
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("albert_jax.programs.keep_programs", lambda report: None)
    return tmp_path


def test_from_a_model_to_scores_and_predictions(home, capsys):
    arguments = ["finetune", SPEC, "--init", "source", "--seeds", "2"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "30 examples of dev, 2 seeds" in said and "95 % interval" in said
    assert main(["evaluate", "runs/mine", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    results = home / "runs/mine/results-dev.json"
    assert document == json.loads(results.read_text())
    assert main(["evaluate", "runs/mine", "--split", "test"]) == 0
    folder = home / "runs/mine/predictions/test-seed-1"
    assert len((folder / "predictions.jsonl").read_text().splitlines()) == 5
    assert not (home / "runs/mine/results-test.json").exists()


INIT = ["--init", "source"]
MISTAKES = {
    "nothing to start from": (["finetune", SPEC], "init is None"),
    "no such source": (["finetune", SPEC, "--init", "a/b/c"], "no folder a/b/c"),
    "unknown arm": (["finetune", "experiments/mine.py:mime", *INIT], "did you mean"),
    "no dev split": (
        ["finetune", SPEC, *INIT, "--task.dev.path", "None"],
        "mine has no dev split; set dev.path",
    ),
    "no dev file": (
        ["finetune", SPEC, *INIT, "--task.dev.path", "dew.jsonl"],
        "dew.jsonl cannot be read",
    ),
    "a head of other labels": (
        ["finetune", SPEC, "--init", "sorted", "--keep-head"],
        "has 3 labels and mine has 2",
    ),
    "another head": (
        ["finetune", SPEC, *INIT, "--keep-head"],
        "source is AlbertForPreTraining",
    ),
    "no rule": (["finetune", SPEC, *INIT, "--rule", "bets"], "did you mean 'best'"),
    "warm-up beyond the end": (
        ["finetune", SPEC, *INIT, "--optimizer.warmup-steps", "9"],
        "more than steps = 4",
    ),
    "to pretrain a task": (["pretrain", SPEC], "is not a pretraining experiment"),
    "to evaluate no run": (["evaluate", "source"], "source is not a run"),
}


@pytest.mark.parametrize(("arguments", "cure"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_gets_one_line_and_writes_nothing(home, capsys, arguments, cure):
    before = sorted(home.rglob("*"))
    assert main(arguments) == 2
    *reports, said = capsys.readouterr().err.splitlines()
    assert cure in said and all(": ignored" in line for line in reports)
    after = [p for p in home.rglob("*") if "__pycache__" not in str(p)]
    assert sorted(after) == before
