"""What a fine-tuning run computes on its devices: every rate and seed at once."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from albert_jax.config.finetuning import FinetuningExperiment
from albert_jax.finetuning.start import Start
from albert_jax.finetuning.step import (
    Batch,
    choose_better,
    choose_last,
    init_states,
    sound,
    train_step,
    train_steps,
)
from albert_jax.model.frozen import frozen_leaves
from albert_jax.model.losses import Sums
from albert_jax.train.optimizer import freeze, linear_schedule, make_optimizer
from albert_jax.train.state import TrainState


@dataclass(frozen=True)
class Programs:
    """What runs on the devices, and the shapes and places of what is saved."""

    init: Callable[[PyTree], dict[str, PyTree]]
    """Of the parameters that are given: the fields of a ``TrainState`` and, where
    something is chosen, the held-out ``score``, with ``best`` and ``best_step``."""
    step: Callable[[TrainState, Batch], tuple[TrainState, Sums]]
    choose: Callable[..., dict[str, PyTree]]
    """``choose_better`` or ``choose_last``."""
    sound: Callable[[PyTree], Array]
    shapes: dict[str, PyTree]
    schedule: optax.Schedule
    """For the log: of several learning rates, that of the greatest."""


def compile_programs(
    experiment: FinetuningExperiment, start: Start, mesh: Mesh
) -> Programs:
    """The programs of a run on a mesh; XLA compiles each when it is first called."""
    frozen = None
    if experiment.frozen:
        frozen = frozen_leaves(start.model.config, experiment.frozen)
    rates = jnp.repeat(jnp.array(experiment.rates), experiment.seeds)
    seeds = jnp.array(experiment.all_seeds * len(experiment.rates))

    def schedule(rate: Array | float) -> optax.Schedule:
        return linear_schedule(
            rate, experiment.optimizer.warmup_steps, experiment.steps
        )

    def optimizer(rate: Array) -> optax.GradientTransformation:
        made = make_optimizer(experiment.optimizer, schedule(rate))
        return freeze(made, frozen) if frozen else made

    def init(given: PyTree) -> dict[str, PyTree]:
        keys = jax.vmap(jax.random.key)(seeds)
        if start.each:
            times = len(experiment.rates)
            given = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * times), given)
        fresh = init_states(keys, start.model, optimizer(rates[0]), given, start.each)
        state = dict(vars(fresh))
        if experiment.holds_out:
            state |= {"score": jnp.full(len(seeds), -jnp.inf)}
        if experiment.rule == "best":
            steps = jnp.zeros(len(seeds), jnp.int32)
            state |= {"best": state["params"], "best_step": steps}
        return state

    def step(rate: Array, state: TrainState, batch: Batch) -> tuple[TrainState, Sums]:
        return train_step(
            start.model, experiment.task, optimizer(rate), state, batch, frozen
        )

    # Parameters have an axis of rates and seeds; every device has all of them.
    whole = NamedSharding(mesh, PartitionSpec())
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole),
        jax.eval_shape(init, start.given),
    )
    choose = choose_better if experiment.rule == "best" else choose_last
    return Programs(
        init=jax.jit(init, out_shardings=whole),
        step=jax.jit(
            partial(train_steps, step, rates),
            donate_argnums=0,
            out_shardings=(whole, None),
        ),
        choose=jax.jit(choose, out_shardings=whole),
        sound=jax.jit(sound),
        shapes=shapes,
        schedule=schedule(max(experiment.rates)),
    )
