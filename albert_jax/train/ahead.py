"""A step compiled ahead of time, for devices that need not be there.

What XLA says of it: bytes on each device, and FLOPs. Nothing is allocated but the
program. For a TPU, the compiler is the TPU's own where the package libtpu is installed;
otherwise the step is compiled for as many devices of the CPU, which stands in for an
accelerator: it fuses less, computes bfloat16 in float32, and in layers that are not
scanned keeps what ``remat`` would have it compute again.
"""

import importlib.util
import math
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import optax
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding
from jaxtyping import PyTree

from albert_jax.config import MeshConfig, PretrainingExperiment
from albert_jax.model.heads import AlbertForPreTraining
from albert_jax.train.accelerators import Accelerator
from albert_jax.train.footprint import batch_shapes, fewest_devices
from albert_jax.train.optimizer import make_optimizer
from albert_jax.train.pretrain import compile_programs, eval_step, train_step
from albert_jax.train.sharding import BATCH, make_mesh
from albert_jax.train.state import TrainState, init_state


def simulate_devices(config: MeshConfig) -> None:
    """Makes the CPU look like the devices of a mesh; comes before JAX touches any.

    Raises:
      RuntimeError: it has.
    """
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", math.prod(fewest_devices(config).values()))


def mesh_ahead(experiment: PretrainingExperiment, device: Accelerator) -> Mesh:
    """The mesh of an experiment, of devices to compile for: the TPU's, or the CPU's
    that ``simulate_devices`` made.

    Raises:
      UserError: the devices of the CPU do not make the mesh.
    """
    sizes = fewest_devices(experiment.mesh)
    count = math.prod(sizes.values())
    slices = [s for s in device.slices if math.prod(s) >= count]
    if not slices or not importlib.util.find_spec("libtpu"):
        return make_mesh(MeshConfig(**sizes), jax.devices("cpu")[:count])
    # The compiler looks for the host that it would run on.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    # It takes no chip, so another process may compile at the same time.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    name = f"{device.slice_name}:{'x'.join(map(str, slices[0]))}"
    chips = topologies.get_topology_desc(name, "tpu").devices[:count]
    placed = np.array(chips).reshape(tuple(sizes.values()))
    return Mesh(placed, tuple(sizes), (AxisType.Auto,) * 3)


def step_memory(experiment: PretrainingExperiment, mesh: Mesh) -> dict[str, int] | None:
    """Bytes of a training step on each device, from XLA's analysis of the program:
    what it is given, and what it needs beside that. None where a device's own compiler
    refuses a step, as it needs more than the device has."""
    programs = compile_programs(experiment, mesh)
    rows = NamedSharding(mesh, BATCH)
    batch = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=rows)
        for name, leaf in batch_shapes(experiment.data, experiment.seeds).items()
    }
    with jax.set_mesh(mesh):
        step = programs.step.lower(programs.shapes, batch)
    try:
        found = step.compile().memory_analysis()
    except jax.errors.JaxRuntimeError as error:
        if not str(error).startswith("RESOURCE_EXHAUSTED"):
            raise
        return None
    return {
        "state and batch": found.argument_size_in_bytes,
        "temporary": found.temp_size_in_bytes,
        "total": found.argument_size_in_bytes + found.temp_size_in_bytes,
    }


def step_flops(experiment: PretrainingExperiment) -> dict[str, int]:
    """FLOPs of a step on the whole batch of every seed, as XLA's cost analysis counts
    them for one.

    XLA counts the body of a loop once, however often it runs: so layers are unrolled
    here, a batch is computed in one part, and nothing is computed again for ``remat``.
    Elementwise work counts too, but for dropout's draws, which are a loop.
    """
    config = replace(experiment.model, scan_layers=False, remat="nothing")
    model = AlbertForPreTraining(config)
    optimizer = make_optimizer(experiment.optimizer, experiment.optimizer.learning_rate)
    init = partial(init_state, model=model, optimizer=optimizer)
    state = jax.eval_shape(init, jax.random.key(0))
    batch = batch_shapes(experiment.data)

    def counted(program: Callable, *given: PyTree) -> int:
        return int(jax.jit(program).lower(*given).cost_analysis()["flops"])

    def applied(gradients: PyTree, state: TrainState) -> tuple[PyTree, PyTree]:
        updates, kept = optimizer.update(gradients, state.opt_state, state.params)
        return optax.apply_updates(state.params, updates), kept

    forward = counted(partial(eval_step, model), state.params, batch)
    update = counted(applied, state.params, state)
    whole = counted(partial(train_step, model, optimizer), state, batch)
    counts = {
        "forward": forward,
        "backward": whole - forward - update,
        "optimizer": update,
        "total": whole,
    }
    return {name: experiment.seeds * count for name, count in counts.items()}
