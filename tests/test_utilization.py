"""MFU: the model's FLOPs over what the devices could do."""

import time

import pytest

from albert_jax.config import AlbertConfig, DataConfig
from albert_jax.model.costs import RowShape, forward_flops, training_flops
from albert_jax.train.utilization import Utilization, measured_rate, peak


@pytest.mark.parametrize(
    ("kind", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("Tesla V100-SXM2-16GB", 125),
        ("TPU v4", 275),
        ("TPU v5 lite", 197),
        ("TPU v5p", 459),
        ("TPU v6 lite", 918),
    ],
)
def test_peaks_go_by_the_devices_name(kind, teraflops):
    rate, said = peak("gpu", kind, 4)
    assert rate == 4 * teraflops * 1e12
    assert f"{teraflops:,} TFLOP/s a device" in said and kind in said


@pytest.mark.parametrize("kind", ["Abacus 3000", "NVIDIA H100 80GB HBM3 MIG 1g.10gb"])
def test_what_is_not_known_is_said_and_not_guessed(kind):
    rate, said = peak("gpu", kind, 1)
    assert rate is None and kind in said and "no MFU" in said
    assert Utilization(10, rate, said).mfu(1, 1.0) is None


def test_a_processor_is_measured_at_once():
    start = time.perf_counter()
    rate, said = peak("cpu", "cpu", 2)
    assert time.perf_counter() - start < 3
    assert "measured" in said and f"{rate / 1e9:,.0f} GFLOP/s" in said
    # Any machine that runs this computes more than one product an instruction.
    assert 1e8 < measured_rate() < 1e15


def test_mfu_is_its_formula():
    utilization = Utilization(step_flops=30, peak=100.0, source="")
    assert utilization.mfu(steps=4, seconds=2.0) == 30 * 4 / (2.0 * 100.0)


def test_a_step_costs_three_forward_passes_of_whole_rows():
    model, data = AlbertConfig.base(), DataConfig(batch_size=7)
    row = RowShape(512, 77, 16)
    forward = sum(forward_flops(model, row).values())
    assert training_flops(model, row) == 3 * forward
    assert Utilization.of(model, data).step_flops == 7 * 3 * forward
    assert forward == pytest.approx(
        12 * (8 * 512 * 768**2 + 4 * 512**2 * 768 + 4 * 512 * 768 * 3072), rel=0.03
    )
