"""Records and random access, and what damage is called."""

import json
import multiprocessing
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import small_corpus

from albert_jax.config import UserError
from albert_jax.data.corpus import content_hash, documents, is_heldout
from albert_jax.data.prepare import prepare
from albert_jax.data.sentences import split
from albert_jax.data.shards import (
    PreparedCorpus,
    decode_record,
    encode_record,
    replacing,
    shard_name,
)
from albert_jax.data.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A folder, prepared in 3 shards, its corpus beside it."""
    folder = tmp_path_factory.mktemp("shards")
    config = small_corpus.config(folder, megabytes=2.2)
    manifest = prepare(config, 300, processes=1)
    assert len(manifest["shards"]) == 3
    return folder / "prepared"


@pytest.fixture
def prepared(whole, tmp_path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(whole, tmp_path / "prepared"))


def texts_of(folder: Path, name: str) -> list[str]:
    """The documents of a split, from the corpus itself."""
    config = small_corpus.config(folder.parent)
    return [
        document.text
        for document in documents(config)
        if is_heldout(content_hash(document.text.encode()), config.heldout_fraction)
        == (name == "heldout")
    ]


@pytest.mark.parametrize("wide", [False, True])
def test_records_hold_what_was_put_in(wide):
    rng = np.random.default_rng(0)
    for sentences in (1, 2, 40):
        lengths = rng.integers(1, 50, sentences).astype(np.uint32)
        top = 2**31 if wide else 2**16
        ids = rng.integers(0, top, lengths.sum(), dtype=np.int64).astype(np.int32)
        source = int(rng.integers(2**32))
        record = encode_record(ids, lengths, source, wide=wide)
        assert len(record) == 12 + 4 * sentences + (4 if wide else 2) * len(ids)
        back, back_lengths, back_source = decode_record(record)
        np.testing.assert_array_equal(back, ids)
        np.testing.assert_array_equal(back_lengths, lengths)
        assert (back.dtype, back_source) == (np.int32, source)


def test_records_that_are_cut_or_of_another_format_are_refused():
    record = encode_record(np.arange(9), np.array([4, 5]), 0, wide=False)
    for length in range(len(record)):
        with pytest.raises(ValueError, match="a record"):
            decode_record(record[:length])
    with pytest.raises(ValueError, match="format 9, not 1"):
        decode_record(b"\x09" + record[1:])


@pytest.mark.parametrize("name", ["train", "heldout"])
def test_a_document_is_its_sentences_tokenised(whole, name):
    corpus = PreparedCorpus.open(whole, name)
    tokenizer = Tokenizer.load(corpus.tokenizer_path)
    texts = texts_of(whole, name)
    assert len(corpus) == len(texts) > 100
    assert corpus.sentence_lengths.dtype == np.uint32
    assert corpus.document_offsets.dtype == np.int64
    offsets = corpus.document_offsets
    assert offsets[0] == 0 and offsets[-1] == len(corpus.sentence_lengths)
    for document in np.random.default_rng(1).integers(0, len(corpus), 100):
        parts = [tokenizer.encode(part) for part in split(texts[document], "en")]
        np.testing.assert_array_equal(corpus.tokens(document), np.concatenate(parts))
        lengths = corpus.sentence_lengths[offsets[document] : offsets[document + 1]]
        assert lengths.tolist() == [len(part) for part in parts]
    np.testing.assert_array_equal(
        np.diff(corpus.sentence_ends), corpus.sentence_lengths
    )
    assert corpus.sentence_ends[0] == 0
    assert corpus.manifest["splits"][name]["tokens"] == corpus.sentence_ends[-1]


def test_arrays_are_mapped_not_read(whole):
    corpus = PreparedCorpus.open(whole)
    for array in (
        corpus.sentence_lengths,
        corpus.document_offsets,
        corpus.sentence_ends,
    ):
        assert isinstance(array, np.memmap)


def test_piece_counts_are_of_the_train_split(whole):
    corpus = PreparedCorpus.open(whole, "heldout")
    train = PreparedCorpus.open(whole, "train")
    counted = np.bincount(
        np.concatenate([train.tokens(i) for i in range(len(train))]), minlength=300
    )
    np.testing.assert_array_equal(corpus.piece_counts, counted)


def test_documents_beyond_the_end_are_no_documents(whole):
    corpus = PreparedCorpus.open(whole)
    for index in (-1, len(corpus)):
        with pytest.raises(IndexError):
            corpus.tokens(index)


def _lengths(corpus: PreparedCorpus, indices: list[int]) -> list[int]:
    return [len(corpus.tokens(index)) for index in indices]


def test_travels_to_other_processes(whole):
    corpus = PreparedCorpus.open(whole)
    indices = list(range(0, len(corpus), 7))
    lengths = _lengths(corpus, indices)  # Its files are open when it travels.
    assert len(pickle.dumps(corpus)) < 10_000
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.starmap(_lengths, [(corpus, indices)] * 4, chunksize=1)
    assert found == [lengths] * 4


_FORKS = """
import multiprocessing, sys
from albert_jax.data.shards import PreparedCorpus

corpus = PreparedCorpus.open(sys.argv[1])

def lengths(_):
    return [len(corpus.tokens(i)) for i in range(len(corpus))]

here = lengths(None)
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(lengths, range(4), chunksize=1) == [here] * 4
"""


def test_is_read_by_forks_that_inherit_open_files(whole):
    # In a process of its own: one in which JAX runs must not fork.
    subprocess.run([sys.executable, "-c", _FORKS, str(whole)], check=True)


def test_is_read_by_threads_with_few_files_open(whole):
    corpus = PreparedCorpus.open(whole)
    corpus._readers._most = 1
    indices = np.random.default_rng(0).integers(0, len(corpus), 2000).tolist()
    lengths = _lengths(PreparedCorpus.open(whole), indices)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda i: len(corpus.tokens(i)), indices)) == lengths
    assert len(corpus._readers._open) == 1


def test_a_folder_without_manifest_is_not_finished(prepared, tmp_path):
    with pytest.raises(UserError, match="does not exist: run albert-jax prepare"):
        PreparedCorpus.open(tmp_path / "none")
    (prepared / "manifest.json").unlink()
    with pytest.raises(UserError, match="is not finished: run albert-jax prepare"):
        PreparedCorpus.open(prepared)
    (prepared / "manifest.json").write_text('{"format": 1, ')
    with pytest.raises(UserError, match="manifest.json is damaged"):
        PreparedCorpus.open(prepared)


def test_another_format_is_refused(prepared):
    manifest = json.loads((prepared / "manifest.json").read_text())
    (prepared / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(UserError, match="has format 99, but this version reads 1"):
        PreparedCorpus.open(prepared)


def test_only_two_splits(whole):
    with pytest.raises(UserError, match="split is 'test', but it must be one of"):
        PreparedCorpus.open(whole, "test")


@pytest.mark.parametrize(
    "name", ["sentence_lengths", "sentence_ends", "document_offsets"]
)
def test_a_damaged_index_is_refused(prepared, name):
    path = prepared / f"train.{name}.npy"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="run albert-jax prepare again"):
        PreparedCorpus.open(prepared)
    np.save(path, np.zeros(5, np.int64))
    with pytest.raises(UserError, match="run albert-jax prepare again"):
        PreparedCorpus.open(prepared)
    path.unlink()
    with pytest.raises(UserError, match="run albert-jax prepare again"):
        PreparedCorpus.open(prepared)


def test_missing_and_cut_shards_are_refused_and_mended(prepared, whole):
    path = prepared / shard_name("train", 1)
    content = path.read_bytes()
    path.write_bytes(content[:-70_000])
    with pytest.raises(UserError, match="train-00001.array_record has .* bytes, not"):
        PreparedCorpus.open(prepared)
    path.unlink()
    with pytest.raises(UserError, match="train-00001.array_record is missing"):
        PreparedCorpus.open(prepared)

    said: list[str] = []
    config = small_corpus.config(whole.parent, prepared=str(prepared))
    prepare(config, 300, processes=1, report=said.append)
    assert any("kept 2 of 3 shards" in line for line in said)
    assert path.read_bytes() == content


def test_a_flipped_byte_is_found_when_it_is_read(prepared):
    path = prepared / shard_name("train", 1)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)
    corpus = PreparedCorpus.open(prepared)
    with pytest.raises(UserError, match=f"{path} is damaged at document .*delete that"):
        for document in range(len(corpus)):
            corpus.tokens(document)


def test_replacing_is_all_or_nothing(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "new"
