"""Corpus to shards, once: in parallel, streaming, resumable, and never half done.

The caller's process reads and cuts the corpus into chunks; workers, which import no
JAX, turn a chunk into a shard each. What a shard holds follows from the corpus and the
settings alone, so a run that was killed goes on where it stopped, with any number of
processes.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

from albert_jax.config import CorpusConfig, UserError
from albert_jax.data.beam import pipeline_options, write_by_beam
from albert_jax.data.corpus import Chunk, Source, chunks, fingerprint, listing, sources
from albert_jax.data.index import write_index
from albert_jax.data.manifest import (
    SETTINGS,
    SOURCES,
    finished,
    read_json,
    refuse_other_settings,
    settings_of,
    write_json,
)
from albert_jax.data.sentences import ShardWriter, check_language, sidecar
from albert_jax.data.shards import (
    FORMAT,
    MANIFEST,
    SPLITS,
    TOKENIZER,
    UNFINISHED,
    replacing,
    shard_name,
)
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.data.vocabulary import train_vocabulary
from albert_jax.data.workers import peak_memory, train_apart, write_shards
from albert_jax.identity import digest

Progress = Callable[[int, int | None, int, int], None]

VOCABULARY = "vocabulary.json"


def prepare(
    config: CorpusConfig,
    vocab_size: int,
    *,
    processes: int | None = None,
    beam: str | None = None,
    report: Callable[[str], None] = lambda line: None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Fills ``config.prepared`` with vocabulary, shards and manifest.

    What is there already and whole is kept; if that is everything, it returns at once.

    Args:
      config: the corpus and how it is cut, split and tokenised.
      vocab_size: pieces in the vocabulary, as the model has them.
      processes: workers, by default as many as cores; 1 starts none. They are
        spawned, so a script calls this under ``if __name__ == "__main__"``.
      beam: options of an Apache Beam pipeline, which writes the shards (and prepares
        data sets that TFDS makes by one) in place of workers; see ``data/beam.py``.
      report: hears what is going on, a line at a time.
      progress: hears (bytes read, bytes in all, documents, tokens) now and then.

    Returns:
      The manifest.

    Raises:
      UserError: the corpus is missing, empty or cannot be read; the vocabulary does
        not fit; the folder was prepared otherwise; or it cannot be written.
    """
    if processes is not None and processes < 1:
        raise UserError(f"processes is {processes}, but it must be 1 or more")
    check_language(config.language)
    options = None if beam is None else pipeline_options(beam)
    folder = Path(config.prepared)
    run = _Run(
        config=config,
        settings=settings_of(config, vocab_size),
        sources=sources(config, options),
        folder=folder,
        processes=processes or len(os.sched_getaffinity(0)),
        beam=options,
        report=report,
        progress=progress or (lambda *_: None),
    )
    try:
        refuse_other_settings(folder, run.settings)
        if manifest := finished(folder, config, run.sources, report):
            return manifest
        with _held(folder):
            return _finish(run)
    except OSError as error:
        raise UserError(
            f"cannot write {folder}: {error.strerror or error}; make room or name "
            "another folder, and run it again: finished shards are kept"
        ) from error


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One call of ``prepare``."""

    config: CorpusConfig
    settings: dict[str, Any]
    sources: Sequence[Source]
    folder: Path
    processes: int
    beam: Any
    report: Callable[[str], None]
    progress: Progress

    @property
    def corpus_size(self) -> int:
        """Bytes on disk."""
        return sum(source.size for source in self.sources)


def _finish(run: _Run) -> dict[str, Any]:
    """Does all that is left to do, and returns the manifest."""
    begun = time.monotonic()
    tokenizer, trainer_peak = _tokenizer(run)
    # The first chunk before anything is written: the corpus may be bad.
    stream = chunks(run.config, run.sources)
    first = next(stream, None)
    if first is None:
        named = ", ".join(run.config.sources)
        raise UserError(f"the corpus ({named}) holds no documents")
    (run.folder / "shards").mkdir(exist_ok=True)
    if run.config.vocabulary is not None:
        with replacing(run.folder / TOKENIZER) as path:
            shutil.copyfile(run.config.vocabulary, path)
    write_json(run.folder / SETTINGS, run.settings)
    shards, peaks = _shards(run, tokenizer, chain([first], stream))
    _refuse_empty_splits(run, shards)
    splits = write_index(run.folder, shards, tokenizer.vocab_size)
    write_json(run.folder / SOURCES, listing(run.sources))
    manifest = {
        "format": FORMAT,
        "corpus": {
            "fingerprint": fingerprint([shard["digest"] for shard in shards]),
            "sources": len(run.sources),
            "text_bytes": sum(shard["text_bytes"] for shard in shards),
            "dropped": sum(shard["dropped"] for shard in shards),
        },
        "vocabulary": {
            "fingerprint": tokenizer.fingerprint,
            "size": tokenizer.vocab_size,
        },
        "settings": run.settings,
        "splits": splits,
        "shards": shards,
        "preparation": {
            "seconds": round(time.monotonic() - begun, 2),
            "processes": run.processes,
            "peak_memory_bytes": peaks | {"vocabulary": trainer_peak},
        },
    }
    write_json(run.folder / MANIFEST, manifest)
    return manifest


def _tokenizer(run: _Run) -> tuple[Tokenizer, int]:
    """The vocabulary: given, or trained before with the same settings, or trained; and
    the peak memory of the process that trained it."""
    if run.config.vocabulary is not None:
        return Tokenizer.load(run.config.vocabulary), 0
    path, record = run.folder / TOKENIZER, run.folder / VOCABULARY
    made_of = {
        "settings": run.settings,
        "sources": [[name, size] for name, size, _ in listing(run.sources)],
    }
    made_of = {"made_of": digest(made_of)}
    if record.exists() and path.exists():
        tokenizer = Tokenizer.load(path)
        if read_json(record) == made_of | {"fingerprint": tokenizer.fingerprint}:
            run.report(f"keeping the vocabulary {path}")
            return tokenizer, 0
    if (run.folder / SETTINGS).exists():
        raise UserError(
            f"the corpus or the vocabulary has changed since {run.folder} was begun; "
            "delete that folder, or name another in prepared"
        )
    run.report(f"training a vocabulary of {run.settings['vocab_size']} pieces")
    arguments = (
        run.config,
        run.settings["vocab_size"],
        path,
        lambda position: run.progress(position, 2 * run.corpus_size, 0, 0),
    )
    if run.processes == 1:
        train_vocabulary(*arguments)
        peak = peak_memory()
    else:
        peak = train_apart(*arguments)
    tokenizer = Tokenizer.load(path)
    write_json(record, made_of | {"fingerprint": tokenizer.fingerprint})
    return tokenizer, peak


def _shards(
    run: _Run, tokenizer: Tokenizer, stream: Iterable[Chunk]
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Totals of every shard in order, and the peak memory of all processes."""
    writer = ShardWriter(
        folder=run.folder,
        tokenizer=tokenizer,
        language=run.config.language,
        heldout_fraction=run.config.heldout_fraction,
        settings=digest([run.settings, tokenizer.fingerprint, _versions()]),
    )
    before = run.corpus_size if run.config.vocabulary is None else 0
    shards: dict[int, dict[str, Any]] = {}
    peaks: dict[int, int] = {}
    kept = documents = tokens = furthest = 0
    if run.beam is None:
        written = write_shards(writer, stream, run.processes)
    else:
        written = write_by_beam(writer, stream, run.config, run.beam)
    with closing(written):
        for done in written:
            shards[done.index] = done.totals
            kept += done.process == 0
            peaks[done.process] = max(done.peak, peaks.get(done.process, 0))
            documents += sum(done.totals[split]["documents"] for split in SPLITS)
            tokens += sum(done.totals[split]["tokens"] for split in SPLITS)
            furthest = max(furthest, done.position)
            run.progress(before + furthest, before + run.corpus_size, documents, tokens)
    if kept:
        run.report(f"kept {kept} of {len(shards)} shards from before")
    workers = [peak for process, peak in peaks.items() if process != os.getpid()]
    peak = {"this_process": peak_memory(), "workers": sum(workers)}
    return [shards[index] for index in range(len(shards))], peak


def _refuse_empty_splits(run: _Run, shards: Sequence[dict[str, Any]]) -> None:
    train, heldout = (sum(s[split]["documents"] for s in shards) for split in SPLITS)
    if train and heldout:
        return
    for index in range(len(shards)):
        sidecar(run.folder, index).unlink()
        for split in SPLITS:
            (run.folder / shard_name(split, index)).unlink()
    (run.folder / "shards").rmdir()
    for name in (SETTINGS, TOKENIZER, VOCABULARY):
        (run.folder / name).unlink(missing_ok=True)
    raise UserError(
        f"heldout_fraction of {run.config.heldout_fraction} makes {train} documents to "
        f"train on and {heldout} held out, but both are needed; change it, or divide "
        "the corpus into more documents (by blank lines)"
    )


def _versions() -> dict[str, str]:
    """What a shard's bytes depend on besides the settings."""
    return {name: version(name) for name in ("sentencepiece", "sentencex")}


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The folder, made if need be, for this process alone; made in vain, it goes."""
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{folder} is being prepared by another process; wait for it"
            ) from None
        for place in (folder, folder / "shards"):
            for leftover in place.glob(f"*{UNFINISHED}"):
                leftover.unlink()
        yield
    finally:
        os.close(descriptor)
        for path in made:
            with suppress(OSError):  # Not empty: something was written.
                path.rmdir()
