"""Where arrays live: a mesh of devices with the axes data, fsdp and tensor.

``jax.jit`` over a mesh is the successor of pmap and pjit: the program is written for
whole arrays, and the compiler inserts the communication that their placement asks for.
"""

import re
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from albert_jax.config import MeshConfig, PretrainingExperiment, UserError

# A path in the parameter tree (and in the moments', which mirror it) -> mesh axes of
# its dimensions. The first match counts. "tensor" splits heads, the feed-forward width
# and the vocabulary; "fsdp" splits what is left of every matrix.
RULES: tuple[tuple[str, PartitionSpec], ...] = (
    (r"word_embeddings/embedding$", PartitionSpec("tensor", "fsdp")),
    (r"(query|key|value|intermediate)/kernel$", PartitionSpec("fsdp", "tensor")),
    (r"(query|key|value|intermediate)/bias$", PartitionSpec("tensor")),
    (r"attention_\d+/dense/kernel$", PartitionSpec("tensor", "fsdp")),
    (r"ffn_\d+/output/kernel$", PartitionSpec("tensor", "fsdp")),
    (r"(mapping_in|pooler|predictions/dense)/kernel$", PartitionSpec("fsdp")),
    (r"predictions/bias$", PartitionSpec("tensor")),
    (r"", PartitionSpec()),
)

# Rows of a batch are divided among data and fsdp alike.
BATCH = PartitionSpec(("data", "fsdp"))


def make_mesh(config: MeshConfig, devices: list[jax.Device] | None = None) -> Mesh:
    """The mesh that ``config`` asks for, of all devices.

    Raises:
      UserError: the axes do not multiply to the number of devices.
    """
    count = len(devices or jax.devices())
    sizes = [config.data, config.fsdp, config.tensor]
    if -1 in sizes:
        rest = -int(np.prod(sizes))
        sizes[sizes.index(-1)] = count // rest
    if int(np.prod(sizes)) != count:
        raise UserError(
            f"mesh is data x fsdp x tensor = {config.data} x {config.fsdp} x "
            f"{config.tensor}, which does not make the {count} devices there are"
        )
    return jax.make_mesh(
        tuple(sizes),
        ("data", "fsdp", "tensor"),
        axis_types=(jax.sharding.AxisType.Auto,) * 3,
        devices=devices,
    )


def check_division(
    mesh: Mesh | AbstractMesh, experiment: PretrainingExperiment
) -> None:
    """Raises a ``UserError`` unless the mesh divides the heads and the batches."""
    heads, tensor = experiment.model.num_attention_heads, mesh.shape["tensor"]
    if heads % tensor:
        raise UserError(
            f"model.num_attention_heads is {heads}, which mesh.tensor = {tensor} does "
            "not divide: a head stays on one device"
        )
    rows = mesh.shape["data"] * mesh.shape["fsdp"]
    parts = rows * experiment.accumulation
    for name, size, ways, product in (
        ("data", experiment.data.batch_size, parts, " x accumulation"),
        ("evaluation", experiment.evaluation.batch_size, rows, ""),
    ):
        if size % ways:
            raise UserError(
                f"{name}.batch_size is {size}, which mesh.data x mesh.fsdp{product} = "
                f"{ways} does not divide"
            )


def shardings(mesh: Mesh | AbstractMesh, shapes: PyTree) -> PyTree:
    """A sharding for every array of a state or parameter tree, by ``RULES``.

    A dimension that its axis does not divide is kept whole on every device.
    """

    def place(path: tuple, leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        rule = next(spec for pattern, spec in RULES if re.search(pattern, name))
        axes = [
            axis if axis and size % mesh.shape[axis] == 0 else None
            for axis, size in zip(rule, leaf.shape, strict=False)
        ]
        return NamedSharding(mesh, PartitionSpec(*axes))

    return jax.tree_util.tree_map_with_path(place, shapes)


def abstract(mesh: Mesh, make: Callable[..., PyTree], *args: PyTree) -> PyTree:
    """Shapes, types and shardings of what ``make(*args)`` returns; runs nothing."""
    shapes = jax.eval_shape(make, *args)
    return jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=where
        ),
        shapes,
        shardings(mesh, shapes),
    )


def place_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Makes global arrays of this host's rows of a batch."""
    where = NamedSharding(mesh, BATCH)
    return {
        name: jax.make_array_from_process_local_data(where, value)
        for name, value in batch.items()
    }
