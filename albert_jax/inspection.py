"""What an experiment costs before it is launched: FLOPs, memory, hours, money."""

import math
from collections.abc import Iterator
from typing import Any

from albert_jax.config import PretrainingExperiment, UserError
from albert_jax.model.costs import RowShape, forward_flops, parameter_table
from albert_jax.train.accelerators import Accelerator, accelerator
from albert_jax.train.ahead import (
    mesh_ahead,
    simulate_devices,
    step_flops,
    step_memory,
)
from albert_jax.train.footprint import footprint
from albert_jax.train.optimizer import update_flops

# The runtime keeps the rest of a device's memory.
USABLE = 0.9


def inspect(
    experiment: PretrainingExperiment,
    device: str | None = None,
    mfu: float = 0.4,
    price: float | None = None,
) -> dict[str, Any]:
    """Costs of an experiment as one JSON document. Allocates no array.

    Args:
      device: also estimate a run on devices of this name; compiles a step for the mesh.
        The first thing that JAX is asked to do, as it makes the CPU simulate devices.
      mfu: the share of the device's FLOP/s that training is assumed to use.
      price: of one device for an hour, in any currency.

    Raises:
      UserError: no such device, a share or price that is none, or a mesh that the
        experiment does not fit.
    """
    if not 0 < mfu <= 1:
        raise UserError(f"mfu is {mfu}, but it must be above 0 and at most 1")
    if price is not None and not price > 0:
        raise UserError(f"price is {price}, but it must be above 0")
    if device is None and price is not None:
        raise UserError("price is that of a device: name one with --device")
    known = accelerator(device) if device else None
    if known:
        simulate_devices(experiment.mesh)
    data = experiment.data
    parameters = parameter_table(experiment.model)
    flops = forward_flops(experiment.model, RowShape.of(data))
    rows = experiment.seeds * data.batch_size
    forward = sum(flops.values()) * rows
    update = update_flops(experiment.optimizer, sum(parameters.values()))
    update *= experiment.seeds
    document = {
        "name": experiment.name,
        "parameters": parameters | {"total": sum(parameters.values())},
        "forward_flops_per_row": flops,
        "flops_per_step": {
            "forward": forward,
            "backward": 2 * forward,
            "optimizer": update,
            "total": 3 * forward + update,
        },
        "batch": {
            "seeds": experiment.seeds,
            "rows": rows,
            "tokens per row": data.sequence_length,
            "predictions per row": data.predictions,
            "pairs per row": data.pairs,
            "tokens": rows * data.sequence_length,
        },
        "steps": experiment.steps,
    } | footprint(experiment)
    if known:
        mesh = mesh_ahead(experiment, known)
        document["compiled"] = {
            "for": mesh.devices.flat[0].device_kind,
            "flops_per_step": step_flops(experiment),
            "bytes_per_device": step_memory(experiment, mesh),
        }
        document["estimate"] = {"device": device} | on_devices(
            document, known, mfu, price
        )
    return document


def on_devices(
    document: dict[str, Any], device: Accelerator, mfu: float, price: float | None
) -> dict[str, Any]:
    """Whether a step fits on the device, how long the run takes, what it costs."""
    devices = math.prod(document["mesh"].values())
    flops = document["flops_per_step"]
    # The optimizer's work is elementwise: MFU does not count it.
    useful = flops["forward"] + flops["backward"]
    seconds = useful / (devices * device.flops * mfu)
    hours = document["steps"] * seconds / 3600
    # Only the device's own compiler knows better than the formula.
    compiled = document.get("compiled", {"for": "cpu"})
    own = compiled["for"] != "cpu"
    refused = own and compiled["bytes_per_device"] is None
    known = compiled if own and not refused else document
    share = known["bytes_per_device"]["total"] / device.memory
    return {
        "devices": devices,
        "memory_from": "the formula" if known is document else "its own compiler",
        "share_of_memory": share,
        "fits": share < USABLE and not refused,
        "mfu": mfu,
        "tokens_per_second": document["batch"]["tokens"] / seconds,
        "hours": hours,
        "device_hours": devices * hours,
        "price": price,
        "cost": None if price is None else devices * hours * price,
    }


def describe(document: dict[str, Any]) -> Iterator[str]:
    """The document in lines of text."""
    compiled = document.get("compiled", {})
    yield f"{document['name']}: {document['steps']:,} steps"
    yield from _table("parameters", document["parameters"])
    yield from _table("forward FLOPs per row", document["forward_flops_per_row"])
    yield from _table(
        "FLOPs per step", document["flops_per_step"], compiled.get("flops_per_step")
    )
    yield from _table("batch", document["batch"])
    yield from _table("mesh", document["mesh"])
    yield from _table("bytes per device, estimated", document["bytes_per_device"])
    for name, why in document["kept_whole"].items():
        yield f"kept whole on every device: {name} ({why})"
    if compiled:
        title = f"bytes per device, as XLA compiles for: {compiled['for']}"
        held = compiled["bytes_per_device"]
        yield from _table(title, held or {})
        if held is None:
            yield "  it refuses: a step needs more than the device has"
        yield ""
        yield (
            "XLA counts a loop's body once: its FLOPs are of unrolled layers without "
            "remat, with elementwise work."
        )
        yield from _verdict(document["estimate"])


def _verdict(estimate: dict[str, Any]) -> Iterator[str]:
    fits = "fits" if estimate["fits"] else "does not fit"
    yield (
        f"Estimated, not measured: it {fits} on {estimate['devices']} x "
        f"{estimate['device']} ({estimate['share_of_memory']:.0%} of the memory of "
        f"each, says {estimate['memory_from']})"
    )
    yield (
        f"at {estimate['mfu']:.0%} MFU: {estimate['tokens_per_second']:,.0f} tokens/s, "
        f"{estimate['hours']:,.1f} hours in all, {estimate['device_hours']:,.1f} "
        "device-hours"
    )
    if estimate["price"] is not None:
        yield f"at {estimate['price']:g} a device-hour: {estimate['cost']:,.0f}"


def _table(
    title: str, rows: dict[str, int], beside: dict[str, int] | None = None
) -> Iterator[str]:
    yield ""
    yield title if beside is None else f"{title:30} {'by formula':>24} {'by XLA':>24}"
    for name, value in rows.items():
        other = "" if beside is None else f" {beside[name]:>24,}"
        yield f"  {name:28} {value:>24,}{other}"
