"""What inspect says beforehand: FLOPs and bytes by formula, beside what XLA says."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import jax
import pytest

from albert_jax import inspection
from albert_jax.config import (
    AlbertConfig,
    DataConfig,
    OptimizerConfig,
    PretrainingExperiment,
    UserError,
)
from albert_jax.inspection import describe, inspect, on_devices
from albert_jax.train.accelerators import ACCELERATORS
from albert_jax.train.ahead import step_flops, step_memory
from albert_jax.train.footprint import footprint
from albert_jax.train.sharding import make_mesh

ROOT = Path(__file__).parents[1]


def experiment(size="base", rows=8, length=512, optimizer="lamb", **model):
    return PretrainingExperiment(
        name=size,
        model=AlbertConfig.released(size, **model),
        data=DataConfig(batch_size=rows, sequence_length=length),
        optimizer=OptimizerConfig(name=optimizer),
    )


@pytest.mark.parametrize(
    "planned",
    [
        experiment("base", rows=4096),
        experiment("large", length=128, optimizer="adamw"),
        experiment("base", share="attention", num_hidden_groups=2),
    ],
    ids=["base, LAMB", "large, AdamW", "two groups"],
)
def test_flops_by_formula_are_those_that_xla_counts(planned):
    ours, theirs = inspect(planned)["flops_per_step"], step_flops(planned)
    assert ours.keys() == theirs.keys()
    for part, flops in ours.items():
        assert flops == pytest.approx(theirs[part], rel=0.05), part


# Rows few and many, short and long; a model of wide layers and one of many heads.
SHAPES = {
    "base 8 x 512": experiment("base", 8, 512),
    "base 32 x 128": experiment("base", 32, 128),
    "large 4 x 512": experiment("large", 4, 512),
    "xxlarge 2 x 256": experiment("xxlarge", 2, 256),
}


@pytest.mark.parametrize("remat", ["matmuls", "layer"])
@pytest.mark.parametrize("planned", SHAPES.values(), ids=SHAPES.keys())
def test_activations_by_formula_are_what_xla_needs(planned, remat):
    planned = replace(planned, model=replace(planned.model, remat=remat))
    held = footprint(planned)["bytes_per_device"]
    found = step_memory(planned, make_mesh(planned.mesh, jax.devices()[:1]))
    state = held["parameters"] + held["moments"]
    # The rest is the batch, and the optimizer's counters.
    assert 0 < found["state and batch"] - state < 0.01 * state
    assert held["total"] - state == pytest.approx(found["temporary"], rel=0.15)


def test_a_batch_in_parts_needs_the_activations_of_one():
    planned = experiment("base", 64, 128)
    parts = replace(planned, accumulation=8)
    whole, part, small = (
        footprint(e)["bytes_per_device"]
        for e in (planned, parts, experiment("base", 8, 128))
    )
    assert part == small and 7 * part["kept activations"] < whole["kept activations"]


def inspected(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "albert_jax", "inspect", *arguments, "--json"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return json.loads(done.stdout)


def test_a_device_is_told_whether_it_fits_how_long_and_how_dear():
    document = inspected(
        *("experiments/base.py", "--mesh.fsdp", "2", "--mesh.tensor", "2"),
        *("--data.batch-size", "32", "--data.sequence-length", "128"),
        *("--device", "h100", "--mfu", "0.5", "--price", "2.5"),
    )
    held, compiled = document["bytes_per_device"], document["compiled"]
    assert compiled["for"] == "cpu"
    found, state = compiled["bytes_per_device"], held["parameters"] + held["moments"]
    assert state < found["state and batch"] < 1.01 * state
    assert held["total"] - state == pytest.approx(found["temporary"], rel=0.15)
    estimate, flops = document["estimate"], document["flops_per_step"]
    assert estimate["devices"] == 4 and estimate["fits"]
    assert estimate["share_of_memory"] == held["total"] / 80e9
    # Two products for each of the forward pass's, and elementwise work not counted.
    seconds = 3 * flops["forward"] / (4 * 989e12 * 0.5)
    assert estimate["tokens_per_second"] == pytest.approx(32 * 128 / seconds)
    assert estimate["hours"] == pytest.approx(125_000 * seconds / 3600)
    assert estimate["cost"] == pytest.approx(4 * estimate["hours"] * 2.5)
    said = "\n".join(describe(document))
    for words in (
        "by formula",
        "by XLA",
        "Estimated, not measured",
        "loop's body once",
    ):
        assert words in said


def test_what_is_no_price_or_share_is_refused_before_anything_is_compiled(monkeypatch):
    monkeypatch.setattr(inspection, "footprint", pytest.fail)
    for wrong, cure in (
        (dict(device="h100", mfu=0.0), "mfu is 0.0"),
        (dict(device="h100", mfu=40.0), "at most 1"),
        (dict(device="h100", price=-1.0), "price is -1.0"),
        (dict(price=1.0), "--device"),
        (dict(device="h10"), "did you mean 'h100'"),
    ):
        with pytest.raises(UserError, match=cure):
            inspect(experiment(), **wrong)


def test_every_device_has_a_rate_and_tpus_have_slices():
    for name, device in ACCELERATORS.items():
        assert device.flops > 1e14 and device.memory > 10**10
        assert bool(device.slices) == (name in ("v5e", "v5p", "v6e"))


def test_what_its_own_compiler_refuses_does_not_fit():
    document = inspect(experiment())
    flops = document["flops_per_step"]
    refused = {"for": "TPU v5 lite", "flops_per_step": flops, "bytes_per_device": None}
    document["compiled"] = refused
    found = on_devices(document, ACCELERATORS["h200"], mfu=0.4, price=None)
    assert found["share_of_memory"] < 0.1 and found["memory_from"] == "the formula"
    assert not found["fits"]
    said = "\n".join(describe(document | {"estimate": {"device": "v5e"} | found}))
    assert "does not fit" in said and "it refuses: a step needs more" in said


# The package of the extra "tpu"; it needs no TPU to compile for one.
@pytest.mark.skipif(not find_spec("libtpu"), reason="libtpu is not installed")
def test_a_step_is_compiled_for_a_tpu_that_is_not_there():
    document = inspected("experiments/demo.py", "--device", "v5e")
    held, compiled = document["bytes_per_device"], document["compiled"]
    assert compiled["for"] == "TPU v5 lite" and document["estimate"]["fits"]
    # A TPU pads arrays to its tiles.
    state = held["parameters"] + held["moments"]
    assert state < compiled["bytes_per_device"]["state and batch"]


def test_the_table_of_scale_is_what_the_formulas_give(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import scale

    written = (ROOT / "docs" / "scale.md").read_text()
    assert written.startswith(scale.HEAD)
    listed = [line for line in written.splitlines() if line.startswith("| xlarge |")]
    assert listed == scale.rows("xlarge")
