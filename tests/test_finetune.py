"""Fine-tuning: a made task is learned, resumed to the bit, and told of honestly."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_task

from albert_jax.finetuning.evaluation import evaluate_run
from albert_jax.finetuning.finetune import Finetuned, finetune
from albert_jax.finetuning.start import open_start
from albert_jax.finetuning.step import choose_better
from albert_jax.interop.pretrained import from_pretrained
from albert_jax.interop.task import task_of
from albert_jax.tasks.task_model import TaskModel
from albert_jax.train.metrics import read_metrics
from albert_jax.train.run import load_run


def quiet(line):
    """Takes what is reported."""


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return small_task.experiment(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="module")
def whole(experiment, tmp_path_factory):
    """Two seeds, from start to end."""
    run = tmp_path_factory.mktemp("whole") / "run"
    both = replace(experiment, seeds=2)
    return run, both, finetune(both, run, report=quiet)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def lines_of(run: Path):
    rates = ("tokens_per_second", "data_wait")
    lines = list(read_metrics(run / "metrics.jsonl"))
    return [{k: v for k, v in line.items() if k not in rates} for line in lines]


def test_a_task_is_learned_and_the_run_explains_itself(whole):
    run, experiment, ended = whole
    losses = [
        line["train/label_loss"] for line in lines_of(run) if "train/label_loss" in line
    ]
    assert losses[-1] < 0.3 * losses[0]
    accuracy = ended.results.scores["accuracy"]
    assert ended.step == experiment.steps and min(accuracy.values) == 1.0
    written = json.loads((run / "results-dev.json").read_text())
    assert written["scores"]["accuracy"]["values"] == list(accuracy.values)
    assert written["rule"] == "those of the last step, 40" and written["seeds"] == [
        0,
        1,
    ]
    files = {str(p.relative_to(run)) for p in run.rglob("*.json*")}
    assert files >= {
        "experiment.json",
        "metrics.jsonl",
        "results-dev.json",
        "predictions/dev-seed-0/predictions.jsonl",
        "predictions/dev-seed-1/predictions.jsonl",
    }
    assert (run / "tokenizer.model").is_file()


def test_a_run_at_work_on_ones_own_text(whole):
    run, experiment, _ = whole
    said = []
    loaded = from_pretrained(run, report=said.append)
    assert said == [f"{run} has seeds 0, 1: these are the weights of 0"]
    task = task_of(run, loaded.model)
    assert task == experiment.task
    classify = TaskModel(*loaded, task)
    assert [classify(t).label for t in ("river is", "mountain")] == ["yes", "no"]


def test_a_fine_tuned_model_gives_its_encoder_and_loses_its_head_aloud(whole, tmp_path):
    """As RTE, STS-B and MRPC start from MNLI (paper, Table 9)."""
    run, experiment, _ = whole
    task = replace(experiment.task, kind="regression", labels=(), metrics=())
    other = replace(experiment, task=task, init=str(run), seeds=1)
    said = []
    start = open_start(other, said.append)
    assert "AlbertModel has no classifier: ignored" in said
    assert type(start.model).__name__ == "AlbertForSequenceClassification"
    assert start.model.num_labels == 1
    same(start.given["albert"], load_run(run, quiet)[1]["params"]["albert"])
    assert list(start.given) == ["albert"]


def test_a_run_that_stops_goes_on_as_if_it_had_not(whole, tmp_path):
    run, experiment, ended = whole
    asked = iter(range(1000))
    part = finetune(
        experiment,
        tmp_path / "run",
        report=quiet,
        stopping=lambda: next(asked) >= 15,
    )
    assert part == Finetuned(15, None)
    again = finetune(experiment, tmp_path / "run", report=quiet)
    assert again == ended
    for seed in (0, 1):
        same(load_run(run, seed=seed)[1], load_run(tmp_path / "run", seed=seed)[1])
    assert lines_of(run) == lines_of(tmp_path / "run")


def test_the_best_weights_are_chosen_on_examples_held_out_of_train(
    experiment, tmp_path
):
    best = replace(
        experiment,
        rule="best",
        steps=12,
        evaluate_every=4,
    )
    ended = finetune(best, tmp_path / "run", report=quiet)
    lines = lines_of(tmp_path / "run")
    evaluated = [line["step"] for line in lines if "eval/accuracy" in line]
    assert evaluated == [0, 4, 8, 12]
    assert ended.results.rule == (
        "the best by accuracy of every 4 of 12 steps, on 10 % of train, held out"
    )
    assert evaluate_run(tmp_path / "run", report=quiet) == ended.results


def test_better_scores_replace_and_what_is_no_number_does_not():
    best = {
        "best": {"w": jnp.zeros((3, 2))},
        "best_score": jnp.array([0.5, 0.5, 0.5]),
        "best_step": jnp.zeros(3, jnp.int32),
    }
    scores = jnp.array([0.6, 0.5, jnp.nan])
    found = choose_better(best, {"w": jnp.ones((3, 2))}, scores, jnp.int32(7))
    np.testing.assert_array_equal(found["best"]["w"][:, 0], [1, 0, 0])
    np.testing.assert_array_equal(found["best_step"], [7, 0, 0])
    np.testing.assert_allclose(found["best_score"], [0.6, 0.5, 0.5])
