"""The prepared corpus: how a document is written, and how any document is read.

A folder holds ``shards/SPLIT-00012.array_record``, one record a document; for each
split the lengths of all sentences and where documents begin in them; the vocabulary;
and ``manifest.json``, written last: a folder without it is not finished.
"""

import json
import operator
import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, SupportsIndex

import numpy as np
from array_record.python.array_record_module import (
    ArrayRecordReader,
    ArrayRecordWriter,
)

from albert_jax.config import UserError
from albert_jax.identity import digest

FORMAT = 1
SPLITS = ("train", "heldout")
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.model"
PIECE_COUNTS = "piece_counts.npy"
UNFINISHED = ".unfinished"

# One record a chunk, for random access; uncompressed because a record then reads in 12
# us instead of 20, for a third more of a file that is half the text's size anyway.
WRITER_OPTIONS = "group_size:1,uncompressed"
# Shards that stay open. One takes 0.2 MB and 0.4 ms to open; who reads much reads in
# order.
_OPEN_SHARDS = 64

_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"

# Format version, bytes an id, unused, source, sentences; then lengths (uint32), ids.
_HEADER = struct.Struct("<BBHII")


def encode_record(
    ids: np.ndarray, lengths: np.ndarray, source: int, wide: bool
) -> bytes:
    """A document as a record: ids (uint16, ``wide`` uint32), sentence lengths."""
    id_type = np.dtype("<u4" if wide else "<u2")
    header = _HEADER.pack(FORMAT, id_type.itemsize, 0, source, len(lengths))
    return header + lengths.astype("<u4").tobytes() + ids.astype(id_type).tobytes()


def decode_record(record: bytes) -> tuple[np.ndarray, np.ndarray, int]:
    """(ids int32, sentence lengths uint32, source) of a record.

    Raises:
      ValueError: not a record of this format, or cut short.
    """
    if len(record) < _HEADER.size:
        raise ValueError("a record without a header")
    version, width, _, source, sentences = _HEADER.unpack_from(record)
    if version != FORMAT or width not in (2, 4):
        raise ValueError(f"a record of format {version}, not {FORMAT}")
    body = _HEADER.size + 4 * sentences
    if len(record) < body or (len(record) - body) % width:
        raise ValueError("a record that is cut short")
    lengths = np.frombuffer(record, "<u4", sentences, _HEADER.size)
    ids = np.frombuffer(record, f"<u{width}", offset=body).astype(np.int32)
    if len(ids) != int(lengths.sum(dtype=np.int64)):
        raise ValueError("a record whose sentences and pieces disagree")
    return ids, lengths, source


def shard_name(split: str, index: int) -> str:
    """Where shard ``index`` of a split lies in a prepared folder."""
    return f"shards/{split}-{index:05d}.array_record"


def index_file(folder: Path, split: str, kind: str) -> Path:
    """Where a split's ``sentence_lengths``, ``sentence_ends`` or
    ``document_offsets`` lie."""
    return folder / f"{split}.{kind}.npy"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that takes the place of ``path`` at the end, whole or not at
    all; it is removed if the block fails."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class RecordWriter:
    """Writes the records of one shard; a full disk raises ``OSError``."""

    def __init__(self, path: Path) -> None:
        self._writer = ArrayRecordWriter(str(path), WRITER_OPTIONS)

    def write(self, record: bytes) -> None:
        """Appends a record."""
        try:
            self._writer.write(record)
        except RuntimeError as error:
            raise OSError(_reason(error)) from error

    def close(self) -> None:
        """Flushes and closes the file."""
        try:
            self._writer.close()
        except RuntimeError as error:
            raise OSError(_reason(error)) from error


class PreparedCorpus:
    """One split of a prepared corpus, by random access.

    A value can be pickled; a process that receives it opens the files for itself. It
    may be read from several threads.
    """

    def __init__(self, folder: Path, split: str, manifest: dict[str, Any]) -> None:
        """Prefer ``open``, which checks."""
        self.folder = folder
        self.split = split
        self.manifest = manifest
        documents = [shard[split]["documents"] for shard in manifest["shards"]]
        self._shard_starts = np.concatenate([[0], np.cumsum(documents, dtype=np.int64)])
        self._paths = [
            str(folder / shard_name(split, i)) for i in range(len(documents))
        ]
        self._readers = _Readers()

    @classmethod
    def open(cls, folder: str | Path, split: str = "train") -> "PreparedCorpus":
        """The split, "train" or "heldout", of a folder that ``prepare`` has finished.

        Raises:
          UserError: not finished, of another format, or a file is missing or cut.
        """
        folder = Path(folder)
        if split not in SPLITS:
            raise UserError(f"split is {split!r}, but it must be one of {SPLITS}")
        corpus = cls(folder, split, read_manifest(folder))
        for index, shard in enumerate(corpus.manifest["shards"]):
            _check_size(folder / shard_name(split, index), shard[split]["bytes"])
        totals = corpus.manifest["splits"][split]
        if (
            len(corpus.sentence_lengths) != totals["sentences"]
            or len(corpus.sentence_ends) != totals["sentences"] + 1
            or len(corpus.document_offsets) != totals["documents"] + 1
        ):
            raise UserError(f"the index of {folder} ({split}) is damaged; {_CURE}")
        return corpus

    @property
    def sentence_lengths(self) -> np.ndarray:
        """Pieces of each sentence of the split, uint32, memory-mapped."""
        return self._mapped("sentence_lengths")

    @property
    def sentence_ends(self) -> np.ndarray:
        """Pieces of the split before each sentence, and in all, int64
        [sentences + 1], memory-mapped."""
        return self._mapped("sentence_ends")

    @property
    def document_offsets(self) -> np.ndarray:
        """Where each document's sentences begin, int64 [documents + 1],
        memory-mapped."""
        return self._mapped("document_offsets")

    @cached_property
    def piece_counts(self) -> np.ndarray:
        """How often each piece occurs in the *train* split, int64 [V]."""
        return _load(self.folder / PIECE_COUNTS, None)

    @property
    def fingerprint(self) -> str:
        """Digest of all that decides which pieces the corpus holds, hexadecimal."""
        decisive = ("corpus", "vocabulary", "splits")
        return digest([self.manifest[name] for name in decisive])

    @property
    def tokenizer_path(self) -> Path:
        """The vocabulary that the ids are of."""
        return self.folder / TOKENIZER

    def __len__(self) -> int:
        """Documents in the split."""
        return int(self._shard_starts[-1])

    def tokens(self, document: SupportsIndex) -> np.ndarray:
        """Ids of a whole document, int32, without special pieces.

        Raises:
          UserError: its shard is damaged.
        """
        return self._record(document)[0]

    def source(self, document: SupportsIndex) -> int:
        """Index of the document's source in the manifest's order."""
        return self._record(document)[2]

    def _record(self, index: SupportsIndex) -> tuple[np.ndarray, np.ndarray, int]:
        document = operator.index(index)
        if not 0 <= document < len(self):
            raise IndexError(f"document {document} of {len(self)}")
        shard = int(np.searchsorted(self._shard_starts, document, side="right")) - 1
        path = self._paths[shard]
        place = document - int(self._shard_starts[shard])
        try:
            return decode_record(self._readers.read(path, place))
        except (RuntimeError, IndexError, ValueError) as error:
            raise UserError(
                f"{path} is damaged at document {place}: {_reason(error)}; delete that "
                f"file, then {_CURE}"
            ) from error

    def _mapped(self, name: str) -> np.ndarray:
        return _load(index_file(self.folder, self.split, name), "r")

    def __reduce__(self):
        return PreparedCorpus, (self.folder, self.split, self.manifest)


_CURE = "run albert-jax prepare again, which makes anew what is missing"


def read_manifest(folder: Path) -> dict[str, Any]:
    """What ``prepare`` wrote at its end.

    Raises:
      UserError: not finished, or of another format.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        state = "is not finished" if folder.is_dir() else "does not exist"
        raise UserError(
            f"prepared corpus {str(folder)!r} {state}: run albert-jax prepare with "
            "your experiment"
        ) from None
    except ValueError as error:
        raise UserError(f"{path} is damaged; delete it, then {_CURE}") from error
    if manifest["format"] != FORMAT:
        raise UserError(
            f"{folder} has format {manifest['format']}, but this version reads "
            f"{FORMAT}; delete it, then run albert-jax prepare"
        )
    return manifest


class _Readers:
    """Open shards, the least recently used closed beyond so many."""

    def __init__(self) -> None:
        self._most = _OPEN_SHARDS
        self._lock = threading.Lock()
        self._open: OrderedDict[str, ArrayRecordReader] = OrderedDict()

    def read(self, path: str, place: int) -> bytes:
        with self._lock:
            reader = self._open.pop(path, None) or _reader(path)
            self._open[path] = reader
            if len(self._open) > self._most:
                self._open.popitem(last=False)
        return reader.read([place])[0]


def _reader(path: str) -> ArrayRecordReader:
    reader = ArrayRecordReader(
        path, options=_READER_OPTIONS, file_reader_buffer_size=1 << 15
    )
    if not reader.ok():
        raise RuntimeError("it cannot be opened")
    return reader


def _check_size(path: Path, expected: int) -> None:
    if not path.exists():
        raise UserError(f"shard {path} is missing; {_CURE}")
    size = path.stat().st_size
    if size != expected:
        raise UserError(f"shard {path} has {size} bytes, not {expected}; {_CURE}")


def _load(path: Path, mode: Literal["r"] | None) -> np.ndarray:
    try:
        return np.load(path, mmap_mode=mode, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is missing or damaged; {_CURE}") from error


def _reason(error: Exception) -> str:
    return str(error).split(";")[0]
