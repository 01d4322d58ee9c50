"""Fine-tuning: a made task is learned, resumed to the bit, and told of honestly."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_task

from albert_jax.finetuning import finetune as module
from albert_jax.finetuning.evaluation import evaluate_run
from albert_jax.finetuning.finetune import Finetuned, finetune
from albert_jax.finetuning.start import open_start
from albert_jax.finetuning.step import choose_better
from albert_jax.interop.pretrained import from_pretrained
from albert_jax.interop.task import task_of
from albert_jax.tasks.reader import read_examples
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


def test_what_an_experiment_says_of_dropout_holds(experiment):
    says = replace(experiment, dropout=0.25, classifier_dropout=0.5)
    model = open_start(says, quiet).model
    config = model.config
    assert model.classifier_dropout_prob == 0.5
    assert config.hidden_dropout_prob == config.attention_probs_dropout_prob == 0.25
    silent = open_start(replace(experiment, dropout=None), quiet).model
    assert silent.config.hidden_dropout_prob == 0.0  # as the source


def test_a_run_that_stops_goes_on_as_if_it_had_not(whole, tmp_path):
    run, experiment, ended = whole
    asked = iter(range(1000))
    part = finetune(
        experiment,
        tmp_path / "run",
        report=quiet,
        stopping=lambda: next(asked) >= 17,  # between two lines of the log
    )
    assert part == Finetuned(17, None)
    again = finetune(experiment, tmp_path / "run", report=quiet)
    assert again == ended
    for seed in (0, 1):
        same(load_run(run, seed=seed)[1], load_run(tmp_path / "run", seed=seed)[1])
    assert lines_of(run) == lines_of(tmp_path / "run")


@pytest.fixture(scope="module")
def best(experiment, tmp_path_factory):
    """Two seeds, of which the best weights on held-out examples count."""
    run = tmp_path_factory.mktemp("best") / "run"
    chosen = replace(experiment, rule="best", steps=12, evaluate_every=4, seeds=2)
    return run, chosen, finetune(chosen, run, report=quiet)


def test_the_best_weights_are_chosen_on_examples_held_out_of_train(best):
    run, experiment, ended = best
    lines = lines_of(run)
    evaluated = [line["step"] for line in lines if "eval/accuracy" in line]
    assert evaluated == [0, 4, 8, 12]
    assert ended.results.rule == (
        "the best by accuracy of every 4 of 12 steps, on 10 % of train, held out"
    )
    assert ended.results.heldout == {} and ended.results.learning_rate is None
    assert evaluate_run(run, report=quiet) == ended.results


def test_the_learning_rate_is_chosen_on_held_out_examples(best, tmp_path):
    """The best of two rates, whose seeds are then those that it has alone."""
    alone, experiment, by_itself = best
    rates = (1e-9, experiment.optimizer.learning_rate)
    both = replace(experiment, learning_rates=rates)
    run = tmp_path / "run"
    ended = finetune(both, run, report=quiet)
    results = ended.results
    assert results.learning_rate == rates[1] and set(results.heldout) == set(rates)
    better, worse = (results.heldout[rate].mean for rate in rates[::-1])
    assert better > worse
    assert results.scores == by_itself.results.scores
    assert results.rule.endswith(
        "of 12 steps, on 10 % of train, held out; the learning rate with the best "
        "mean on 10 % of train, held out"
    )
    shown = results.lines()
    assert "learning rate 0.004" in shown[2] and shown[2].endswith("(chosen)")
    assert "(chosen)" not in shown[1] and len(shown) == 4
    (line,) = [
        x for x in lines_of(run) if x["step"] == 8 and "eval/accuracy/1e-09" in x
    ]
    assert line["eval/accuracy/0.004"] > line["eval/accuracy/1e-09"]
    close = partial(np.testing.assert_allclose, atol=1e-4)
    for seed in (0, 1):
        ours, theirs = (load_run(r, quiet, seed=seed)[1] for r in (run, alone))
        jax.tree.map(close, ours, theirs)
    assert evaluate_run(run, report=quiet) == results


class Stop(Exception):
    """Nothing is trained."""


@pytest.mark.parametrize("several", [True, False])
def test_what_is_held_out_is_not_trained_on(experiment, several, tmp_path, monkeypatch):
    evaluated, trained = [], []

    class Seen(module.Evaluator):
        def __init__(self, model, tokenizer, task, examples):
            evaluated.append(examples)

    def units(experiment, start, examples):
        trained.extend(examples)
        raise Stop

    monkeypatch.setattr(module, "Evaluator", Seen)
    monkeypatch.setattr(module, "_units", units)
    choice = {"learning_rates": (0.1, 0.2)} if several else {"rule": "best"}
    with pytest.raises(Stop):
        finetune(replace(experiment, **choice), tmp_path / "run", report=quiet)
    _, held = evaluated
    whole = read_examples(experiment.task, "train")
    assert len(held) == 9 and len(trained) == 81
    assert sorted(e.id for e in [*held, *trained]) == sorted(e.id for e in whole)
    # Neither is the first part of the other's order.
    assert {e.id for e in held} != {e.id for e in whole[:9]}


def test_a_frozen_model_stays_that_of_its_source(experiment, tmp_path):
    """Resumed halfway, with decay and dropout, to the bit; only its head learns."""
    frozen = replace(experiment, frozen=("base_model",), steps=6, seeds=1)
    run, said = tmp_path / "run", []
    asked = iter(range(1000))
    finetune(frozen, run, report=said.append, stopping=lambda: next(asked) >= 3)
    part = load_run(run, quiet)[1]["params"]
    finetune(frozen, run, report=said.append)
    params = load_run(run, quiet)[1]["params"]
    source = from_pretrained(experiment.init, "AlbertModel", report=quiet)
    same(params["albert"], source.variables["params"])
    assert not np.array_equal(
        params["classifier"]["kernel"], part["classifier"]["kernel"]
    )
    (line,) = {line for line in said if line.startswith("frozen")}
    assert line == "frozen: 6,472 of 6,506 parameters"


def test_better_scores_replace_and_what_is_no_number_does_not():
    best = {
        "best": {"w": jnp.zeros((3, 2))},
        "score": jnp.array([0.5, 0.5, 0.5]),
        "best_step": jnp.zeros(3, jnp.int32),
    }
    scores = jnp.array([0.6, 0.5, jnp.nan])
    found = choose_better(best, {"w": jnp.ones((3, 2))}, scores, jnp.int32(7))
    np.testing.assert_array_equal(found["best"]["w"][:, 0], [1, 0, 0])
    np.testing.assert_array_equal(found["best_step"], [7, 0, 0])
    np.testing.assert_allclose(found["score"], [0.6, 0.5, 0.5])
