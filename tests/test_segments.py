"""Pairs are what their mode promises, and rows are full."""

import numpy as np
import pytest
from made_corpus import MadeCorpus, make
from scipy import stats

from albert_jax.config import DataConfig, UserError
from albert_jax.data.packing import pack
from albert_jax.data.segments import draw_pairs, plan_epoch, truncated


def pairs_of(corpus, seed=0, **fields):
    config = DataConfig(**({"sequence_length": 64} | fields))
    rng = np.random.default_rng(seed)
    return draw_pairs(corpus.sentence_ends, corpus.document_offsets, config, rng)


def documents_of(corpus, sentences):
    return np.searchsorted(corpus.document_offsets, sentences, side="right") - 1


@pytest.mark.parametrize("objective", ["sentence_order", "none"])
@pytest.mark.parametrize("official", [False, True])
def test_an_epoch_visits_every_sentence_once(objective, official):
    corpus = make()
    pairs = pairs_of(corpus, objective=objective, official_segments=official)
    covered = np.zeros(len(corpus.sentence_ends) - 1, int)
    for first, last in zip(pairs.first, pairs.last, strict=True):
        covered[first:last] += 1
    lengths = np.diff(corpus.sentence_ends)
    # All but the document of one token, which makes no pair.
    alone = [i for i, d in enumerate(corpus.documents) if d == (1,)]
    expected = np.ones(len(lengths), int)
    if objective != "none" and not official:
        ends = documents_of(corpus, np.arange(len(lengths)))
        single = (lengths == 1) & np.isin(np.arange(len(lengths)), pairs_gaps(pairs))
        assert single[np.isin(ends, alone)].all()
        expected[single] = 0
    np.testing.assert_array_equal(covered, expected)


def pairs_gaps(pairs):
    """Sentences between pairs that follow each other in the corpus."""
    order = np.argsort(pairs.first)
    first, last = pairs.first[order], pairs.last[order]
    gaps = [np.arange(b, a) for a, b in zip(first[1:], last[:-1], strict=True)]
    return np.concatenate([np.arange(first[0]), *gaps, np.arange(last[-1], 10**4)])


def test_strict_segments_are_neighbours_in_one_document():
    corpus = make()
    pairs = pairs_of(corpus)
    assert (pairs.other == -1).all()
    assert (documents_of(corpus, pairs.first) == pairs.document).all()
    assert (documents_of(corpus, pairs.last - 1) == pairs.document).all()
    assert ((pairs.first < pairs.split) & (pairs.split <= pairs.last)).all()
    # B is left empty, to be cut out of the sentence, only where there is one sentence.
    assert ((pairs.split == pairs.last) == (pairs.last - pairs.first == 1)).all()


@pytest.mark.parametrize("objective", ["sentence_order", "next_sentence"])
def test_labels_are_balanced(objective):
    corpus = make(documents=400)
    pairs = pairs_of(corpus, objective=objective)
    several = pairs.label[pairs.last - pairs.first > 1]
    assert stats.binomtest(int(several.sum()), len(several)).pvalue > 1e-3


def test_the_split_is_uniform_over_boundaries():
    corpus = MadeCorpus(((12,) * 4,) * 3000)
    pairs = pairs_of(corpus, short_fraction=0.0, sequence_length=51)
    counts = np.bincount(pairs.split - pairs.first)[1:]
    assert len(counts) == 3
    assert stats.chisquare(counts).pvalue > 1e-3


def test_official_segments_leak_other_documents_and_strict_ones_do_not():
    corpus = make(documents=300)
    official = pairs_of(corpus, official_segments=True)
    alone = official.last - official.first == 1
    assert alone.any()
    assert (official.label[alone] == 1).all()
    assert (official.other[alone] != official.document[alone]).all()
    assert (official.other[alone] >= 0).all() and (official.other[~alone] == -1).all()


def test_official_target_lengths_are_drawn_once_a_document():
    corpus = MadeCorpus(((3,) * 400,) * 200)

    def spread(official):
        pairs = pairs_of(
            corpus, official_segments=official, short_fraction=0.5, sequence_length=128
        )
        sizes = pairs.last - pairs.first
        last = np.flatnonzero(np.diff(pairs.document[np.argsort(pairs.first)]))
        by_document = [
            len(set(sizes[np.argsort(pairs.first)][a + 1 : b].tolist()))
            for a, b in zip(last[:-1], last[1:], strict=True)
        ]
        return max(by_document)

    assert spread(official=True) == 1
    assert spread(official=False) > 3


def test_a_tenth_of_targets_is_short():
    corpus = MadeCorpus(((1,) * 5000,) * 40)
    pairs = pairs_of(corpus, sequence_length=128)
    whole = pairs.last < corpus.document_offsets[pairs.document + 1]
    short = pairs.length[whole] < 128
    expected = 0.1 * (1 - 1 / 124)
    assert stats.binomtest(int(short.sum()), len(short), expected).pvalue > 1e-3


def test_next_sentence_puts_back_what_it_displaced():
    corpus = make(documents=300)
    pairs = pairs_of(corpus, objective="next_sentence")
    foreign = pairs.other >= 0
    assert (pairs.label == foreign).all()
    assert (pairs.other[foreign] != pairs.document[foreign]).all()
    order = np.argsort(pairs.first)
    follows = np.where(foreign, pairs.split, pairs.last)[order]
    same = np.diff(pairs.document[order]) == 0
    assert (pairs.first[order][1:][same] == follows[:-1][same]).all()


def test_one_document_has_no_other():
    with pytest.raises(UserError, match="only one"):
        pairs_of(MadeCorpus(((5, 5, 5),)), objective="next_sentence")


def test_a_corpus_of_single_tokens_makes_nothing():
    corpus = MadeCorpus(((1,), (1,)))
    with pytest.raises(UserError, match="single token"):
        config = DataConfig(sequence_length=64)
        ends, offsets = corpus.sentence_ends, corpus.document_offsets
        plan_epoch(ends, offsets, config, np.random.default_rng(0))


def test_truncation_pops_from_the_longer_and_on_a_tie_from_b():
    for a in range(30):
        for b in range(30):
            x, y = a, b
            while x + y > 21:
                x, y = (x - 1, y) if x > y else (x, y - 1)
            assert truncated(a, b, 21) == (x, y)


@pytest.mark.parametrize("length", [64, 128, 512])
def test_packed_rows_are_full_and_hold_every_pair_once(length):
    corpus = make(documents=500)
    config = DataConfig(sequence_length=length)
    plan = plan_epoch(
        corpus.sentence_ends,
        corpus.document_offsets,
        config,
        np.random.default_rng(0),
    )
    assert sorted(plan.members) == list(range(len(plan.pairs)))
    sizes = np.add.reduceat(plan.pairs.length[plan.members], plan.offsets[:-1])
    assert sizes.max() <= length
    assert np.diff(plan.offsets).max() <= config.max_pairs
    assert sizes.mean() / length >= 0.98


def test_what_is_cut_goes_from_front_and_back_by_a_coin():
    corpus = MadeCorpus(((70,),) * 3000)
    pairs = pairs_of(corpus, short_fraction=0.0)
    starts = corpus.sentence_ends[corpus.document_offsets[pairs.document]]
    front = pairs.start[:, 0] - starts
    assert (pairs.size == [61, 0]).all()
    expected = stats.binom(9, 0.5).pmf(np.arange(10)) * len(pairs)
    assert stats.chisquare(np.bincount(front, minlength=10), expected).pvalue > 1e-3


def fill_one_by_one(lengths, capacity, most):
    """Best fit as its rule says it, an item at a time."""
    left, rows = sorted(range(len(lengths)), key=lambda i: (lengths[i], -i)), []
    while left:
        row, space = [], capacity
        while len(row) < most:
            fits = [i for i in left if lengths[i] <= space]
            if not fits:
                break
            left.remove(fits[-1])
            row.append(fits[-1])
            space -= lengths[fits[-1]]
        rows.append(row)
    return rows


@pytest.mark.parametrize(("capacity", "most"), [(32, 4), (64, 16), (200, 3)])
def test_rows_are_packed_as_if_one_by_one(capacity, most):
    rng = np.random.default_rng(capacity)
    for size in (1, 2, 30, 300):
        lengths = rng.integers(4, 33, size)
        blocks = pack(lengths, capacity, most)
        rows = [row for block in blocks for row in block.tolist()]
        assert rows == fill_one_by_one(lengths.tolist(), capacity, most)


def test_best_fit():
    blocks = pack(np.array([5, 3, 2, 8, 10, 1, 1]), 10, 16)
    rows = [row for block in blocks for row in block.tolist()]
    assert [sorted(row) for row in rows] == [[4], [2, 3], [0, 1, 5, 6]]
    (block,) = pack(np.ones(20, int), 10, 4)
    assert block.shape == (5, 4)
