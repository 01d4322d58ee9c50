"""What a training step reads and writes."""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Key, PyTree

from albert_jax.model.albert import init_params


@struct.dataclass
class TrainState:
    """Everything that a step changes, and the key that its dropout derives from.

    ``step`` is a scalar int32 and ``key`` a typed PRNG key, but a tree of this shape
    may as well hold shapes or shardings.
    """

    step: PyTree
    params: PyTree
    opt_state: PyTree
    key: PyTree


def init_state(
    key: Key[Array, ""], model: nn.Module, optimizer: optax.GradientTransformation
) -> TrainState:
    """Fresh parameters and moments; a pure function of ``key``."""
    init_key, dropout_key = jax.random.split(key)
    params = init_params(model, init_key)
    return TrainState(
        step=jnp.zeros([], jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        key=dropout_key,
    )
