"""Every head: what it adds to the encoder, and that its numbers are its equations."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax.errors import InvalidRngError

import albert_jax as albert
from albert_jax.model.albert import init_params
from albert_jax.model.losses import (
    answerable_span_losses,
    classification,
    mean,
    objective,
    pretraining_losses,
    regression,
    span_losses,
    span_objective,
)

ROWS, LENGTH = 4, 10


def labels(seed: int = 0):
    """One set of labels for all heads."""
    keys = jax.random.split(jax.random.key(seed), 4)
    start = jax.random.randint(keys[0], (ROWS,), 1, 6)
    return {
        "classes": jax.random.randint(keys[1], (ROWS,), 0, 3),
        "tags": jax.random.randint(keys[2], (ROWS, LENGTH), 0, 3),
        "scores": 5 * jax.random.uniform(keys[3], (ROWS,)),
        "start_positions": start,
        "end_positions": start + 3,
        "is_impossible": jnp.arange(ROWS) % 2,
        "masked_labels": tiny.batch()["masked_labels"],
        "masked_weights": jnp.ones((ROWS, 3)),
        "sentence_order_label": jnp.arange(ROWS) % 2,
    }


def masked_lm(output):
    wanted, weights = labels()["masked_labels"], labels()["masked_weights"]
    logits = output.logits[:, jnp.array([1, 4, 7])]
    return mean(classification("x", logits, wanted, weights)["x_loss"])


def by_class(output):
    wanted = labels()["classes"]
    sums = classification("x", output.logits, wanted, jnp.ones(wanted.shape))
    return mean(sums["x_loss"])


def by_tag(output):
    wanted = labels()["tags"]
    sums = classification("x", output.logits, wanted, jnp.ones(wanted.shape))
    return mean(sums["x_loss"])


def by_choice(output):
    wanted = labels()["classes"][:2]
    sums = classification("x", output.logits.reshape(2, 2), wanted % 2, jnp.ones(2))
    return mean(sums["x_loss"])


def pretraining(output):
    logits = output.prediction_logits[:, jnp.array([1, 4, 7])]
    output = output.replace(prediction_logits=logits)
    return objective(pretraining_losses(output, labels()))


# Head -> how it is made beside its configuration, and a loss of its output.
HEADS = {
    "AlbertForPreTraining": ({}, pretraining),
    "AlbertForMaskedLM": ({}, masked_lm),
    "AlbertForSequenceClassification": ({"num_labels": 3}, by_class),
    "AlbertForTokenClassification": ({"num_labels": 3}, by_tag),
    "AlbertForMultipleChoice": ({}, by_choice),
    "AlbertForQuestionAnswering": (
        {},
        lambda output: span_objective(span_losses(output, labels())),
    ),
    "AlbertForQuestionAnsweringWithBeam": (
        {},
        lambda output: span_objective(answerable_span_losses(output, labels())),
    ),
}
POOLED = (
    "AlbertForPreTraining",
    "AlbertForSequenceClassification",
    "AlbertForMultipleChoice",
)


def shallow(**overrides):
    """One layer: what depth does is for the encoder's tests."""
    return tiny.config(num_hidden_layers=1, remat="nothing", **overrides)


def random_params(model, seed: int = 0):
    """Values away from where training starts, so that biases count too."""
    random = np.random.default_rng(seed)
    shapes = jax.eval_shape(partial(init_params, model), jax.random.key(0))
    return jax.tree.map(
        lambda leaf: jnp.asarray(random.normal(0.0, 0.3, leaf.shape), jnp.float32),
        shapes,
    )


@cache
def make(name: str):
    """A head over the small model, and parameters."""
    model = getattr(albert, name)(shallow(), **HEADS[name][0])
    return model, random_params(model)


def apply(model, params, *inputs, **options):
    """The output, compiled; what is no array is a constant of the program."""
    arrays = {k: v for k, v in options.items() if isinstance(v, jax.Array | dict)}
    rest = {k: v for k, v in options.items() if k not in arrays}

    @jax.jit
    def run(params, inputs, arrays):
        return model.apply({"params": params}, *inputs, **arrays, **rest)

    return run(params, inputs, arrays)


def encoder(name: str):
    return albert.AlbertModel(shallow(), add_pooling_layer=name in POOLED)


def inputs(name: str):
    batch = tiny.batch(rows=ROWS, length=LENGTH)
    given = {k: batch[k] for k in ("input_ids", "attention_mask", "token_type_ids")}
    if name == "AlbertForQuestionAnsweringWithBeam":
        given["start_positions"] = labels()["start_positions"]
    return given


@pytest.mark.parametrize("name", HEADS)
def test_a_head_stands_on_the_same_encoder(name):
    _, params = make(name)
    expected = jax.eval_shape(partial(init_params, encoder(name)), jax.random.key(0))
    assert jax.tree.structure(params["albert"]) == jax.tree.structure(expected)
    assert ("pooler" in params["albert"]) == (name in POOLED)


@pytest.mark.parametrize("name", HEADS)
def test_no_parameter_of_a_head_is_dead_weight(name):
    model, params = make(name)
    loss = HEADS[name][1]

    @jax.jit
    @jax.grad
    def gradient(params):
        return loss(model.apply({"params": params}, **inputs(name)))

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(params)):
        assert leaf.any(), jax.tree_util.keystr(path)


@pytest.mark.parametrize("name", HEADS)
def test_heads_hand_on_the_values_by_layer(name):
    model, params = make(name)
    given = inputs(name)
    rows = {k: v for k, v in given.items() if k != "start_positions"}
    asked = dict(output_hidden_states=True, output_attentions=True, probe=lambda *x: x)

    def shapes(model, params, **options):
        return jax.eval_shape(partial(model.apply, **options), {"params": params})

    plain = shapes(model, params, **given)
    assert plain.hidden_states is plain.attentions is plain.probed is None
    output = shapes(model, params, **given, **asked)
    expected = shapes(encoder(name), params["albert"], **rows, **asked)
    assert output.hidden_states.shape == (2, ROWS, LENGTH, 16)
    for field in ("hidden_states", "attentions", "probed"):
        assert getattr(output, field) == getattr(expected, field)


@pytest.mark.parametrize("name", HEADS)
def test_logits_are_float32_whatever_the_encoder_computes_in(name):
    model = make(name)[0].clone(config=shallow(dtype="bfloat16"))
    output = jax.eval_shape(
        partial(model.apply, **inputs(name)), {"params": make(name)[1]}
    )
    for field in ("logits", "prediction_logits", "start_logits", "end_logits"):
        if hasattr(output, field):
            assert getattr(output, field).dtype == jnp.float32


# The official code: 0.1 before a classifier and in the answer class, none before spans,
# masked LM and sentence order.
DROPPED = {
    "AlbertForPreTraining": False,
    "AlbertForMaskedLM": False,
    "AlbertForSequenceClassification": True,
    "AlbertForTokenClassification": True,
    "AlbertForMultipleChoice": True,
    "AlbertForQuestionAnswering": False,
    "AlbertForQuestionAnsweringWithBeam": True,
}


@pytest.mark.parametrize("name", HEADS)
def test_dropout_of_the_head_alone(name):
    # The encoder's rate is 0, so that only the head can ask for random numbers.
    model, params = make(name)
    train = partial(model.apply, **inputs(name), deterministic=False)
    if not DROPPED[name]:
        jax.eval_shape(train, {"params": params})
        return
    assert model.classifier_dropout_prob == 0.1
    with pytest.raises(InvalidRngError, match="dropout"):
        jax.eval_shape(train, {"params": params})
    undropped = model.clone(classifier_dropout_prob=0.0)
    train = partial(undropped.apply, **inputs(name), deterministic=False)
    jax.eval_shape(train, {"params": params})


def test_masked_lm_is_the_pretraining_head():
    both, params = make("AlbertForPreTraining")
    alone, own = make("AlbertForMaskedLM")
    mine = {
        "albert": {k: params["albert"][k] for k in own["albert"]},
        "predictions": params["predictions"],
    }
    batch = tiny.batch()
    given = dict(
        input_ids=batch["input_ids"], masked_positions=batch["masked_positions"]
    )
    np.testing.assert_array_equal(
        apply(alone, mine, **given).logits,
        apply(both, params, **given).prediction_logits,
    )


def test_choices_are_scored_row_by_row():
    model, params = make("AlbertForMultipleChoice")
    given = inputs("AlbertForMultipleChoice")
    given["attention_mask"] = given["attention_mask"].at[3, 6:].set(False)
    paired = {name: value.reshape(2, 2, LENGTH) for name, value in given.items()}
    logits = apply(model, params, **paired).logits
    assert logits.shape == (2, 2)
    scored = jax.jit(lambda row: model.apply({"params": params}, **row).logits)
    for row in range(ROWS):
        alone = scored({name: value[row, None, None] for name, value in given.items()})
        np.testing.assert_allclose(alone[0, 0], logits.ravel()[row], atol=1e-5)


def test_packed_rows_are_classified_pair_by_pair():
    model, params = make("AlbertForSequenceClassification")
    positions = jnp.array([[0, 4]] * ROWS)
    ids = tiny.batch()["input_ids"]
    output = apply(model, params, ids, cls_positions=positions)
    assert output.logits.shape == (ROWS, 2, 3)


# The SQuAD 2.0 head, written a second time from the official equations.


def softmax(x):
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def dense(params, x):
    return x @ params["kernel"] + params.get("bias", 0.0)


def layer_norm(params, x):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
    return scaled * params["scale"] + params["bias"]


def beam_head_in_numpy(params, hidden, p_mask, beams, start_positions=None):
    """One row at a time: hidden [t, h], p_mask [t] of 0.0 and 1.0."""

    def masked(logits):
        return logits * (1 - p_mask) - 1e30 * p_mask

    def ends(start):
        pairs = np.concatenate([hidden, np.tile(hidden[start], (len(hidden), 1))], -1)
        wide = np.tanh(dense(params["end_logits"]["dense_0"], pairs))
        wide = layer_norm(params["end_logits"]["LayerNorm"], wide)
        return masked(dense(params["end_logits"]["dense_1"], wide)[:, 0])

    start_logits = masked(dense(params["start_logits"]["dense"], hidden)[:, 0])
    feature = np.concatenate([softmax(start_logits) @ hidden, hidden[0]])
    wide = np.tanh(dense(params["answer_class"]["dense_0"], feature))
    result = {
        "start_logits": start_logits,
        "cls_logits": dense(params["answer_class"]["dense_1"], wide)[0],
    }
    if start_positions is not None:
        return result | {"end_logits": ends(start_positions)}
    log_probs = np.log(np.maximum(softmax(start_logits), 1e-300))
    starts = np.argsort(-log_probs)[:beams]
    probs, index = [], []
    for start in starts:
        end_probs = np.log(np.maximum(softmax(ends(start)), 1e-300))
        best = np.argsort(-end_probs)[:beams]
        probs.extend(end_probs[best])
        index.extend(best)
    return result | {
        "start_top_log_probs": log_probs[starts],
        "start_top_index": starts,
        "end_top_log_probs": np.array(probs),
        "end_top_index": np.array(index),
    }


@pytest.mark.parametrize("gold", [True, False], ids=["training", "inference"])
def test_the_squad2_head_is_its_equations(gold):
    model, params = make("AlbertForQuestionAnsweringWithBeam")
    given = inputs("AlbertForQuestionAnsweringWithBeam")
    starts = given.pop("start_positions")
    # [CLS] stays free; a question of two, and the last position, are not.
    p_mask = jnp.zeros((ROWS, LENGTH), jnp.int32).at[:, jnp.array([1, 2, 9])].set(1)
    training = {"start_positions": starts + 2} if gold else {}
    output = apply(model, params, **given, **training, p_mask=p_mask)
    states = apply(encoder("AlbertForQuestionAnswering"), params["albert"], **given)
    hidden = states.last_hidden_state
    exact = jax.tree.map(lambda x: np.asarray(x, float), params)
    for row in range(ROWS):
        expected = beam_head_in_numpy(
            exact,
            np.asarray(hidden[row], float),
            np.asarray(p_mask[row], float),
            beams=5,
            start_positions=int(starts[row] + 2) if gold else None,
        )
        for field, value in expected.items():
            np.testing.assert_allclose(
                getattr(output, field)[row], value, rtol=1e-4, atol=1e-5, err_msg=field
            )
    unused = ("start_top_index", "end_top_index") if gold else ("end_logits",)
    assert all(getattr(output, field) is None for field in unused)


def test_each_beam_is_the_training_path_from_that_start():
    model, params = make("AlbertForQuestionAnsweringWithBeam")
    ids = tiny.batch()["input_ids"]
    beams = apply(model, params, ids)
    training = jax.jit(
        lambda starts: model.apply({"params": params}, ids, start_positions=starts)
    )
    for i in range(5):
        log_probs = jax.nn.log_softmax(training(beams.start_top_index[:, i]).end_logits)
        own = slice(5 * i, 5 * i + 5)
        picked = jnp.take_along_axis(log_probs, beams.end_top_index[:, own], axis=1)
        np.testing.assert_allclose(
            picked, beams.end_top_log_probs[:, own], atol=1e-5, err_msg=f"beam {i}"
        )


def test_beams_are_as_many_as_the_length_allows():
    model, params = make("AlbertForQuestionAnsweringWithBeam")
    output = apply(model, params, jnp.ones((2, 3), jnp.int32))
    assert output.start_top_index.shape == (2, 3)
    assert output.end_top_index.shape == (2, 9)


def test_padding_changes_no_answer():
    model, params = make("AlbertForQuestionAnsweringWithBeam")
    given = inputs("AlbertForQuestionAnsweringWithBeam")
    given.pop("start_positions")
    padded = {name: jnp.pad(value, ((0, 0), (0, 4))) for name, value in given.items()}
    hole = jnp.arange(LENGTH + 4)[None] >= LENGTH + jnp.zeros((ROWS, 1), jnp.int32)
    short = apply(model, params, **given)
    long = apply(model, params, **padded, p_mask=hole)
    assert not (np.asarray(long.end_top_index) >= LENGTH).any()
    for field in ("cls_logits", "start_top_log_probs", "end_top_log_probs"):
        a, b = getattr(short, field), getattr(long, field)
        np.testing.assert_allclose(a, b, atol=1e-5, err_msg=field)


# Losses of the heads, written a second time.


def cross_entropy(logits, wanted):
    return -np.log(softmax(logits)[np.arange(len(wanted)), wanted])


def test_question_answering_losses_are_their_definitions():
    model, params = make("AlbertForQuestionAnsweringWithBeam")
    output = apply(model, params, **inputs("AlbertForQuestionAnsweringWithBeam"))
    batch = labels() | {"example_weights": jnp.array([1.0, 1.0, 0.0, 2.0])}
    start, end, answer = (
        np.asarray(x, float)
        for x in (output.start_logits, output.end_logits, output.cls_logits)
    )
    spans = cross_entropy(start, labels()["start_positions"])
    spans = 0.5 * (spans + cross_entropy(end, labels()["end_positions"]))
    impossible = np.asarray(labels()["is_impossible"])
    chance = 1 / (1 + np.exp(-answer))
    answers = -np.log(np.where(impossible, chance, 1 - chance))
    weights = np.array([1, 1, 0, 2])
    assert span_objective(span_losses(output, batch)) == pytest.approx(
        np.average(spans, weights=weights), rel=1e-5
    )
    assert span_objective(answerable_span_losses(output, batch)) == pytest.approx(
        np.average(spans + 0.5 * answers, weights=weights), rel=1e-5
    )


def test_regression_is_the_weighted_squared_error():
    predictions, wanted = jnp.array([1.0, 4.0, 0.0]), jnp.array([2.0, 2.0, 9.0])
    sums = regression("x", predictions, wanted, jnp.array([1.0, 3.0, 0.0]))
    assert mean(sums["x_loss"]) == (1 + 3 * 4) / 4
