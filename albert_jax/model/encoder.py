"""One layer, applied L times: the sharing of parameters across depth (section 3.1)."""

from collections.abc import Callable, Sequence
from itertools import groupby

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, PyTree

from albert_jax.config import AlbertConfig
from albert_jax.model.attention import SelfAttention
from albert_jax.model.layers import FeedForward

# (input, output, attention probabilities) of one block -> what to keep of it.
Probe = Callable[[Array, Array, Array], PyTree]

# Which attention and which feed-forward sub-block a block of a layer uses.
Block = tuple[int, int]

_POLICIES = {
    "matmuls": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
        jax.checkpoint_policies.save_only_these_names("context", "normalised"),
    ),
    "layer": jax.checkpoint_policies.nothing_saveable,
}


def sharing_plan(config: AlbertConfig) -> list[tuple[Block, ...]]:
    """For each layer, the (attention, feed-forward) sub-blocks of its inner blocks.

    Layer i belongs to group floor(i * G / L). A shared kind of sub-block is used by all
    layers of its group, the other kind is the layer's own; either way inner block j has
    its own. Entries index ``encoder/attention_<n>`` and ``encoder/ffn_<n>``.
    """
    layers, groups = config.num_hidden_layers, config.num_hidden_groups
    inner = config.inner_group_num

    def owner(layer: int, kind: str) -> int:
        shared = config.share in ("all", kind)
        return layer * groups // layers if shared else layer

    return [
        tuple(
            (owner(i, "attention") * inner + j, owner(i, "ffn") * inner + j)
            for j in range(inner)
        )
        for i in range(layers)
    ]


class Encoder(nn.Module):
    """The stack of layers. Each sub-block is one entry of the tree, however often used.

    Neighbouring layers with the same weights run as one ``nn.scan`` over broadcast
    parameters; ``scan_layers=False`` is the same computation as a Python loop, over the
    same tree (dropout draws differ: the two derive their keys in different ways).
    """

    config: AlbertConfig

    def setup(self) -> None:
        blocks = [block for layer in sharing_plan(self.config) for block in layer]
        self.attention = [
            SelfAttention(self.config) for _ in range(1 + max(a for a, _ in blocks))
        ]
        self.ffn = [
            FeedForward(self.config) for _ in range(1 + max(f for _, f in blocks))
        ]

    def __call__(
        self,
        hidden: Float[Array, "b t h"],
        bias: Float[Array, "b 1 #t t"],
        deterministic: bool = True,
        probe: Probe | None = None,
    ) -> tuple[Float[Array, "b t h"], PyTree]:
        """Returns the last hidden state, and ``probe``'s values stacked over blocks.

        The leading axis of every probed leaf is L * ``inner_group_num``, bottom to top.
        Without a probe the second value is None and nothing is kept or computed for it.
        """
        kept = []
        for layer, run in groupby(sharing_plan(self.config)):
            hidden, values = self._repeat(
                layer, len(list(run)), hidden, bias, deterministic, probe
            )
            kept.append(values)
        return hidden, jax.tree.map(lambda *runs: jnp.concatenate(runs), *kept)

    def _repeat(
        self,
        layer: Sequence[Block],
        times: int,
        hidden: Float[Array, "b t h"],
        bias: Float[Array, "b 1 #t t"],
        deterministic: bool,
        probe: Probe | None,
    ) -> tuple[Float[Array, "b t h"], PyTree]:
        """Applies one layer ``times`` times."""

        def apply(encoder: Encoder, hidden: Array, bias: Array) -> tuple[Array, PyTree]:
            kept = []
            for a, f in layer:
                # Rows stay where they are; it is the weights that a mesh sends around.
                before = nn.with_logical_constraint(hidden, ("batch", None, None))
                middle, attention = encoder.attention[a](before, bias, deterministic)
                hidden = encoder.ffn[f](middle, deterministic)
                kept.append(probe(before, hidden, attention) if probe else None)
            return hidden, jax.tree.map(lambda *blocks: jnp.stack(blocks), *kept)

        # Parameters are made outside of lifted transformations, so that scan and loop
        # draw the same initial values.
        scan = self.config.scan_layers and times > 1 and not self.is_initializing()
        if self.config.remat != "nothing":
            apply = nn.remat(
                apply, policy=_POLICIES[self.config.remat], prevent_cse=not scan
            )
        if not scan:
            values = []
            for _ in range(times):
                hidden, kept = apply(self, hidden, bias)
                values.append(kept)
            return hidden, jax.tree.map(
                lambda *layers: jnp.concatenate(layers), *values
            )

        hidden, values = nn.scan(
            apply,
            variable_broadcast="params",
            split_rngs={"params": False, "dropout": True},
            in_axes=nn.broadcast,
            length=times,
        )(self, hidden, bias)
        return hidden, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), values)
