"""Random numbers of rows by random access: row n's are the same whoever asks.

Philox (Salmon et al., 2011) makes a block of numbers out of a key and a counter. An
epoch has a key, and every row its own counters in it; those of rows that lie together
lie together too, so that one call draws for all.
"""

from collections.abc import Sequence

import numpy as np

# Numbers that one count of Philox gives.
_BLOCK = 4


class RowDraws:
    """The random numbers of ``rows`` rows from ``first`` on.

    Args:
      seed: of all rows; other seeds give other numbers.
      width: most numbers a row may ask for at once.
    """

    def __init__(self, seed: Sequence[int], first: int, rows: int, width: int) -> None:
        self._seed = np.random.SeedSequence(seed)
        self._rows = rows
        self._blocks = -(-width // _BLOCK)
        self._first = first * self._blocks
        self._calls = 0

    def random(self, size: tuple[int, int]) -> np.ndarray:
        """Uniform numbers in [0, 1), [rows, numbers of each]: the first so many of
        those that this call, the k-th, has for every row.

        Raises:
          ValueError: other rows than these, or more numbers than ``width``.
        """
        rows, count = size
        stride = _BLOCK * self._blocks
        if rows != self._rows or count > stride:
            raise ValueError(f"{size} numbers of {self._rows} rows of {stride}")
        counter = [self._first, 0, 0, self._calls]
        self._calls += 1
        bits = np.random.Philox(self._seed, counter=counter)
        drawn = np.random.Generator(bits).random(rows * stride)
        return drawn.reshape(rows, stride)[:, :count]
