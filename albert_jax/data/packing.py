"""Pairs in rows: which share one, and where in it each of them stands.

Many rows at once; what a row holds is a ragged range of what all of them hold.
"""

import bisect
from dataclasses import dataclass

import numpy as np


def pack(lengths: np.ndarray, capacity: int, most: int) -> list[np.ndarray]:
    """Fills rows of ``capacity`` tokens with at most ``most`` items each, best fit.

    A row opens with the longest item left and takes, again and again, the longest that
    still fits. Items of one length are used in the order given.

    Returns:
      Blocks [rows, items of each]: rows of a block hold items of the same lengths.
    """
    order = np.argsort(lengths, kind="stable")
    unique, counts = np.unique(lengths, return_counts=True)
    left, counts = unique.tolist(), counts.tolist()
    next_item = np.cumsum([0, *counts]).tolist()
    blocks = []
    while left:
        makeup = _fill_row(left, counts, capacity, most)
        # Rows are alike until one of their lengths runs out.
        rows = min(counts[i] // taken for i, taken in makeup)
        columns = []
        for i, taken in makeup:
            items = order[next_item[i] : next_item[i] + rows * taken]
            columns.append(items.reshape(rows, taken))
            next_item[i] += rows * taken
            counts[i] -= rows * taken
        blocks.append(np.concatenate(columns, axis=1))
        for i, _ in sorted(makeup, reverse=True):
            if not counts[i]:
                del left[i], counts[i], next_item[i]
    return blocks


def _fill_row(
    lengths: list[int], counts: list[int], capacity: int, most: int
) -> list[tuple[int, int]]:
    """Which of the ascending ``lengths``, by index, a row takes, and how often."""
    makeup = []
    i = len(lengths)
    while most and (i := bisect.bisect_right(lengths, capacity, hi=i)):
        i -= 1
        taken = min(counts[i], capacity // lengths[i], most)
        makeup.append((i, taken))
        capacity -= taken * lengths[i]
        most -= taken
    return makeup


@dataclass(frozen=True)
class Rows:
    """Rows of [CLS] A [SEP] B [SEP], pair after pair; [rows, length] each."""

    ids: np.ndarray
    types: np.ndarray
    """0 for A and what goes with it, 1 for B."""
    positions: np.ndarray
    """From 0 in every pair."""
    pairs: np.ndarray
    """1, 2, ... for the pairs of a row; 0 is padding."""
    segments: np.ndarray
    """0, 1, ... for the segments of a row; -1 is a special or padding."""
    starts: np.ndarray
    """[pairs], where in its row each begins."""
    used: np.ndarray
    """[rows], positions that are not padding."""


def lay_out(
    tokens: np.ndarray,
    sizes: np.ndarray,
    row: np.ndarray,
    slot: np.ndarray,
    length: int,
    specials: tuple[int, int, int],
) -> Rows:
    """Lays pairs out in rows.

    Args:
      tokens: of all segments, end to end.
      sizes: [pairs, segments of each], one or two.
      row, slot: [pairs], ascending: in which row, and as which of its pairs.
      specials: ids of padding, [CLS] and [SEP].
    """
    pad, cls, sep = specials
    kinds = sizes.shape[1]
    lengths = sizes.sum(axis=1) + kinds + 1
    shape = (int(row[-1]) + 1, length)
    used = np.bincount(row, lengths).astype(int)
    begins = before(lengths)
    starts = begins - before(used)[row]

    # Of every place that is not padding, in order: where it is, whose, and how far in.
    places = ragged(row * length + starts, lengths)
    pair = np.repeat(np.arange(len(row)), lengths)
    inside = np.arange(len(pair)) - begins[pair]
    second = inside >= (sizes[:, 0] + 2)[pair]
    special = np.zeros(len(pair), bool)
    for place in (0, sizes[:, 0] + 1, lengths - 1):
        special[begins + place] = True

    def fill(values: np.ndarray, empty: int) -> np.ndarray:
        filled = np.full(shape, empty, np.int32)
        filled.ravel()[places] = values
        return filled

    shown = np.full(len(places), sep)
    shown[begins], shown[~special] = cls, tokens
    return Rows(
        ids=fill(shown, pad),
        types=fill(second, 0),
        positions=fill(inside, 0),
        pairs=fill(slot[pair] + 1, 0),
        segments=fill(np.where(special, -1, kinds * slot[pair] + second), -1),
        starts=starts,
        used=used,
    )


def ragged(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The integers of all ranges ``start`` to ``start + size``, one range after
    another."""
    return np.arange(sizes.sum()) + np.repeat(starts - before(sizes), sizes)


def before(sizes: np.ndarray) -> np.ndarray:
    """The sum of the sizes before each."""
    return np.cumsum(sizes) - sizes
