"""Model FLOPs utilization: how much of what the devices could do the model asks for.

    MFU = 3 x forward FLOPs of a batch x steps / (seconds x peak FLOP/s of all devices)

FLOPs are those of ``model/costs.py``: matrix products of whole rows, padding and the
attention between packed pairs included, what ``remat`` computes again left out. The
peak is the maker's for dense bfloat16 products, whatever the model computes in; a CPU's
is measured (definition: Chowdhery et al., 2022, PaLM, appendix B).
"""

import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from albert_jax.config import AlbertConfig, DataConfig
from albert_jax.model.costs import RowShape, training_flops

# Part of a device's name -> bfloat16 FLOP/s without sparsity; the first match counts.
PEAKS: tuple[tuple[str, float], ...] = (
    # NVIDIA data sheets of H100, H200 (where they say "with sparsity": half), A100, L4;
    # of V100, which has no bfloat16, the float16 of its tensor cores.
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989e12),
    ("H200 NVL", 835e12),
    ("H200", 989e12),
    ("A100", 312e12),
    ("NVIDIA L4", 121e12),
    ("V100-PCIE", 112e12),
    ("V100", 125e12),
    # cloud.google.com/tpu/docs, "system architecture" of each; a device of v2 and v3 is
    # a core, half a chip, of later ones the chip.
    ("TPU v2", 23e12),
    ("TPU v3", 61.5e12),
    ("TPU v4 lite", 137e12),
    ("TPU v4", 275e12),
    ("TPU v5 lite", 197e12),
    ("TPU v5e", 197e12),
    ("TPU v5", 459e12),
    ("TPU v6", 918e12),
)

_SIDE, _SECONDS = 1024, 0.3


@dataclass(frozen=True)
class Utilization:
    """What a training step asks of the devices, and what they can give."""

    step_flops: int
    """Of the whole batch of every seed, forward and backward."""
    peak: float | None
    """FLOP/s of all devices; none where it is not known."""
    source: str
    """Where the peak is from, in words."""

    @classmethod
    def of(cls, model: AlbertConfig, data: DataConfig, seeds: int = 1) -> "Utilization":
        """That of so many seeds of an experiment on the devices there are."""
        row = RowShape.of(data)
        one = jax.devices()[0]
        rate, source = peak(one.platform, one.device_kind, jax.device_count())
        rows = seeds * data.batch_size
        return cls(rows * training_flops(model, row), rate, source)

    def mfu(self, steps: int, seconds: float) -> float | None:
        """The share of the peak that ``steps`` in ``seconds`` come to."""
        return self.peak and self.step_flops * steps / (seconds * self.peak)


def peak(platform: str, kind: str, count: int) -> tuple[float | None, str]:
    """FLOP/s of so many devices of a kind, and a line that says where it is from."""
    if platform == "cpu":
        # However many devices a host's processor is made to look like.
        rate = measured_rate()
        said = (
            f"MFU is relative to {rate / 1e9:,.0f} GFLOP/s, measured on this CPU: the "
            f"fastest of {_SECONDS} s of float32 products of {_SIDE} x {_SIDE} matrices"
        )
        return rate * jax.process_count(), said
    if not (rate := known_rate(kind)):
        return None, f"no MFU is logged: the peak of {kind!r} is not known"
    said = f"MFU is relative to {rate / 1e12:,.0f} TFLOP/s a device: {kind}, bfloat16"
    return rate * count, said


def known_rate(kind: str) -> float | None:
    """FLOP/s of a device by what JAX calls it; none where it is not known."""
    # A slice of a GPU has its name and not its rate.
    known = (rate for name, rate in PEAKS if name in kind and "MIG" not in kind)
    return next(known, None)


def measured_rate() -> float:
    """FLOP/s of matrix products in float32 on the default device, now."""
    product = jax.jit(jnp.matmul)
    x = jnp.ones((_SIDE, _SIDE), jnp.float32)
    product(x, x).block_until_ready()
    fastest, end = float("inf"), time.perf_counter() + _SECONDS
    while (start := time.perf_counter()) < end:
        product(x, x).block_until_ready()
        fastest = min(fastest, time.perf_counter() - start)
    return 2 * _SIDE**3 / fastest
