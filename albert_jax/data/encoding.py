"""Piece ids of texts or pairs -> rows of [CLS] A [SEP] B [SEP]: truncation, padding.

The strategies and their names are Hugging Face's; the order of truncation is the
official one (``_truncate_seq_pair``).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from albert_jax.config import UserError, nearest
from albert_jax.data.segments import truncated

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

    def cut(self, first: int, second: int | None = None) -> tuple[int, ...]:
        """How many pieces of each text stay.

        Raises:
          UserError: the strategy cannot make the row as short as ``max_length``.
        """
        lengths = (first,) if second is None else (first, second)
        if not self.truncates:
            return lengths
        specials = len(lengths) + 1
        if self.max_length < specials:
            raise UserError(
                f"max_length is {self.max_length}, but a row has {specials} special "
                f"pieces alone; it must be at least {specials}"
            )
        if self.truncation == "only_second" and second is None:
            raise UserError(
                "truncation is 'only_second', but there is no text_pair to cut; "
                "take 'only_first' or 'longest_first'"
            )
        room = self.max_length - specials
        kept = truncate(first, second or 0, room, self.truncation)
        return kept[: len(lengths)]


def truncate(first: int, second: int, room: int, strategy: str) -> tuple[int, int]:
    """Lengths of two texts after cutting them at their ends to ``room`` pieces.

    ``longest_first`` takes a piece at a time from the longer one, the second where both
    are as long.

    Raises:
      UserError: ``only_first`` or ``only_second`` has too little to take away.
    """
    excess = first + second - room
    if excess <= 0:
        return first, second
    if strategy == "longest_first":
        first, second = truncated(first, second, room)
        return int(first), int(second)
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
    """Where the pieces of one or two segments stand in ``[CLS] A [SEP] B [SEP]``."""

    sizes: Int[np.ndarray, "s b"]
    """Pieces of each segment, after truncation."""
    width: int
    """Columns of the batch."""

    @classmethod
    def plan(cls, lengths: Sequence[Sequence[int]], layout: Layout) -> "Rows":
        """Rows for texts of these lengths: for each segment, the length in each row.

        Raises:
          UserError: as ``Layout.cut``, or the rows do not make one array.
        """
        cuts = [layout.cut(*row) for row in zip(*lengths, strict=True)]
        sizes = np.array(cuts, np.int64).reshape(-1, len(lengths)).T
        used = sizes.sum(axis=0) + len(lengths) + 1
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
        return cls(sizes, width)

    @property
    def separators(self) -> Int[np.ndarray, "s b"]:
        """The column of the [SEP] after each segment."""
        return np.cumsum(self.sizes + 1, axis=0)

    def fill(
        self, out: np.ndarray, segments: Sequence[Sequence[np.ndarray]]
    ) -> np.ndarray:
        """Puts what belongs to the pieces of each segment, in each row, into ``out``
        [B, T, ...] at their places."""
        begins = self.separators - self.sizes
        for segment, begin, size in zip(segments, begins, self.sizes, strict=True):
            places = zip(out, segment, begin.tolist(), size.tolist(), strict=True)
            for row, values, column, count in places:
                row[column : column + count] = values[:count]
        return out

    def masks(self) -> dict[str, Int[np.ndarray, "b t"]]:
        """``attention_mask``, ``token_type_ids`` (1 for ``B [SEP]``) and
        ``special_tokens_mask`` (1 for special pieces, padding too)."""
        columns, separators = np.arange(self.width), self.separators[..., None]
        real = columns <= separators[-1]
        separates = (columns == separators).any(axis=0)
        masks = {
            "attention_mask": real,
            "token_type_ids": real & (columns > separators[0]),
            "special_tokens_mask": ~real | separates | (columns == 0),
        }
        return {name: mask.astype(np.int32) for name, mask in masks.items()}


def segments_of(
    text: str | Iterable[str], text_pair: str | Iterable[str] | None
) -> list[list[str]]:
    """The texts of the first segment and, if there are pairs, those of the second.

    Raises:
      UserError: they do not pair up, or hold something else than strings.
    """
    if text_pair is None:
        return [_listed("text", text)]
    if isinstance(text, str) != isinstance(text_pair, str):
        kinds = [
            "one text" if isinstance(given, str) else "a list"
            for given in (text, text_pair)
        ]
        raise UserError(
            f"text is {kinds[0]}, but text_pair is {kinds[1]}; give two texts, or two "
            "lists of as many"
        )
    segments = [_listed("text", text), _listed("text_pair", text_pair)]
    first, second = map(len, segments)
    if first != second:
        raise UserError(
            f"text has {first} texts, but text_pair has {second}; give as many of each"
        )
    return segments


def _listed(name: str, given: str | Iterable[str]) -> list[str]:
    texts = [given] if isinstance(given, str) else list(given)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(
                f"{name}[{row}] is {text!r}, but it must be a string; the second texts "
                "of pairs go into text_pair"
            )
    return texts
