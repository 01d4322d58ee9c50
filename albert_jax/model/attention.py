"""Multi-head self-attention: who sees whom, and what is made of it.

Axes: b rows, t positions, s key positions, n heads, d head width, h = H.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int

from albert_jax.config import AlbertConfig
from albert_jax.model.layers import Dense, LayerNorm, affine

# Added to the logits of keys that must not be seen. Finite, as in the official code:
# a query that sees no key at all falls back to an ordinary softmax instead of NaN.
MASKED = -10_000.0


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

        def join(*three: Float[Array, "*i h"]) -> Float[Array, "*i 3*h"]:
            parts = [x.reshape(*x.shape[:-1], heads, width) for x in three]
            return jnp.stack(parts, axis=-2).reshape(*three[0].shape[:-1], -1)

        def split(x: Float[Array, "b t w"]) -> list[Float[Array, "b n t d"]]:
            parts = jnp.split(x.reshape(*x.shape[:2], heads, 3, width), 3, axis=3)
            return [part.squeeze(3).swapaxes(1, 2) for part in parts]

        # Three leaves, since LAMB's trust ratio belongs to each matrix; one product,
        # head by head, so that a mesh may split heads. The compiler joins the three
        # outside of the scan.
        weights = [
            Dense(c, c.hidden_size, name=name).weights(c.hidden_size)
            for name in ("query", "key", "value")
        ]
        query, key, value = split(affine(hidden, *map(join, *weights)))

        logits = jnp.einsum(
            "bntd,bnsd->bnts", query, key, preferred_element_type=jnp.float32
        )
        probabilities = jax.nn.softmax(logits / jnp.sqrt(width) + bias)
        seen = nn.Dropout(c.attention_probs_dropout_prob)(
            probabilities, deterministic=deterministic
        )
        context = jnp.einsum("bnts,bnsd->bntd", seen.astype(value.dtype), value)
        context = context.swapaxes(1, 2).reshape(hidden.shape)
        context = checkpoint_name(context, "context")

        out = Dense(c, c.hidden_size, name="dense")(context)
        out = nn.Dropout(c.hidden_dropout_prob)(out, deterministic=deterministic)
        return LayerNorm(c, name="LayerNorm")(out + hidden), probabilities
