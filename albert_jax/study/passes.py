"""The gradient of shared weights, pass by pass: do the passes through a layer agree?

A layer that is applied L times gets L gradients, and their sum is what the optimizer
sees. Here the sum is taken apart, without L copies of the weights: backpropagation that
keeps the parts.
Axes: k passes, bottom to top, one for every block of every layer; b rows, t positions,
h = H.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int, PyTree

from albert_jax.config import AlbertConfig
from albert_jax.model.attention import SelfAttention, attention_bias
from albert_jax.model.encoder import Encoder, sharing_plan
from albert_jax.model.layers import FeedForward
from albert_jax.model.losses import (
    MODEL_INPUTS,
    Scalar,
    objective,
    pretraining_losses,
    pretraining_weights,
)

Batch = Mapping[str, Array | np.ndarray]

# The two kinds of sub-blocks, as the encoder's tree calls them.
KINDS = ("attention", "ffn")


@dataclass(frozen=True, kw_only=True)
class PassGradients:
    """How long the gradients of all passes are, and how they lie to each other.

    Both fields have an entry for each kind of sub-block, "attention" and "ffn".
    """

    products: Mapping[str, Float[np.ndarray, "k k"]]
    """Inner products of the passes' gradients."""
    owners: Mapping[str, Int[np.ndarray, "k"]]
    """Which weights a pass uses: n of ``encoder/attention_<n>``, ``encoder/ffn_<n>``.
    Passes with the same number share them."""

    def norms(self, kind: str) -> Float[np.ndarray, "k"]:
        """L2 norm of each pass's gradient."""
        return np.sqrt(np.diag(self.products[kind]))

    def shared(self, kind: str) -> Bool[np.ndarray, "k k"]:
        """Which pairs of passes use the same weights."""
        return self.owners[kind][:, None] == self.owners[kind]

    def cosines(self, *kinds: str) -> Float[np.ndarray, "k k"]:
        """Of two passes' gradients of the weights that both use, of these kinds (both
        by default); NaN where they have none in common, or no gradient."""
        products = np.zeros_like(self.products[KINDS[0]])
        mine = np.zeros_like(products)
        for kind in kinds or KINDS:
            shared = self.shared(kind)
            products += np.where(shared, self.products[kind], 0.0)
            mine += np.where(shared, np.diag(self.products[kind])[:, None], 0.0)
        lengths = np.sqrt(mine * mine.T)
        nothing = np.full_like(products, np.nan)
        return np.divide(products, lengths, out=nothing, where=lengths > 0)

    def agreement(self, kind: str) -> dict[int, float]:
        """For weights that several passes use, by number: the norm of the passes' sum
        over the sum of their norms. 1 where all point one way, 1 / sqrt(passes) where
        they are equally long and orthogonal, 0 where they cancel."""
        found = {}
        for owner in np.unique(self.owners[kind]):
            users = np.flatnonzero(self.owners[kind] == owner)
            length = self.norms(kind)[users].sum()
            if len(users) > 1 and length > 0:
                squared = self.products[kind][np.ix_(users, users)].sum()
                found[int(owner)] = float(np.sqrt(max(squared, 0.0)) / length)
        return found


def pass_gradients(
    model: nn.Module, variables: PyTree, batches: Iterable[Batch]
) -> PassGradients:
    """What each pass through the layers adds to the gradient of pretraining's loss.

    The loss is that of all batches together, masked LM + sentence order, without
    dropout. Holds one gradient of a block for every pass at once.

    Args:
      model: ``AlbertForPreTraining``.
      variables: its, as ``from_pretrained`` and ``load_run`` return them.
      batches: rows with labels, as ``PretrainingData`` makes them. Each shape is
        compiled once.

    Raises:
      ValueError: there are no batches.
    """
    batches = [{name: jnp.asarray(x) for name, x in b.items()} for b in batches]
    if not batches:
        raise ValueError("there is no batch to take gradients of")
    weights: dict[str, Any] = {}
    for batch in batches:
        for name, weight in pretraining_weights(batch).items():
            weights[name] = weights.get(name, 0.0) + weight
    step = jax.jit(partial(gradients_by_pass, model))
    total = None
    for batch in batches:
        part = step(variables["params"], batch, weights)
        total = part if total is None else jax.tree.map(jnp.add, total, part)
    products = jax.device_get(jax.jit(_products)(total))
    blocks = np.array(_blocks(model.config)).T
    return PassGradients(
        products={kind: np.float64(products[kind]) for kind in KINDS},
        owners=dict(zip(KINDS, blocks, strict=True)),
    )


def gradients_by_pass(
    model: nn.Module, params: PyTree, batch: Batch, weights: Mapping[str, Scalar]
) -> dict[str, PyTree]:
    """The gradient of a batch's loss by "attention" and "ffn", each leaf [k, ...]; a
    pure function, fit for ``jit``.

    Summed over the passes that use the same weights, it is the gradient of those.

    Args:
      weights: what the losses are divided by, as for ``train_step``: with those of
        several batches the gradients of each add up.
    """
    config = model.config
    inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}
    apply = partial(model.apply, {"params": params}, **inputs)
    states = apply(output_hidden_states=True).hidden_states
    ids = inputs["input_ids"]
    mask = jnp.asarray(inputs.get("attention_mask", jnp.ones_like(ids)), bool)
    bias = attention_bias(mask, inputs.get("segment_ids"))
    encoder = params["albert"]["encoder"]
    users = jnp.array(_blocks(config))
    owned = {kind: _stack_owners(encoder, kind) for kind in KINDS}

    def loss(last: Float[Array, "b t h"]) -> Float[Array, ""]:
        with nn.intercept_methods(_in_place_of_the_encoder(last)):
            sums = pretraining_losses(apply(), batch)
        return objective({name: (sums[name][0], weights[name]) for name in weights})

    def back(towards: Array, one: tuple[Array, Array]) -> tuple[Array, dict]:
        """From the gradient of a pass's output to that of its input."""
        hidden, user = one
        used = {
            kind: jax.tree.map(lambda x, i=i: x[user[i]], owned[kind])
            for i, kind in enumerate(KINDS)
        }
        _, pull = jax.vjp(partial(_apply_block, config, bias), used, hidden)
        towards_weights, towards = pull(towards)
        return towards, towards_weights

    _, gradients = jax.lax.scan(
        back, jax.grad(loss)(states[-1]), (states[:-1], users), reverse=True
    )
    return gradients


def _blocks(config: AlbertConfig) -> list[tuple[int, int]]:
    """The (attention, ffn) of every pass."""
    return [block for layer in sharing_plan(config) for block in layer]


def _stack_owners(encoder: PyTree, kind: str) -> PyTree:
    """All weights of a kind, [how many there are, ...]: one where all are shared."""
    count = sum(name.startswith(f"{kind}_") for name in encoder)
    owners = [encoder[f"{kind}_{n}"] for n in range(count)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *owners)


def _apply_block(
    config: AlbertConfig,
    bias: Float[Array, "b 1 #t t"],
    used: dict[str, PyTree],
    hidden: Float[Array, "b t h"],
) -> Float[Array, "b t h"]:
    attention, ffn = SelfAttention(config), FeedForward(config)
    middle, _ = attention.apply({"params": used["attention"]}, hidden, bias, True)
    return ffn.apply({"params": used["ffn"]}, middle, True)


def _in_place_of_the_encoder(last: Float[Array, "b t h"]) -> Callable[..., Any]:
    """An interceptor: the encoder computes nothing and returns this hidden state, so
    that what is above it becomes a function of that."""

    def intercept(
        proceed: Callable[..., Any], args: tuple, kwargs: dict, context: Any
    ) -> Any:
        if isinstance(context.module, Encoder) and context.method_name == "__call__":
            return last, {}
        return proceed(*args, **kwargs)

    return intercept


def _products(gradients: dict[str, PyTree]) -> dict[str, Array]:
    """Inner products [k, k] of every kind."""

    def product(leaf: Array) -> Array:
        rows = leaf.reshape(len(leaf), -1).astype(jnp.float32)
        return jnp.dot(rows, rows.T, precision="highest")

    return {kind: sum(map(product, jax.tree.leaves(gradients[kind]))) for kind in KINDS}
