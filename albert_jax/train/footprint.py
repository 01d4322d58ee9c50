"""What a training step asks of a device's memory, on any mesh and before there is one.

By formula, so that it says what takes the memory. The terms are the arrays that XLA
keeps in a step compiled for a CPU, counted in its buffers; compilers of accelerators
fuse more of the attention, and need less of what is called ``attention`` here.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh
from jaxtyping import PyTree

from albert_jax.config import DataConfig, MeshConfig, PretrainingExperiment
from albert_jax.train.pretrain import compile_programs
from albert_jax.train.sharding import check_division, kept_whole, mesh_sizes

_FLOAT32 = 4


def footprint(experiment: PretrainingExperiment) -> dict[str, Any]:
    """The mesh, the bytes that each of its devices needs at most, by what needs them,
    and what is kept whole because its axis does not divide it. Allocates nothing.

    Raises:
      UserError: the mesh divides the heads or the batches with a rest.
    """
    sizes = fewest_devices(experiment.mesh)
    mesh = AbstractMesh(tuple(sizes.values()), tuple(sizes))
    check_division(mesh, experiment)
    state = compile_programs(experiment, mesh).shapes
    activations = Activations.of(experiment, sizes)
    return {
        "mesh": sizes,
        "bytes_per_device": device_bytes(
            _bytes(state.params), _bytes(state.opt_state), activations
        ),
        "kept_whole": kept_whole(mesh, state.params),
    }


def device_bytes(
    parameters: int, moments: int, activations: "Activations"
) -> dict[str, int]:
    """What a step holds on one device at its worst moment, by what holds it."""
    # Once activations are gone, the update of all parameters takes their place.
    at_work = max(activations.at_work, parameters - activations.kept)
    held = {
        "parameters": parameters,
        "moments": moments,
        "gradients": parameters,
        "kept activations": activations.kept,
        "activations at work": at_work,
    }
    return held | {"total": sum(held.values())}


@dataclass(frozen=True)
class Activations:
    """Bytes of a step on one device beside its state and its gradients, by formula.

    b rows of t tokens are on the device at once: its part of the batch, of
    ``accumulation`` parts one, of every seed. Heads, the feed-forward width f and the
    vocabulary are its part, if the axis "tensor" divides them.
    """

    kept: int
    """What the forward pass of all layers leaves for the backward pass."""
    attention: int
    """Arrays [b, n, t, t] in float32 while a layer's attention is differentiated:
    probabilities and the gradient of their logits; with dropout also what it draws, and
    what autodiff keeps of every step."""
    feed_forward: int
    """Arrays [b, t, f] while a layer's feed-forward is: activation and gradient; with
    ``remat`` "layer" also what the activation is of."""
    hidden: int
    """Arrays [b, t, h] meanwhile: what was kept of this layer, query, key, value and
    context, and the gradients of all of these; what dropout draws."""
    again: int
    """What ``remat`` "layer" computes a second time, where a layer has inner blocks."""
    weights: int
    """Gradients that one use of the feed-forward adds to the sum; weights in the type
    that is computed in; and what a mesh gathers over its axis "fsdp"."""
    logits: int
    """Logits of the predicted tokens and their gradient, [b, p, V] in float32."""

    @property
    def at_work(self) -> int:
        """Beside what is kept, at the worst moment."""
        layer = max(self.attention, self.feed_forward) + self.hidden + self.again
        return max(layer + self.weights, self.logits)

    @classmethod
    def of(
        cls, experiment: PretrainingExperiment, mesh: Mapping[str, int]
    ) -> "Activations":
        """Those of an experiment on a mesh with axes of these sizes."""
        c, data = experiment.model, experiment.data
        rows = data.batch_size // (mesh["data"] * mesh["fsdp"])
        rows *= experiment.seeds
        rows //= experiment.accumulation
        tensor, width = mesh["tensor"], jnp.dtype(c.dtype).itemsize
        tokens, e = rows * data.sequence_length, c.embedding_size
        h, f, v = c.hidden_size, c.intermediate_size, c.vocab_size
        hidden = tokens * h * width
        heads = hidden // tensor
        wide = tokens * f * width // tensor
        scores = rows * c.num_attention_heads * data.sequence_length**2
        scores = scores * _FLOAT32 // tensor

        # Of one block. Its input; query, key, value, context and the wide layer before
        # its activation; both normalised sums, and a float32 a token for each.
        products = 4 * heads + wide + 2 * hidden + 2 * tokens * _FLOAT32
        dropped, inner = c.attention_probs_dropout_prob > 0, c.inner_group_num
        kept = {
            # Also what the feed-forward takes and what its activation gives.
            "nothing": 3 * hidden + products + wide + dropped * 2 * scores,
            "matmuls": hidden + products,
            "layer": hidden / inner,
        }[c.remat]
        wide_use = experiment.seeds * 2 * h * f * _FLOAT32 // tensor
        layer = experiment.seeds * (4 * h * h + 2 * h * f) // tensor
        cast = layer * width if width < _FLOAT32 else 0
        gathered = (layer * width + 2 * v * e * _FLOAT32) if mesh["fsdp"] > 1 else 0
        return cls(
            kept=int(c.num_hidden_layers * inner * kept),
            attention=(8 if dropped else 2) * scores,
            feed_forward=(3 if c.remat == "layer" else 2) * wide,
            hidden=(11 if c.hidden_dropout_prob else 7) * hidden + 7 * heads,
            again=inner * products if c.remat == "layer" and inner > 1 else 0,
            weights=wide_use + cast + gathered // tensor,
            logits=2 * rows * data.predictions * v * _FLOAT32 // tensor,
        )


def batch_shapes(config: DataConfig, seeds: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
    """The arrays of a batch, see ``PretrainingData``; of several seeds, one of each."""
    leading = (seeds,) if seeds > 1 else ()
    rows, kinds = (*leading, config.batch_size), {}
    for width, kind, names in (
        (config.sequence_length, jnp.int32, ("input_ids", "token_type_ids")),
        (config.sequence_length, jnp.int32, ("position_ids", "segment_ids")),
        (config.sequence_length, jnp.bool_, ("attention_mask",)),
        (config.pairs, jnp.int32, ("cls_positions", "sentence_order_label")),
        (config.pairs, jnp.float32, ("sentence_order_weights",)),
        (config.predictions, jnp.int32, ("masked_positions", "masked_labels")),
        (config.predictions, jnp.float32, ("masked_weights",)),
    ):
        kinds |= {name: jax.ShapeDtypeStruct((*rows, width), kind) for name in names}
    return kinds


def fewest_devices(config: MeshConfig) -> dict[str, int]:
    """Axis -> size, on the fewest devices that the mesh fits: -1 counts as 1."""
    given = (config.data, config.fsdp, config.tensor)
    return mesh_sizes(config, math.prod(max(size, 1) for size in given))


def _bytes(tree: PyTree) -> int:
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )
