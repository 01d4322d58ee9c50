"""Small values that several tests share."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import PyTree

from albert_jax.config import AlbertConfig
from albert_jax.model.albert import abstract_params


def config(**overrides) -> AlbertConfig:
    """A model that compiles in a second: E 12, H 16, 4 layers, 2 heads."""
    fields = dict(
        vocab_size=50,
        embedding_size=12,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=16,
        initializer_range=0.2,
    )
    return AlbertConfig(**(fields | overrides))


def batch(seed: int = 0, rows: int = 4, length: int = 10) -> dict[str, jax.Array]:
    """Random rows of one pair each, with three predictions."""
    keys = jax.random.split(jax.random.key(seed), 4)
    ids = jax.random.randint(keys[0], (rows, length), 5, 50)
    positions = jnp.broadcast_to(jnp.array([1, 4, 7]), (rows, 3))
    return {
        "input_ids": ids,
        "attention_mask": jnp.ones((rows, length), bool),
        "token_type_ids": (jnp.arange(length) > length // 2).astype(jnp.int32)
        + jnp.zeros_like(ids),
        "masked_positions": positions,
        "masked_labels": jax.random.randint(keys[1], (rows, 3), 5, 50),
        "masked_weights": jnp.ones((rows, 3)).at[0, 2].set(0.0),
        "sentence_order_label": jnp.arange(rows) % 2,
    }


def params(model: nn.Module, seed: int = 0) -> PyTree:
    """Parameters of any model, none of them 0 or 1 as many a fresh one is.

    Drawn by NumPy: ``model.init`` has a program to compile for every shape.
    """
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        values = 0.2 * rng.standard_normal(leaf.shape)
        return jnp.asarray(values + (path[-1].key == "scale"), leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, abstract_params(model))
