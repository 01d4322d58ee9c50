"""Which sentences meet in which pair, and which pairs in which row: one epoch's plan.

Everything here is computed from sentence boundaries alone, for all documents at once;
no token is read. Sentences and documents are numbered through all that are given: those
of a block (``albert_jax.data.blocks``), in training.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from albert_jax.config import DataConfig, UserError
from albert_jax.data.packing import before, pack, ragged


@dataclass(frozen=True)
class Pairs:
    """Segment pairs, one entry each; ranges are half-open ranges of sentences.

    Segment A is ``first:split`` of ``document``, B is ``split:last`` of it, or
    ``other_first:other_last`` of ``other`` where ``other`` is not -1. Where B is empty
    the one sentence of A is to be split at a word. ``label`` 1 asks for the segments in
    reversed order (sentence order) or says that B came from elsewhere (next sentence).
    ``length`` is the number of tokens after truncation, specials included.

    ``start`` and ``size`` [pairs, 2] are what is shown, in that order: where in all
    tokens each segment begins, and how many it has after truncation. A second
    size of 0 says that the first segment is the only one, or still to be split.
    """

    document: np.ndarray
    first: np.ndarray
    split: np.ndarray
    last: np.ndarray
    other: np.ndarray
    other_first: np.ndarray
    other_last: np.ndarray
    label: np.ndarray
    length: np.ndarray
    start: np.ndarray
    size: np.ndarray

    def __len__(self) -> int:
        return len(self.document)

    def select(self, chosen: np.ndarray) -> "Pairs":
        """The pairs at the given indices or under a mask."""
        return Pairs(*(getattr(self, f.name)[chosen] for f in fields(self)))


@dataclass(frozen=True)
class Epoch:
    """An epoch's rows: row r holds the pairs ``pairs_of(r)``."""

    pairs: Pairs
    offsets: np.ndarray
    """[rows + 1], into ``members``."""
    members: np.ndarray
    """Pair indices, row after row."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def pairs_of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pairs of some rows, row after row, and how many each row holds."""
        sizes = self.offsets[rows + 1] - self.offsets[rows]
        return self.members[ragged(self.offsets[rows], sizes)], sizes


def specials(config: DataConfig) -> int:
    """Special tokens a pair: [CLS] A [SEP] B [SEP], or [CLS] A [SEP]."""
    return 2 if config.objective == "none" else 3


def plan_epoch(
    sentence_ends: np.ndarray,
    document_offsets: np.ndarray,
    config: DataConfig,
    rng: np.random.Generator,
) -> Epoch:
    """Draws an epoch: cuts documents into pairs, packs pairs into rows, shuffles rows.

    Args:
      sentence_ends: [sentences + 1], tokens before each sentence, and in all.
      document_offsets: [documents + 1], into sentences.

    Raises:
      UserError: the corpus makes no pair, or B must come from another document and
        there is none.
    """
    pairs = draw_pairs(sentence_ends, document_offsets, config, rng)
    if not len(pairs):
        raise UserError(
            f"the corpus's {len(document_offsets) - 1} documents make no training "
            "example: each holds a single token"
        )
    if config.packing:
        pairs = pairs.select(rng.permutation(len(pairs)))
        blocks = pack(pairs.length, config.sequence_length, config.max_pairs)
        members = np.concatenate([block.ravel() for block in blocks])
        sizes = np.repeat([b.shape[1] for b in blocks], [b.shape[0] for b in blocks])
        order = rng.permutation(len(sizes))
        members = members[ragged(before(sizes)[order], sizes[order])]
        sizes = sizes[order]
    else:
        members = rng.permutation(len(pairs))
        sizes = np.ones(len(pairs), np.int64)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return Epoch(pairs, offsets, members)


def draw_pairs(
    ends: np.ndarray,
    document_offsets: np.ndarray,
    config: DataConfig,
    rng: np.random.Generator,
) -> Pairs:
    """Cuts every document into pairs (official ``create_instances_from_document``).

    Whole sentences are taken until a target length is reached; a random one of the
    boundaries between them separates A from B. ``ends`` are ``sentence_ends``.
    """
    budget = config.sequence_length - specials(config)
    documents = len(document_offsets) - 1

    def targets(count: int) -> np.ndarray:
        short = rng.random(count) < config.short_fraction
        return np.where(short, rng.integers(2, budget, count, endpoint=True), budget)

    # The k-th turn of this loop cuts the k-th pair of every document that has one.
    active = np.flatnonzero(np.diff(document_offsets) > 0)
    start = document_offsets[active].astype(np.int64)
    document_targets = targets(documents)
    turns = []
    while len(active):
        stop = document_offsets[active + 1]
        target = targets(len(active))
        if config.official_segments:
            target = document_targets[active]
        last = np.searchsorted(ends, ends[start] + target).clip(start + 1, stop)
        turn = _cut(active, start, last, target, ends, document_offsets, config, rng)
        turns.append(turn)
        # Next sentence: what a foreign B displaced opens the next pair.
        put_back = (turn.other >= 0) & (config.objective == "next_sentence")
        start = np.where(put_back, turn.split, last)
        active, start = active[start < stop], start[start < stop]
    joined = (
        np.concatenate([getattr(turn, f.name) for turn in turns]) for f in fields(Pairs)
    )
    pairs = Pairs(*joined)
    # A single token makes no two segments.
    whole = pairs.length - specials(config)
    pairs = pairs.select(whole >= (1 if config.objective == "none" else 2))
    return _truncate(pairs, budget, rng)


def _cut(
    document: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    target: np.ndarray,
    ends: np.ndarray,
    document_offsets: np.ndarray,
    config: DataConfig,
    rng: np.random.Generator,
) -> Pairs:
    """Divides sentences ``first:last`` of each document into A and B."""
    count = len(document)
    sentences = last - first
    split = first + 1 + rng.integers(0, np.maximum(sentences - 1, 1))
    coin = rng.random(count) < 0.5
    alone = sentences == 1
    if config.objective == "none":
        split, label, foreign = last, np.zeros(count, bool), np.zeros(count, bool)
    elif config.objective == "next_sentence":
        label = foreign = coin | alone
    elif config.official_segments:
        label, foreign = coin | alone, alone
    else:
        label, foreign = coin, np.zeros(count, bool)

    if config.objective == "next_sentence" or foreign.any():
        wanted = target - (ends[split] - ends[first])
        drawn = _foreign(document, wanted, ends, document_offsets, rng)
    else:
        drawn = (np.zeros_like(document),) * 3
    other, other_first, other_last = drawn
    other = np.where(foreign, other, -1)
    starts = np.stack([ends[first], np.where(foreign, ends[other_first], ends[split])])
    stops = np.stack([ends[split], np.where(foreign, ends[other_last], ends[last])])
    budget = config.sequence_length - specials(config)
    sizes = stops - starts
    length = np.minimum(sizes.sum(axis=0), budget) + specials(config)
    # A foreign B follows A, whatever the official mode's label says of it.
    swapped = label & ~foreign & (split < last)
    shown = np.where(swapped, [[1], [0]], [[0], [1]])
    starts, sizes = (np.take_along_axis(x, shown, axis=0).T for x in (starts, sizes))
    # Half the bytes where they suffice.
    narrow = np.int32 if len(ends) < 2**31 else np.int64
    sentences = (document, first, split, last, other, other_first, other_last)
    return Pairs(
        *(numbers.astype(narrow) for numbers in sentences),
        label,
        length.astype(np.int32),
        starts,
        sizes.astype(np.int32),
    )


def _truncate(pairs: Pairs, budget: int, rng: np.random.Generator) -> Pairs:
    """Shortens segments, one token after another, each from the front or the back by
    a coin."""
    kept = np.stack(truncated(*pairs.size.T, budget), axis=1)
    from_front = rng.binomial(pairs.size - kept, 0.5)
    return replace(pairs, start=pairs.start + from_front, size=kept)


def _foreign(
    document: np.ndarray,
    target: np.ndarray,
    ends: np.ndarray,
    document_offsets: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sentences of another document, from a random one on, about ``target`` tokens."""
    documents = len(document_offsets) - 1
    if documents < 2:
        raise UserError(
            "segment B must come from another document, but the corpus has only one"
        )
    other = (document + 1 + rng.integers(0, documents - 1, len(document))) % documents
    low, high = document_offsets[other], document_offsets[other + 1]
    first = rng.integers(low, high)
    last = np.searchsorted(ends, ends[first] + target).clip(first + 1, high)
    return other, first, last


def truncated(
    a: int | np.ndarray, b: int | np.ndarray, budget: int
) -> tuple[np.integer | np.ndarray, np.integer | np.ndarray]:
    """Lengths of A and B after tokens went, one by one, from the longer (tie: B)."""
    kept_b = np.minimum(b, np.maximum(budget - a, budget // 2))
    return np.minimum(a, budget - kept_b), kept_b
