"""Piece ids of texts or pairs -> rows of [CLS] A [SEP] B [SEP]: truncation, padding.

The strategies and their names are Hugging Face's; the order of truncation is the
official one (``_truncate_seq_pair``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from albert_jax.config import UserError, nearest

PADDING = ("longest", "max_length", "do_not_pad")
TRUNCATION = ("longest_first", "only_first", "only_second", "do_not_truncate")


@dataclass(frozen=True)
class Layout:
    """How rows are cut and filled up.

    Raises:
      UserError: an unknown strategy, or ``max_length`` lacks or is not used.
    """

    padding: str | bool = False
    """``longest`` (true), ``max_length`` or ``do_not_pad`` (false)."""
    truncation: str | bool = False
    """``longest_first`` (true), ``only_first``, ``only_second`` or
    ``do_not_truncate`` (false)."""
    max_length: int | None = None
    """Most pieces in a row, special ones included."""

    def __post_init__(self) -> None:
        for name, choices in (("padding", PADDING), ("truncation", TRUNCATION)):
            value = getattr(self, name)
            if isinstance(value, bool):
                value = choices[0] if value else choices[-1]
                object.__setattr__(self, name, value)
            if value not in choices:
                listed = ", ".join(map(repr, choices))
                raise UserError(
                    f"{name} is {value!r}, but it must be True, False or one of "
                    f"{listed}{nearest(str(value), choices)}"
                )
        used = self.padding == "max_length" or self.truncates
        if used and self.max_length is None:
            field = "truncation" if self.truncates else "padding"
            raise UserError(
                f"{field} is {getattr(self, field)!r}, but max_length is None; the "
                "released models take at most 512 pieces"
            )
        if self.max_length is not None and not used:
            raise UserError(
                f"max_length is {self.max_length}, but nothing is cut or filled up to "
                "it; add truncation=True or padding='max_length'"
            )

    @property
    def truncates(self) -> bool:
        return self.truncation != "do_not_truncate"

    def cut(self, first: int, second: int | None) -> tuple[int, int]:
        """How many pieces of each text stay; ``second`` is None without a pair.

        Raises:
          UserError: the strategy cannot make the row as short as ``max_length``.
        """
        if not self.truncates:
            return first, second or 0
        specials = 2 if second is None else 3
        room = self.max_length - specials
        if room < 0:
            raise UserError(
                f"max_length is {self.max_length}, but a row has {specials} special "
                f"pieces alone; it must be at least {specials}"
            )
        if self.truncation == "only_second" and second is None:
            raise UserError(
                "truncation is 'only_second', but there is no text_pair to cut; "
                "take 'only_first' or 'longest_first'"
            )
        return truncate(first, second or 0, room, self.truncation)


def truncate(first: int, second: int, room: int, strategy: str) -> tuple[int, int]:
    """Lengths of two texts after cutting them at their ends to ``room`` pieces.

    ``longest_first`` takes a piece at a time from the longer one, the second where both
    are as long.

    Raises:
      UserError: ``only_first`` or ``only_second`` would leave nothing and more.
    """
    excess = first + second - room
    if excess <= 0:
        return first, second
    if strategy == "longest_first":
        if first <= room // 2:
            return first, room - first
        if second <= room // 2:
            return room - second, second
        return room - room // 2, room // 2
    first_is_cut = strategy == "only_first"
    kept, cut = (second, first) if first_is_cut else (first, second)
    if excess > cut:
        other = "second" if first_is_cut else "first"
        raise UserError(
            f"truncation is {strategy!r}, but the {other} text of a row alone has "
            f"{kept} pieces, and max_length leaves room for {room}; take "
            "'longest_first', or raise max_length"
        )
    return (first - excess, second) if first_is_cut else (first, second - excess)


@dataclass(frozen=True)
class Rows:
    """Where the pieces of each text stand in rows of ``[CLS] A [SEP] B [SEP]``."""

    first: Int[np.ndarray, " b"]
    """Pieces of A."""
    second: Int[np.ndarray, " b"]
    """Pieces of B; zeros without pairs."""
    paired: bool
    width: int

    @classmethod
    def plan(
        cls, firsts: Sequence[int], seconds: Sequence[int] | None, layout: Layout
    ) -> "Rows":
        """Rows for texts of these lengths.

        Raises:
          UserError: as ``Layout.cut``, or the rows do not make one array.
        """
        pairs = [None] * len(firsts) if seconds is None else seconds
        cuts = [layout.cut(*lengths) for lengths in zip(firsts, pairs, strict=True)]
        first, second = np.array(cuts, np.int64).reshape(-1, 2).T
        used = first + second + (2 if seconds is None else 3)
        width = int(used.max(initial=0))
        if layout.padding == "max_length":
            if width > layout.max_length:
                raise UserError(
                    f"row {used.argmax()} has {width} pieces, more than max_length = "
                    f"{layout.max_length}; add truncation=True"
                )
            width = layout.max_length
        elif layout.padding == "do_not_pad" and (used < width).any():
            raise UserError(
                f"the rows have {used.min()} to {width} pieces and do not make one "
                "array; add padding=True, or encode texts one by one"
            )
        return cls(first, second, seconds is not None, width)

    @property
    def used(self) -> Int[np.ndarray, " b"]:
        """Pieces of each row, special ones included."""
        return self.first + self.second + (3 if self.paired else 2)

    def fill(
        self,
        out: np.ndarray,
        firsts: Sequence[np.ndarray],
        seconds: Sequence[np.ndarray] | None,
    ) -> np.ndarray:
        """Puts the values of A and B, cut, at their places in ``out`` [B, T, ...]."""
        for row, values, size in zip(out, firsts, self.first, strict=True):
            row[1 : size + 1] = values[:size]
        if seconds is not None:
            sizes = zip(out, seconds, self.first + 2, self.second, strict=True)
            for row, values, begin, size in sizes:
                row[begin : begin + size] = values[:size]
        return out

    def separators(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of every [SEP]."""
        rows = np.arange(len(self.first))
        if not self.paired:
            return rows, self.used - 1
        return np.tile(rows, 2), np.concatenate([self.first + 1, self.used - 1])

    def masks(self) -> dict[str, Int[np.ndarray, "b t"]]:
        """``attention_mask``, ``token_type_ids`` (1 for ``B [SEP]``) and
        ``special_tokens_mask`` (1 for special pieces, padding too)."""
        columns = np.arange(self.width)
        real = columns < self.used[:, None]
        special = ~real
        special[:, :1] = True
        special[self.separators()] = True
        masks = {
            "attention_mask": real,
            "token_type_ids": real & (columns >= self.first[:, None] + 2),
            "special_tokens_mask": special,
        }
        return {name: mask.astype(np.int32) for name, mask in masks.items()}
