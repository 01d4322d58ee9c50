"""The layer's own formulas: gradients against autodiff, and what is computed again."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import linen as nn
from jax.interpreters.partial_eval import dce_jaxpr

from albert_jax.model import attention
from albert_jax.model.attention import (
    attend,
    attention_bias,
    attention_path,
    unfused_because,
)
from albert_jax.model.heads import AlbertForPreTraining
from albert_jax.model.layers import gelu, normalise
from albert_jax.model.losses import MODEL_INPUTS, objective, pretraining_losses


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2)]
)
def test_normalise_is_layer_norm(dtype, tolerance):
    keys = jax.random.split(jax.random.key(0), 4)
    x = (3 * jax.random.normal(keys[0], (5, 24)) + 2).astype(dtype)
    scale, bias = jax.random.normal(keys[1], (2, 24))
    weights = jax.random.normal(keys[2], (5, 24))
    module = nn.LayerNorm(epsilon=1e-12, use_fast_variance=False)

    def ours(x, scale, bias):
        return (weights * normalise(x, scale, bias, 1e-12)).sum()

    def flax(x, scale, bias):
        params = {"scale": scale, "bias": bias}
        return (weights * module.apply({"params": params}, x)).sum()

    results = [
        jax.value_and_grad(f, argnums=(0, 1, 2))(x, scale, bias) for f in (ours, flax)
    ]
    assert results[0][1][0].dtype == dtype
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(
            a.astype("f"), b.astype("f"), rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2)]
)
def test_gelu_has_the_gradient_of_the_formula(dtype, tolerance):
    x = jnp.linspace(-12, 12, 4001).astype(dtype)

    def slope(f, x):
        return jax.grad(lambda x: f(x).astype("f").sum())(x).astype("f")

    theirs = slope(lambda x: nn.gelu(x, approximate=True), x.astype("f"))
    np.testing.assert_allclose(slope(gelu, x), theirs, rtol=tolerance, atol=tolerance)
    huge = jnp.array([-1e9, 1e9], dtype)
    np.testing.assert_array_equal(slope(gelu, huge), [0, 1])


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 3e-2)]
)
def test_attention_is_softmax_of_products_and_so_is_its_gradient(
    monkeypatch, dtype, tolerance, packed, fused
):
    if fused:  # What cuDNN is asked, asked of XLA.
        monkeypatch.setattr(attention, "unfused_because", lambda *head: None)
        monkeypatch.setattr(attention, "_KERNEL", "xla")
    rows, positions, heads, width = 2, 7, 3, 5
    keys = jax.random.split(jax.random.key(0), 2)
    shape = (rows, positions, heads, 3, width)
    joint = jax.random.normal(keys[0], shape).astype(dtype)
    weights = jax.random.normal(keys[1], (rows, positions, heads * width))
    mask = jnp.arange(positions) < jnp.array([[positions], [4]])
    segments = jnp.array([[0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 2, 2, 2]])
    bias = attention_bias(mask, segments if packed else None)

    def ours(joint):
        context = attend(joint.reshape(rows, positions, -1), bias, heads)
        return (weights * context).sum()

    def plain(joint):
        query, key, value = jnp.moveaxis(joint.astype("f"), 3, 0)
        logits = jnp.einsum("btnd,bsnd->bnts", query, key) / width**0.5
        probabilities = jax.nn.softmax(logits + bias)
        context = jnp.einsum("bnts,bsnd->btnd", probabilities, value)
        return (weights * context.reshape(weights.shape)).sum()

    results = [jax.value_and_grad(f)(joint) for f in (ours, plain)]
    assert results[0][1].dtype == dtype
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(
            a.astype("f"), b.astype("f"), rtol=tolerance, atol=tolerance
        )


def test_attention_is_ours_where_cudnn_is_not_and_says_why(monkeypatch):
    assert attention_path(tiny.config()) == "attention: our own, as the device is a cpu"
    dropped = tiny.config(attention_probs_dropout_prob=0.1)
    assert attention_path(dropped).endswith("as it has dropout")
    # A GPU that is none: the kernel does not compile, and that is no error.
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    why = unfused_because.__wrapped__(jnp.dtype("bfloat16"), 64)
    assert why.startswith("cuDNN says: ") and len(why) > 20, why
    monkeypatch.setattr(attention, "_KERNEL", "xla")
    assert unfused_because.__wrapped__(jnp.dtype("bfloat16"), 64) is None


def pretraining_loss(config, params, batch):
    inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}
    output = AlbertForPreTraining(config).apply({"params": params}, **inputs)
    return objective(pretraining_losses(output, batch))


def params_of(config):
    model = AlbertForPreTraining(config)
    return model.init(jax.random.key(0), jnp.zeros((1, 4), jnp.int32))["params"]


@pytest.mark.parametrize(
    "scan", [True, pytest.param(False, marks=pytest.mark.thorough)]
)
def test_bfloat16_gradient_stays_near_float32(scan):
    config = tiny.config(scan_layers=scan)
    params, batch = params_of(config), tiny.batch()

    def gradient(dtype):
        variant = dataclasses.replace(config, dtype=dtype)
        gradient = jax.jit(jax.grad(pretraining_loss, argnums=1), static_argnums=0)
        tree = gradient(variant, params, batch)
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(tree))
        return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])

    exact, rounded = gradient("float32"), gradient("bfloat16")
    distance = jnp.linalg.norm(rounded - exact) / jnp.linalg.norm(exact)
    # Eight bits of mantissa, through eight blocks and back.
    assert 1e-4 < distance < 3e-2, distance


def test_what_is_computed_again():
    batch = tiny.batch()

    def products(**fields):
        config = tiny.config(scan_layers=False, **fields)
        shapes = jax.eval_shape(lambda: params_of(config))
        gradient = jax.grad(pretraining_loss, argnums=1)
        traced = jax.make_jaxpr(gradient, static_argnums=0)(config, shapes, batch)
        needed, _ = dce_jaxpr(traced.jaxpr, [True] * len(traced.jaxpr.outvars))
        return str(needed).count("dot_general[")

    again = {
        remat: products(remat=remat) - products(remat="nothing")
        for remat in ("matmuls", "layer")
    }
    # That of query and key attention's backward pass computes itself. With "layer" the
    # three projections as one, query and key, the context, its projection and both of
    # the feed-forward.
    assert again["matmuls"] == 0
    assert again["layer"] == 4 * 6
