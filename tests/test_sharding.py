"""Sharding is invisible but for memory: any mesh computes what one device does.

Eight devices of the CPU, in a process of their own. ``make torture`` tries more meshes.
"""

import json
import math
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest
import small_run

from albert_jax.config import MeshConfig

# Sizes of the axes; a fourth number is accumulation, and then there is no dropout.
Shape = tuple[int, ...]
ONE, FSDP = (1, 1, 1), (1, 8, 1)
QUICK, SLOW = (ONE, FSDP), (ONE, (8, 1, 1), (2, 2, 2), (1, 2, 4))
STEPS = 20
EXPERIMENT = small_run.experiment(Path("unread"))


# Which axes of a mesh (1: fsdp, 2: tensor) divide a parameter; the rest are small.
DIVIDED = {
    r"word_embeddings|(query|key|value|intermediate)/kernel": (1, 2),
    r"attention_0/dense/kernel|ffn_0/output/kernel": (1, 2),
    r"(mapping_in|pooler|predictions/dense)/kernel": (1,),
    r"(query|key|value|intermediate)/bias|predictions/bias": (2,),
}


def train(mesh_shape: Shape) -> dict:
    """The losses of 20 steps, and what the devices hold."""
    from dataclasses import replace

    import jax.numpy as jnp

    from albert_jax.train.pretrain import compile_programs
    from albert_jax.train.sharding import make_mesh, place_batch

    data, fsdp, tensor, *parts = mesh_shape
    config = MeshConfig(data=data, fsdp=fsdp, tensor=tensor)
    mesh = make_mesh(config, jax.devices()[: data * fsdp * tensor])
    model = replace(EXPERIMENT.model, num_attention_heads=4, intermediate_size=64)
    optimizer = replace(EXPERIMENT.optimizer, learning_rate=0.00176)
    experiment = replace(EXPERIMENT, model=model, optimizer=optimizer, steps=100)
    if parts:
        model = replace(
            model, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
        )
        experiment = replace(experiment, model=model, accumulation=parts[0])
    with jax.set_mesh(mesh):
        programs = compile_programs(experiment, mesh)
        init = programs.init.lower(jax.random.key(0)).compile()
        state = init(jax.random.key(0))
        held = {"parameters": bytes_of(state.params), "state": bytes_of(state)}
        step = programs.step.lower(state, place_batch(mesh, batch(0))).compile()
        losses = []
        for number in range(STEPS):
            state, sums = step(state, place_batch(mesh, batch(number)))
            losses.append({name: float(a / b) for name, (a, b) in sums.items()})
    assert jnp.array_equal(state.step, STEPS)
    words = state.params["albert"]["embeddings"]["word_embeddings"]["embedding"]
    # In a compiled program, shapes are those of one device's part.
    whole = f"f32[{words.shape[0]},{words.shape[1]}]"
    return held | {
        "losses": losses,
        "temporary": step.memory_analysis().temp_size_in_bytes,
        "whole_at_init": whole in init.as_text(),
        "sizes": sizes_of(state.params),
    }


def bytes_of(tree) -> list[int]:
    """What each device holds of a tree."""
    held = dict.fromkeys(jax.devices(), 0)
    for leaf in jax.tree.leaves(tree):
        if not jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            for shard in leaf.addressable_shards:
                held[shard.device] += shard.data.nbytes
    return [size for size in held.values() if size]


def sizes_of(params) -> dict[str, int]:
    """Path of every parameter -> its bytes, on however many devices."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.nbytes
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }


def batch(seed: int) -> dict[str, np.ndarray]:
    """Eight rows at random, two pairs in each."""
    rng = np.random.default_rng(seed)
    rows, length, pairs = 8, 32, 2
    half = np.arange(length) // 16
    every_place = np.tile(np.arange(1, 31), (rows, 1))
    predicted = np.sort(rng.permuted(every_place, axis=1)[:, :5])

    def every_row(values):
        return np.tile(values, (rows, 1)).astype(np.int32)

    return {
        "input_ids": rng.integers(5, 56, (rows, length)).astype(np.int32),
        "attention_mask": np.ones((rows, length), bool),
        "token_type_ids": every_row(np.arange(length) % 16 > 7),
        "position_ids": every_row(np.arange(length) % 16),
        "segment_ids": every_row(half + 1),
        "cls_positions": every_row([0, 16]),
        "masked_positions": predicted.astype(np.int32),
        "masked_labels": rng.integers(5, 56, (rows, 5)).astype(np.int32),
        "masked_weights": (rng.random((rows, 5)) < 0.8).astype(np.float32),
        "sentence_order_label": rng.integers(0, 2, (rows, pairs)).astype(np.int32),
        "sentence_order_weights": (rng.random((rows, pairs)) < 0.9).astype(np.float32),
    }


@cache
def found(meshes: tuple[Shape, ...]) -> dict[Shape, dict]:
    """What ``train`` gives for each mesh."""
    code = (
        f"import json, test_sharding as t; print(json.dumps([*map(t.train, {meshes})]))"
    )
    # NPROC gives XLA's pool more threads than there are devices: with fewer, all may
    # wait in collectives for a device that needs one of them. It compiles more than it
    # computes, so it does without optimisation.
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        env=os.environ
        | {
            "PYTHONPATH": ":".join(sys.path),
            "JAX_NUM_CPU_DEVICES": "8",
            "NPROC": "16",
            "XLA_FLAGS": os.environ["XLA_FLAGS"]
            + " --xla_backend_optimization_level=0",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    # What XLA says of an array that it has to gather whole and to divide anew.
    assert "rematerialization" not in done.stderr, done.stderr
    return dict(zip(meshes, json.loads(done.stdout), strict=True))


def cases() -> list:
    """Meshes, and the group that each is tried in."""
    slow = [pytest.param(m, SLOW, marks=pytest.mark.slow, id=str(m)) for m in SLOW[1:]]
    return [pytest.param(FSDP, QUICK, id=str(FSDP)), *slow]


@pytest.mark.parametrize(("mesh", "group"), cases())
def test_every_mesh_trains_as_one_device(mesh, group):
    one, many = found(group)[ONE]["losses"], found(group)[mesh]["losses"]
    assert len(many) == STEPS and many[0] != many[-1]
    for ours, theirs in zip(many, one, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.slow
def test_a_batch_in_parts_on_a_mesh_takes_the_steps_of_the_whole_on_one_device():
    runs = found(((*ONE, 1), (1, 2, 4, 4), (2, 1, 4, 4)))
    one, *many = (run["losses"] for run in runs.values())
    assert one != found(SLOW)[ONE]["losses"]  # dropout
    for losses in many:
        for ours, theirs in zip(losses, one, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize(("mesh", "group"), cases())
def test_a_device_holds_its_share_and_never_the_whole(mesh, group):
    whole, ours = found(group)[ONE], found(group)[mesh]
    share = 0
    for path, size in whole["sizes"].items():
        axes = [axes for known, axes in DIVIDED.items() if re.search(known, path)]
        share += size // math.prod(mesh[axis] for axis in sum(axes, ()))
    assert ours["parameters"] == [share] * 8
    # Two moments, and three counters that every device has.
    assert ours["state"] == [3 * share + 12] * 8
    assert whole["whole_at_init"] and ours["whole_at_init"] == (mesh[1:] == (1, 1))


@pytest.mark.parametrize(("mesh", "group"), cases())
def test_a_device_computes_its_rows_only(mesh, group):
    whole, ours = found(group)[ONE], found(group)[mesh]
    # Beside activations there are gradients, and weights gathered to be used.
    (weights,) = whole["parameters"]
    share = whole["temporary"] / (mesh[0] * mesh[1])
    assert ours["temporary"] < share + 2 * weights
