"""Names and tensors of others: every one has its place, both ways, to the bit."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest
import tiny
from flax.traverse_util import flatten_dict, unflatten_dict

from albert_jax.config import AlbertConfig, UserError
from albert_jax.interop.hugging_face import (
    from_hugging_face,
    hugging_face_config,
    to_hugging_face,
    with_prefix,
)
from albert_jax.interop.names import exported_groups, leaves
from albert_jax.interop.official import from_official, to_official
from albert_jax.interop.parameters import head_in, parameter_shapes
from albert_jax.model.table import HEADS

THEIRS = [name for name in HEADS if name != "AlbertForQuestionAnsweringWithBeam"]
PLANS = {
    "one group": {},
    "two groups": {"num_hidden_groups": 2},
    "inner blocks in groups": {"inner_group_num": 2, "num_hidden_groups": 2},
    "attention shared": {"share": "attention"},
    "feed-forward shared in groups": {"share": "ffn", "num_hidden_groups": 2},
    "nothing shared": {"share": "none", "inner_group_num": 2},
    "not factorized": {"embedding_size": 16},
    "not factorized, projected": {"embedding_size": 16, "project_equal_sizes": True},
    "groups that divide badly": {"num_hidden_layers": 18, "num_hidden_groups": 14},
}


def random_params(config, head="AlbertForPreTraining", seed=0):
    random = np.random.default_rng(seed)
    shapes = parameter_shapes(config, head, num_labels=3)
    flat = {k: random.normal(size=shape) for k, shape in shapes.items()}
    return unflatten_dict({k: v.astype("f") for k, v in flat.items()}, sep="/")


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(partial(np.testing.assert_array_equal, strict=True), a, b)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_a_round_trip_keeps_every_bit_of_any_plan(plan):
    config = tiny.config(**plan)
    params, said = random_params(config), []
    state = to_hugging_face(params, config)
    head = "AlbertForPreTraining"
    assert_same(from_hugging_face(state, config, head, report=said.append), params)
    assert said == []


@pytest.mark.parametrize("head", THEIRS)
def test_a_round_trip_keeps_every_bit_of_any_head(head):
    config, said = tiny.config(), []
    params = random_params(config, head)
    state = to_hugging_face(params, config)
    assert all(tensor.flags["C_CONTIGUOUS"] for tensor in state.values())
    assert_same(from_hugging_face(state, config, head, report=said.append), params)
    assert said == []


@pytest.mark.parametrize("form", ["hugging_face", "official"])
@pytest.mark.parametrize("head", THEIRS)
def test_no_two_parameters_have_a_name_in_common(head, form):
    config = tiny.config(num_hidden_groups=2, inner_group_num=2)
    named = leaves(config, head, form)
    names = [name for leaf in named.values() for name in leaf.names + leaf.tied]
    assert len(names) == len(set(names))
    assert named.keys() == parameter_shapes(config, head, 3).keys()


# The variables of the released base model, with their shapes, and Hugging Face's name
# for each (the official modeling.py and run_pretraining.py; transformers 4.57).
_T = "bert/encoder/transformer/group_0/inner_group_0"
_B = "albert.encoder.albert_layer_groups.0.albert_layers.0"
BASE = {
    "bert/embeddings/word_embeddings": (
        "albert.embeddings.word_embeddings.weight",
        (30_000, 128),
    ),
    "bert/embeddings/token_type_embeddings": (
        "albert.embeddings.token_type_embeddings.weight",
        (2, 128),
    ),
    "bert/embeddings/position_embeddings": (
        "albert.embeddings.position_embeddings.weight",
        (512, 128),
    ),
    "bert/embeddings/LayerNorm/gamma": ("albert.embeddings.LayerNorm.weight", (128,)),
    "bert/embeddings/LayerNorm/beta": ("albert.embeddings.LayerNorm.bias", (128,)),
    "bert/encoder/embedding_hidden_mapping_in/kernel": (
        "albert.encoder.embedding_hidden_mapping_in.weight",
        (128, 768),
    ),
    "bert/encoder/embedding_hidden_mapping_in/bias": (
        "albert.encoder.embedding_hidden_mapping_in.bias",
        (768,),
    ),
    f"{_T}/attention_1/self/query/kernel": (f"{_B}.attention.query.weight", (768, 768)),
    f"{_T}/attention_1/self/query/bias": (f"{_B}.attention.query.bias", (768,)),
    f"{_T}/attention_1/self/key/kernel": (f"{_B}.attention.key.weight", (768, 768)),
    f"{_T}/attention_1/self/key/bias": (f"{_B}.attention.key.bias", (768,)),
    f"{_T}/attention_1/self/value/kernel": (f"{_B}.attention.value.weight", (768, 768)),
    f"{_T}/attention_1/self/value/bias": (f"{_B}.attention.value.bias", (768,)),
    f"{_T}/attention_1/output/dense/kernel": (
        f"{_B}.attention.dense.weight",
        (768, 768),
    ),
    f"{_T}/attention_1/output/dense/bias": (f"{_B}.attention.dense.bias", (768,)),
    f"{_T}/LayerNorm/gamma": (f"{_B}.attention.LayerNorm.weight", (768,)),
    f"{_T}/LayerNorm/beta": (f"{_B}.attention.LayerNorm.bias", (768,)),
    f"{_T}/ffn_1/intermediate/dense/kernel": (f"{_B}.ffn.weight", (768, 3072)),
    f"{_T}/ffn_1/intermediate/dense/bias": (f"{_B}.ffn.bias", (3072,)),
    f"{_T}/ffn_1/intermediate/output/dense/kernel": (
        f"{_B}.ffn_output.weight",
        (3072, 768),
    ),
    f"{_T}/ffn_1/intermediate/output/dense/bias": (f"{_B}.ffn_output.bias", (768,)),
    f"{_T}/LayerNorm_1/gamma": (f"{_B}.full_layer_layer_norm.weight", (768,)),
    f"{_T}/LayerNorm_1/beta": (f"{_B}.full_layer_layer_norm.bias", (768,)),
    "bert/pooler/dense/kernel": ("albert.pooler.weight", (768, 768)),
    "bert/pooler/dense/bias": ("albert.pooler.bias", (768,)),
    "cls/predictions/transform/dense/kernel": ("predictions.dense.weight", (768, 128)),
    "cls/predictions/transform/dense/bias": ("predictions.dense.bias", (128,)),
    "cls/predictions/transform/LayerNorm/gamma": (
        "predictions.LayerNorm.weight",
        (128,),
    ),
    "cls/predictions/transform/LayerNorm/beta": ("predictions.LayerNorm.bias", (128,)),
    "cls/predictions/output_bias": ("predictions.bias", (30_000,)),
    "cls/seq_relationship/output_weights": (
        "sop_classifier.classifier.weight",
        (2, 768),
    ),
    "cls/seq_relationship/output_bias": ("sop_classifier.classifier.bias", (2,)),
}


def test_names_and_shapes_of_the_released_base_model():
    config, head = AlbertConfig.base(), "AlbertForPreTraining"
    shapes = parameter_shapes(config, head, num_labels=0)
    theirs = leaves(config, head, "hugging_face")
    found = {
        leaf.names[0]: (
            theirs[path].names[0],
            shapes[path][::-1] if leaf.transposed else shapes[path],
        )
        for path, leaf in leaves(config, head, "official").items()
    }
    assert found == BASE


# Beside the encoder's, as the official fine-tuning code calls them.
FINE_TUNED = {
    "AlbertForSequenceClassification": ["output_bias", "output_weights"],
    "AlbertForQuestionAnswering": [
        "cls/squad/output_bias",
        "cls/squad/output_weights",
    ],
    "AlbertForQuestionAnsweringWithBeam": [
        "answer_class/dense_0/bias",
        "answer_class/dense_0/kernel",
        "answer_class/dense_1/kernel",
        "end_logits/LayerNorm/beta",
        "end_logits/LayerNorm/gamma",
        "end_logits/dense_0/bias",
        "end_logits/dense_0/kernel",
        "end_logits/dense_1/bias",
        "end_logits/dense_1/kernel",
        "start_logits/dense/bias",
        "start_logits/dense/kernel",
    ],
}


@pytest.mark.parametrize("head", FINE_TUNED)
def test_official_names_of_fine_tuned_heads(head):
    named = leaves(tiny.config(), head, "official").values()
    names = [name for leaf in named for name in leaf.names]
    assert sorted(n for n in names if not n.startswith("bert/")) == FINE_TUNED[head]


@pytest.mark.parametrize("prefix", ["", "module/"])
@pytest.mark.parametrize("head", HEADS)
def test_official_variables_are_found(head, prefix):
    config, said = tiny.config(num_hidden_groups=2, inner_group_num=2), []
    params = random_params(config, head)
    flat = flatten_dict(params, sep="/")
    variables = {
        prefix + name: flat[path].T if leaf.transposed else flat[path]
        for path, leaf in leaves(config, head, "official").items()
        for name in leaf.names
    }
    query = "bert/encoder/transformer/group_0/inner_group_0/attention_1/self/query"
    variables |= {"global_step": np.array(7), f"{query}/kernel/adam_m": np.zeros(3)}
    assert_same(from_official(variables, config, head, report=said.append), params)
    assert said == [f"2 variables of training, as {query}/kernel/adam_m: ignored"]


def test_partial_sharing_is_exported_layer_by_layer():
    config = tiny.config(share="attention")
    params = random_params(config)
    state = to_hugging_face(params, config)
    encoder = params["albert"]["encoder"]
    for layer in range(4):
        prefix = f"albert.encoder.albert_layer_groups.{layer}.albert_layers.0"
        for name, ours in (
            ("attention.query", encoder["attention_0"]["query"]),
            ("ffn", encoder[f"ffn_{layer}"]["intermediate"]),
        ):
            theirs = state[f"{prefix}.{name}.weight"]
            np.testing.assert_array_equal(theirs.T, ours["kernel"])
    fields = hugging_face_config(config, "AlbertForPreTraining")
    assert fields["num_hidden_groups"] == 4
    # Read as what it says, it is a model that shares nothing.
    apart = dataclasses.replace(config, share="none")
    wide = from_hugging_face(state, apart, "AlbertForPreTraining")
    assert_same(to_hugging_face(wide, apart), state)


def test_groups_are_copied_only_where_another_layer_would_get_them():
    for layers in (1, 5, 12, 18, 24, 36):
        for groups in range(1, layers + 1):
            config = tiny.config(num_hidden_layers=layers, num_hidden_groups=groups)
            exported = exported_groups(config)
            # Hugging Face's rule for which group a layer has.
            theirs = [int(i / (layers / len(exported))) for i in range(layers)]
            plan = [i * groups // layers for i in range(layers)]
            assert [exported[group][0][0] for group in theirs] == plan
            assert len(exported) in (groups, layers)


def test_an_encoder_is_found_in_any_heads_tensors():
    config, said = tiny.config(), []
    params = random_params(config)
    state = to_hugging_face(params, config)
    found = from_hugging_face(state, config, "AlbertModel", report=said.append)
    assert_same(found, params["albert"])
    assert said == ["AlbertModel has no predictions, sop_classifier: ignored"]


def test_position_ids_are_ignored_and_it_is_said():
    config, said = tiny.config(), []
    params = random_params(config)
    state = to_hugging_face(params, config)
    state["albert.embeddings.position_ids"] = np.arange(16)[None]
    head = "AlbertForPreTraining"
    assert_same(from_hugging_face(state, config, head, report=said.append), params)
    assert said == ["albert.embeddings.position_ids is no parameter: ignored"]


@pytest.mark.parametrize("kept", ["first", "second"])
def test_one_of_two_tied_tensors_is_enough(kept):
    config, head = tiny.config(), "AlbertForMaskedLM"
    params = random_params(config, head)
    state = to_hugging_face(params, config)
    dropped = {
        "first": ["predictions.decoder.weight", "predictions.decoder.bias"],
        "second": ["albert.embeddings.word_embeddings.weight", "predictions.bias"],
    }
    for name in dropped[kept]:
        del state[name]
    assert_same(from_hugging_face(state, config, head), params)


def test_half_precision_becomes_float32_and_it_is_said():
    config, said = tiny.config(), []
    params = jax.tree.map(
        lambda x: x.astype(np.float16).astype(np.float32), random_params(config)
    )
    state = {
        name: tensor.astype(np.float16)
        for name, tensor in to_hugging_face(params, config).items()
    }
    head = "AlbertForPreTraining"
    assert_same(from_hugging_face(state, config, head, report=said.append), params)
    assert said == ["tensors of type float16 are float32 now"]


def without(name):
    return lambda state: state.pop(name)


def changed(name, change):
    def apply(state):
        state[name] = change(state[name])

    return apply


QUERY = "albert.encoder.albert_layer_groups.0.albert_layers.0.attention.query.weight"
# What is done to a state dict -> what is said of it.
MISTAKES = {
    "tensor predictions.dense.weight is missing: predictions/dense/kernel "
    r"\[16, 12\] of AlbertForPreTraining": without("predictions.dense.weight"),
    rf"tensor {QUERY} is missing: albert/encoder/attention_0/query/kernel": without(
        QUERY
    ),
    r"tensor predictions.dense.gain \[3\] has no place in AlbertForPreTraining": (
        lambda state: state.update({"predictions.dense.gain": np.zeros(3, "f")})
    ),
    rf"tensor {QUERY} has shape \[16, 15\], but albert/encoder/attention_0/query/"
    r"kernel of AlbertForPreTraining needs \[16, 16\]": (
        changed(QUERY, lambda x: x[:, 1:])
    ),
    r"predictions.dense.weight has shape \[16, 12\].*needs \[12, 16\]": changed(
        "predictions.dense.weight", np.transpose
    ),
    "predictions.LayerNorm.weight is missing.*mean 'predictions.LayerNorm.gamma'": (
        lambda state: state.update(
            {"predictions.LayerNorm.gamma": state.pop("predictions.LayerNorm.weight")}
        )
    ),
    "word_embeddings.weight and predictions.decoder.weight differ": changed(
        "predictions.decoder.weight", lambda x: x + 1
    ),
}


@pytest.mark.parametrize("said", MISTAKES)
def test_a_tensor_that_does_not_fit_is_named_with_its_counterpart(said):
    config = tiny.config()
    state = to_hugging_face(random_params(config), config)
    MISTAKES[said](state)
    with pytest.raises(UserError, match=said) as raised:
        from_hugging_face(state, config, "AlbertForPreTraining")
    assert "\n" not in str(raised.value)


def test_copies_of_a_layer_must_agree():
    config = tiny.config(share="attention")
    state = to_hugging_face(random_params(config), config)
    other = QUERY.replace("groups.0", "groups.2")
    state[other] = state[other] + 1
    with pytest.raises(UserError, match=f"{QUERY} and {other} differ"):
        from_hugging_face(state, config, "AlbertForPreTraining")


def test_more_groups_than_the_configuration_has():
    two = tiny.config(num_hidden_groups=2)
    state = to_hugging_face(random_params(two), two)
    with pytest.raises(UserError, match=r"groups.1.*has no place in AlbertForPreT"):
        from_hugging_face(state, tiny.config(), "AlbertForPreTraining")


def test_a_projection_is_not_dropped_unless_it_does_nothing():
    config = tiny.config(embedding_size=16)
    state = to_hugging_face(random_params(config), config)
    name = "albert.encoder.embedding_hidden_mapping_in.weight"
    state[name] = state[name] + 1
    with pytest.raises(UserError, match=f"{name} projects.*project_equal_sizes"):
        from_hugging_face(state, config, "AlbertForPreTraining")
    projected = dataclasses.replace(config, project_equal_sizes=True)
    params = from_hugging_face(state, projected, "AlbertForPreTraining")
    assert "embedding_hidden_mapping_in" in params["albert"]


def test_a_classifier_is_not_made_up():
    config = tiny.config()
    state = to_hugging_face(random_params(config), config)
    head = "AlbertForTokenClassification"
    with pytest.raises(UserError, match="num_labels is not given, and there is no"):
        from_hugging_face(state, config, head)
    with pytest.raises(UserError, match="tensor classifier.weight is missing"):
        from_hugging_face(state, config, head, num_labels=3)
    with pytest.raises(
        UserError, match=r"classifier.weight has shape \[3, 16\].*needs \[2"
    ):
        labelled = to_hugging_face(random_params(config, head), config)
        from_hugging_face(labelled, config, head, num_labels=2)


def test_a_part_that_is_absent_is_drawn_only_from_a_key_and_said():
    config, said = tiny.config(), []
    params = random_params(config)
    state = to_hugging_face(params, config)
    head = "AlbertForSequenceClassification"
    draw = partial(from_hugging_face, state, config, head, num_labels=5)
    one, two, other = (
        draw(key=jax.random.key(seed), report=said.append) for seed in (0, 0, 1)
    )
    assert_same(one, two)
    assert_same(one["albert"], params["albert"])
    assert one["classifier"]["kernel"].shape == (16, 5)
    assert not np.array_equal(
        one["classifier"]["kernel"], other["classifier"]["kernel"]
    )
    assert said[1].startswith("classifier of AlbertForSequenceClassification drawn")
    # What is there in part is not whole, and the encoder is never drawn.
    del state["albert.pooler.bias"]
    with pytest.raises(UserError, match="tensor albert.pooler.bias is missing"):
        draw(key=jax.random.key(0), report=said.append)
    with pytest.raises(UserError, match=r"embeddings/embedding \[50, 12\]"):
        from_hugging_face({}, config, head, num_labels=5, key=jax.random.key(0))


@pytest.mark.parametrize("form", ["hugging_face", "official"])
@pytest.mark.parametrize("head", THEIRS)
def test_a_head_is_known_by_its_tensors(head, form):
    config = tiny.config()
    params = random_params(config, head)
    export = {"hugging_face": to_hugging_face, "official": to_official}[form]
    names = export(params, config)
    if head == "AlbertModel" and form == "hugging_face":
        names = with_prefix(names)
    # Nothing but the shape of its output tells a choice from a sequence.
    same = {"AlbertForMultipleChoice": "AlbertForSequenceClassification"}
    assert head_in(names, form) == same.get(head, head)


def test_a_head_that_is_not_there():
    config = tiny.config()
    with pytest.raises(UserError, match="did you mean 'AlbertForMaskedLM'"):
        from_hugging_face({}, config, "AlbertForMaskLM")
    beam = "AlbertForQuestionAnsweringWithBeam"
    with pytest.raises(UserError, match=f"Hugging Face has no head like {beam}"):
        from_hugging_face({}, config, beam)
    with pytest.raises(UserError, match=f"Hugging Face has no head like {beam}"):
        to_hugging_face(random_params(config, beam), config)


def test_parameters_of_no_head_or_another_configuration():
    config = tiny.config()
    flat = flatten_dict(random_params(config), sep="/")
    del flat["predictions/dense/bias"]
    missing = "predictions/dense/bias is missing for AlbertForPreTraining"
    with pytest.raises(UserError, match=missing):
        to_hugging_face(unflatten_dict(flat, sep="/"), config)
    wider = tiny.config(intermediate_size=32)
    with pytest.raises(UserError, match=r"ffn_0/intermediate/.* has shape \[24\]|24\]"):
        to_hugging_face(random_params(config), wider)
