"""What every published size needs, on a few meshes: writes docs/scale.md.

    python benchmarks/scale.py

By formula (``albert_jax.inspection``), so that it takes seconds and needs no device.
"""

from dataclasses import replace
from pathlib import Path

import jax

from albert_jax.catalogue import load_experiment
from albert_jax.config import MeshConfig, PretrainingExperiment
from albert_jax.inspection import USABLE, inspect, on_devices
from albert_jax.train.accelerators import ACCELERATORS
from albert_jax.train.footprint import Activations, device_bytes

ROOT = Path(__file__).parents[1]
SIZES = ("base", "large", "xlarge", "xxlarge")
MESHES = {(8, 1, 1): "v5e", (1, 8, 1): "v5e", (1, 4, 2): "v5e", (8, 8, 1): "v6e"}
HOSTS = {(1, 1, 1): "h200", (8, 1, 1): "h100", (1, 8, 1): "h100"}
MFU = 0.4

HEAD = f"""\
# What fits, and how long it takes

Written by `python benchmarks/scale.py`, from the formulas behind `albert-jax inspect`:
**every figure is an estimate**; none was measured on an accelerator.

Each row is the paper's recipe for a size (`experiments/`: 4,096 rows of 512 tokens,
125,000 steps, v1 with its dropout) in bfloat16, with parameters and moments in float32
and `remat` as it is by default, on one mesh of data x fsdp x tensor. *Parts* is the
least `--accumulation` at which a step fits into {USABLE:.0%} of a device's memory.
*State* is parameters, moments and gradients, *activations* the rest. Hours are those
of the whole run at an assumed MFU of {MFU:.0%}; a published peak times that share is
all they know of the device.

Any row, with other settings, beside what XLA says of the compiled step:

```bash
albert-jax inspect experiments/xlarge.py --mesh.fsdp 8 --model.dtype bfloat16 \\
    --accumulation 64 --device v5e --mfu {MFU} --price 1.0
```
"""

COLUMNS = ("size", "mesh", "devices", "parts", "state", "activations", "of it", "hours")


def table() -> str:
    """The whole of docs/scale.md."""
    lines = [HEAD, f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for name in SIZES:
        lines += rows(name)
    return "\n".join(lines) + "\n"


def rows(name: str) -> list[str]:
    """Those of a size."""
    experiment = load_experiment(str(ROOT / "experiments" / f"{name}.py"))
    places = (*MESHES.items(), *HOSTS.items())
    cells = [(name, *row(experiment, mesh, device)) for mesh, device in places]
    return [f"| {' | '.join(line)} |" for line in cells]


def row(
    experiment: PretrainingExperiment, mesh: tuple[int, int, int], device: str
) -> list[str]:
    """Cells of an experiment on a mesh of devices."""
    data, fsdp, tensor = mesh
    placed = replace(
        experiment,
        mesh=MeshConfig(data=data, fsdp=fsdp, tensor=tensor),
        model=replace(experiment.model, dtype="bfloat16"),
    )
    document = inspect(placed)
    state = document["bytes_per_device"]
    rows = experiment.data.batch_size // (data * fsdp)
    for accumulation in (2**n for n in range(rows.bit_length())):
        parted = replace(placed, accumulation=accumulation)
        activations = Activations.of(parted, document["mesh"])
        held = device_bytes(state["parameters"], state["moments"], activations)
        document["bytes_per_device"] = held
        run = on_devices(document, ACCELERATORS[device], MFU, price=None)
        if run["fits"]:
            break
    state = sum(held[name] for name in ("parameters", "moments", "gradients"))
    return [
        " x ".join(map(str, mesh)),
        f"{run['devices']} x {device}",
        f"{accumulation}" if run["fits"] else "does not fit",
        f"{state / 1e9:.2f} GB",
        f"{(held['total'] - state) / 1e9:.2f} GB",
        f"{run['share_of_memory']:.0%}",
        f"{run['hours']:,.0f}",
    ]


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    (ROOT / "docs" / "scale.md").write_text(table())
