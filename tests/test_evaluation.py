"""Held-out rows: what they ask, how they are made, and what the answers are called."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import small_run

from albert_jax.data.pipeline import PretrainingData
from albert_jax.data.shards import PreparedCorpus
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.train.evaluation import HeldOut
from albert_jax.train.pretrain import compile_programs
from albert_jax.train.sharding import make_mesh

BOTH = ("sentence_order", "next_sentence")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return small_run.make(tmp_path_factory.mktemp("corpus"))


def asking(experiment, *objectives, recipe="training", **data):
    """The experiment, trained on other rows, evaluated on ``objectives``."""
    evaluation = replace(experiment.evaluation, objectives=objectives, recipe=recipe)
    data = replace(experiment.data, **data)
    return replace(experiment, data=data, evaluation=evaluation)


def evaluated(experiment):
    """What is evaluated, batch by batch, and the metrics of a step that knows its
    batch's number."""
    folder = experiment.corpus.prepared
    tokenizer = Tokenizer.load(PreparedCorpus.open(folder, "train").tokenizer_path)
    corpus = PreparedCorpus.open(folder, "heldout")
    rows = [PretrainingData(corpus, tokenizer, d, seed=0) for d in experiment.heldout]
    seen = []

    def step(params, batch):
        seen.append(batch)
        value = (float(len(seen)), 1.0)
        return dict.fromkeys(("masked_lm_accuracy", "sentence_order_accuracy"), value)

    config = replace(experiment.evaluation, rows=8)
    metrics = HeldOut(rows, config, step, lambda batch: batch)(None)
    return seen, metrics


def test_every_objective_has_rows_and_a_name_and_masked_lm_is_of_the_first(experiment):
    _, metrics = evaluated(asking(experiment, *BOTH))
    assert metrics == {
        "eval/masked_lm_accuracy": 1.0,
        "eval/sentence_order_accuracy": 1.0,
        "eval/next_sentence_accuracy": 2.0,
    }


def test_of_next_sentence_a_constant_answer_is_right_half_the_time(experiment):
    batches, _ = evaluated(asking(experiment, "next_sentence"))
    labels = np.stack([batch["sentence_order_label"] for batch in batches])
    weights = np.stack([batch["sentence_order_weights"] for batch in batches])
    there = (weights > 0).sum()
    foreign = (weights > 0)[labels == 1].sum()
    assert 0 < foreign != there - foreign  # The labels are not balanced by themselves.
    assert weights[labels == 1].sum() == pytest.approx(there / 2)
    assert weights.sum() == pytest.approx(there)


@pytest.mark.parametrize("objective", BOTH)
def test_by_default_rows_ask_what_training_asks(experiment, objective):
    _, metrics = evaluated(asking(experiment, objective=objective))
    assert metrics.keys() == {"eval/masked_lm_accuracy", f"eval/{objective}_accuracy"}


def test_arms_that_train_in_different_ways_are_measured_on_the_same_rows(experiment):
    ours, _ = evaluated(asking(experiment, *BOTH, recipe="paper"))
    assert not (ours[0]["input_ids"] == ours[1]["input_ids"]).all()
    for data in (
        dict(objective="none"),
        dict(objective="next_sentence"),
        dict(max_predictions=2),
        dict(max_ngram=1),
        dict(official_segments=True, official_masking=True),
    ):
        theirs, _ = evaluated(asking(experiment, *BOTH, recipe="paper", **data))
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_the_papers_rows_keep_the_form_of_training_rows(experiment):
    shape = replace(experiment.data, packing=False, max_pairs=2)
    (rows,) = asking(replace(experiment, data=shape), recipe="paper").heldout
    assert rows == shape
    other = replace(shape, mask_fraction=0.4, short_fraction=0.5)
    (rows,) = asking(replace(experiment, data=other), recipe="paper").heldout
    assert rows == shape and other != shape


@pytest.mark.parametrize("objective", BOTH)
def test_a_step_calls_what_it_trains_by_its_name(experiment, objective):
    # One that trains next sentence must not look as if it had learnt the order.
    run = asking(experiment, objective=objective)
    folder = experiment.corpus.prepared
    corpus = PreparedCorpus.open(folder, "train")
    tokenizer = Tokenizer.load(corpus.tokenizer_path)
    batch = PretrainingData(corpus, tokenizer, run.data, seed=0).rows(0, 8)
    mesh = make_mesh(run.mesh, jax.devices()[:1])
    programs = compile_programs(run, mesh)
    with jax.set_mesh(mesh):
        _, sums = jax.eval_shape(programs.step, programs.shapes, batch)
    assert {name for name in sums if "sentence" in name} == {
        f"{objective}_loss",
        f"{objective}_accuracy",
    }
