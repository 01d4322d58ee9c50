"""N-gram whole-word masking, 80/10/10 (section 3.1; ``create_masked_lm_predictions``).

A span is n consecutive whole words, n drawn with probability proportional to 1/n. Rows
are masked many at once; only the choice of spans, each of which depends on those before
it, goes row by row.
"""

from dataclasses import dataclass

import numpy as np

from albert_jax.data.draws import RowDraws


@dataclass(frozen=True)
class Vocabulary:
    """What masking must know of the pieces."""

    word_starts: np.ndarray
    """[vocabulary], bool: the piece begins a word."""
    replacements: np.ndarray
    """Pieces that may stand in for a masked token."""
    mask_id: int


def words(
    starts: np.ndarray, segments: np.ndarray, across: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Divides a row, or rows laid end to end, into whole words.

    Args:
      starts: [length], whether the piece at a position begins a word.
      segments: [length], number of the segment a position belongs to, ascending; -1
        for specials.
      across: as the official code: specials do not break adjacency, so that a word or
        a span may continue on the other side of [SEP].

    Returns:
      ``positions`` of all ordinary tokens, in order; ``bounds`` [words + 1] into them;
      ``limits`` [words], the word before which a span from each word must end.
    """
    positions = np.flatnonzero(segments >= 0)
    owner = segments[positions]
    if across:
        owner = np.zeros_like(owner)
    begins = starts[positions].copy()
    begins[:1] = True
    begins[1:] |= owner[1:] != owner[:-1]
    first = np.flatnonzero(begins)
    bounds = np.append(first, len(positions))
    limits = np.searchsorted(owner[first], owner[first], side="right")
    return positions, bounds, limits


def draw_spans(
    bounds: np.ndarray,
    limits: np.ndarray,
    budget: int | np.ndarray,
    max_ngram: int,
    rng: np.random.Generator | RowDraws,
    row_ends: np.ndarray | None = None,
) -> list[tuple[int, int]]:
    """Draws spans of whole words until ``budget`` tokens of each row are covered.

    Words are visited in random order. A span that would exceed the budget is shortened
    word by word; one that still does, or that touches another, is passed over.

    Args:
      bounds: see ``words``; ``limits`` too.
      budget: most tokens to cover, of each row.
      row_ends: [rows + 1], words before each row, and in all; by default they are all
        of one row.

    Returns:
      Half-open ranges of words, in the order drawn, row after row.
    """
    count = len(limits)
    row_ends = np.array([0, count]) if row_ends is None else row_ends
    in_row = np.diff(row_ends)
    there = np.arange(in_row.max(initial=0)) < in_row[:, None]
    keys = np.where(there, rng.random(there.shape), np.inf)
    # Stable, so that what else is in the batch cannot decide between equal keys.
    places = np.argsort(keys, axis=1, kind="stable")
    order = (places + row_ends[:-1, None])[there]
    # The law of n, cut to the words that are left in the segment.
    shares = np.cumsum(1.0 / np.arange(1, max_ngram + 1))
    reach = np.minimum(limits[order] - order, max_ngram)
    drawn = rng.random(there.shape)[there] * shares[reach - 1]
    wanted = 1 + np.searchsorted(shares, drawn, side="right")

    ends = bounds.tolist()
    taken = bytearray(count)
    spans = []
    rows = zip(row_ends[:-1].tolist(), row_ends[1:].tolist(), strict=True)
    budgets = np.broadcast_to(budget, len(in_row)).tolist()
    for (begin, end), left in zip(rows, budgets, strict=True):
        visits = zip(order[begin:end].tolist(), wanted[begin:end].tolist(), strict=True)
        for word, n in visits:
            if left <= 0:
                break
            while n > 1 and ends[word + n] - ends[word] > left:
                n -= 1
            size = ends[word + n] - ends[word]
            if size > left or taken.find(1, word, word + n) >= 0:
                continue
            taken[word : word + n] = b"\x01" * n
            spans.append((word, word + n))
            left -= size
    return spans


def mask(
    ids: np.ndarray,
    segments: np.ndarray,
    vocabulary: Vocabulary,
    budget: int | np.ndarray,
    max_ngram: int,
    across: bool,
    rng: np.random.Generator | RowDraws,
) -> tuple[np.ndarray, np.ndarray]:
    """Masks a row, or rows.

    Every chosen token becomes, on its own account, [MASK] (80 %), itself (10 %) or a
    random piece (10 %).

    Args:
      ids: [length] or [rows, length], pieces.
      segments: of that shape, see ``words``.
      budget: most tokens to choose, of each row.

    Returns:
      The masked rows, and the chosen positions in ascending order, counted through all
      rows.
    """
    length, flat = ids.shape[-1], ids.ravel()
    shape = (len(flat) // length, length)
    # Rows laid end to end are one row of many segments, or officially of one each.
    row = np.arange(len(flat)) // length
    owner = row * length + (0 if across else segments.ravel())
    owner = np.where(segments.ravel() < 0, -1, owner)
    starts = vocabulary.word_starts[flat]
    positions, bounds, limits = words(starts, owner, across=False)
    row_ends = np.searchsorted(positions[bounds[:-1]], length * np.arange(shape[0] + 1))
    spans = draw_spans(bounds, limits, budget, max_ngram, rng, row_ends)
    first, last = bounds[np.array(spans, int).reshape(-1, 2).T]
    covered = np.zeros(len(positions) + 1, int)
    covered[first] += 1
    covered[last] -= 1
    chosen = positions[np.cumsum(covered[:-1]) > 0]
    fate, other = rng.random(shape).ravel()[chosen], rng.random(shape).ravel()[chosen]
    random = vocabulary.replacements[(other * len(vocabulary.replacements)).astype(int)]
    masked = flat.copy()
    masked[chosen] = np.where(
        fate < 0.8, vocabulary.mask_id, np.where(fate < 0.9, flat[chosen], random)
    )
    return masked.reshape(ids.shape), chosen
