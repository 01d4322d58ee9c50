"""N-gram whole-word masking, 80/10/10 (section 3.1; ``create_masked_lm_predictions``).

A span is n consecutive whole words, n drawn with probability proportional to 1/n.
"""

from dataclasses import dataclass

import numpy as np


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
    """Divides a row into whole words.

    Args:
      starts: [length], whether the piece at a position begins a word.
      segments: [length], number of the segment a position belongs to; -1 for specials.
      across: as the official code: specials do not break adjacency, so that a word or
        a span may continue on the other side of [SEP].

    Returns:
      ``positions`` of all ordinary tokens, in order; ``bounds`` [words + 1] into them;
      ``limits`` [words], the word before which a span from each word must end.
    """
    positions = np.flatnonzero(segments >= 0)
    begins = starts[positions].copy()
    begins[:1] = True
    owner = segments[positions]
    if not across:
        begins[1:] |= owner[1:] != owner[:-1]
    first = np.flatnonzero(begins)
    bounds = np.append(first, len(positions))
    if across:
        limits = np.full(len(first), len(first))
    else:
        # Segments are numbered along the row, so the owners of words are sorted.
        limits = np.searchsorted(owner[first], owner[first], side="right")
    return positions, bounds, limits


def draw_spans(
    bounds: np.ndarray,
    limits: np.ndarray,
    budget: int,
    max_ngram: int,
    rng: np.random.Generator,
) -> list[tuple[int, int]]:
    """Draws spans of whole words until ``budget`` tokens are covered.

    Words are visited in random order. A span that would exceed the budget is shortened
    word by word; one that still does, or that touches another, is passed over.

    Returns:
      Half-open ranges of words, in the order drawn.
    """
    count = len(limits)
    shares = np.cumsum(1.0 / np.arange(1, max_ngram + 1))
    order = rng.permutation(count)
    reach = np.minimum(limits[order] - order, max_ngram)
    # The law of n, cut to the words that are left in the segment.
    drawn = rng.random(count) * shares[reach - 1]
    wanted = 1 + np.searchsorted(shares, drawn, side="right")
    ends = bounds.tolist()
    taken = bytearray(count)
    spans = []
    for word, n in zip(order.tolist(), wanted.tolist(), strict=True):
        if budget <= 0:
            break
        while n > 1 and ends[word + n] - ends[word] > budget:
            n -= 1
        size = ends[word + n] - ends[word]
        if size > budget or any(taken[word : word + n]):
            continue
        taken[word : word + n] = b"\x01" * n
        spans.append((word, word + n))
        budget -= size
    return spans


def mask(
    ids: np.ndarray,
    segments: np.ndarray,
    vocabulary: Vocabulary,
    budget: int,
    max_ngram: int,
    across: bool,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Masks a row.

    Every chosen token becomes, on its own account, [MASK] (80 %), itself (10 %) or a
    random piece (10 %).

    Args:
      ids: [length], pieces.
      segments: [length], see ``words``.
      budget: most tokens to choose.

    Returns:
      The masked row, and the chosen positions in ascending order.
    """
    starts = vocabulary.word_starts[ids]
    positions, bounds, limits = words(starts, segments, across)
    spans = draw_spans(bounds, limits, budget, max_ngram, rng)
    covered = [positions[bounds[w] : bounds[end]] for w, end in spans]
    chosen = np.sort(np.concatenate(covered)) if covered else positions[:0]
    fate = rng.random(len(chosen))
    random = rng.choice(vocabulary.replacements, len(chosen))
    masked = ids.copy()
    masked[chosen] = np.where(
        fate < 0.8, vocabulary.mask_id, np.where(fate < 0.9, ids[chosen], random)
    )
    return masked, chosen
