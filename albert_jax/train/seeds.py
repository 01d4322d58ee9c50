"""Several seeds of one experiment, side by side in one program.

Their states and batches have an axis of seeds first; what trains or evaluates one of
them is mapped over it by ``jax.vmap``, so that norms, clipping and draws stay each
seed's own. Their losses go by the name of the seed: "masked_lm_loss/seed-3".
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from albert_jax.model.losses import Sums
from albert_jax.train.metrics import add
from albert_jax.train.state import TrainState

OWN = "/seed-"  # what stands between a metric and the seed that it is of


def keys_of(seeds: Sequence[int]) -> Key[Array, " s"]:
    """The key of each seed, as it is of that seed alone."""
    return jnp.stack([jax.random.key(seed) for seed in seeds])


def stack(members: Sequence[PyTree]) -> PyTree:
    """Trees of NumPy arrays, one a seed, as one with an axis of seeds first."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *members)


def step_of_seeds(
    step: Callable[[TrainState, PyTree], tuple[TrainState, Sums]], seeds: Sequence[int]
) -> Callable[[TrainState, PyTree], tuple[TrainState, Sums]]:
    """A training step of one seed as that of all; pure."""

    def steps(states: TrainState, batches: PyTree) -> tuple[TrainState, Sums]:
        states, sums = jax.vmap(step)(states, batches)
        return states, _named(sums, seeds)

    return steps


def evaluation_of_seeds(
    evaluate: Callable[[PyTree, PyTree], Sums], seeds: Sequence[int]
) -> Callable[[PyTree, PyTree], Sums]:
    """An evaluation of one seed as that of all, on one batch; pure."""
    every = jax.vmap(evaluate, in_axes=(0, None))
    return lambda params, batch: _named(every(params, batch), seeds)


def _named(sums: dict[str, tuple[Array, Array]], seeds: Sequence[int]) -> Sums:
    return {
        f"{name}{OWN}{seed}": (total[i], weight[i])
        for name, (total, weight) in sums.items()
        for i, seed in enumerate(seeds)
    }


def over_seeds(sums: Sums) -> Sums:
    """The sums under plain names, those of several seeds added up, so that their means
    are means over all."""
    found: Sums = {}
    for name, pair in sums.items():
        found = add(found, {name.partition(OWN)[0]: pair})
    return found
