"""The gradient of a large batch, computed a part of it at a time.

What a device holds at once shrinks with the number of parts; the gradient is that of
the whole batch, not an average of the parts', which may differ in weight.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from albert_jax.model.losses import Sums

Batch = Mapping[str, Array]
Loss = Callable[[PyTree, Batch, Key[Array, ""]], tuple[Array, Sums]]


def gradient(
    loss: Loss, params: PyTree, batch: Batch, key: Key[Array, ""], parts: int
) -> tuple[PyTree, Sums]:
    """The gradient and the sums of a batch's loss.

    Args:
      loss: ``(params, rows, key) -> (loss, sums)``. Its values for the parts must add
        up to that for the whole batch: it divides by the weights of the whole.
      batch: arrays of rows, which ``parts`` must divide.
      key: dropout's; each of several parts draws from one of its own.
    """
    differentiate = jax.grad(loss, has_aux=True)
    if parts == 1:
        return differentiate(params, batch, key)

    def add_part(total: PyTree, part: tuple[Batch, Array]) -> tuple[PyTree, Sums]:
        rows, index = part
        more, sums = differentiate(params, rows, jax.random.fold_in(key, index))
        return jax.tree.map(jnp.add, total, more), sums

    nothing = jax.tree.map(jnp.zeros_like, params)
    every = (jax.tree.map(lambda x: _divide(x, parts), batch), jnp.arange(parts))
    total, sums = jax.lax.scan(add_part, nothing, every)
    return total, jax.tree.map(lambda x: x.sum(axis=0), sums)


def _divide(rows: Array, parts: int) -> Array:
    """[b, ...] as [parts, b / parts, ...], part i being rows i, i + parts, ...

    So each device finds its share of every part among the rows that it has; parts of
    neighbouring rows would have to be sent around.
    """
    return rows.reshape(-1, parts, *rows.shape[1:]).swapaxes(0, 1)
