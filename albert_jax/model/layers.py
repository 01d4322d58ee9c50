"""The parts of a layer: embeddings, self-attention, feed-forward.

Post-layer-norm throughout, as in the official ``modeling.py``.
Axes: b rows, t positions, s key positions, n heads, d head width, e = E, h = H.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from albert_jax.config import AlbertConfig

ACTIVATIONS = {
    "gelu": lambda x: nn.gelu(x, approximate=True),
    "gelu_erf": lambda x: nn.gelu(x, approximate=False),
    "relu": nn.relu,
    "tanh": jnp.tanh,
    "linear": lambda x: x,
}

# Added to the logits of keys that must not be seen. Finite, as in the official code:
# a query that sees no key at all falls back to an ordinary softmax instead of NaN.
MASKED = -10_000.0


def initializer(config: AlbertConfig) -> nn.initializers.Initializer:
    """Normal cut at two sigma, sigma not rescaled (realised: 0.88 sigma)."""
    return nn.initializers.truncated_normal(config.initializer_range)


def dense(config: AlbertConfig, features: int, name: str | None = None) -> nn.Dense:
    """A dense layer with bias, kernel [in, features]."""
    return nn.Dense(
        features,
        dtype=jnp.dtype(config.dtype),
        kernel_init=initializer(config),
        name=name,
    )


def layer_norm(config: AlbertConfig, name: str | None = None) -> nn.LayerNorm:
    """Normalisation of the last axis; the variance in two passes, for epsilon 1e-12."""
    return nn.LayerNorm(
        epsilon=config.layer_norm_eps,
        dtype=jnp.dtype(config.dtype),
        use_fast_variance=False,
        name=name,
    )


class Embeddings(nn.Module):
    """Word + token type + position, LayerNorm, dropout, all E wide (section 3.1)."""

    config: AlbertConfig

    def setup(self) -> None:
        c = self.config

        def table(rows: int) -> nn.Embed:
            return nn.Embed(rows, c.embedding_size, embedding_init=initializer(c))

        self.word_embeddings = table(c.vocab_size)
        self.token_type_embeddings = table(c.type_vocab_size)
        self.position_embeddings = table(c.max_position_embeddings)
        self.LayerNorm = layer_norm(c)
        self.dropout = nn.Dropout(c.hidden_dropout_prob)

    def __call__(
        self,
        input_ids: Int[Array, "b t"],
        token_type_ids: Int[Array, "b t"],
        position_ids: Int[Array, "b t"],
        deterministic: bool,
    ) -> Float[Array, "b t e"]:
        total = (
            self.word_embeddings(input_ids)
            + self.token_type_embeddings(token_type_ids)
            + self.position_embeddings(position_ids)
        )
        return self.dropout(self.LayerNorm(total), deterministic=deterministic)


def attention_bias(
    attention_mask: Bool[Array, "b s"],
    segment_ids: Int[Array, "b s"] | None = None,
) -> Float[Array, "b 1 #t s"]:
    """What is added to attention logits: 0 where a key is seen, ``MASKED`` elsewhere.

    Only keys are masked. In packed rows (``segment_ids``: which pair a position belongs
    to) a query sees the keys of its own pair and no others.
    """
    seen = attention_mask[:, None, None, :]
    if segment_ids is not None:
        same = segment_ids[:, :, None] == segment_ids[:, None, :]
        seen = seen & same[:, None]
    return jnp.where(seen, 0.0, MASKED)


class SelfAttention(nn.Module):
    """Multi-head self-attention, its output projection, residual and LayerNorm.

    Returns the block's output and the attention probabilities before dropout.
    """

    config: AlbertConfig

    @nn.compact
    def __call__(
        self,
        hidden: Float[Array, "b t h"],
        bias: Float[Array, "b 1 #t t"],
        deterministic: bool,
    ) -> tuple[Float[Array, "b t h"], Float[Array, "b n t t"]]:
        c = self.config
        heads = c.num_attention_heads
        width = c.hidden_size // heads

        def split(x: Float[Array, "b t h"]) -> Float[Array, "b t n d"]:
            return x.reshape(*x.shape[:2], heads, width)

        # Three leaves, not one: LAMB's trust ratio belongs to each matrix.
        query = split(dense(c, c.hidden_size, "query")(hidden))
        key = split(dense(c, c.hidden_size, "key")(hidden))
        value = split(dense(c, c.hidden_size, "value")(hidden))

        logits = jnp.einsum(
            "btnd,bsnd->bnts", query, key, preferred_element_type=jnp.float32
        )
        probabilities = jax.nn.softmax(logits / jnp.sqrt(width) + bias)
        seen = nn.Dropout(c.attention_probs_dropout_prob)(
            probabilities, deterministic=deterministic
        )
        context = jnp.einsum("bnts,bsnd->btnd", seen.astype(value.dtype), value)

        out = dense(c, c.hidden_size, "dense")(context.reshape(hidden.shape))
        out = nn.Dropout(c.hidden_dropout_prob)(out, deterministic=deterministic)
        return layer_norm(c, "LayerNorm")(out + hidden), probabilities


class FeedForward(nn.Module):
    """Dense, activation, dense, residual and LayerNorm; no dropout between them."""

    config: AlbertConfig

    @nn.compact
    def __call__(
        self, hidden: Float[Array, "b t h"], deterministic: bool
    ) -> Float[Array, "b t h"]:
        c = self.config
        wide = dense(c, c.intermediate_size, "intermediate")(hidden)
        wide = ACTIVATIONS[c.hidden_act](wide)
        out = dense(c, c.hidden_size, "output")(wide)
        out = nn.Dropout(c.hidden_dropout_prob)(out, deterministic=deterministic)
        return layer_norm(c, "LayerNorm")(out + hidden)
