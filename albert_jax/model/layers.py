"""The parts of a layer: dense, LayerNorm, embeddings, feed-forward.

Post-layer-norm throughout, as in the official ``modeling.py``.
Axes: b rows, t positions, e = E, h = H; r rows of tokens, b * t of them.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

from albert_jax.config import AlbertConfig


@jax.custom_vjp
def gelu(x: Float[Array, "*b f"]) -> Float[Array, "*b f"]:
    """x (1 + tanh u) / 2, u = sqrt(2 / pi) (x + 0.044715 x^3): official ``gelu``."""
    return nn.gelu(x, approximate=True)


def _gelu_backward(x: Array, gradient: Array) -> tuple[Array]:
    """By (1 + tanh u) / 2 = sigmoid(2 u): as tanh it would be the forward pass's, for
    which XLA writes an array where it had better compute twice (2 % of a step)."""
    z, slope = x.astype(jnp.float32), math.sqrt(2 / math.pi)
    other = (1 + jnp.tanh(-slope * (z + 0.044715 * z**3))) / 2
    inner = 2 * slope * z * (1 + 3 * 0.044715 * z * z)
    return ((gradient * (1 - other) * (1 + inner * other)).astype(x.dtype),)


gelu.defvjp(lambda x: (gelu(x), x), _gelu_backward)

ACTIVATIONS = {
    "gelu": gelu,
    "gelu_erf": lambda x: nn.gelu(x, approximate=False),
    "relu": nn.relu,
    "tanh": jnp.tanh,
    "linear": lambda x: x,
}


def initializer(config: AlbertConfig) -> nn.initializers.Initializer:
    """Normal cut at two sigma, sigma not rescaled (realised: 0.88 sigma)."""
    return nn.initializers.truncated_normal(config.initializer_range)


def affine(
    x: Float[Array, "*b i"], kernel: Float[Array, "i o"], bias: Float[Array, "o"]
) -> Float[Array, "*b o"]:
    """``x @ kernel + bias``, every token a row, in the bias's type.

    As one plain product its gradients are plain products too, without the transposed
    copies that XLA makes of [b, t, h] (5 % of a step on a CPU).
    """
    rows = x.reshape(-1, x.shape[-1])
    out = jnp.dot(rows, kernel, preferred_element_type=bias.dtype) + bias
    return out.reshape(*x.shape[:-1], -1)


class Dense(nn.Module):
    """A dense layer with bias, kernel [in, features]."""

    config: AlbertConfig
    features: int

    @nn.compact
    def weights(self, inputs: int) -> tuple[Float[Array, "i o"], Float[Array, "o"]]:
        """Kernel and bias, in the type that the encoder computes in."""
        kernel = self.param("kernel", initializer(self.config), (inputs, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return tuple(x.astype(self.config.dtype) for x in (kernel, bias))

    def __call__(self, x: Float[Array, "*b i"]) -> Float[Array, "*b o"]:
        return affine(x.astype(self.config.dtype), *self.weights(x.shape[-1]))


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalise(
    x: Float[Array, "r h"],
    scale: Float[Array, "h"],
    bias: Float[Array, "h"],
    epsilon: float,
) -> Float[Array, "r h"]:
    """LayerNorm of rows in float32; the variance in two passes, for epsilon 1e-12."""
    return _normalise(x, scale, bias, epsilon)[0]


def _normalise(x: Array, scale: Array, bias: Array, epsilon: float) -> tuple:
    rows = x.astype(jnp.float32)
    centred = rows - rows.mean(axis=-1, keepdims=True)
    variance = jnp.square(centred).mean(axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(variance + epsilon)
    unit = checkpoint_name((centred * inverse).astype(x.dtype), "normalised")
    inverse = checkpoint_name(inverse, "normalised")
    return unit * scale + bias, (unit, inverse, scale)


def _normalise_backward(epsilon: float, saved: tuple, gradient: Array) -> tuple:
    """As autodiff, from the normalised rows, with two sums a row and no more."""
    unit, inverse, scale = saved
    scaled = gradient * scale
    mean = scaled.mean(axis=-1, keepdims=True)
    along = (scaled * unit).mean(axis=-1, keepdims=True)
    towards_x = inverse * (scaled - mean - unit * along)
    towards_scale, towards_bias = (gradient * unit).sum(axis=0), gradient.sum(axis=0)
    return towards_x.astype(unit.dtype), towards_scale, towards_bias


normalise.defvjp(_normalise, _normalise_backward)


class LayerNorm(nn.Module):
    """Normalisation of the last axis."""

    config: AlbertConfig

    @nn.compact
    def __call__(self, x: Float[Array, "*b h"]) -> Float[Array, "*b h"]:
        width = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, width)
        bias = self.param("bias", nn.initializers.zeros, width)
        rows = x.reshape(-1, *width)
        out = normalise(rows, scale, bias, self.config.layer_norm_eps)
        return out.astype(self.config.dtype).reshape(x.shape)


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
        self.LayerNorm = LayerNorm(c)
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


class FeedForward(nn.Module):
    """Dense, activation, dense, residual and LayerNorm; no dropout between them."""

    config: AlbertConfig

    @nn.compact
    def __call__(
        self, hidden: Float[Array, "b t h"], deterministic: bool
    ) -> Float[Array, "b t h"]:
        c = self.config
        wide = Dense(c, c.intermediate_size, name="intermediate")(hidden)
        wide = ACTIVATIONS[c.hidden_act](wide)
        out = Dense(c, c.hidden_size, name="output")(wide)
        out = nn.Dropout(c.hidden_dropout_prob)(out, deterministic=deterministic)
        return LayerNorm(c, name="LayerNorm")(out + hidden)
