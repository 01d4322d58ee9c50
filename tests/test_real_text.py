"""Statistics of the training stream on real Wikipedia, with the official vocabulary."""

import itertools
import lzma

import numpy as np
import pytest
from scipy import stats

from albert_jax.config import CorpusConfig, DataConfig
from albert_jax.data.masking import draw_spans, words
from albert_jax.data.pipeline import PretrainingData
from albert_jax.data.prepare import prepare
from albert_jax.data.shards import PreparedCorpus
from albert_jax.data.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def wikipedia(data_folder, tmp_path_factory):
    """The first 6 MB of articles, about 2,000 of them, prepared."""
    folder = tmp_path_factory.mktemp("wikipedia")
    with lzma.open(data_folder / "wiki_en.txt.xz", "rt", encoding="utf-8") as file:
        text = file.read(6_000_000)
    (folder / "wiki.txt").write_text(text[: text.rindex("\n\n")])
    config = CorpusConfig(
        sources=(str(folder / "wiki.txt"),),
        vocabulary=str(data_folder / "30k-clean.model"),
        prepared=str(folder / "prepared"),
    )
    prepare(config, 30_000, processes=1)
    corpus = PreparedCorpus.open(config.prepared)
    return corpus, Tokenizer.load(corpus.tokenizer_path)


def rows_of(wikipedia, count=400, **fields):
    data = PretrainingData(*wikipedia, DataConfig(**fields), seed=0)
    return data, [data[n] for n in range(count)]


def original(row):
    ids, kept = row["input_ids"].copy(), row["masked_weights"] > 0
    ids[row["masked_positions"][kept]] = row["masked_labels"][kept]
    return ids


@pytest.mark.parametrize("length", [128, 512])
def test_packed_rows_are_98_percent_real(wikipedia, length):
    _, rows = rows_of(wikipedia, sequence_length=length)
    assert np.mean([row["attention_mask"] for row in rows]) >= 0.98


def test_the_official_way_wastes_a_third_at_full_length(wikipedia):
    official = {"packing": False, "official_segments": True}
    _, rows = rows_of(wikipedia, sequence_length=512, **official)
    share = np.mean([row["attention_mask"] for row in rows])
    assert share == pytest.approx(0.63, abs=0.05)


@pytest.mark.parametrize("length", [128, 512])
def test_fifteen_percent_is_masked_and_20_of_512_officially(wikipedia, length):
    _, rows = rows_of(wikipedia, 200, sequence_length=length)
    masked = sum(row["masked_weights"].sum() for row in rows)
    assert masked / sum(row["attention_mask"].sum() for row in rows) == pytest.approx(
        0.15, abs=0.5 / length
    )
    _, capped = rows_of(wikipedia, 200, sequence_length=512, max_predictions=20)
    full = [row for row in capped if row["attention_mask"].all()]
    assert {row["masked_weights"].sum() for row in full} == {20.0}


def test_fates_are_80_10_10(wikipedia):
    data, rows = rows_of(wikipedia, 600, sequence_length=128)
    fates = np.zeros(3, int)
    for row in rows:
        kept = row["masked_weights"] > 0
        shown = row["input_ids"][row["masked_positions"][kept]]
        label = row["masked_labels"][kept]
        fate = np.where(shown == 4, 0, np.where(shown == label, 1, 2))
        fates += np.bincount(fate, minlength=3)
    itself = 1 / len(data.vocabulary.replacements)
    expected = fates.sum() * np.array([0.8, 0.1 + 0.1 * itself, 0.1 - 0.1 * itself])
    assert stats.chisquare(fates, expected).pvalue > 1e-3


def test_spans_follow_the_law_where_they_fit(wikipedia):
    data, rows = rows_of(wikipedia, 4000, sequence_length=128)
    sizes = []
    for n, row in enumerate(rows):
        ids = original(row)
        owner = np.where(ids > 4, 2 * row["segment_ids"] + row["token_type_ids"], -1)
        starts = data.vocabulary.word_starts[ids]
        _, bounds, limits = words(starts, owner, across=False)
        rng = np.random.default_rng([1, n])
        ((first, last), *_) = draw_spans(bounds, limits, 19, 3, rng)
        # The first span is cut by nothing where three words fit.
        if limits[first] - first >= 3 and bounds[first + 3] - bounds[first] <= 19:
            sizes.append(last - first)
    counts = np.bincount(sizes, minlength=4)[1:]
    expected = counts.sum() * np.array([6, 3, 2]) / 11
    assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_masked_words_are_whole(wikipedia):
    data, rows = rows_of(wikipedia, 200, sequence_length=128)
    for row in rows:
        ids = original(row)
        chosen = row["masked_positions"][row["masked_weights"] > 0]
        covered = np.isin(np.arange(128), chosen)
        inside = ids > 4
        starts = data.vocabulary.word_starts[ids] | ~np.append(False, inside[:-1])
        goes_on = inside & ~starts
        # A piece that begins no word shares the fate of the piece before it.
        before = np.append(False, covered[:-1])
        assert (covered == before)[goes_on].all()


def test_labels_are_balanced_and_segments_adjacent(wikipedia):
    corpus, _ = wikipedia
    data, _ = rows_of(wikipedia, 1, sequence_length=128)
    pairs = data.plan(0).pairs
    assert stats.binomtest(int(pairs.label.sum()), len(pairs)).pvalue > 1e-3
    assert (pairs.other == -1).all()
    ends, offsets = corpus.sentence_ends, corpus.document_offsets
    for pair in itertools.islice(np.flatnonzero(pairs.split < pairs.last), 300):
        document = corpus.tokens(int(pairs.document[pair]))
        at = int(ends[pairs.split[pair]] - ends[offsets[pairs.document[pair]]])
        one = pairs.select(np.array([pair]))
        tokens, ((size, _),) = data.segments(one, np.zeros(1))
        a, b = tokens[:size], tokens[size:]
        first, second = (b, a) if pairs.label[pair] else (a, b)
        if len(a) + len(b) < 125:
            np.testing.assert_array_equal(first, document[at - len(first) : at])
            np.testing.assert_array_equal(second, document[at : at + len(second)])
