"""What a training step reads and writes, and the step itself."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Key, PyTree

from albert_jax.model.albert import init_params
from albert_jax.model.losses import Sums
from albert_jax.train.optimizer import take_trust_ratios


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
    key: Key[Array, ""],
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    params: PyTree = None,
) -> TrainState:
    """Fresh moments, and fresh parameters if none are given; a pure function."""
    init_key, dropout_key = jax.random.split(key)
    if params is None:
        params = init_params(model, init_key)
    return TrainState(
        step=jnp.zeros([], jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        key=dropout_key,
    )


def take_step(
    gradient_of: Callable[[PyTree, Key[Array, ""]], tuple[PyTree, Sums]],
    optimizer: optax.GradientTransformation,
    state: TrainState,
    attention_mask: Array,
) -> tuple[TrainState, Sums]:
    """One step down the gradient, which ``gradient_of`` returns with the losses, given
    parameters and dropout's key.

    Pure, fit for ``jit`` and ``vmap``. Returns the next state and the losses before the
    step, beside them the gradient's global norm before clipping, the share of tokens
    that is not padding, and the trust ratios of an optimizer that tells them.
    """
    dropout = jax.random.fold_in(state.key, state.step)
    gradients, sums = gradient_of(state.params, dropout)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    opt_state, ratios = take_trust_ratios(opt_state)
    state = state.replace(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        opt_state=opt_state,
    )
    return state, sums | {
        "gradient_norm": (optax.tree.norm(gradients), jnp.ones([])),
        "real_tokens": (
            jnp.float32(attention_mask.sum()),
            jnp.float32(attention_mask.size),
        ),
        **{f"trust_ratio/{name}": (x, jnp.ones([])) for name, x in ratios.items()},
    }
