"""Where arrays live: a mesh of devices with the axes data, fsdp and tensor.

``jax.jit`` over a mesh is the successor of pmap and pjit: the program is written for
whole arrays, and the compiler inserts the communication that their placement asks for.
"""

import math
import re
from collections.abc import Callable
from functools import wraps

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from albert_jax.config import MeshConfig, PretrainingExperiment, UserError

# What an axis of an array counts -> the axes of the mesh that divide it. The rest of a
# matrix is what "tensor" does not divide.
RULES: tuple[tuple[str, str | tuple[str, ...]], ...] = (
    ("batch", ("data", "fsdp")),
    ("heads", "tensor"),
    ("wide", "tensor"),
    ("vocabulary", "tensor"),
    ("rest", "fsdp"),
)

# A path in the parameter tree (and in the moments', which mirror it) -> what its axes
# count. The first match is taken.
PARAMETERS: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r"word_embeddings/embedding$", ("vocabulary", "rest")),
    (r"(query|key|value)/kernel$", ("rest", "heads")),
    (r"(query|key|value)/bias$", ("heads",)),
    (r"attention_\d+/dense/kernel$", ("heads", "rest")),
    (r"intermediate/kernel$", ("rest", "wide")),
    (r"intermediate/bias$", ("wide",)),
    (r"ffn_\d+/output/kernel$", ("wide", "rest")),
    (r"(mapping_in|pooler|predictions/dense)/kernel$", ("rest", None)),
    (r"predictions/bias$", ("vocabulary",)),
    (r"", ()),
)

BATCH = nn.logical_to_mesh_axes(("batch",), RULES)


def mesh_sizes(config: MeshConfig, devices: int) -> dict[str, int]:
    """Axis -> size, on so many devices.

    Raises:
      UserError: the axes do not multiply to the number of devices.
    """
    sizes = {"data": config.data, "fsdp": config.fsdp, "tensor": config.tensor}
    known = math.prod(size for size in sizes.values() if size > 0)
    found = {n: devices // known if size == -1 else size for n, size in sizes.items()}
    if math.prod(found.values()) != devices:
        raise UserError(
            f"mesh is data x fsdp x tensor = {config.data} x {config.fsdp} x "
            f"{config.tensor}, which does not make the {devices} devices there are"
        )
    return found


def make_mesh(config: MeshConfig, devices: list[jax.Device] | None = None) -> Mesh:
    """The mesh that ``config`` asks for, of all devices.

    Raises:
      UserError: see ``mesh_sizes``.
    """
    devices = devices or jax.devices()
    sizes = mesh_sizes(config, len(devices))
    axes, types = tuple(sizes), (jax.sharding.AxisType.Auto,) * 3
    if jax.process_count() == 1:
        return jax.make_mesh(tuple(sizes.values()), axes, types, devices=devices)
    # Devices of a process lie together, so that it has one part of every batch to read;
    # JAX would order them by their wiring.
    devices = sorted(devices, key=lambda d: (d.process_index, d.id))
    return Mesh(np.array(devices).reshape(tuple(sizes.values())), axes, types)


def check_division(
    mesh: Mesh | AbstractMesh, experiment: PretrainingExperiment
) -> None:
    """Raises a ``UserError`` unless the mesh divides the heads and the batches, and is
    one device where there are several seeds."""
    if experiment.seeds > 1 and mesh.size > 1:
        raise UserError(
            f"seeds is {experiment.seeds}, which one device trains together, but the "
            f"mesh has {mesh.size}: let the run see one device only, or train seeds "
            "one after another, with seeds = 1 and a seed each"
        )
    heads, tensor = experiment.model.num_attention_heads, mesh.shape["tensor"]
    if heads % tensor:
        raise UserError(
            f"model.num_attention_heads is {heads}, which mesh.tensor = {tensor} does "
            "not divide: a head stays on one device"
        )
    data, evaluation = experiment.data, experiment.evaluation
    check_batch(mesh, "data.batch_size", data.batch_size, experiment.accumulation)
    check_batch(mesh, "evaluation.batch_size", evaluation.batch_size)


def check_batch(
    mesh: Mesh | AbstractMesh, name: str, rows: int, accumulation: int | None = None
) -> None:
    """Raises a ``UserError`` unless the mesh divides a batch, or the parts of one."""
    ways = mesh.shape["data"] * mesh.shape["fsdp"] * (accumulation or 1)
    if rows % ways:
        product = "" if accumulation is None else " x accumulation"
        raise UserError(
            f"{name} is {rows}, which mesh.data x mesh.fsdp{product} = {ways} does not "
            "divide"
        )


def shardings(mesh: Mesh | AbstractMesh, shapes: PyTree) -> PyTree:
    """A sharding for every array of a state or parameter tree, by ``PARAMETERS``.

    A dimension that its axis does not divide is kept whole on every device.
    """

    def place(path: tuple, leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        axes = [axis if fits else None for axis, _, fits in _ruled(mesh, path, leaf)]
        return NamedSharding(mesh, PartitionSpec(*axes))

    return jax.tree_util.tree_map_with_path(place, shapes)


def kept_whole(mesh: Mesh | AbstractMesh, shapes: PyTree) -> dict[str, str]:
    """Array -> why a dimension is not divided: "tensor = 32 does not divide 30,000"."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        odd = [
            f"{axis} = {mesh.shape[axis]} does not divide {size:,}"
            for axis, size, fits in _ruled(mesh, path, leaf)
            if axis and not fits
        ]
        if odd:
            found[_name(path)] = ", ".join(odd)
    return found


def _ruled(
    mesh: Mesh | AbstractMesh, path: tuple, leaf: jax.ShapeDtypeStruct
) -> list[tuple[str | None, int, bool]]:
    """For dimensions that have a rule: their axis, their size, and whether it fits."""
    counted = next(axes for known, axes in PARAMETERS if re.search(known, _name(path)))
    rule = nn.logical_to_mesh_axes(counted, RULES)
    return [
        (axis, size, axis is not None and size % mesh.shape[axis] == 0)
        for axis, size in zip(rule, leaf.shape, strict=False)
    ]


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def on_mesh(mesh: Mesh | AbstractMesh, program: Callable[..., PyTree]) -> Callable:
    """The program with what it computes placed by ``RULES``, where the model names axes
    (``nn.with_logical_constraint``); on one device, the program itself.

    To be traced under ``jax.set_mesh(mesh)``.
    """
    if mesh.size == 1:
        return program

    @wraps(program)
    def placed(*args: PyTree, **options: PyTree) -> PyTree:
        with nn.logical_axis_rules(RULES):
            return program(*args, **options)

    return placed


def abstract(
    mesh: Mesh | AbstractMesh, make: Callable[..., PyTree], *args: PyTree
) -> PyTree:
    """Shapes, types and shardings of what ``make(*args)`` returns; runs nothing."""
    shapes = jax.eval_shape(make, *args)
    return jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=where
        ),
        shapes,
        shardings(mesh, shapes),
    )


def host_part(mesh: Mesh) -> tuple[int, int]:
    """Which part of every batch this process has to read, and of how many.

    A part belongs to several processes where an axis "tensor" spans them.

    Raises:
      UserError: its rows do not lie together.
    """
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    places = NamedSharding(mesh, BATCH).addressable_devices_indices_map((ways,))
    ours = sorted({place[0].indices(ways)[0] for place in places.values()})
    first, count = ours[0], len(ours)
    if ours != list(range(first, first + count)) or first % count or ways % count:
        raise UserError(
            f"mesh {dict(mesh.shape)} gives process {jax.process_index()} rows of the "
            "batch that do not lie together; make mesh.tensor divide its "
            f"{jax.local_device_count()} devices, or be a multiple of them"
        )
    return first // count, ways // count


def place_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Makes global arrays of this process's rows of a batch."""
    where = NamedSharding(mesh, BATCH)
    return {
        name: jax.make_array_from_process_local_data(where, value)
        for name, value in batch.items()
    }


def place_whole(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Makes global arrays of a batch that every process has all of."""
    where = NamedSharding(mesh, BATCH)
    return {
        name: jax.make_array_from_callback(value.shape, where, value.__getitem__)
        for name, value in batch.items()
    }


def everywhere(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """The sharding of what every device has all of."""
    return NamedSharding(mesh, PartitionSpec())
