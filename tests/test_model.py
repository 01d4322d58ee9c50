"""Properties of the model: what is shared, what is the same, and how much there is."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from albert_jax.config import AlbertConfig
from albert_jax.model.albert import AlbertModel, init_params
from albert_jax.model.costs import (
    RowShape,
    forward_flops,
    parameter_shapes,
    parameter_table,
)
from albert_jax.model.encoder import sharing_plan
from albert_jax.model.heads import AlbertForPreTraining
from albert_jax.model.losses import MODEL_INPUTS, objective, pretraining_losses

PLANS = {
    "one group": {},
    "two groups": {"num_hidden_groups": 2},
    "unequal groups": {"num_hidden_layers": 5, "num_hidden_groups": 2},
    "inner blocks": {"inner_group_num": 2},
    "inner blocks in groups": {"inner_group_num": 2, "num_hidden_groups": 2},
    "attention shared": {"share": "attention"},
    "feed-forward shared in groups": {"share": "ffn", "num_hidden_groups": 2},
    "nothing shared": {"share": "none"},
    "not factorized": {"embedding_size": 16},
    "not factorized, projected": {"embedding_size": 16, "project_equal_sizes": True},
}
# What the core is content with: a scan in groups of several blocks, one of part of a
# layer, and none.
CORE = ("inner blocks in groups", "attention shared", "nothing shared")
plans = [
    pytest.param(plan, id=name, marks=[] if name in CORE else pytest.mark.thorough)
    for name, plan in PLANS.items()
]


def loss(config: AlbertConfig, params, batch, **options):
    inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}
    model = AlbertForPreTraining(config)
    output = model.apply({"params": params}, **inputs, **options)
    return objective(pretraining_losses(output, batch))


def drawn(config: AlbertConfig):
    return tiny.params(AlbertForPreTraining(config))


def dropped_loss(config: AlbertConfig, params, batch, key):
    """The loss with dropout."""
    return loss(config, params, batch, deterministic=False, rngs={"dropout": key})


gradient = jax.jit(jax.value_and_grad(loss, argnums=1), static_argnums=0)
dropped_gradient = jax.jit(
    jax.value_and_grad(dropped_loss, argnums=1), static_argnums=0
)


def assert_close(a, b, tolerance: float) -> None:
    """Every leaf's distance is at most ``tolerance`` times the leaf's norm.

    A small leaf is held against a thousandth of the tree's norm; the gradient of the
    key's bias, which softmax does not see, is nothing but rounding, and is held against
    a hundredth of it: at 1e-5 that is an epsilon of float32.
    """
    a, b = jax.tree.map(np.asarray, (a, b))
    whole = np.sqrt(sum(np.square(x, dtype=float).sum() for x in jax.tree.leaves(a)))
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True
    ):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        least = 1e-2 if name.endswith("key/bias") else 1e-3
        scale = max(np.linalg.norm(x), least * whole)
        distance = np.linalg.norm(x.astype(float) - y) / scale
        assert distance <= tolerance, (name, distance)


def assert_same_start(*configs: AlbertConfig) -> None:
    """Fresh parameters are the same, to the bit."""
    models = map(AlbertForPreTraining, configs)
    trees = [init_params(model, jax.random.key(0)) for model in models]
    jax.tree.map(np.testing.assert_array_equal, *trees)


@pytest.mark.parametrize("plan", plans)
def test_scan_is_the_loop(plan):
    config = tiny.config(**plan, remat="nothing")
    loop = dataclasses.replace(config, scan_layers=False)
    params, batch = drawn(config), tiny.batch()
    assert_same_start(config, loop)
    assert_close(gradient(loop, params, batch), gradient(config, params, batch), 1e-5)


@pytest.mark.parametrize(
    "scan", [True, pytest.param(False, marks=pytest.mark.thorough)]
)
@pytest.mark.parametrize("remat", ["matmuls", "layer"])
def test_remat_changes_nothing(remat, scan):
    plain = tiny.config(remat="nothing", scan_layers=scan, hidden_dropout_prob=0.1)
    config = dataclasses.replace(plain, remat=remat)
    given = drawn(plain), tiny.batch(), jax.random.key(1)
    assert_close(
        dropped_gradient(plain, *given), dropped_gradient(config, *given), 1e-5
    )


@pytest.mark.parametrize("share", ["all", "attention", "ffn"])
def test_shared_gradient_is_the_sum_over_depth(share):
    config = tiny.config(share=share)
    unshared = dataclasses.replace(config, share="none")
    params, batch = drawn(config), tiny.batch()
    copied = dict(params["albert"]["encoder"])
    plan = [layer[0] for layer in sharing_plan(config)]
    copies = {
        f"{kind}_{layer}": copied[f"{kind}_{block[which]}"]
        for layer, block in enumerate(plan)
        for which, kind in enumerate(("attention", "ffn"))
    }
    wide = {**params, "albert": {**params["albert"], "encoder": copies}}

    _, shared_gradient = gradient(config, params, batch)
    _, apart = gradient(unshared, wide, batch)
    for name, summed in shared_gradient["albert"]["encoder"].items():
        kind, number = name.rsplit("_", 1)
        which = ("attention", "ffn").index(kind)
        layers = [i for i, block in enumerate(plan) if block[which] == int(number)]
        parts = [apart["albert"]["encoder"][f"{kind}_{i}"] for i in layers]
        total = jax.tree.map(lambda *leaves: sum(leaves), *parts)
        assert_close(total, summed, 1e-5)


def test_padding_changes_nothing():
    config = tiny.config()
    params, batch = drawn(config), tiny.batch()
    padded = dict(batch)
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        padded[name] = jnp.pad(batch[name], ((0, 0), (0, 5)))
    padded["input_ids"] = padded["input_ids"].at[:, -5:].set(7)
    short, long = gradient(config, params, batch), gradient(config, params, padded)
    table = "position_embeddings"
    for _, tree in (short, long):
        tree["albert"]["embeddings"][table] = {"embedding": 0.0}
    assert_close(short, long, 1e-5)


def test_batch_order_changes_nothing():
    config = tiny.config()
    params, batch = drawn(config), tiny.batch()
    order = jnp.array([2, 0, 3, 1])
    shuffled = {name: value[order] for name, value in batch.items()}
    one, other = gradient(config, params, batch), gradient(config, params, shuffled)
    assert_close(one, other, 1e-5)


def packed(batch):
    """The rows of a batch, two by two, as packed rows with padding behind them."""
    rows, length = batch["input_ids"].shape

    def join(value, padding=3):
        joined = value.reshape(rows // 2, -1, *value.shape[2:])
        return jnp.pad(joined, ((0, 0), (0, padding)))

    where = jnp.arange(length) + jnp.zeros((rows, 1), jnp.int32)
    offset = (jnp.arange(rows) % 2 * length)[:, None]
    return {
        "input_ids": join(batch["input_ids"]),
        "attention_mask": join(batch["attention_mask"]),
        "token_type_ids": join(batch["token_type_ids"]),
        "position_ids": join(where),
        "segment_ids": join(1 + offset // length + jnp.zeros_like(where)),
        "cls_positions": join(offset, 1),
        "masked_positions": join(batch["masked_positions"] + offset, 2),
        "masked_labels": join(batch["masked_labels"], 2),
        "masked_weights": join(batch["masked_weights"], 2),
        "sentence_order_label": join(batch["sentence_order_label"][:, None], 1),
        "sentence_order_weights": join(jnp.ones((rows, 1)), 1),
    }


def test_packing_changes_nothing():
    config = tiny.config(max_position_embeddings=32)
    params, batch = drawn(config), tiny.batch()
    apart, joined = (
        gradient(config, params, batch),
        gradient(config, params, packed(batch)),
    )
    assert_close(apart, joined, 1e-5)


def test_dropout_differs_by_layer():
    # Zero weights and a constant attention output: what a layer adds to its input is
    # the dropout mask itself, up to LayerNorm, which keeps equal elements equal.
    config = tiny.config(
        hidden_size=64, num_hidden_layers=2, hidden_dropout_prob=0.5, embedding_size=64
    )
    params = jax.tree.map(jnp.zeros_like, drawn(config))
    encoder = params["albert"]["encoder"]
    encoder["attention_0"]["dense"]["bias"] += 1.0
    for block in ("attention_0", "ffn_0"):
        encoder[block]["LayerNorm"]["scale"] += 1.0
    output = AlbertModel(config).apply(
        {"params": params["albert"]},
        jnp.zeros((1, 1), jnp.int32),
        deterministic=False,
        rngs={"dropout": jax.random.key(0)},
    )
    values = np.unique(np.round(np.asarray(output.last_hidden_state), 4))
    # The same mask twice gives two values, two different masks give four.
    assert len(values) == 4, values


@pytest.mark.parametrize("scan", [True, False])
def test_values_by_layer(scan):
    config = tiny.config(
        num_hidden_layers=5, num_hidden_groups=2, inner_group_num=2, scan_layers=scan
    )
    params, ids = drawn(config)["albert"], tiny.batch()["input_ids"]
    plain = AlbertModel(config).apply({"params": params}, ids)
    assert plain.hidden_states is plain.attentions is plain.probed is None
    output = AlbertModel(config).apply(
        {"params": params},
        ids,
        output_hidden_states=True,
        output_attentions=True,
        probe=lambda before, after, _: jnp.linalg.norm(after - before),
    )
    assert output.hidden_states.shape == (11, *ids.shape, 16)
    assert output.attentions.shape == (10, ids.shape[0], 2, ids.shape[1], ids.shape[1])
    np.testing.assert_allclose(output.attentions.sum(-1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(output.hidden_states[-1], output.last_hidden_state)
    steps = np.diff(output.hidden_states, axis=0).reshape(10, -1)
    steps = np.linalg.norm(steps, axis=1)
    np.testing.assert_allclose(output.probed, steps, rtol=1e-4)
    # Depth is in order: the first two layers alone give the first five states.
    shallow = dataclasses.replace(config, num_hidden_layers=2, num_hidden_groups=1)
    low = AlbertModel(shallow).apply({"params": params}, ids, output_hidden_states=True)
    np.testing.assert_allclose(output.hidden_states[:5], low.hidden_states, atol=1e-5)


def test_values_by_layer_cost_nothing_when_off():
    config = tiny.config(num_hidden_layers=6)
    params, ids = drawn(config)["albert"], tiny.batch()["input_ids"]

    def outputs(**options):
        apply = lambda p, i: AlbertModel(config).apply({"params": p}, i, **options)  # noqa: E731
        compiled = jax.jit(apply).lower(params, ids).compile()
        memory = compiled.memory_analysis()
        return memory.output_size_in_bytes + memory.temp_size_in_bytes

    stacked = 6 * ids.size * 16 * 4
    assert outputs() < outputs(output_hidden_states=True) - stacked // 2


def test_no_leaf_has_a_layer_axis():
    for plan in PLANS.values():
        for path, shape in parameter_shapes(tiny.config(**plan)).items():
            assert len(shape) <= 2, (path, shape)


def test_nothing_shared_is_a_group_a_layer():
    a = parameter_shapes(tiny.config(share="none"))
    assert a == parameter_shapes(tiny.config(num_hidden_groups=4))


def test_layer_i_belongs_to_group_floor_iG_over_L():
    for layers, groups in ((5, 2), (12, 5), (7, 7), (24, 1)):
        plan = sharing_plan(
            tiny.config(num_hidden_layers=layers, num_hidden_groups=groups)
        )
        assert plan == [((i * groups // layers,) * 2,) for i in range(layers)]


def test_depth_costs_no_parameters():
    deep = tiny.config(num_hidden_layers=48)
    assert parameter_table(deep) == parameter_table(tiny.config())


# Exact counts: encoder with pooler, and with both pretraining heads.
COUNTS = {
    ("base", "v2"): (11_683_584, 11_813_810),
    ("large", "v2"): (17_683_968, 17_847_474),
    ("xlarge", "v2"): (58_724_864, 59_021_490),
    ("xxlarge", "v2"): (222_595_584, 223_158_450),
    ("base", "zh"): (10_547_968, 10_669_322),
    ("large", "zh"): (16_548_352, 16_702_986),
    ("xlarge", "zh"): (57_589_248, 57_877_002),
    ("xxlarge", "zh"): (221_459_968, 222_013_962),
}
HEADS = ("masked-LM head", "sentence-order head")


@pytest.mark.parametrize(("size", "version"), COUNTS)
def test_parameter_counts_of_released_models(size, version):
    table = parameter_table(AlbertConfig.released(size, version))
    total = sum(table.values())
    counts = (total - sum(table[head] for head in HEADS), total)
    assert counts == COUNTS[size, version]


# Paper, tables 3 and 4, exactly: E -> counts for all, attention, ffn, none shared.
SHARING_COUNTS = {
    64: (9_681_408, 61_645_056, 35_684_352, 87_648_000),
    128: (11_683_584, 63_647_232, 37_686_528, 89_650_176),
    256: (15_687_936, 67_651_584, 41_690_880, 93_654_528),
    768: (31_114_752, 83_078_400, 57_117_696, 109_081_344),
}


@pytest.mark.parametrize("size", SHARING_COUNTS)
def test_parameter_counts_of_the_sharing_table(size):
    counts = []
    for share in ("all", "attention", "ffn", "none"):
        table = parameter_table(AlbertConfig.base(embedding_size=size, share=share))
        counts.append(sum(table.values()) - sum(table[head] for head in HEADS))
    assert tuple(counts) == SHARING_COUNTS[size]


def test_parameter_count_of_the_width_table():
    wide = AlbertConfig(
        hidden_size=6144, num_attention_heads=96, intermediate_size=24576
    )
    table = parameter_table(wide)
    assert sum(table.values()) - sum(table[head] for head in HEADS) == 495_518_208


def test_fresh_parameters_are_those_that_the_whole_model_makes():
    config = tiny.config(num_hidden_layers=5, num_hidden_groups=2, inner_group_num=2)
    model = AlbertForPreTraining(config)
    whole = model.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    fresh = init_params(model, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, fresh, whole)


def test_initial_values():
    config = tiny.config(vocab_size=5000, hidden_size=256, initializer_range=0.02)
    params = init_params(AlbertForPreTraining(config), jax.random.key(0))
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path)
        if "bias" in name:
            assert not leaf.any(), name
        elif "scale" in name:
            assert (leaf == 1).all(), name
        else:
            assert abs(leaf).max() <= 0.04, name
            if leaf.size > 10_000:
                assert leaf.std() == pytest.approx(0.88 * 0.02, rel=0.02), name


def test_flops_formula_against_the_compiler():
    # The compiler counts a scanned body once, hence the loop; it also counts
    # elementwise work, which the formula leaves out.
    config = tiny.config(
        vocab_size=3000,
        embedding_size=64,
        hidden_size=128,
        intermediate_size=512,
        max_position_embeddings=64,
        scan_layers=False,
        remat="nothing",
    )
    batch = tiny.batch(rows=4, length=64)
    params = drawn(config)
    inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}

    def forward(params, inputs):
        output = AlbertForPreTraining(config).apply({"params": params}, **inputs)
        return output.prediction_logits, output.sop_logits

    counted = jax.jit(forward).lower(params, inputs).compile().cost_analysis()["flops"]
    formula = 4 * sum(forward_flops(config, RowShape(64, 3, 1)).values())
    assert formula == pytest.approx(counted, rel=0.05)


def test_bfloat16_stays_near_float32():
    config = tiny.config()
    params, batch = drawn(config), tiny.batch()
    exact = loss(config, params, batch)
    rounded = loss(dataclasses.replace(config, dtype="bfloat16"), params, batch)
    assert rounded == pytest.approx(float(exact), rel=2e-2)


def test_masked_positions_pick_among_all_predictions():
    config = tiny.config()
    params, batch = drawn(config), tiny.batch()
    model = AlbertForPreTraining(config)
    everywhere = model.apply({"params": params}, batch["input_ids"])
    some = model.apply(
        {"params": params},
        batch["input_ids"],
        masked_positions=batch["masked_positions"],
    )
    np.testing.assert_allclose(
        some.prediction_logits, everywhere.prediction_logits[:, [1, 4, 7]], atol=1e-5
    )


def test_a_row_that_sees_nothing_is_not_nan():
    config = tiny.config()
    params, ids = drawn(config), tiny.batch()["input_ids"]
    output = AlbertForPreTraining(config).apply(
        {"params": params}, ids, jnp.zeros_like(ids)
    )
    assert jnp.isfinite(output.prediction_logits).all()


def test_rows_may_come_as_numpy_arrays():
    config = tiny.config()
    model = AlbertForPreTraining(config)
    batch = {k: v for k, v in tiny.batch().items() if k in MODEL_INPUTS}
    variables = model.init(jax.random.key(0), **batch)
    given = model.apply(variables, **jax.tree.map(np.asarray, batch))
    jax.tree.map(np.testing.assert_array_equal, given, model.apply(variables, **batch))
