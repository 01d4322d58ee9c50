"""A step of fine-tuning as pure functions: a head's losses, many seeds at once."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Key, PyTree

from albert_jax.config.tasks import Task
from albert_jax.model.losses import (
    MODEL_INPUTS,
    Sums,
    answerable_span_losses,
    classification,
    mean,
    regression,
    span_losses,
    span_objective,
)
from albert_jax.train.state import TrainState, init_state, take_step

Batch = Mapping[str, Array]


def task_losses(task: Task, output: Any, batch: Batch) -> tuple[Array, Sums]:
    """What a task minimises, and the sums it is made of.

    Cross-entropy of ``labels`` (of the right choice, among the choices), the squared
    error of a number, or ``span_objective``; examples and pieces by their weights.

    Args:
      task: of any kind.
      output: what its head returns.
      batch: as ``tasks.batches`` makes it, of one seed.
    """
    if task.kind == "span":
        losses = answerable_span_losses if task.unanswerable else span_losses
        sums = losses(output, batch)
        return span_objective(sums), sums
    labels, weights = batch["labels"], batch["example_weights"]
    if task.kind == "regression":
        sums = regression("label", output.logits[..., 0], labels, weights)
    else:
        weights = batch.get("label_weights", weights)
        sums = classification("label", output.logits, labels, weights)
    return mean(sums["label_loss"]), sums


def train_step(
    model: nn.Module,
    task: Task,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    batch: Batch,
    frozen: Callable[[PyTree], PyTree] | None = None,
) -> tuple[TrainState, Sums]:
    """One step of one seed; the sums are those of ``task_losses`` and ``take_step``.

    Args:
      frozen: parameters -> which of them have no gradient; ``train.optimizer.freeze``
        keeps them out of the optimizer too.
    """
    inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}
    if task.unanswerable:
        inputs |= {name: batch[name] for name in ("p_mask", "start_positions")}

    def losses(params: PyTree, dropout: Key[Array, ""]) -> tuple[Array, Sums]:
        if frozen is not None:
            params = jax.tree.map(
                lambda x, stays: jax.lax.stop_gradient(x) if stays else x,
                params,
                frozen(params),
            )
        output = model.apply(
            {"params": params}, **inputs, deterministic=False, rngs={"dropout": dropout}
        )
        return task_losses(task, output, batch)

    gradient_of = jax.grad(losses, has_aux=True)
    return take_step(gradient_of, optimizer, state, batch["attention_mask"])


def train_steps(
    step: Callable[[Array, TrainState, Batch], tuple[TrainState, Sums]],
    rates: Float[Array, " m"],
    states: TrainState,
    batches: Batch,
) -> tuple[TrainState, Sums]:
    """A step of every seed at every learning rate.

    Args:
      step: of one of them.
      rates: those of the states, which have the same axis: all seeds of the first rate,
        then those of the next.
      batches: an axis of seeds first.

    Returns:
      the next states, and the sums added up, so that their means are means over all;
      where there are several rates, over those that have not diverged.
    """
    seeds = batches["input_ids"].shape[0]
    several = len(rates) // seeds
    batches = jax.tree.map(lambda x: jnp.concatenate([x] * several), batches)
    states, sums = jax.vmap(step)(rates, states, batches)
    if several > 1:
        finite = _finite(sums, len(rates))
        sums = jax.tree.map(lambda x: jnp.where(finite, x, 0.0), sums)
    return states, jax.tree.map(partial(jnp.sum, axis=0), sums)


def sound(params: PyTree) -> Bool[Array, " m"]:
    """For each of the first axis, whether all its parameters are numbers."""
    return _finite(params, jax.tree.leaves(params)[0].shape[0])


def _finite(tree: PyTree, members: int) -> Bool[Array, " m"]:
    leaves = [jnp.isfinite(x).reshape(members, -1) for x in jax.tree.leaves(tree)]
    return jnp.concatenate(leaves, axis=1).all(axis=1)


def init_states(
    keys: Key[Array, "s"],
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    given: PyTree,
    each: bool = False,
) -> TrainState:
    """A fresh state for each key, but for the parts of the parameters, by their names
    at the top of the tree, that are ``given``: to all alike, or to ``each`` its own,
    along an axis that comes first."""

    def init(key: Key[Array, ""], given: PyTree) -> TrainState:
        state = init_state(key, model, optimizer)
        return state.replace(params=state.params | given)

    return jax.vmap(init, in_axes=(0, 0 if each else None))(keys, given)


def choose_last(
    best: dict[str, PyTree], params: PyTree, scores: Array, step: Array
) -> dict[str, PyTree]:
    """``scores``, whatever they were before."""
    return {"score": scores}


def choose_better(
    best: dict[str, PyTree], params: PyTree, scores: Array, step: Array
) -> dict[str, PyTree]:
    """``params``, ``scores`` and ``step`` of those whose score is above their best so
    far; the rest as it was. A score that is not a number is no better."""
    better = scores > best["score"]

    def choose(old: Array, new: Array) -> Array:
        return jnp.where(better.reshape(-1, *[1] * (old.ndim - 1)), new, old)

    return {
        "best": jax.tree.map(choose, best["best"], params),
        "score": choose(best["score"], scores),
        "best_step": choose(best["best_step"], jnp.full(len(scores), step)),
    }
