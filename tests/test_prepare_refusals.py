"""What ``prepare`` refuses: bad input, changes against what is there, full disks."""

import fcntl
import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import small_corpus
from small_corpus import content

from albert_jax.config import CorpusConfig, UserError
from albert_jax.data.prepare import prepare

SIZE = 300


def refusal(config: CorpusConfig, vocab_size: int = SIZE, **options) -> str:
    options = {"processes": 1, **options}
    with pytest.raises(UserError) as caught:
        prepare(config, vocab_size, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def refusal_that_writes_nothing(config: CorpusConfig, vocab_size: int = SIZE) -> str:
    before = sorted(Path(config.prepared).parent.rglob("*"))
    said = refusal(config, vocab_size)
    assert sorted(Path(config.prepared).parent.rglob("*")) == before
    return said


# Bad input, first what writes nothing.


def test_apache_beam_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    config = small_corpus.config(tmp_path)
    said = refusal(config, beam="runner=DirectRunner")
    assert "apache_beam is not installed: pip install albert_jax[beam]" in said
    assert not (tmp_path / "prepared").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "holds no documents"), ("\n \n\n", "holds no documents"), ("a\0", "binary")],
)
@pytest.mark.parametrize("trained", [False, True])
def test_bad_corpora_write_nothing(tmp_path, text, says, trained):
    (tmp_path / "corpus.txt").write_text(text)
    fields = {"vocabulary": None} if trained else {}
    config = small_corpus.config(tmp_path, **fields)
    assert says in refusal_that_writes_nothing(config)


def test_other_mistakes_write_nothing(tmp_path):
    config = small_corpus.config(tmp_path, prepared=str(tmp_path / "new" / "prepared"))
    small_corpus.vocabulary()
    said = refusal_that_writes_nothing(config, 30_000)
    assert "has 300 pieces, but the model's vocab_size is 30000" in said
    missing = replace(config, vocabulary=str(tmp_path / "none.model"))
    assert "none.model' cannot be read" in refusal_that_writes_nothing(missing)
    trained = replace(config, vocabulary=None)
    assert "fills at most" in refusal_that_writes_nothing(trained, 30_000)
    missing = replace(config, sources=(str(tmp_path / "none.txt"),))
    assert "no file or folder" in refusal_that_writes_nothing(missing)
    language = replace(config, language="english")
    assert "must be an ISO 639 code" in refusal_that_writes_nothing(language)


@pytest.mark.parametrize(
    ("fraction", "lacks"), [(0.999, "0 documents to"), (1e-6, "0 held")]
)
@pytest.mark.parametrize("trained", [False, True])
def test_both_splits_must_have_documents(tmp_path, fraction, lacks, trained):
    (tmp_path / "corpus.txt").write_text(small_corpus.text(1, megabytes=0.02))
    fields = {"vocabulary": None} if trained else {}
    config = small_corpus.config(tmp_path, heldout_fraction=fraction, **fields)
    said = refusal_that_writes_nothing(config, 150 if trained else SIZE)
    assert lacks in said or "no documents to train on" in said


# Changes against what is there.


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"shard_megabytes": 2}, "shard_megabytes: 1 -> 2"),
        ({"heldout_fraction": 0.2}, "heldout_fraction: 0.1 -> 0.2"),
        ({"language": "de"}, "language: 'en' -> 'de'"),
        ({"document": "file"}, "document: 'blank-line' -> 'file'"),
        ({"vocabulary": None}, "-> 'trained'"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_changed_settings_are_refused(tmp_path, fields, says, finished):
    config = small_corpus.config(tmp_path)
    prepare(config, SIZE, processes=1)
    if not finished:
        (tmp_path / "prepared" / "manifest.json").unlink()
    before = content(tmp_path / "prepared") if finished else None
    said = refusal(replace(config, **fields))
    assert "was prepared with other settings (" in said and says in said
    assert "name another folder in prepared, or delete this one" in said
    assert not finished or content(tmp_path / "prepared") == before


def test_settings_that_only_say_where_are_free(tmp_path):
    config = small_corpus.config(tmp_path)
    manifest = prepare(config, SIZE, processes=1)
    (tmp_path / "moved").mkdir()
    for name in ("corpus.txt", "prepared"):
        shutil.move(tmp_path / name, tmp_path / "moved" / name)
    vocabulary = shutil.copy(config.vocabulary, tmp_path / "copied.model")
    moved = small_corpus.config(tmp_path / "moved", vocabulary=str(vocabulary))
    assert prepare(moved, SIZE) == manifest


def test_a_changed_corpus_is_refused(tmp_path):
    source = tmp_path / "texts"
    source.mkdir()
    (source / "a.txt").write_text(small_corpus.text(1))
    (source / "b.txt").write_text(small_corpus.text(2))
    config = small_corpus.config(tmp_path, sources=(str(source),))
    manifest = prepare(config, SIZE, processes=1)

    (source / "c.txt").write_text("New.")
    assert "texts/c.txt: 'unset' -> 4" in refusal(config)
    (source / "c.txt").unlink()
    text = (source / "a.txt").read_text()
    (source / "a.txt").write_text(text + "More.")
    assert f"a.txt: {len(text.encode())} -> {len(text.encode()) + 5}" in refusal(config)
    (source / "a.txt").write_text(text.replace("river", "rivet", 1))
    assert "the text of its files" in refusal(config)
    # Written anew, but the same: it is read, and found to be the same.
    (source / "a.txt").write_text(text)
    said: list[str] = []
    assert prepare(config, SIZE, report=said.append) == manifest
    assert "reading them again" in said[0]
    said.clear()
    assert prepare(config, SIZE, report=said.append) == manifest and not said


def test_a_corpus_that_changes_in_the_midst_is_refused(tmp_path):
    config = small_corpus.config(tmp_path, megabytes=2.2)
    prepare(config, SIZE, processes=1)
    (tmp_path / "prepared" / "manifest.json").unlink()
    source = Path(config.sources[0])
    source.write_text("New." + source.read_text())
    for processes in (1, 2):
        said = refusal(config, processes=processes)
        assert "the corpus has changed since" in said and "shard 0 differs" in said


def test_two_at_once_are_refused(tmp_path):
    config = small_corpus.config(tmp_path)
    (tmp_path / "prepared").mkdir()
    descriptor = os.open(tmp_path / "prepared", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert "is being prepared by another process" in refusal(config)
    finally:
        os.close(descriptor)
    assert prepare(config, SIZE, processes=1)


FULL = """
    import resource, sys
    from albert_jax.config import CorpusConfig, UserError
    from albert_jax.data.prepare import prepare
    # Python ignores SIGXFSZ: a file beyond this many bytes fails to be written.
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]),) * 2)
    source, vocabulary, prepared = sys.argv[1:4]
    config = CorpusConfig(
        sources=(source,), vocabulary=vocabulary, prepared=prepared,
        heldout_fraction=0.1, shard_megabytes=1,
    )
    if __name__ == "__main__":
        try:
            prepare(config, 300, processes=int(sys.argv[5]))
        except UserError as error:
            print(error)
"""


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_full_disk_keeps_finished_shards(tmp_path, processes):
    """The third shard is longer than files may be: the first two stay, no half one."""
    (tmp_path / "corpus.txt").write_text(
        3 * (small_corpus.text(1, megabytes=0.6) + "\n") + "x. " * 500_000
    )
    config = small_corpus.config(tmp_path)
    script = tmp_path / "full.py"
    script.write_text(textwrap.dedent(FULL))
    said = subprocess.check_output(
        [
            sys.executable,
            script,
            config.sources[0],
            config.vocabulary,
            config.prepared,
            "1000000",
            processes,
        ],
        text=True,
    )
    assert "cannot write shard" in said and "File too large" in said
    assert "finished shards are kept" in said
    names = [path.name for path in (tmp_path / "prepared" / "shards").iterdir()]
    assert not [name for name in names if "unfinished" in name]
    assert {"00000.npz", "train-00000.array_record"} <= set(names)
    assert len([name for name in names if name.endswith(".npz")]) >= 2
    assert not (tmp_path / "prepared" / "manifest.json").exists()
    lines: list[str] = []
    prepare(config, SIZE, processes=1, report=lines.append)
    assert "kept" in lines[0]
