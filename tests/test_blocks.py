"""A corpus of several blocks: every document once, in memory that does not grow."""

import pickle
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
import small_run
from made_corpus import MadeCorpus, MadeTokenizer, make

from albert_jax.config import DataConfig, UserError
from albert_jax.data import blocks
from albert_jax.data.pipeline import PretrainingData
from albert_jax.data.shards import PreparedCorpus
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.train.run import open_run, run_identity

CORPUS = make(0, 200)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """The corpus, of 61,000 tokens, makes eight."""
    monkeypatch.setattr(blocks, "BLOCK_PIECES", 8000)


def data(corpus=CORPUS, seed=0, **fields):
    fields = {"sequence_length": 64, "batch_size": 8, "max_pairs": 6} | fields
    return PretrainingData(corpus, MadeTokenizer(), DataConfig(**fields), seed)


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def drawn(count, seed=0):
    return [
        blocks.draw_block(CORPUS, block, count, np.random.default_rng(seed))
        for block in range(count)
    ]


def shown(rows):
    """The tokens of rows before masking, specials left out."""
    ids, kept = rows["input_ids"].copy(), rows["masked_weights"] > 0
    row = np.nonzero(kept)[0]
    ids[row, rows["masked_positions"][kept]] = rows["masked_labels"][kept]
    return ids[ids >= 10]


@pytest.mark.parametrize("count", [1, 2, 7, 101])
def test_every_document_is_in_one_block(count):
    found = drawn(count)
    together = np.concatenate([block.documents for block in found])
    assert sorted(together) == list(range(len(CORPUS)))
    for block in found:
        tokens = block.tokens(CORPUS, MadeTokenizer().vocab_size)
        parts = [CORPUS.tokens(document) for document in block.documents]
        np.testing.assert_array_equal(tokens, np.concatenate(parts))
        lengths = [n for d in block.documents for n in CORPUS.documents[d]]
        np.testing.assert_array_equal(np.diff(block.sentence_ends), lengths)
        sentences = [len(CORPUS.documents[d]) for d in block.documents]
        np.testing.assert_array_equal(np.diff(block.document_offsets), sentences)


def test_a_block_is_a_sample_of_the_whole():
    for block in drawn(8):
        # One of every eight documents, and not always the same one.
        np.testing.assert_array_equal(
            block.documents // 8, np.arange(len(block.documents))
        )
        assert len(set(block.documents % 8)) > 1
    assert not np.array_equal(drawn(8)[0].documents, drawn(8, seed=1)[0].documents)


def test_a_small_corpus_is_one_block_and_few_documents_make_few():
    assert blocks.count_blocks(CORPUS) == 8
    assert blocks.count_blocks(make(0, 10)) == 1
    # Segments may want another document.
    assert blocks.count_blocks(MadeCorpus(((50_000,),) * 5)) == 2


def test_an_epoch_visits_every_document_once():
    source = data()
    assert source.blocks == 8
    tokens = shown(source.rows(0, source.rows_per_epoch))
    assert len(np.unique(tokens)) == len(tokens)
    # All but the document of one token, and what is cut from pairs that are too long.
    documents = set((tokens - 10) // 1000)
    assert documents == set(range(len(CORPUS))) - {200}
    assert len(tokens) > 0.8 * CORPUS.sentence_ends[-1]


def test_blocks_pairs_and_rows_are_drawn_anew_in_every_epoch():
    source = data()
    first, second = (
        [source.plan(turn) for turn in range(epoch * 8, epoch * 8 + 8)]
        for epoch in (0, 1)
    )
    sizes = [[len(plan.tokens) for plan in plans] for plans in (first, second)]
    assert sizes[0] != sizes[1] and sorted(sizes[0]) == sorted(sizes[1])
    for plan in first:
        (again,) = (p for p in second if np.array_equal(p.tokens, plan.tokens))
        assert not np.array_equal(again.pairs.split, plan.pairs.split)


@pytest.mark.parametrize("objective", ["sentence_order", "next_sentence"])
def test_rows_by_random_access_are_those_built_together(objective):
    source = data(objective=objective)
    count = 2 * source.rows_per_epoch + 5
    together = source.rows(0, count)
    fresh = pickle.loads(pickle.dumps(data(objective=objective)))
    for n in np.random.default_rng(0).permutation(count)[:60].tolist():
        assert same({name: rows[n] for name, rows in together.items()}, fresh[n])


def test_batches_are_the_same_whatever_the_hosts_and_workers():
    # Through the end of the first epoch.
    start = data().rows_per_epoch // 8 * 8 - 80
    whole = list(data().batches(start, start + 160))
    by_workers = list(data(workers=1).batches(start, start + 160))
    hosts = [list(data().batches(start, start + 160, host, 2)) for host in (0, 1)]
    assert len(whole) == 20
    for step, batch in enumerate(whole):
        assert same(batch, by_workers[step])
        parts = [host[step] for host in hosts]
        assert same(batch, {n: np.concatenate([p[n] for p in parts]) for n in batch})
        assert same(batch, data().rows(start + 8 * step, start + 8 * step + 8))


@dataclass(frozen=True)
class LargeCorpus(MadeCorpus):
    """Documents that are all alike, so that it can be of any size."""

    size: int = 0

    @property
    def document_offsets(self):
        return np.arange(self.size + 1) * len(self.documents[0])

    @property
    def sentence_ends(self):
        return np.arange(len(self.documents[0]) * self.size + 1) * 20

    def __len__(self):
        return self.size

    def tokens(self, document):
        return np.full(20 * len(self.documents[0]), 10, np.int32)


def test_memory_does_not_grow_with_the_corpus(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_PIECES", 160_000)

    def peak(documents):
        # The index, which lies in a file otherwise, is there for some documents only.
        corpus = LargeCorpus(((20,) * 40,), documents)
        index = corpus.sentence_ends.nbytes
        tracemalloc.start()
        source = data(corpus)
        for n in range(0, source.rows_per_epoch, source.rows_per_epoch // 50):
            source.rows(n, n + 1)
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return held - 2 * index

    assert peak(4000) < 1.2 * peak(400)


def test_a_run_that_began_in_another_order_of_rows_is_refused(tmp_path):
    blocks.BLOCK_PIECES = 100_000
    experiment = small_run.make(tmp_path)
    corpus = PreparedCorpus.open(experiment.corpus.prepared)
    tokenizer = Tokenizer.load(corpus.tokenizer_path)
    one = run_identity(experiment, corpus)
    blocks.BLOCK_PIECES = 5000
    several = run_identity(experiment, corpus)
    open_run(tmp_path / "run", experiment, one, tokenizer)
    open_run(tmp_path / "run", experiment, dict(one), tokenizer)
    # As runs said that were begun before there were blocks.
    assert one.pop("row_order") is None
    open_run(tmp_path / "before", experiment, one, tokenizer)
    open_run(tmp_path / "before", experiment, one | {"row_order": None}, tokenizer)
    for run, was in (("run", None), ("before", "'unset'")):
        with pytest.raises(UserError, match=f"row_order: {was} -> '2 blocks'"):
            open_run(tmp_path / run, experiment, several, tokenizer)
