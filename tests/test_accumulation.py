"""Accumulation: a batch in parts gives the gradient of the whole, weights and all."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from albert_jax.model.heads import AlbertForPreTraining
from albert_jax.train.accumulation import gradient
from albert_jax.train.optimizer import lamb
from albert_jax.train.pretrain import train_step
from albert_jax.train.state import init_state

STEPS, ROWS = 20, 8


def uneven(seed):
    """A batch whose parts weigh differently, in each of the two losses otherwise."""
    batch = tiny.batch(seed, ROWS)
    row = jnp.arange(ROWS)[:, None]
    masked = jnp.where(jnp.arange(3) < row % 4, 1.0, 0.0)  # of rows 0 and 4 nothing
    return batch | {
        "masked_weights": masked,
        "sentence_order_weights": (row[:, 0] % 4 != 2).astype(jnp.float32),
    }


def train(parts):
    model = AlbertForPreTraining(tiny.config())
    optimizer = lamb(0.00176)
    state = init_state(jax.random.key(0), model, optimizer)
    step = jax.jit(partial(train_step, model, optimizer, accumulation=parts))
    losses = []
    for seed in range(STEPS):
        state, sums = step(state, uneven(seed))
        losses.append(jax.device_get(sums))
    return state, losses


def test_parts_of_a_batch_train_as_the_whole():
    (whole, theirs), (parts, ours) = train(1), train(4)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), ours, theirs)

    def close(path, ours, theirs):
        # Where a gradient is nearly zero, Adam's direction makes its rounding large: by
        # chance of an element (on a CPU without AVX-512 of one), so that norms are
        # compared; of a bias of the keys, which adds the same to every logit of a
        # softmax, always.
        if "key/bias" not in jax.tree_util.keystr(path, simple=True, separator="/"):
            distance = np.linalg.norm(ours - theirs)
            assert distance <= 1e-5 * np.linalg.norm(theirs), path

    jax.tree_util.tree_map_with_path(close, parts.params, whole.params)


@pytest.mark.parametrize("parts", [2, 4])
def test_every_part_draws_its_own_dropout_and_sees_its_own_rows(parts):
    def loss(params, rows, key):
        return params["w"] @ rows["x"] + params["noise"] * jax.random.uniform(key), {
            "rows": (rows["x"].sum(), jnp.float32(len(rows["x"])))
        }

    params = {"w": jnp.zeros(8 // parts), "noise": jnp.float32(0)}
    key, rows = jax.random.key(0), {"x": jnp.arange(8.0)}
    found, sums = gradient(loss, params, rows, key, parts)
    assert sums == {"rows": (28.0, 8.0)}
    np.testing.assert_array_equal(found["w"], rows["x"].reshape(-1, parts).sum(1))
    draws = [jax.random.uniform(jax.random.fold_in(key, i)) for i in range(parts)]
    assert (
        found["noise"] == pytest.approx(sum(draws))
        and len({float(d) for d in draws}) == parts
    )
