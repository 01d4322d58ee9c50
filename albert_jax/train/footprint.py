"""What training asks of a device's memory, on any mesh and before there is one."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, NamedSharding
from jaxtyping import PyTree

from albert_jax.config import DataConfig, MeshConfig, PretrainingExperiment
from albert_jax.train.pretrain import compile_programs
from albert_jax.train.sharding import (
    BATCH,
    check_division,
    kept_whole,
    make_mesh,
    mesh_sizes,
)


def footprint(experiment: PretrainingExperiment) -> dict[str, Any]:
    """The mesh, the bytes that each of its devices holds from step to step, and what is
    kept whole because its axis does not divide it. Allocates nothing.

    An axis of size -1 counts as 1: the fewest devices that the mesh could have.

    Raises:
      UserError: the mesh divides the heads or the batches with a rest.
    """
    sizes = _fewest(experiment.mesh)
    mesh = AbstractMesh(tuple(sizes.values()), tuple(sizes))
    check_division(mesh, experiment)
    state = compile_programs(experiment, mesh).shapes
    parameters = _bytes(state.params)
    return {
        "mesh": sizes,
        "bytes_per_device": {
            "parameters": parameters,
            "moments": _bytes(state.opt_state),
            "gradients": parameters,
        },
        "kept_whole": kept_whole(mesh, state.params),
    }


def simulate_devices(config: MeshConfig) -> None:
    """Makes the CPU look like the devices of a mesh; comes before JAX touches any.

    Raises:
      RuntimeError: it has.
    """
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", math.prod(_fewest(config).values()))


def step_memory(experiment: PretrainingExperiment) -> dict[str, int]:
    """Bytes of a training step on each device, from XLA's analysis of the program.

    Compiled for the devices there are (see ``simulate_devices``), without allocating
    any array. What an accelerator's own compiler makes of it may need more or less.

    Raises:
      UserError: see ``footprint``; or the devices do not make the mesh.
    """
    mesh = make_mesh(MeshConfig(**footprint(experiment)["mesh"]))
    programs = compile_programs(experiment, mesh)
    batch = batch_shapes(experiment.data)
    placed = {
        name: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, BATCH)
        )
        for name, leaf in batch.items()
    }
    with jax.set_mesh(mesh):
        step = programs.step.lower(programs.shapes, placed).compile()
    found = step.memory_analysis()
    return {
        "state and batch": found.argument_size_in_bytes,
        "gradients and activations": found.temp_size_in_bytes,
        "total": found.argument_size_in_bytes + found.temp_size_in_bytes,
    }


def batch_shapes(config: DataConfig) -> dict[str, jax.ShapeDtypeStruct]:
    """The arrays of a batch, see ``PretrainingData``."""
    rows, kinds = config.batch_size, {}
    for width, kind, names in (
        (config.sequence_length, jnp.int32, ("input_ids", "token_type_ids")),
        (config.sequence_length, jnp.int32, ("position_ids", "segment_ids")),
        (config.sequence_length, jnp.bool_, ("attention_mask",)),
        (config.pairs, jnp.int32, ("cls_positions", "sentence_order_label")),
        (config.pairs, jnp.float32, ("sentence_order_weights",)),
        (config.predictions, jnp.int32, ("masked_positions", "masked_labels")),
        (config.predictions, jnp.float32, ("masked_weights",)),
    ):
        kinds |= {name: jax.ShapeDtypeStruct((rows, width), kind) for name in names}
    return kinds


def _fewest(config: MeshConfig) -> dict[str, int]:
    """The sizes of the axes on the fewest devices that they fit."""
    given = (config.data, config.fsdp, config.tensor)
    return mesh_sizes(config, math.prod(max(size, 1) for size in given))


def _bytes(tree: PyTree) -> int:
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )
