"""Small values that several tests share."""

import jax
import jax.numpy as jnp

from albert_jax.config import AlbertConfig


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
