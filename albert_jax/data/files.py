"""Text files, plain or compressed, as a stream of documents' texts.

Memory follows the longest document, at most ``shard_megabytes``, never the file.
"""

import gzip
import io
import json
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from albert_jax.config import CorpusConfig, UserError

KINDS = (".txt", ".jsonl")
COMPRESSIONS = (".gz", ".xz", ".zst")
ALLOWED = f"{' or '.join(KINDS)}, plain or with {', '.join(COMPRESSIONS)} behind"

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DAMAGE = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error)


@dataclass(frozen=True)
class TextFile:
    """A file of documents; ``name`` is how the corpus knows it, wherever it lies."""

    name: str
    path: Path
    size: int
    """Bytes on disk, compressed where the file is."""
    modified: int
    """Last change, in ns; a hint, never part of a fingerprint."""
    config: CorpusConfig

    @classmethod
    def of(cls, path: Path, name: str, config: CorpusConfig) -> "TextFile":
        """The file at ``path`` as it is now."""
        status = path.stat()
        return cls(name, path, status.st_size, status.st_mtime_ns, config)

    def texts(self) -> Iterator[tuple[str, int]]:
        """(document, bytes on disk read so far), in order.

        Raises:
          UserError: damaged, binary or not UTF-8 (with the byte offset), or a line
            that is not JSON or lacks the text field (with the line).
        """
        limit = self.config.shard_megabytes * 10**6
        try:
            with self.path.open("rb") as raw, _decompressed(raw, self.path) as stream:
                if kind(self.path) == ".jsonl":
                    texts = _json_texts(stream, self.path, self.config.text_field)
                    texts = (part for text in texts for part in cut(text, limit))
                else:
                    whole = self.config.document == "file"
                    texts = _plain_texts(stream, self.path, limit, whole)
                for text in texts:
                    yield text, raw.tell()
        except _DAMAGE as error:
            raise UserError(f"{self.path} is damaged: {error}; fetch it anew") from None
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror}") from error


def kind(path: Path) -> str | None:
    """ ".txt" or ".jsonl" under any compression; none for other files."""
    suffixes = path.suffixes
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in KINDS else None


def cut(text: str, limit: int) -> Iterator[str]:
    """A text as parts of at most ``limit`` bytes of UTF-8, cut at ends of lines where
    there are any."""
    if 4 * len(text) <= limit:
        yield text
        return
    yield from _plain_texts(io.BytesIO(text.encode()), Path(), limit, whole=True)


@contextmanager
def _decompressed(raw: io.BufferedIOBase, path: Path) -> Iterator[io.BufferedIOBase]:
    match path.suffix:
        case ".gz":
            yield io.BufferedReader(gzip.GzipFile(fileobj=raw), 1 << 20)
        case ".xz":
            yield io.BufferedReader(lzma.LZMAFile(raw), 1 << 20)
        case ".zst":
            yield io.BufferedReader(_ZstdFile(raw), 1 << 20)
        case _:
            yield raw


class _ZstdFile(io.RawIOBase):
    """Frames of zstd, one after another; unlike zstandard's own reader it tells a
    file that stops inside a frame from one that ends."""

    def __init__(self, raw: io.BufferedIOBase) -> None:
        try:
            import zstandard
        except ImportError:
            raise UserError(
                "reading .zst files needs zstandard: pip install albert_jax[zstd]"
            ) from None
        self._raw = raw
        self._error = zstandard.ZstdError
        self._new_frame = lambda: zstandard.ZstdDecompressor().decompressobj()
        self._frame = self._new_frame()
        self._inside = False
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while not self._ready:
            compressed = b""
            if self._frame.eof:
                compressed = self._frame.unused_data
                self._frame, self._inside = self._new_frame(), False
            compressed = compressed or self._raw.read(1 << 17)
            if not compressed and self._inside:
                raise EOFError("it ends inside a zstd frame")
            if not compressed:
                return 0
            self._inside = True
            try:
                self._ready = memoryview(self._frame.decompress(compressed))
            except self._error as error:
                raise EOFError(str(error)) from error
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


def _plain_texts(
    stream: io.BufferedIOBase, path: Path, limit: int, whole: bool
) -> Iterator[str]:
    """Documents between blank lines, or the ``whole`` stream as one; a longer one than
    ``limit`` bytes goes on as a new document."""
    lines: list[bytes] = []
    size = offset = 0
    for line in _lines(stream, limit):
        blank = not whole and not line.strip()
        if lines and (blank or size + len(line) > limit):
            yield _decode(b"".join(lines), path, offset)
            offset += size
            lines, size = [], 0
        if blank:
            offset += len(line)
        else:
            lines.append(line)
            size += len(line)
    if text := _decode(b"".join(lines), path, offset):
        yield text


def _lines(stream: io.BufferedIOBase, limit: int) -> Iterator[bytes]:
    """Lines with their ends; one of more than ``limit`` bytes is cut at a space, or
    between two characters."""
    rest = b""
    while line := rest + stream.readline(limit - len(rest)):
        rest = b""
        if len(line) == limit and not line.endswith(b"\n"):
            end = line.rfind(b" ") + 1
            if not end:
                end = limit - 1
                while end > limit - 4 and line[end] & 0xC0 == 0x80:
                    end -= 1
            line, rest = line[:end], line[end:]
        yield line


def _json_texts(stream: io.BufferedIOBase, path: Path, field: str) -> Iterator[str]:
    offset = 0
    for number, line in enumerate(stream, 1):
        text = _decode(line, path, offset)
        offset += len(line)
        if text.strip():
            yield _json_text(text, f"{path}, line {number}", field)


def _json_text(line: str, where: str, field: str) -> str:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where} is not JSON: {error}") from None
    if not isinstance(value, dict) or field not in value:
        has = f"it has {', '.join(value)}" if isinstance(value, dict) else "no object"
        raise UserError(
            f"{where} has no field {field!r} ({has}); set text_field to the one that "
            "holds the text"
        )
    text = value[field]
    if not isinstance(text, str):
        raise UserError(f"{where} has {text!r:.40} in {field!r}, but it must be text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where} has half a surrogate pair in {field!r}, at character "
            f"{error.start}; remove it"
        ) from None
    return text


def _decode(data: bytes, path: Path, offset: int) -> str:
    """UTF-8 that starts ``offset`` bytes into the (decompressed) file."""
    if offset == 0:
        mark = len(_BYTE_ORDER_MARK) if data.startswith(_BYTE_ORDER_MARK) else 0
        data, offset = data[mark:], mark
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 at byte offset {offset + error.start}; convert it "
            "(iconv -t utf-8), or leave it out"
        ) from None
    if (zero := data.find(b"\0")) >= 0:
        raise UserError(
            f"{path} is binary, not text: a zero byte at byte offset {offset + zero}"
        )
    return text
