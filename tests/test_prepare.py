"""Preparing: the same bytes however it is done, in a memory that does not grow."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_corpus
from small_corpus import content

from albert_jax.config import UserError
from albert_jax.data.prepare import prepare
from albert_jax.data.shards import PreparedCorpus
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.data.vocabulary import sample

SIZE = 300


def test_any_number_of_processes_gives_the_same_bytes(tmp_path):
    config = small_corpus.config(tmp_path, megabytes=3.5)
    one = prepare(config, SIZE, processes=1)
    again = replace(config, prepared=str(tmp_path / "two"))
    two = prepare(again, SIZE, processes=2)
    assert len(one["shards"]) == 4
    assert content(tmp_path / "prepared") == content(tmp_path / "two")
    assert two["preparation"]["peak_memory_bytes"]["workers"] > 0
    assert one["preparation"]["peak_memory_bytes"]["workers"] == 0


KILLED = """
    import os, sys
    from albert_jax.config import CorpusConfig
    from albert_jax.data.prepare import prepare
    if __name__ == "__main__":
        source, vocabulary, prepared = sys.argv[1:]
        config = CorpusConfig(
            sources=(source,), vocabulary=vocabulary, prepared=prepared,
            heldout_fraction=0.1, shard_megabytes=1,
        )
        prepare(config, 300, processes=2)
"""


def test_killed_and_resumed_is_as_if_nothing_had_been(tmp_path):
    config = small_corpus.config(tmp_path, megabytes=4.5)
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED))
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, script, config.sources[0], config.vocabulary, killed],
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while len(list(killed.glob("shards/*.npz"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (killed / "shards" / "train-00099.array_record.1.unfinished").write_text(
        "left over"
    )
    done = {path: path.stat().st_mtime_ns for path in killed.glob("shards/*.npz")}
    assert 2 <= len(done) < 5
    with pytest.raises(UserError, match="is not finished"):
        PreparedCorpus.open(killed)

    said: list[str] = []
    prepare(
        replace(config, prepared=str(killed)), SIZE, processes=1, report=said.append
    )
    assert any(f"kept {len(done)} of 5 shards" in line for line in said)
    assert all(path.stat().st_mtime_ns == when for path, when in done.items())
    prepare(config, SIZE, processes=1)
    assert content(killed) == content(tmp_path / "prepared")


def test_workers_end_with_their_parent(tmp_path):
    """Killed alone, without its group, the parent leaves no worker behind."""
    psutil = pytest.importorskip("psutil")
    config = small_corpus.config(tmp_path, megabytes=4.5)
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED))
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, script, config.sources[0], config.vocabulary, killed]
    )
    while not list(killed.glob("shards/*.npz")):
        assert process.poll() is None
        time.sleep(0.005)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


def test_a_finished_corpus_is_returned_at_once(tmp_path):
    config = small_corpus.config(tmp_path)
    manifest = prepare(config, SIZE, processes=1)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "prepared").rglob("*")}
    assert prepare(config, SIZE) == manifest
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "prepared").rglob("*")}
    assert after == before
    assert manifest == PreparedCorpus.open(config.prepared).manifest


def test_a_vocabulary_is_trained_and_kept(tmp_path):
    config = small_corpus.config(tmp_path, megabytes=0.2, vocabulary=None)
    said: list[str] = []
    manifest = prepare(config, 150, processes=2, report=said.append)
    assert said == ["training a vocabulary of 150 pieces"]
    corpus = PreparedCorpus.open(config.prepared)
    tokenizer = Tokenizer.load(corpus.tokenizer_path)
    assert (tokenizer.vocab_size, manifest["vocabulary"]["size"]) == (150, 150)
    assert tokenizer.fingerprint == manifest["vocabulary"]["fingerprint"]
    assert manifest["preparation"]["peak_memory_bytes"]["vocabulary"] > 0

    # Killed after the vocabulary: it is not trained again.
    whole = content(tmp_path / "prepared")
    shutil.rmtree(tmp_path / "prepared" / "shards")
    for name in ("manifest.json", "settings.json"):
        (tmp_path / "prepared" / name).unlink()
    said.clear()
    prepare(config, 150, processes=1, report=said.append)
    assert said == [f"keeping the vocabulary {tmp_path / 'prepared/tokenizer.model'}"]
    assert content(tmp_path / "prepared") == whole

    # Killed in the midst of other settings: it is not taken for theirs.
    for name in ("manifest.json", "settings.json"):
        (tmp_path / "prepared" / name).unlink()
    shutil.rmtree(tmp_path / "prepared" / "shards")
    said.clear()
    assert prepare(config, 160, processes=1, report=said.append)
    assert said == ["training a vocabulary of 160 pieces"]


def test_the_sample_is_spread_over_the_training_documents(tmp_path):
    source = tmp_path / "corpus.txt"
    source.write_text("".join(f"document {n} {'x' * 2000}\n\n" for n in range(3000)))
    config = small_corpus.config(tmp_path, vocabulary_megabytes=2)
    chosen = list(sample(config))
    assert 1_990_000 < sum(map(len, chosen)) <= 2_010_000
    numbers = [int(text.split()[1]) for text in chosen]
    assert numbers == sorted(numbers) and len(set(numbers)) == len(numbers)
    thirds = np.bincount(np.array(numbers) // 1000, minlength=3)
    assert all(abs(third - len(numbers) / 3) < 100 for third in thirds)
    everything = list(sample(replace(config, vocabulary_megabytes=200)))
    heldout = {f"document {n}" for n in range(3000)} - {
        " ".join(text.split()[:2]) for text in everything
    }
    assert 200 < len(heldout) < 400
    prepare(config, SIZE, processes=1)
    assert len(PreparedCorpus.open(config.prepared, "heldout")) == len(heldout)


def test_held_out_is_by_content(tmp_path):
    """The same document goes to the same side, wherever and however it is written."""
    config = small_corpus.config(tmp_path, megabytes=0.3)
    first = prepare(config, SIZE, processes=1)
    texts = Path(config.sources[0]).read_text().strip().split("\n\n")
    folder = tmp_path / "lines"
    folder.mkdir()
    lines = [json.dumps({"text": " ".join(t.split())}) for t in reversed(texts)]
    (folder / "a.jsonl").write_text("\n".join(lines))
    (folder / "b.txt").write_text(texts[0])
    other = replace(config, sources=(str(folder),), prepared=str(tmp_path / "other"))
    second = prepare(other, SIZE, processes=1)
    for split in ("train", "heldout"):
        documents, again = (
            {tuple(corpus.tokens(index).tolist()) for index in range(len(corpus))}
            for corpus in (
                PreparedCorpus.open(c.prepared, split) for c in (config, other)
            )
        )
        assert documents == again
    counts = [m["splits"]["heldout"]["documents"] for m in (first, second)]
    assert abs(counts[0] / len(texts) - 0.1) < 4 * (0.09 / len(texts)) ** 0.5
    train = PreparedCorpus.open(other.prepared, "train")
    assert {train.source(index) for index in range(len(train))} <= {0, 1}


def test_odd_documents_are_handled(tmp_path):
    source = tmp_path / "corpus.jsonl"
    odd = ["", " \n\n\t", "\u0301", "Word", "A.", "x" * 100_000, "日本語。これ。", "😀"]
    plain = small_corpus.text(4).split("\n\n")
    source.write_text("\n".join(json.dumps({"text": t}) for t in (*odd, *plain)))
    config = small_corpus.config(tmp_path, sources=(str(source),))
    manifest = prepare(config, SIZE, processes=1)
    assert manifest["corpus"]["dropped"] == 3
    kept = sum(s["documents"] for s in manifest["splits"].values())
    assert kept == len(odd) + len(plain) - 3
    for split in ("train", "heldout"):
        corpus = PreparedCorpus.open(config.prepared, split)
        assert corpus.sentence_lengths.min() >= 1
        assert np.diff(corpus.document_offsets).min() >= 1
    vocabulary = Tokenizer.load(config.vocabulary)
    tokens = [corpus.tokens(i).tolist() for i in range(len(corpus))]
    train = PreparedCorpus.open(config.prepared, "train")
    tokens += [train.tokens(i).tolist() for i in range(len(train))]
    assert vocabulary.encode("Word") in tokens


def test_large_vocabularies_take_wide_ids(tmp_path):
    lines = [f"{chr(c)} " * 2 for c in range(0x4E00, 0x4E00 + 20_000)]
    lines += [f"{chr(c)} " * 2 for c in range(0xAC00, 0xAC00 + 11_000)]
    lines += [f"{chr(c)} " * 2 for c in range(0x20000, 0x20000 + 40_000)]
    path = tmp_path / "wide.model"
    import sentencepiece as spm

    # NFKD would take Hangul apart, so this goes past Tokenizer.train.
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_prefix=str(path.with_suffix("")),
        model_type="char",
        vocab_size=70_000,
        character_coverage=1.0,
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        control_symbols=["[CLS]", "[SEP]", "[MASK]"],
        minloglevel=3,
    )
    tokenizer = Tokenizer.load(path)
    piece = tokenizer.pieces[69_000]
    source = tmp_path / "corpus.txt"
    source.write_text("\n\n".join(f"{chr(0x4E00 + n)}{piece}" for n in range(300)))
    config = small_corpus.config(tmp_path, vocabulary=str(path))
    prepare(config, 70_000, processes=1)
    corpus = PreparedCorpus.open(config.prepared)
    assert all(corpus.tokens(i)[-1] == 69_000 for i in range(len(corpus)))


def test_progress_goes_up_to_the_whole(tmp_path):
    config = small_corpus.config(tmp_path, megabytes=2.2, vocabulary=None)
    heard: list[tuple[int, int | None, int, int]] = []
    manifest = prepare(
        config, 150, processes=1, progress=lambda *now: heard.append(now)
    )
    done, totals, documents, tokens = zip(*heard, strict=True)
    assert list(done) == sorted(done) and set(totals) == {done[-1]}
    assert done[-1] == 2 * Path(config.sources[0]).stat().st_size
    splits = manifest["splits"].values()
    assert documents[-1] == sum(s["documents"] for s in splits)
    assert tokens[-1] == sum(s["tokens"] for s in splits)


def test_workers_import_no_jax(tmp_path):
    code = """
        import sys
        from albert_jax.data import prepare, shards
        found = {"jax", "flax", "grain", "tensorflow", "tensorflow_datasets"}
        print(found & set(sys.modules))
    """
    said = subprocess.check_output([sys.executable, "-c", textwrap.dedent(code)])
    assert said.decode().strip() == "set()"


def test_memory_is_flat(tmp_path):
    """Five times the corpus, with the shards in flight all full: no more memory."""
    code = """
        import sys
        from pathlib import Path
        from albert_jax.config import CorpusConfig
        from albert_jax.data.prepare import prepare
        from albert_jax.data.workers import peak_memory
        config = CorpusConfig(
            sources=(sys.argv[1],), vocabulary=sys.argv[2], shard_megabytes=1,
            prepared=sys.argv[3], heldout_fraction=0.1,
        )
        prepare(config, 300, processes=1)
        print(peak_memory())
    """
    peaks = []
    text = small_corpus.text(1, megabytes=0.7)
    for times in (2, 10):
        folder = tmp_path / str(times)
        folder.mkdir()
        (folder / "corpus.txt").write_text(text * times)
        config = small_corpus.config(folder)
        peaks.append(
            int(
                subprocess.check_output(
                    [
                        sys.executable,
                        "-c",
                        textwrap.dedent(code),
                        config.sources[0],
                        config.vocabulary,
                        config.prepared,
                    ]
                )
            )
        )
    assert peaks[1] < 1.2 * peaks[0]
