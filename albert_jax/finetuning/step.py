"""A step of fine-tuning as pure functions: a head's losses, many seeds at once."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Key, PyTree

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
) -> tuple[TrainState, Sums]:
    """One step of one seed; the sums are those of ``task_losses`` and ``take_step``."""
    inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}
    if task.unanswerable:
        inputs |= {name: batch[name] for name in ("p_mask", "start_positions")}

    def losses(params: PyTree, dropout: Key[Array, ""]) -> tuple[Array, Sums]:
        output = model.apply(
            {"params": params}, **inputs, deterministic=False, rngs={"dropout": dropout}
        )
        return task_losses(task, output, batch)

    gradient_of = jax.grad(losses, has_aux=True)
    return take_step(gradient_of, optimizer, state, batch["attention_mask"])


def train_steps(
    step: Callable[[TrainState, Batch], tuple[TrainState, Sums]],
    states: TrainState,
    batches: Batch,
) -> tuple[TrainState, Sums]:
    """``step`` of every seed: states and batches have an axis of seeds first. The sums
    are added up, so that their means are means over seeds too."""
    states, sums = jax.vmap(step)(states, batches)
    return states, jax.tree.map(partial(jnp.sum, axis=0), sums)


def init_states(
    keys: Key[Array, "s"],
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    given: PyTree,
) -> TrainState:
    """A fresh state for each key, but for the parts of the parameters, by their names
    at the top of the tree, that are ``given``."""

    def init(key: Key[Array, ""]) -> TrainState:
        state = init_state(key, model, optimizer)
        return state.replace(params=state.params | given)

    return jax.vmap(init)(keys)


def choose_better(
    best: dict[str, PyTree], params: PyTree, scores: Array, step: Array
) -> dict[str, PyTree]:
    """``params``, ``scores`` and ``step`` of those seeds whose score is above their
    best so far; the rest as it was. A score that is not a number is no better."""
    better = scores > best["best_score"]

    def choose(old: Array, new: Array) -> Array:
        return jnp.where(better.reshape(-1, *[1] * (old.ndim - 1)), new, old)

    return {
        "best": jax.tree.map(choose, best["best"], params),
        "best_score": choose(best["best_score"], scores),
        "best_step": choose(best["best_step"], jnp.full(len(scores), step)),
    }
