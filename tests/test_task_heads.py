"""Every kind of task, from examples to scores, with the head that it names."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import small_corpus
import tiny

import albert_jax
from albert_jax.config.tasks import Task
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.tasks.evaluation import evaluate, predict
from albert_jax.tasks.examples import (
    Answer,
    ChoiceExample,
    QuestionExample,
    TextExample,
    WordsExample,
)
from albert_jax.tasks.features import features_of

CONTEXT = "The river was governed, and in 2010, the mountain was not."
TASK = Task(name="mine", kind="classification", labels=("a", "b", "c"), max_length=32)
SPAN = replace(TASK, kind="span", format="squad", metrics=(), question_length=8)
QUESTIONS = [
    QuestionExample("0", "When?", CONTEXT, (Answer("2010", 31),)),
    QuestionExample("1", "Who was it?", CONTEXT * 3, (Answer("river", 4),)),
]
CASES = {
    "classification": (
        TASK,
        [TextExample("0", CONTEXT, label=2), TextExample("1", "It.", label=0)],
        {"num_labels": 3},
    ),
    "regression": (
        replace(TASK, kind="regression", metrics=("mean_squared_error",), labels=()),
        [TextExample("0", CONTEXT, label=2.0), TextExample("1", "It.", label=0.5)],
        {"num_labels": 1},
    ),
    "tokens": (
        replace(TASK, kind="tokens"),
        [WordsExample("0", ("river", "was"), (0, 2)), WordsExample("1", ("it",), (1,))],
        {"num_labels": 3},
    ),
    "span": (SPAN, QUESTIONS, {}),
    "answerable span": (replace(SPAN, unanswerable=True), QUESTIONS, {}),
    "choice": (
        replace(TASK, kind="choice", format="race", choice_length=8),
        [ChoiceExample("0", CONTEXT, "Who?", ("a", "the river", "b"), 1, "high")],
        {},
    ),
}


def run(model, rows, pad_id):
    """The output of each row, all of them in one padded batch."""
    width = max(len(row.inputs["input_ids"]) for row in rows)
    batch = {
        name: np.stack(
            [
                np.pad(
                    r.inputs[name],
                    (0, width - len(r.inputs[name])),
                    constant_values=pad_id if name == "input_ids" else 0,
                )
                for r in rows
            ]
        )
        for name in rows[0].inputs
    }
    lengths = np.array([len(row.inputs["input_ids"]) for row in rows])
    batch["attention_mask"] = np.arange(width) < lengths[:, None]
    if "answer_mask" in batch:
        batch["p_mask"] = batch.pop("answer_mask") == 0
    variables = jax.jit(model.init)(jax.random.key(0), **batch)
    output = jax.device_get(jax.jit(model.apply)(variables, **batch))
    return [jax.tree.map(lambda leaf, i=i: leaf[i], output) for i in range(len(rows))]


@pytest.mark.parametrize("name", CASES)
def test_from_examples_to_scores(name):
    task, examples, options = CASES[name]
    tokenizer = Tokenizer.load(small_corpus.vocabulary())
    config = tiny.config(
        vocab_size=300, max_position_embeddings=32, num_hidden_layers=1
    )
    rows = features_of(task, examples, tokenizer)
    model = getattr(albert_jax, task.head)(config, **options)
    outputs = run(model, rows, tokenizer.pad_id)
    predictions = predict(task, examples, rows, outputs)
    assert len(predictions) == len(examples)
    scores = evaluate(task, examples, predictions)
    assert next(iter(scores)) == task.metrics[0]
    assert np.isfinite(list(scores.values())).all()
    if task.kind == "span":
        for example, prediction in zip(examples, predictions, strict=True):
            assert all(c.text in example.context for c in prediction.candidates)
            assert (prediction.null_odds is None) != task.unanswerable
        assert predictions[1].text
