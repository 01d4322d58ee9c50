"""Preparing by Apache Beam: the shards of workers, byte for byte.

Needs the ``beam-test`` extra: ``make test-beam``.
"""

import gzip
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import small_corpus
from small_corpus import content

from albert_jax.config import UserError
from albert_jax.data.prepare import prepare

pytest.importorskip("apache_beam")

SIZE = 300
THREAD = "runner=DirectRunner"
# As a cluster: workers with a process, and so a memory, of their own.
PROCESSES = f"{THREAD},direct_num_workers=2,direct_running_mode=multi_processing"


@pytest.fixture
def config(tmp_path):
    """Three files of different kinds, and shards that begin in the midst of them."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    made = small_corpus.text(seed=1, megabytes=0.6)
    (folder / "a.txt").write_text(made * 3)
    with gzip.open(folder / "b.txt.gz", "wt") as file:
        file.write(small_corpus.text(seed=2, megabytes=0.3))
    texts = [*small_corpus.text(seed=3, megabytes=0.3).split("\n\n"), made * 2]
    lines = [json.dumps({"text": text}) for text in texts]
    (folder / "c.jsonl").write_text("\n".join(lines))
    return small_corpus.config(tmp_path, megabytes=0.01, sources=(str(folder),))


@pytest.mark.parametrize("options", [THREAD, PROCESSES], ids=["thread", "processes"])
def test_beam_gives_the_same_bytes(config, tmp_path, options):
    wanted = prepare(config, SIZE, processes=1)
    assert len(wanted["shards"]) >= 4
    prepare(replace(config, prepared=str(tmp_path / "beam")), SIZE, beam=options)
    assert content(tmp_path / "beam") == content(tmp_path / "prepared")


def test_what_is_missing_is_made_and_the_rest_kept(config, tmp_path):
    prepare(config, SIZE, processes=1)
    folder = tmp_path / "prepared"
    wanted = content(folder)
    shards = "shards/00001.npz", "shards/train-00002.array_record"
    for name in ("manifest.json", *shards):
        (folder / name).unlink()
    kept = (folder / "shards/00000.npz").stat().st_mtime_ns
    said = []
    prepare(config, SIZE, beam=THREAD, report=said.append)
    assert content(folder) == wanted
    assert (folder / "shards/00000.npz").stat().st_mtime_ns == kept
    assert any(line.startswith("kept") for line in said)


def test_what_a_worker_refuses_is_one_line(config, monkeypatch):
    monkeypatch.setattr("albert_jax.data.beam.sources", lambda config: [])
    with pytest.raises(UserError) as caught:
        prepare(config, SIZE, beam=THREAD)
    assert str(caught.value).startswith("Apache Beam: ")
    assert "machines see different ones" in str(caught.value)
    assert "\n" not in str(caught.value)


def command(*arguments) -> subprocess.CompletedProcess:
    """``albert-jax prepare`` of an experiment without a vocabulary."""
    flags = ("--model.vocab-size", SIZE, "--corpus.shard-megabytes", 1)
    flags = map(str, ("experiments/demo.py", *flags, *arguments))
    return subprocess.run(
        [sys.executable, "-m", "albert_jax", "prepare", *flags],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )


def test_the_command_writes_what_the_plain_one_writes(config, tmp_path):
    given = "--corpus.sources", *config.sources, "--corpus.prepared"
    plain, by_beam = tmp_path / "plain", tmp_path / "by_beam"
    options = "--beam-pipeline-options", THREAD
    for done in (
        command(*given, plain, "--processes", 1),
        command(*given, by_beam, *options),
    ):
        assert done.returncode == 0, done.stderr
        assert "documents" in done.stdout and not done.stderr
    wanted = content(plain)
    assert {"tokenizer.model", "manifest.json"} < wanted.keys()
    assert sum(name.endswith(".array_record") for name in wanted) >= 8
    assert content(by_beam) == wanted


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("runner=NoRunner", "Unexpected pipeline runner: NoRunner. Valid values are"),
        ("runner=no.such.Runner", "No module named 'no'"),
        ("runer=DirectRunner", "no runner is named"),
        (f"{THREAD},direct_num_workers=two", "invalid int value: 'two'"),
    ],
)
def test_bad_options_are_one_line_and_write_nothing(config, tmp_path, options, says):
    prepared = tmp_path / "prepared"
    given = "--corpus.sources", *config.sources, "--corpus.prepared", prepared
    done = command(*given, "--beam-pipeline-options", options)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("albert-jax: Apache Beam: ") and says in done.stderr
    assert done.stderr.count("\n") == 1
    assert not prepared.exists()


BUILDER = '''
import tensorflow_datasets as tfds


class ByBeam(tfds.core.GeneratorBasedBuilder):
    """A set that TFDS makes by Apache Beam, as it does Wikipedia."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
        return self.dataset_info_from_configs(features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        import apache_beam as beam

        texts = [f"The {number}. river. It is long." for number in range(200)]
        return beam.Create([(text, {"text": text}) for text in texts])
'''

PREPARE = """
import sys
from albert_jax.config import CorpusConfig
from albert_jax.data.prepare import prepare
vocabulary, prepared = sys.argv[1:]
config = CorpusConfig(
    sources=("tfds:by_beam_set.by_beam",), vocabulary=vocabulary, prepared=prepared,
    heldout_fraction=0.1,
)
manifest = prepare(config, 300, beam="runner=DirectRunner")
assert sum(manifest["splits"][s]["documents"] for s in ("train", "heldout")) == 200
assert "tensorflow" not in sys.modules
"""


def test_tfds_makes_its_own_sets_by_the_same_pipeline(tmp_path):
    (tmp_path / "code" / "by_beam_set").mkdir(parents=True)
    (tmp_path / "code" / "by_beam_set" / "by_beam.py").write_text(BUILDER)
    path = os.pathsep.join([str(tmp_path / "code"), *sys.path])
    prepared = tmp_path / "prepared"
    done = subprocess.run(
        [sys.executable, "-c", PREPARE, small_corpus.vocabulary(), prepared],
        env=os.environ | {"TFDS_DATA_DIR": str(tmp_path / "data"), "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
