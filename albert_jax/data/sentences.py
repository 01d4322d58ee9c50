"""Documents to sentences to records: what one process does with one chunk.

Imports sentencex, the splitter: kept by the Wikimedia Foundation, some 300 languages,
70 MB/s on one core, nothing to download. Itself imported only by ``prepare``.
"""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sentencex

from albert_jax.config import UserError
from albert_jax.data.corpus import Chunk, content_hash, is_heldout
from albert_jax.data.shards import (
    SPLITS,
    RecordWriter,
    encode_record,
    replacing,
    shard_name,
)
from albert_jax.data.tokenizer import Tokenizer

# Bytes of text tokenised at once: SentencePiece hands Python one object a piece.
_BATCH = 1_000_000


def check_language(code: str) -> None:
    """Refuses what cannot be an ISO 639 code; sentencex would take it for English."""
    if not re.fullmatch("[a-z]{2,3}", code):
        raise UserError(
            f"language is {code!r}, but it must be an ISO 639 code such as 'en'"
        )


def split(text: str, language: str) -> list[str]:
    """A document's sentences; a line is a paragraph, and none runs across its end."""
    return [
        sentence
        for line in text.splitlines()
        if line and not line.isspace()
        for sentence in sentencex.segment(language, line)
    ]


@dataclass(frozen=True)
class ShardWriter:
    """Writes the shard of a chunk: a file a split, then a sidecar that says it is
    whole. The bytes follow from the chunk and these values alone."""

    folder: Path
    tokenizer: Tokenizer
    language: str
    heldout_fraction: float
    settings: str
    """Hash of all that shapes a shard."""

    def finished(self, chunk: Chunk) -> dict[str, Any] | None:
        """The totals of this chunk's shard, if it was written before, whole.

        Raises:
          UserError: it was written of other documents or with other settings.
        """
        try:
            totals = json.loads(str(read_sidecar(self.folder, chunk.index)["totals"]))
        except FileNotFoundError:
            return None
        if totals["settings"] != self.settings:
            raise UserError(
                f"{self.folder} was begun with another vocabulary, or another version "
                "of sentencepiece or sentencex; delete that folder, or name another "
                "in prepared"
            )
        if totals["digest"] != chunk.digest:
            raise UserError(
                f"the corpus has changed since {self.folder} was begun (shard "
                f"{chunk.index} differs); delete that folder, or name another in "
                "prepared"
            )
        for split_ in SPLITS:
            path = self.folder / shard_name(split_, chunk.index)
            if not path.exists() or path.stat().st_size != totals[split_]["bytes"]:
                return None
        return totals

    def write(self, chunk: Chunk) -> dict[str, Any]:
        """Writes the shard and returns its totals.

        Raises:
          UserError: the disk is full or cannot be written; nothing half-written stays.
        """
        index = {split_: _Index(self.tokenizer.vocab_size) for split_ in SPLITS}
        paths = {s: self.folder / shard_name(s, chunk.index) for s in SPLITS}
        totals = {
            "digest": chunk.digest,
            "settings": self.settings,
            "text_bytes": sum(len(data) for _, data in chunk.documents),
            "dropped": 0,
        }
        try:
            with ExitStack() as stack:
                writers = {}
                for name, path in paths.items():
                    temporary = stack.enter_context(replacing(path))
                    writers[name] = RecordWriter(temporary)
                for source, data, sentences in self._tokenised(chunk):
                    if not sentences:
                        totals["dropped"] += 1
                        continue
                    heldout = is_heldout(content_hash(data), self.heldout_fraction)
                    name = SPLITS[heldout]
                    record = index[name].add(source, sentences)
                    writers[name].write(record)
                for writer in writers.values():
                    writer.close()
            for name, path in paths.items():
                totals[name] = index[name].totals() | {"bytes": path.stat().st_size}
            _write_sidecar(self.folder, chunk.index, totals, index)
        except OSError as error:
            raise UserError(
                f"cannot write shard {chunk.index} of {self.folder}: "
                f"{error.strerror or error}; make room and run it again, finished "
                "shards are kept"
            ) from error
        return totals

    def _tokenised(self, chunk: Chunk) -> Iterator[tuple[int, bytes, list[np.ndarray]]]:
        """(source, text, ids of each sentence that has any) of every document."""
        for batch in _batches(chunk.documents):
            texts = [split(data.decode(), self.language) for _, data in batch]
            encoded = iter(
                self.tokenizer.encode_batch([s for t in texts for s in t], threads=1)
            )
            for (source, data), text in zip(batch, texts, strict=True):
                sentences = [next(encoded) for _ in text]
                yield source, data, [ids for ids in sentences if len(ids)]


@dataclass
class _Index:
    """What is to be known of a split's documents without reading them."""

    vocab_size: int
    lengths: list[np.ndarray] = field(default_factory=list)
    sentences: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pieces = np.zeros(self.vocab_size, np.int64)

    def add(self, source: int, sentences: list[np.ndarray]) -> bytes:
        """Counts a document and returns its record."""
        ids = np.concatenate(sentences)
        lengths = np.array([len(s) for s in sentences], np.uint32)
        self.lengths.append(lengths)
        self.sentences.append(len(sentences))
        np.add.at(self.pieces, ids, 1)
        return encode_record(ids, lengths, source, wide=self.vocab_size > 65_535)

    def totals(self) -> dict[str, int]:
        return {
            "documents": len(self.sentences),
            "sentences": sum(self.sentences),
            "tokens": int(self.pieces.sum()),
        }

    def arrays(self) -> dict[str, np.ndarray]:
        none = np.zeros(0, np.uint32)
        return {
            "lengths": np.concatenate([none, *self.lengths]),
            "sentences": np.array(self.sentences, np.uint32),
        }


def sidecar(folder: Path, index: int) -> Path:
    """Where the sidecar of shard ``index`` lies."""
    return folder / "shards" / f"{index:05d}.npz"


def read_sidecar(folder: Path, index: int) -> dict[str, np.ndarray]:
    """``totals`` (JSON), ``piece_counts`` of the train split, and for each split
    ``SPLIT_lengths`` of sentences and ``SPLIT_sentences`` of documents."""
    path = sidecar(folder, index)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile and NumPy raise a dozen kinds.
        raise UserError(f"{path} is damaged; delete it and run it again") from error


def _write_sidecar(
    folder: Path, index: int, totals: dict[str, Any], splits: dict[str, _Index]
) -> None:
    arrays = {
        f"{name}_{key}": array
        for name, split_ in splits.items()
        for key, array in split_.arrays().items()
    }
    arrays["piece_counts"] = splits["train"].pieces
    arrays["totals"] = np.array(json.dumps(totals))
    path = sidecar(folder, index)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _batches(
    documents: tuple[tuple[int, bytes], ...],
) -> Iterator[list[tuple[int, bytes]]]:
    batch: list[tuple[int, bytes]] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document[1])
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
