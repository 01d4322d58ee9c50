"""What each layer does to its input (paper, Figure 1), and where its heads look.

Axes: k blocks, bottom to top, which are layers, or where ``inner_group_num`` is above 1
the blocks of layers; b rows, t positions, s key positions, n heads, h = H.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, PyTree

from albert_jax.model.attention import attention_bias
from albert_jax.model.losses import MODEL_INPUTS

Batch = Mapping[str, Array | np.ndarray]


@dataclass(frozen=True, kw_only=True)
class DepthProfile:
    """Means over tokens, padding left out.

    A block's input is the hidden state that enters its attention: the output of the
    block below, after that one's last LayerNorm; of the first block the embeddings,
    after the projection to H. Its output is what leaves its last LayerNorm. The
    residual connections are part of the block.

    Each token gives one distance, one angle, and one entropy a head; these are
    averaged, so the angle is not that of mean vectors.
    """

    distance: Float[np.ndarray, "k"]
    """L2 norm of output - input."""
    angle: Float[np.ndarray, "k"]
    """Between input and output, in degrees."""
    entropy: Float[np.ndarray, "k n"]
    """Of a query's attention over keys, in nats. A packed row's other pairs and padding
    have no probability, and no part in it."""
    uniform_entropy: float
    """What ``entropy`` would be if every key that a query sees had the same weight."""
    tokens: int
    """How many the means are over."""


def depth_profile(
    model: nn.Module, variables: PyTree, batches: Iterable[Batch]
) -> DepthProfile:
    """Figure 1 of the paper for a model, and the entropy of its attention.

    Without dropout. Computed from inside the encoder's scan, which keeps three numbers
    a token and no hidden states.

    Args:
      model: ``AlbertModel``, or any of its heads.
      variables: its, as ``from_pretrained`` and ``load_run`` return them.
      batches: what the model is called with, by name; other entries, such as labels,
        are left out. Each shape is compiled once.

    Raises:
      ValueError: there are no batches, or no tokens in them.
    """
    step = jax.jit(partial(_sums, model))
    total: dict[str, np.ndarray] = {}
    for batch in batches:
        sums = jax.device_get(step(variables, _inputs(batch)))
        total = {n: total.get(n, 0.0) + np.float64(x) for n, x in sums.items()}
    tokens = total.pop("tokens", 0)
    if not tokens:
        raise ValueError("there is no token to look at")
    means = {name: value / tokens for name, value in total.items()}
    means["uniform_entropy"] = float(means["uniform_entropy"])
    return DepthProfile(**means, tokens=int(tokens))


def _inputs(batch: Batch) -> Batch:
    return {name: batch[name] for name in MODEL_INPUTS if name in batch}


def compare(
    before: Float[Array, "b t h"],
    after: Float[Array, "b t h"],
    attention: Float[Array, "b n t s"],
) -> dict[str, Array]:
    """A probe: one block's ``distance`` and ``angle`` [b, t], ``entropy`` [b, n, t]."""
    x, y = (states.astype(jnp.float32) for states in (before, after))
    return {
        "distance": _length(y - x),
        "angle": _angle(x, y),
        "entropy": jax.scipy.special.entr(attention).sum(axis=-1),
    }


def _length(x: Float[Array, "b t h"]) -> Float[Array, "b t"]:
    return jnp.sqrt(jnp.square(x).sum(axis=-1))


def _angle(x: Float[Array, "b t h"], y: Float[Array, "b t h"]) -> Float[Array, "b t"]:
    """In degrees, from both diagonals of the rhombus that the vectors span at one
    length; an arc cosine loses half the digits of small angles."""
    x, y = x * _length(y)[..., None], y * _length(x)[..., None]
    return jnp.degrees(2 * jnp.arctan2(_length(x - y), _length(x + y)))


def _sums(model: nn.Module, variables: PyTree, inputs: Batch) -> dict[str, Array]:
    """What adds up over batches: sums over real tokens, and their number."""
    ids = inputs["input_ids"]
    real = jnp.asarray(inputs.get("attention_mask", jnp.ones_like(ids)), bool)
    found = model.apply(variables, **inputs, probe=compare).probed
    keys = (attention_bias(real, inputs.get("segment_ids")) == 0).sum(axis=-1)[:, 0]
    keys = jnp.broadcast_to(keys, real.shape)

    def total(values: Array) -> Array:
        """Over rows and positions, the second and the last axis."""
        mask = real.reshape(len(real), *(1,) * (values.ndim - 3), -1)
        return jnp.where(mask, values, 0.0).sum(axis=(1, -1))

    return {name: total(values) for name, values in found.items()} | {
        "uniform_entropy": total(jnp.log(jnp.maximum(keys, 1))[None])[0],
        "tokens": real.sum(),
    }
