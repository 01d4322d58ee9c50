"""Multi-head self-attention: who sees whom, and what is made of it.

Axes: b rows, t positions, s key positions, n heads, d head width, h = H, w = 3 H.
"""

from functools import cache, partial

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


_product = partial(jnp.einsum, preferred_element_type=jnp.float32)


def _join(heads: int, *three: Float[Array, "*i h"]) -> Float[Array, "*i w"]:
    """Weights of query, key and value as those of one product, head by head."""
    parts = [x.reshape(*x.shape[:-1], heads, -1) for x in three]
    return jnp.stack(parts, axis=-2).reshape(*three[0].shape[:-1], -1)


def _split(joint: Float[Array, "b t w"], heads: int) -> list[Float[Array, "b n t d"]]:
    """Query, key and value of every head."""
    parts = jnp.split(joint.reshape(*joint.shape[:2], heads, 3, -1), 3, axis=3)
    return [part.squeeze(3).swapaxes(1, 2) for part in parts]


def _probabilities(
    query: Float[Array, "b n t d"],
    key: Float[Array, "b n s d"],
    bias: Float[Array, "b 1 #t s"],
) -> Float[Array, "b n t s"]:
    """softmax(query key^T / sqrt(d) + bias), in float32."""
    logits = _product("bntd,bnsd->bnts", query, key)
    return jax.nn.softmax(logits / jnp.sqrt(query.shape[-1]) + bias)


def _weigh(
    probabilities: Float[Array, "b n t s"], value: Float[Array, "b n s d"]
) -> Float[Array, "b t h"]:
    """The context of every position, its heads side by side."""
    context = jnp.einsum("bnts,bnsd->bntd", probabilities.astype(value.dtype), value)
    rows, _, positions, _ = context.shape
    context = context.swapaxes(1, 2).reshape(rows, positions, -1)
    return checkpoint_name(context, "context")


def attend(
    joint: Float[Array, "b t w"], bias: Float[Array, "b 1 #t t"], heads: int
) -> Float[Array, "b t h"]:
    """Attention without dropout, from the product that holds queries, keys and values.

    By cuDNN's fused kernel where the device has it, else by products of our own. Keeps
    no array of [t, t] for the backward pass. No gradient goes to ``bias``.
    """
    width = joint.shape[-1] // (3 * heads)
    fused = not unfused_because(joint.dtype, width)
    return (_fused if fused else _unfused)(joint, bias, heads)


def attention_path(config: AlbertConfig) -> str:
    """How attention is computed on the devices there are, and why, in a line."""
    width = config.hidden_size // config.num_attention_heads
    why = unfused_because(jnp.dtype(config.dtype), width)
    if config.attention_probs_dropout_prob:
        why = "it has dropout"
    return f"attention: our own, as {why}" if why else "attention: fused, by cuDNN"


@cache
def unfused_because(dtype: jnp.dtype, width: int) -> str | None:
    """Why heads of this width are not for cuDNN; None where they are.

    Asked of the device, by compiling the kernel for one of them.
    """
    if jax.default_backend() != "gpu":
        return f"the device is a {jax.default_backend()}"

    def loss(joint: Array, bias: Array) -> Array:
        return _fused(joint, bias, 1).astype(jnp.float32).sum()

    shapes = (1, 64, 3 * width), (1, 1, 1, 64)
    joint, bias = (
        jax.ShapeDtypeStruct(shape, kind)
        for shape, kind in zip(shapes, (dtype, jnp.float32), strict=True)
    )
    try:
        jax.jit(jax.grad(loss)).lower(joint, bias).compile()
    except Exception as error:  # whatever the kernel asks for that is not so
        return "cuDNN says: " + str(error).strip().partition("\n")[0]
    return None


_KERNEL = "cudnn"


def _fused(joint: Array, bias: Array, heads: int) -> Array:
    rows, positions, _ = joint.shape
    by_head = joint.reshape(rows, positions, heads, 3, -1)
    # The kernel wants a whole bias, in the type that it computes in.
    bias = jnp.broadcast_to(bias, (rows, 1, positions, positions)).astype(joint.dtype)
    context = jax.nn.dot_product_attention(
        *jnp.moveaxis(by_head, 3, 0),
        jax.lax.stop_gradient(bias),
        implementation=_KERNEL,
    )
    return checkpoint_name(context.reshape(rows, positions, -1), "context")


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _unfused(joint: Array, bias: Array, heads: int) -> Array:
    return _attend(joint, bias, heads)[0]


def _attend(joint: Array, bias: Array, heads: int) -> tuple:
    query, key, value = _split(joint, heads)
    context = _weigh(_probabilities(query, key, bias), value)
    return context, (joint, bias, context)


def _attend_backward(heads: int, saved: tuple, gradient: Array) -> tuple:
    """As autodiff, but what softmax's gradient loses, the sum over s of probabilities
    and their gradients, is the context times its own (Dao et al., 2022, appendix B.2).
    """
    joint, bias, context = saved
    query, key, value = _split(joint, heads)
    probabilities = _probabilities(query, key, bias)

    def by_head(x: Float[Array, "b t h"]) -> Float[Array, "b n t d"]:
        return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)

    along = by_head(context.astype(jnp.float32) * gradient).sum(-1, keepdims=True)
    gradient = by_head(gradient)
    towards_logits = _product("bntd,bnsd->bnts", gradient, value)
    towards_logits = probabilities * (towards_logits - along)
    towards_logits = (towards_logits / jnp.sqrt(query.shape[-1])).astype(joint.dtype)
    three = (
        jnp.einsum("bnts,bnsd->bntd", towards_logits, key),
        jnp.einsum("bnts,bntd->bnsd", towards_logits, query),
        jnp.einsum("bnts,bntd->bnsd", probabilities.astype(joint.dtype), gradient),
    )
    towards = jnp.stack([x.swapaxes(1, 2) for x in three], axis=3)
    return towards.reshape(joint.shape), None


_unfused.defvjp(_attend, _attend_backward)


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

        # Three leaves, since LAMB's trust ratio belongs to each matrix; one product,
        # head by head, so that a mesh may split heads. The compiler joins the three
        # outside of the scan.
        weights = [
            Dense(c, c.hidden_size, name=name).weights(c.hidden_size)
            for name in ("query", "key", "value")
        ]
        joint = affine(hidden, *map(partial(_join, heads), *weights))
        query, key, value = _split(joint, heads)
        probabilities = _probabilities(query, key, bias)
        if deterministic or not c.attention_probs_dropout_prob:
            context = attend(joint, bias, heads)
        else:
            dropout = nn.Dropout(c.attention_probs_dropout_prob)
            seen = dropout(probabilities, deterministic=False)
            context = _weigh(seen, value)

        out = Dense(c, c.hidden_size, name="dense")(context)
        out = nn.Dropout(c.hidden_dropout_prob)(out, deterministic=deterministic)
        return LayerNorm(c, name="LayerNorm")(out + hidden), probabilities
