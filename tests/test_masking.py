"""Spans are whole words by the law of n, and each token's fate is its own."""

import numpy as np
import pytest
from scipy import stats

from albert_jax.data.masking import Vocabulary, draw_spans, mask, words

VOCABULARY = Vocabulary(
    word_starts=np.arange(1000) % 3 != 2, replacements=np.arange(5, 1000), mask_id=4
)


def row(seed: int, length: int = 120):
    """Ids of two segments with specials around, and the segment of each position."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(5, 1000, length).astype(np.int32)
    segments = np.zeros(length, int)
    half = int(rng.integers(10, length - 10))
    segments[half:] = 1
    for place, special in ((0, 2), (half, 3), (length - 1, 3)):
        ids[place], segments[place] = special, -1
    return ids, segments


def test_words_end_at_segments_unless_official():
    starts = np.array([0, 1, 0, 1, 0, 0, 1, 0], bool)
    segments = np.array([-1, 0, 0, 0, -1, 1, 1, -1])
    positions, bounds, limits = words(starts, segments, across=False)
    assert positions.tolist() == [1, 2, 3, 5, 6]
    assert bounds.tolist() == [0, 2, 3, 4, 5] and limits.tolist() == [2, 2, 4, 4]
    # Officially the piece after [SEP], which begins no word, goes on with the last one.
    positions, bounds, limits = words(starts, segments, across=True)
    assert bounds.tolist() == [0, 2, 4, 5] and limits.tolist() == [3, 3, 3]


@pytest.mark.parametrize("across", [False, True])
def test_masked_tokens_are_whole_words_and_never_specials(across):
    for seed in range(50):
        ids, segments = row(seed)
        positions, bounds, _ = words(VOCABULARY.word_starts[ids], segments, across)
        rng = np.random.default_rng(seed)
        _, chosen = mask(ids, segments, VOCABULARY, 18, 3, across, rng)
        taken = np.isin(positions, chosen)
        assert taken.sum() == len(chosen) == len(set(chosen.tolist())) <= 18
        for a, b in zip(bounds[:-1], bounds[1:], strict=True):
            assert taken[a:b].all() or not taken[a:b].any()


def test_budget_is_met_where_words_allow():
    missed = 0
    for seed in range(100):
        ids, segments = row(seed)
        rng = np.random.default_rng(seed)
        _, chosen = mask(ids, segments, VOCABULARY, 18, 3, False, rng)
        missed += 18 - len(chosen)
    assert missed == 0


def first_spans(max_ngram: int, count: int = 6000):
    """Lengths of the first span drawn, which fits always and touches nothing."""
    bounds, limits = np.arange(201), np.full(200, 200)
    sizes = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        ((first, last), *_) = draw_spans(bounds, limits, 30, max_ngram, rng)
        if first <= 200 - max_ngram:
            sizes.append(last - first)
    return np.bincount(sizes)[1:]


@pytest.mark.parametrize(("max_ngram", "shares"), [(3, [6, 3, 2]), (2, [2, 1])])
def test_n_is_drawn_in_proportion_to_its_inverse(max_ngram, shares):
    counts = first_spans(max_ngram)
    expected = counts.sum() * np.array(shares) / sum(shares)
    assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_law_of_n_is_cut_where_words_run_out():
    # From the last word but one, only 1 and 2 are possible: 2/3 and 1/3.
    sizes = []
    for seed in range(8000):
        rng = np.random.default_rng(seed)
        spans = draw_spans(np.arange(4), np.full(3, 3), 3, 3, rng)
        if spans[0][0] == 1:
            sizes.append(spans[0][1] - 1)
    counts = np.bincount(sizes)[2:] if min(sizes) > 1 else np.bincount(sizes)[1:]
    expected = counts.sum() * np.array([2, 1]) / 3
    assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_spans_start_anywhere():
    starts = []
    for seed in range(4000):
        rng = np.random.default_rng(seed)
        starts.append(draw_spans(np.arange(21), np.full(20, 20), 3, 3, rng)[0][0])
    assert stats.chisquare(np.bincount(starts, minlength=20)).pvalue > 1e-3


def test_every_token_meets_its_own_fate():
    fates = np.zeros(3, int)
    together = []
    for seed in range(1500):
        ids, segments = row(seed)
        rng = np.random.default_rng(seed)
        masked, chosen = mask(ids, segments, VOCABULARY, 18, 3, False, rng)
        untouched = np.setdiff1d(np.arange(len(ids)), chosen)
        np.testing.assert_array_equal(masked[untouched], ids[untouched])
        fate = np.where(
            masked[chosen] == 4, 0, np.where(masked[chosen] == ids[chosen], 1, 2)
        )
        fates += np.bincount(fate, minlength=3)
        neighbours = np.diff(chosen) == 1
        together += zip(fate[:-1][neighbours], fate[1:][neighbours], strict=True)
    # A random piece is the piece itself once in 995 times.
    expected = fates.sum() * np.array([0.8, 0.1 + 0.1 / 995, 0.1 - 0.1 / 995])
    assert stats.chisquare(fates, expected).pvalue > 1e-3
    table = np.zeros((3, 3), int)
    np.add.at(table, tuple(np.array(together).T), 1)
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_random_pieces_are_the_ones_allowed():
    seen = set()
    for seed in range(200):
        ids, segments = row(seed)
        few = Vocabulary(VOCABULARY.word_starts, np.array([7, 11]), 4)
        masked, chosen = mask(
            ids, segments, few, 18, 3, False, np.random.default_rng(seed)
        )
        changed = chosen[(masked[chosen] != ids[chosen]) & (masked[chosen] != 4)]
        seen |= set(masked[changed].tolist())
    assert seen == {7, 11}


def test_a_word_longer_than_the_budget_is_left_alone():
    ids = np.full(10, 5, np.int32)
    none = Vocabulary(np.zeros(1000, bool), np.array([7]), 4)
    masked, chosen = mask(
        ids, np.zeros(10, int), none, 3, 3, False, np.random.default_rng(0)
    )
    assert not len(chosen)
    np.testing.assert_array_equal(masked, ids)
