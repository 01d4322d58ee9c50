"""What training asks of a device's memory, on any mesh and before there is one."""

import math
from typing import Any

import jax
from jax.sharding import AbstractMesh
from jaxtyping import PyTree

from albert_jax.config import PretrainingExperiment
from albert_jax.train.pretrain import compile_programs
from albert_jax.train.sharding import check_division, kept_whole, mesh_sizes


def footprint(experiment: PretrainingExperiment) -> dict[str, Any]:
    """The mesh, the bytes that each of its devices holds from step to step, and what is
    kept whole because its axis does not divide it. Allocates nothing.

    An axis of size -1 counts as 1: the fewest devices that the mesh could have.

    Raises:
      UserError: the mesh divides the heads or the batches with a rest.
    """
    config = experiment.mesh
    devices = math.prod(max(n, 1) for n in (config.data, config.fsdp, config.tensor))
    sizes = mesh_sizes(config, devices)
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


def _bytes(tree: PyTree) -> int:
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )
