"""Devices by name: their memory and their speed, as their makers state them."""

from dataclasses import dataclass

from albert_jax.config import UserError, nearest
from albert_jax.train.utilization import known_rate

# Chips of a slice of TPUs, by their wiring: a plane, or a cube with wider and deeper.
# Whole hosts, of four chips: libtpu compiles for no part of one.
_PLANES = ((2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))
_CUBES = ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4), (4, 4, 4), (4, 4, 8), (4, 8, 8))


@dataclass(frozen=True)
class Accelerator:
    """One device, as JAX counts them: a GPU, or a TPU chip."""

    kind: str
    """What JAX calls it, or a part of that."""
    memory: int
    """Bytes."""
    slice_name: str = ""
    """What libtpu calls a slice of these chips."""
    slices: tuple[tuple[int, ...], ...] = ()
    """Shapes of slices that libtpu compiles for, by their size; of a v4 none, as a
    device of libtpu's is half a chip there."""

    @property
    def flops(self) -> float:
        """bfloat16 FLOP/s, dense."""
        return known_rate(self.kind)


# NVIDIA's data sheets (SXM) and cloud.google.com/tpu/docs.
ACCELERATORS = {
    "a100": Accelerator("A100", 80 * 10**9),
    "h100": Accelerator("H100", 80 * 10**9),
    "h200": Accelerator("H200", 141 * 10**9),
    "v4": Accelerator("TPU v4", 32 * 2**30),
    "v5e": Accelerator("TPU v5e", 16 * 2**30, "v5e", _PLANES),
    "v5p": Accelerator("TPU v5", 95 * 2**30, "v5p", _CUBES),
    "v6e": Accelerator("TPU v6", 32 * 2**30, "v6e", _PLANES),
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
