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

TPU = """
## Compiled for a TPU, not run

Where libtpu is installed (`pip install 'albert_jax[tpu]'`), `inspect --device v5e`, or
v5p or v6e, lets the TPU's own compiler say what a step needs; it needs no TPU for that.
Tried with jax 0.10.2 and libtpu 0.0.42.1 on 2026-11-27, compiled for the target, not
run:

```bash
albert-jax inspect experiments/demo.py --mesh.data 2 --device v5e
```

| the demo, 64 rows of 32, a device | by formula | by the TPU's compiler |
|---|---|---|
| 2 devices: parameters and moments (compiler: with the batch) | 6,970,400 | 7,447,552 |
| 2 devices: gradients and activations | 24,130,568 | 0 |
| 4 devices: parameters and moments (compiler: with the batch) | 6,970,400 | 7,412,736 |
| 4 devices: gradients and activations | 13,227,016 | 0 |

So small a step tells nothing of activations. Base was not compiled to the end: with 8
rows of 512 a device in bfloat16 (`--mesh.data 2 --data.batch-size 16 --model.dtype
bfloat16`) it was stopped after 117 seconds of processor time, on a core that
other work shared. How far the formulas of activations are from a TPU's is therefore not
known; XLA's FLOPs are those of the step before it is compiled, the same for any device.
"""

COLUMNS = ("size", "mesh", "devices", "parts", "state", "activations", "of it", "hours")


def table() -> str:
    """The whole of docs/scale.md."""
    lines = [HEAD, f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for name in SIZES:
        lines += rows(name)
    return "\n".join(lines) + "\n" + TPU


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
