"""Devices by name: their memory and their speed, as their makers state them."""

from dataclasses import dataclass

from albert_jax.config import UserError, nearest


@dataclass(frozen=True)
class Accelerator:
    """One device, as JAX counts them: a GPU, or a TPU chip."""

    memory: int
    """Bytes."""
    flops: float
    """bfloat16 FLOP/s, dense."""


# NVIDIA's data sheets (SXM) and cloud.google.com/tpu/docs.
ACCELERATORS = {
    "a100": Accelerator(80 * 10**9, 312e12),
    "h100": Accelerator(80 * 10**9, 989e12),
    "h200": Accelerator(141 * 10**9, 989e12),
    "v4": Accelerator(32 * 2**30, 275e12),
    "v5e": Accelerator(16 * 2**30, 197e12),
    "v5p": Accelerator(95 * 2**30, 459e12),
    "v6e": Accelerator(32 * 2**30, 918e12),
}


def accelerator(name: str) -> Accelerator:
    """The device of a name.

    Raises:
      UserError: it is not known.
    """
    if name not in ACCELERATORS:
        raise UserError(
            f"device is {name!r}, but it must be one of {', '.join(ACCELERATORS)}"
            + nearest(name, ACCELERATORS)
        )
    return ACCELERATORS[name]
