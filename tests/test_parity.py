"""Against transformers (PyTorch, CPU, float32): every output, loss and gradient.

Where Hugging Face differs from the official code, a test at the end says in what.
Needs the ``interop-test`` extra: ``make test-interop``.
"""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import albert_jax as albert
from albert_jax.config import AlbertConfig
from albert_jax.interop.hugging_face import (
    from_hugging_face,
    hugging_face_config,
    to_hugging_face,
)
from albert_jax.model.losses import (
    classification,
    mean,
    objective,
    pretraining_losses,
    regression,
    span_losses,
    span_objective,
)

REASON = "no PyTorch here: make test-interop installs it and runs this"
torch = pytest.importorskip("torch", reason=REASON)
transformers = pytest.importorskip("transformers", reason=REASON)

# As base, but narrower and less deep.
BASE = dict(
    vocab_size=300,
    embedding_size=32,
    hidden_size=96,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=384,
    initializer_range=0.05,
)
CONFIGS = {
    "base": {},
    "two groups": {"num_hidden_groups": 2},
    "inner blocks": {"inner_group_num": 2},
    "E = H": {"embedding_size": 96, "project_equal_sizes": True},
    "relu": {"hidden_act": "relu"},
    "gelu_erf": {"hidden_act": "gelu_erf"},
}
ROWS = 4


def ragged(length, seed=0):
    """Rows of 1 to ``length`` tokens, the last whole; ids away from <pad> (0)."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, length + 1, ROWS)
    lengths[-1] = length
    return {
        "input_ids": random.integers(5, 300, (ROWS, length)),
        "attention_mask": (np.arange(length) < lengths[:, None]).astype(np.int64),
        "token_type_ids": (np.arange(length) > length // 2) * np.ones((ROWS, 1), int),
    }


def labels(length, seed=1):
    random = np.random.default_rng(seed)
    start = random.integers(0, length, ROWS)
    return {
        "tokens": random.integers(5, 300, (ROWS, length)),
        "weights": (random.random((ROWS, length)) < 0.5) | (np.arange(length) == 0),
        "classes": random.integers(0, 3, ROWS),
        "scores": random.uniform(0, 5, ROWS).astype("f"),
        "start": start,
        "end": random.integers(start, length),
    }


def token_loss(logits, wanted, classes):
    return mean(
        classification(
            "x",
            logits,
            wanted["tokens"] % classes,
            wanted["weights"].astype(jnp.float32),
        )["x_loss"]
    )


def class_loss(logits, classes):
    return mean(classification("x", logits, classes, jnp.ones(len(classes)))["x_loss"])


def score_loss(logits, scores):
    return mean(regression("x", logits[:, 0], scores, jnp.ones(len(scores)))["x_loss"])


def unseen(wanted, classes):
    """Labels as PyTorch ignores them."""
    return np.where(wanted["weights"], wanted["tokens"] % classes, -100)


def pretraining_loss(output, wanted):
    batch = {
        "masked_labels": wanted["tokens"],
        "masked_weights": wanted["weights"].astype(jnp.float32),
        "sentence_order_label": wanted["classes"] % 2,
    }
    return objective(pretraining_losses(output, batch))


def span_loss(output, wanted):
    spans = {"start_positions": wanted["start"], "end_positions": wanted["end"]}
    return span_objective(span_losses(output, spans))


@dataclasses.dataclass(frozen=True)
class Case:
    """A head: ours, what its loss is here and what makes that loss there."""

    name: str
    loss: object
    theirs: object
    num_labels: int | None = None
    choices: bool = False
    unmoved: tuple[str, ...] = ()
    """Parameters that move all logits of a softmax alike, and so not the loss."""


CASES = {
    "pretraining": Case(
        "AlbertForPreTraining",
        pretraining_loss,
        lambda w: {
            "labels": unseen(w, 300),
            "sentence_order_label": w["classes"] % 2,
        },
    ),
    "masked LM": Case(
        "AlbertForMaskedLM",
        lambda output, w: token_loss(output.logits, w, 300),
        lambda w: {"labels": unseen(w, 300)},
    ),
    "sequence classification": Case(
        "AlbertForSequenceClassification",
        lambda output, w: class_loss(output.logits, w["classes"]),
        lambda w: {"labels": w["classes"]},
        num_labels=3,
    ),
    "regression": Case(
        "AlbertForSequenceClassification",
        lambda output, w: score_loss(output.logits, w["scores"]),
        lambda w: {"labels": w["scores"]},
        num_labels=1,
    ),
    "token classification": Case(
        "AlbertForTokenClassification",
        lambda output, w: token_loss(output.logits, w, 3),
        lambda w: {"labels": unseen(w, 3)},
        num_labels=3,
    ),
    "multiple choice": Case(
        "AlbertForMultipleChoice",
        lambda output, w: class_loss(output.logits, w["classes"][:2] % 2),
        lambda w: {"labels": w["classes"][:2] % 2},
        choices=True,
        unmoved=("classifier/bias",),
    ),
    "question answering": Case(
        "AlbertForQuestionAnswering",
        span_loss,
        lambda w: {"start_positions": w["start"], "end_positions": w["end"]},
        unmoved=("qa_outputs/bias",),
    ),
    "encoder": Case(
        "AlbertModel",
        lambda output, _: (
            jnp.square(output.last_hidden_state).mean() + output.pooler_output.mean()
        ),
        lambda _: {},
    ),
}


def their_model(case, config, seed=0):
    """Hugging Face's model, in eval mode, biases and LayerNorms away from 0 and 1."""
    fields = hugging_face_config(config, case.name)
    if case.num_labels:
        fields["num_labels"] = case.num_labels
    torch.manual_seed(seed)
    theirs = transformers.AlbertConfig(**fields, attn_implementation="eager")
    model = getattr(transformers, case.name)(theirs).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model


def their_results(case, model, inputs, wanted):
    """Outputs, loss and gradients, under our names where they have others."""
    tensors = {k: torch.as_tensor(v) for k, v in (inputs | case.theirs(wanted)).items()}
    output = model(**tensors, output_hidden_states=True, output_attentions=True)
    loss = output.get("loss")
    if loss is None:
        loss = output.last_hidden_state.square().mean() + output.pooler_output.mean()
    model.zero_grad()
    loss.backward()
    named = model.named_parameters(remove_duplicate=False)
    gradients = {name: parameter.grad.numpy() for name, parameter in named}
    arrays = {
        name: np.stack([x.detach().numpy() for x in value])
        if isinstance(value, tuple)
        else value.detach().numpy()
        for name, value in output.items()
    }
    return arrays | {"loss": loss.detach().numpy()}, gradients


def device(values):
    """On JAX's side, where whole numbers have 32 bits."""
    return {
        name: jnp.asarray(value.astype(np.int32) if value.dtype == np.int64 else value)
        for name, value in values.items()
    }


def our_results(case, config, params, inputs, wanted):
    model = our_model(case, config)

    @jax.jit
    def run(params):
        def loss(params):
            output = model.apply(
                {"params": params},
                **inputs,
                output_hidden_states=True,
                output_attentions=True,
            )
            return case.loss(output, wanted), output

        return jax.value_and_grad(loss, has_aux=True)(params)

    inputs, wanted = device(inputs), device(wanted)
    (loss, output), gradient = run(params)
    fields = {f.name: getattr(output, f.name) for f in dataclasses.fields(output)}
    # Hugging Face gives a layer's output, not that of the blocks inside it.
    fields["hidden_states"] = fields["hidden_states"][:: config.inner_group_num]
    return fields | {"loss": loss}, gradient


def our_model(case, config):
    # Compiles in half the time; that it changes nothing is tested elsewhere.
    config = dataclasses.replace(config, remat="nothing")
    kind = getattr(albert, case.name)
    if case.num_labels:
        return kind(config, num_labels=case.num_labels)
    return kind(config)


def numpy_state(model):
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}


def distance(ours, theirs):
    """Relative, but to a value of exactly 0."""
    assert ours.shape == theirs.shape
    gap = np.linalg.norm(np.asarray(ours, float) - theirs)
    return gap / (np.linalg.norm(theirs) or 1.0)


def assert_gradients_agree(case, ours, theirs, length):
    """Every leaf within 1e-4 of its norm, but those that are 0 in mathematics.

    A key's bias moves all logits of a query alike, and with one key there is nothing to
    weigh. What is computed of such gradients is rounding, held to 1e-6 of all.
    """
    ours, theirs = flatten_dict(ours, sep="/"), flatten_dict(theirs, sep="/")
    whole = np.sqrt(sum(np.square(g, dtype=float).sum() for g in theirs.values()))
    blind = ("key/bias", *(("query", "key/kernel") if length == 1 else ()))
    for path, gradient in theirs.items():
        if any(part in path for part in blind + case.unmoved):
            assert np.linalg.norm(ours[path]) <= 1e-6 * whole, path
        else:
            assert distance(ours[path], gradient) <= 1e-4, path


def check(case, config, length):
    inputs, wanted = ragged(length), labels(length)
    if case.choices:
        inputs = {k: v.reshape(2, 2, length) for k, v in inputs.items()}
    model = their_model(case, config)
    params = from_hugging_face(numpy_state(model), config, case.name)
    expected, their_gradient = their_results(case, model, inputs, wanted)
    found, gradient = our_results(case, config, params, inputs, wanted)
    for name, value in expected.items():
        assert distance(np.asarray(found[name]), value) <= 1e-5, name
    their_gradient = from_hugging_face(their_gradient, config, case.name)
    assert_gradients_agree(case, gradient, their_gradient, length)


@pytest.mark.parametrize("plan", CONFIGS)
@pytest.mark.parametrize("name", CASES)
def test_outputs_losses_and_gradients(name, plan):
    check(CASES[name], AlbertConfig(**(BASE | CONFIGS[plan])), length=7)


@pytest.mark.parametrize("length", [1, 512])
@pytest.mark.parametrize("name", CASES)
def test_the_shortest_and_the_longest_rows(name, length):
    check(CASES[name], AlbertConfig(**BASE), length)


def test_the_real_base_geometry():
    config = AlbertConfig.base(vocab_size=300)
    check(CASES["pretraining"], config, length=128)


@pytest.mark.parametrize("plan", CONFIGS)
@pytest.mark.parametrize("name", CASES)
def test_transformers_loads_what_we_export(name, plan):
    case, config = CASES[name], AlbertConfig(**(BASE | CONFIGS[plan]))
    model = their_model(case, config)
    before = numpy_state(model)
    params = from_hugging_face(before, config, case.name)
    exported = to_hugging_face(params, config)
    assert exported.keys() == before.keys()
    for key, value in before.items():
        np.testing.assert_array_equal(exported[key], value, strict=True)


@pytest.mark.parametrize(
    "plan",
    [
        {"share": "attention"},
        {"share": "ffn", "num_hidden_groups": 2},
        {"share": "none"},
        {"embedding_size": 96},
        {"num_hidden_layers": 18, "num_hidden_groups": 14},
    ],
    ids=["attention", "ffn in groups", "none", "E = H", "groups that divide badly"],
)
def test_transformers_computes_what_we_export_of_a_plan_it_has_not(plan):
    config, case = AlbertConfig(**(BASE | plan)), CASES["masked LM"]
    model = our_model(case, config)
    params = albert.model.albert.init_params(model, jax.random.key(0))
    theirs = their_model(case, config)
    exported = to_hugging_face(params, config).items()
    state = {k: torch.tensor(v) for k, v in exported}
    assert theirs.load_state_dict(state, strict=True).missing_keys == []
    inputs = ragged(7)
    with torch.no_grad():
        expected = theirs(**{k: torch.as_tensor(v) for k, v in inputs.items()}).logits
    inputs = device(inputs)
    found = jax.jit(lambda p: model.apply({"params": p}, **inputs).logits)(params)
    assert distance(np.asarray(found), expected.numpy()) <= 1e-5


@pytest.mark.parametrize("plan", CONFIGS)
def test_their_configuration_file_is_ours(tmp_path, plan):
    config = AlbertConfig(**(BASE | CONFIGS[plan]))
    fields = hugging_face_config(config, "AlbertForMaskedLM")
    transformers.AlbertConfig(**fields).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    # Even our own fields come back through it, so there is nothing to say.
    assert AlbertConfig.from_json(path, report=pytest.fail) == config


# Where Hugging Face differs from the official code, which is what we follow.


@cache
def pretraining_model():
    config = AlbertConfig(**BASE)
    model = their_model(CASES["pretraining"], config)
    params = from_hugging_face(numpy_state(model), config, "AlbertForPreTraining")
    return config, model, jax.tree.map(jnp.asarray, params)


def test_they_have_no_dropout_after_the_feed_forward_part():
    # With all other dropout off, only the layer's own can make two passes differ.
    config = AlbertConfig(**BASE, hidden_dropout_prob=0.5)
    theirs = their_model(CASES["encoder"], config)
    layer = theirs.encoder.albert_layer_groups[0].albert_layers[0].train()
    layer.attention.eval()
    hidden = torch.randn(1, 3, 96)
    with torch.no_grad():
        first, second = (layer(hidden)[0] for _ in range(2))
    assert torch.equal(first, second)

    from albert_jax.model.layers import FeedForward

    ours = FeedForward(config)
    hidden = jnp.asarray(hidden.numpy())
    params = ours.init(jax.random.key(0), hidden, True)
    a, b = (
        ours.apply(params, hidden, False, rngs={"dropout": jax.random.key(i)})
        for i in range(2)
    )
    assert not np.allclose(a, b)


def test_they_drop_out_before_sentence_order():
    config, model, params = pretraining_model()
    head = model.sop_classifier
    assert head.dropout.p == 0.1
    ours = albert.AlbertForPreTraining(config)
    ids = device(ragged(7))["input_ids"]
    # No random number is asked for in training, where nothing else drops out.
    ours.apply({"params": params}, ids, deterministic=False)


def test_they_start_from_another_distribution():
    config = AlbertConfig(**(BASE | {"vocab_size": 5000}))
    fields = hugging_face_config(config, "AlbertModel")
    torch.manual_seed(0)
    theirs = transformers.AlbertModel(transformers.AlbertConfig(**fields))
    table = theirs.embeddings.word_embeddings.weight.detach().numpy()
    assert table.std() == pytest.approx(0.05, rel=0.02) and abs(table).max() > 0.15
    assert not table[0].any(), "<pad> starts from zeros"

    params = albert.model.albert.init_params(
        albert.AlbertModel(config), jax.random.key(0)
    )
    table = np.asarray(params["embeddings"]["word_embeddings"]["embedding"])
    assert table.std() == pytest.approx(0.88 * 0.05, rel=0.02)
    assert abs(table).max() <= 0.1 and table[0].any()


def test_they_do_not_train_the_embedding_of_padding():
    case, config = CASES["encoder"], AlbertConfig(**BASE)
    inputs = ragged(7)
    inputs["input_ids"][:, 3] = 0
    model = their_model(case, config)
    params = from_hugging_face(numpy_state(model), config, case.name)
    _, theirs = their_results(case, model, inputs, {})
    _, ours = our_results(case, config, params, inputs, {})
    ours = np.asarray(ours["embeddings"]["word_embeddings"]["embedding"])
    theirs = theirs["embeddings.word_embeddings.weight"]
    assert ours[0].any() and not theirs[0].any()
    assert distance(ours[1:], theirs[1:]) <= 1e-4


def test_they_mask_with_the_least_number_not_with_minus_ten_thousand():
    # It shows only in a row that sees nothing: theirs averages all values, ours falls
    # back to the softmax without mask, as the official code does.
    config, model, params = pretraining_model()
    inputs = ragged(7)
    nothing = inputs | {"attention_mask": np.zeros((ROWS, 7), np.int64)}
    with torch.no_grad():
        given = {k: torch.as_tensor(v) for k, v in nothing.items()}
        theirs = model(**given, output_attentions=True).attentions[0].numpy()
    np.testing.assert_allclose(theirs, 1 / 7, rtol=1e-5)
    ours = albert.AlbertForPreTraining(config)
    given = device(nothing)
    seen = given | {"attention_mask": jnp.ones((ROWS, 7), jnp.int32)}
    masked, plain = (
        ours.apply({"params": params}, **g, output_attentions=True).attentions[0]
        for g in (given, seen)
    )
    # Adding -10,000 costs logits their last digits.
    np.testing.assert_allclose(masked, plain, atol=1e-3)
    assert abs(np.asarray(masked) - theirs).max() > 0.01


def test_they_cannot_run_more_inner_blocks_than_a_group_has_layers():
    # Their mask of heads is cut to the layers of a group, and then indexed by block.
    config = AlbertConfig(**(BASE | {"num_hidden_groups": 4, "inner_group_num": 2}))
    theirs = their_model(CASES["masked LM"], config)
    with pytest.raises(IndexError):
        theirs(torch.tensor([[2, 7, 3]]))
