"""Rows of any length through a compiled function: sorted, padded to few shapes, and put
back in order.

XLA compiles a program for every shape. Rows are therefore padded to one of a few
lengths and run in batches of one of a few sizes; sorted by length first, so that what
is padded is little.
"""

import bisect
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby

import jax
import numpy as np
from jaxtyping import Array, PyTree

from albert_jax.config import UserError

Row = Mapping[str, np.ndarray]
Batch = Mapping[str, np.ndarray | Array]

# Powers of two and halfway between: 1.25 positions a token on sentences of Wikipedia,
# where powers of two take 1.42 and multiples of 32 take 1.63.
WIDTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
# Rows of a batch; it is filled up where at least half of it is there.
ROWS = (1, 4, 16, 64)
# Positions in a batch at most.
POSITIONS = 4096

# Batches under way while the next one is laid out.
_AHEAD = 2


class Buckets:
    """A function of batches, applied to rows of any length; compiled once a shape.

    Args:
      function: a pure function of variables and a batch, arrays [b, ...] by name, whose
        results all have the batch's axis first.
      variables: its first argument.
      longest: most positions that it takes.
      pad_id: what ``input_ids`` are padded with.
    """

    def __init__(
        self,
        function: Callable[[PyTree, Batch], PyTree],
        variables: PyTree,
        *,
        longest: int,
        pad_id: int,
    ) -> None:
        self._function = jax.jit(function)
        self._variables = variables
        self._widths = [*(w for w in WIDTHS if w < longest), longest]
        self._pad_id = pad_id

    def __call__(self, rows: Sequence[Row]) -> list[PyTree]:
        """The function's results for each row, as NumPy arrays, in the rows' order.

        Args:
          rows: for each, one-dimensional arrays of the same names: ``input_ids``,
            whatever else there is for each of its positions, and perhaps
            ``masked_positions``. All are padded (with zeros); the batch gets an
            ``attention_mask`` too. Results that belong to positions are as long as the
            padded row.

        Raises:
          UserError: a row is longer than the model's positions.
        """
        results: list[PyTree] = [None] * len(rows)
        under_way: deque[tuple[list[int], PyTree]] = deque()

        def fetch() -> None:
            members, output = under_way.popleft()
            output = jax.device_get(output)
            for i, member in enumerate(members):
                results[member] = jax.tree.map(lambda leaf, i=i: leaf[i], output)

        for members, batch in self._batches(rows):
            under_way.append((members, self._function(self._variables, batch)))
            if len(under_way) > _AHEAD:
                fetch()
        while under_way:
            fetch()
        return results

    def _batches(self, rows: Sequence[Row]) -> Iterator[tuple[list[int], Batch]]:
        """Which rows, and their batch; the shortest first."""
        lengths = [len(row["input_ids"]) for row in rows]
        if lengths and (most := max(lengths)) > self._widths[-1]:
            raise UserError(
                f"the text has {most} tokens, more than the model's "
                f"{self._widths[-1]} positions"
            )
        order = sorted(range(len(rows)), key=lengths.__getitem__)
        for width, group in groupby(order, lambda i: fit(self._widths, lengths[i])):
            members = list(group)
            most = max(POSITIONS // width, 1)
            while members:
                wanted = min(2 * len(members), most)
                size = max(size for size in ROWS if size <= wanted)
                part, members = members[:size], members[size:]
                yield part, self._stack([rows[i] for i in part], size, width)

    def _stack(self, rows: Sequence[Row], size: int, width: int) -> Batch:
        widths = dict.fromkeys(rows[0], width)
        if "masked_positions" in widths:
            most = max(len(row["masked_positions"]) for row in rows)
            # Powers of two: few shapes, and the product with the vocabulary is small.
            widths["masked_positions"] = 1 << max(most - 1, 0).bit_length()
        fill = {"input_ids": self._pad_id}
        batch = {
            name: np.full((size, widths[name]), fill.get(name, 0), np.int32)
            for name in widths
        }
        mask = np.zeros((size, width), bool)
        for i, row in enumerate(rows):
            mask[i, : len(row["input_ids"])] = True
            for name, values in row.items():
                batch[name][i, : len(values)] = values
        # A row that only fills up attends to something, so that nothing is NaN.
        mask[len(rows) :, 0] = True
        return batch | {"attention_mask": mask}


def fit(sizes: Sequence[int], needed: int) -> int:
    """The smallest of ascending sizes that holds what is needed."""
    return sizes[bisect.bisect_left(sizes, needed)]
