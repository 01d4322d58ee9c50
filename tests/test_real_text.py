"""Statistics of the training stream on real Wikipedia, with the official vocabulary."""

import itertools
import lzma

import numpy as np
import pytest
from scipy import stats

from albert_jax.config import CorpusConfig, DataConfig
from albert_jax.data import masking
from albert_jax.data.pipeline import PretrainingData
from albert_jax.data.prepare import prepare
from albert_jax.data.shards import PreparedCorpus
from albert_jax.data.tokenizer import Tokenizer

OFFICIAL = {
    "official_segments": True,
    "official_masking": True,
    "max_predictions": 20,
    "packing": False,
}


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


@pytest.fixture(scope="module", params=[{}, OFFICIAL], ids=["strict", "official"])
def mode(request):
    return request.param


@pytest.fixture(scope="module")
def stream(wikipedia, mode):
    """4,000 rows of 128 tokens, and the sizes of their first spans that nothing cut."""
    sizes, draw_spans = [], masking.draw_spans

    def recording(bounds, limits, budget, max_ngram, rng, row_ends):
        spans = draw_spans(bounds, limits, budget, max_ngram, rng, row_ends)
        rows = np.searchsorted(row_ends, [first for first, _ in spans], "right") - 1
        budgets = np.broadcast_to(budget, len(row_ends) - 1)
        for row, drawn_first in zip(*np.unique(rows, return_index=True), strict=True):
            first, last = spans[drawn_first]
            # A row's first span is cut by nothing where three words fit.
            three = bounds[min(first + 3, len(bounds) - 1)] - bounds[first]
            if limits[first] - first >= 3 and three <= budgets[row]:
                sizes.append(last - first)
        return spans

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(masking, "draw_spans", recording)
        return *rows_of(wikipedia, 4000, sequence_length=128, **mode), sizes


def original(row):
    ids, kept = row["input_ids"].copy(), row["masked_weights"] > 0
    ids[row["masked_positions"][kept]] = row["masked_labels"][kept]
    return ids


@pytest.mark.parametrize("length", [128, 512])
def test_packed_rows_are_98_percent_real(wikipedia, length):
    _, rows = rows_of(wikipedia, sequence_length=length)
    assert np.mean([row["attention_mask"] for row in rows]) >= 0.98


def test_the_official_way_wastes_a_third_at_full_length(wikipedia):
    _, rows = rows_of(wikipedia, sequence_length=512, **OFFICIAL)
    share = np.mean([row["attention_mask"] for row in rows])
    assert share == pytest.approx(0.63, abs=0.05)


@pytest.mark.parametrize("length", [128, 512])
def test_fifteen_percent_is_masked_at_any_length(wikipedia, length):
    _, rows = rows_of(wikipedia, 200, sequence_length=length)
    masked = sum(row["masked_weights"].sum() for row in rows)
    assert masked / sum(row["attention_mask"].sum() for row in rows) == pytest.approx(
        0.15, abs=0.5 / length
    )


def test_the_official_cap_masks_20_of_512(wikipedia):
    _, rows = rows_of(wikipedia, 400, sequence_length=512, **OFFICIAL)
    masked = np.array([row["masked_weights"].sum() for row in rows])
    lengths = np.array([row["attention_mask"].sum() for row in rows])
    fifteen_percent = np.array([max(1, round(0.15 * n)) for n in lengths.tolist()])
    assert (masked == np.minimum(20, fifteen_percent)).all()
    full = lengths == 512
    assert full.sum() > 100 and (fifteen_percent == masked)[lengths <= 133].all()
    assert masked[full].sum() / lengths[full].sum() == pytest.approx(0.039, abs=1e-4)


def test_fates_are_80_10_10_and_each_tokens_own(stream, mode):
    data, rows, _ = stream
    fates, together = np.zeros(3, int), np.zeros((3, 3), int)
    for row in rows[:1200]:
        kept = row["masked_weights"] > 0
        places, label = row["masked_positions"][kept], row["masked_labels"][kept]
        shown = row["input_ids"][places]
        fate = np.where(shown == 4, 0, np.where(shown == label, 1, 2))
        fates += np.bincount(fate, minlength=3)
        neighbours = np.diff(places) == 1
        np.add.at(together, (fate[:-1][neighbours], fate[1:][neighbours]), 1)
    # A random piece may be the piece itself, and officially [MASK].
    random = 0.1 / len(data.vocabulary.replacements)
    shares = [
        0.8 + random * bool(mode),
        0.1 + random,
        0.1 - random - random * bool(mode),
    ]
    assert stats.chisquare(fates, fates.sum() * np.array(shares)).pvalue > 1e-3
    assert stats.chi2_contingency(together).pvalue > 1e-3


def test_spans_follow_the_law_where_they_fit(stream):
    _, _, sizes = stream
    counts = np.bincount(sizes, minlength=4)[1:]
    assert counts.sum() > 3000
    expected = counts.sum() * np.array([6, 3, 2]) / 11
    assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_masked_words_are_whole(stream, mode):
    data, rows, _ = stream
    across = 0
    for row in rows[:400]:
        ids = original(row)
        places = np.flatnonzero(~np.isin(ids, data.specials))
        starts = data.vocabulary.word_starts[ids[places]]
        after_special = np.diff(places, prepend=-1) > 1
        if not mode:
            starts |= after_special
        chosen = row["masked_positions"][row["masked_weights"] > 0]
        covered = np.isin(places, chosen)
        # A piece that begins no word shares the fate of the piece before it.
        assert (covered[1:] == covered[:-1])[~starts[1:]].all()
        across += (~starts & after_special & covered).any()
    # Officially even across [SEP].
    assert bool(across) == bool(mode)


def test_sentence_order_leaks_other_documents_in_official_mode_only(
    wikipedia, stream, mode
):
    """An audit of rows: which pairs' segments both lie in the pair's document?"""
    corpus, _ = wikipedia
    data, rows, _ = stream
    plan = data.plan(0)

    def spelt(tokens):
        """A character for each token, so that ``in`` finds runs of tokens."""
        return tokens.astype("<u4").tobytes().decode("utf-32-le")

    def lies_in(document, segment):
        return spelt(segment) in spelt(corpus.tokens(int(document)))

    leaked, at_home = [], []
    for n, row in enumerate(rows[:2000]):
        ids = original(row)
        for i, pair in enumerate(plan.pairs_of(np.array([n]))[0]):
            inside = row["segment_ids"] == i + 1
            tokens, types = ids[inside], row["token_type_ids"][inside]
            segments = tokens[types == 0][1:-1], tokens[types == 1][:-1]
            label = int(row["sentence_order_label"][i])
            document, other = plan.pairs.document[pair], plan.pairs.other[pair]
            if all(lies_in(document, segment) for segment in segments):
                at_home.append(label)
            else:
                assert lies_in(document, segments[0]) and lies_in(other, segments[1])
                leaked.append(label)
    print(len(leaked), "of", len(leaked) + len(at_home), "pairs leak")
    assert all(leaked) and bool(leaked) == bool(mode)
    assert stats.binomtest(sum(at_home), len(at_home)).pvalue > 1e-3


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
        tokens, ((size, _),) = data.segments(data.plan(0), one, np.zeros(1))
        a, b = tokens[:size], tokens[size:]
        first, second = (b, a) if pairs.label[pair] else (a, b)
        if len(a) + len(b) < 125:
            np.testing.assert_array_equal(first, document[at - len(first) : at])
            np.testing.assert_array_equal(second, document[at : at + len(second)])
