"""The tokenizer's interface: text to piece ids, to batches of rows, and back.

What a piece is, ``data/sentencepiece.py`` (English) and ``data/wordpiece.py`` (Chinese)
say; ``Tokenizer.load`` picks one of them by the file.
"""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import groupby
from operator import index
from pathlib import Path
from typing import SupportsIndex

import numpy as np
from jaxtyping import Int

from albert_jax.config import UserError
from albert_jax.data.encoding import Layout, Rows, segments_of
from albert_jax.data.normalization import OFFICIAL, Normalization


class Tokenizer(ABC):
    """Text to piece ids and back, with ALBERT's special pieces.

    Values can be pickled and do not need the file again.
    """

    FILE: str
    """What Hugging Face calls the vocabulary's file."""
    HUGGING_FACE: str
    """Its class for such a vocabulary."""
    SPECIALS: tuple[str, str, str, str, str]
    """The pieces for padding, unknown text, [CLS], [SEP] and [MASK]."""

    def __init__(
        self,
        vocabulary: bytes,
        path: str | Path,
        rules: Normalization = OFFICIAL,
        special_tokens_in_text: bool = False,
    ) -> None:
        self.path = str(path)
        self.rules = rules
        self.vocabulary = vocabulary
        """The bytes of the file."""
        self.special_tokens_in_text = special_tokens_in_text
        self.fingerprint = hashlib.sha256(vocabulary).hexdigest()
        missing = [piece for piece in self.SPECIALS if piece not in self._ids]
        if missing:
            raise UserError(
                f"{self.path} has no piece {', '.join(missing)}, but an ALBERT "
                f"vocabulary needs {', '.join(self.SPECIALS)}; train one with "
                "albert-jax prepare, or name another file"
            )
        self.vocab_size = len(self.pieces)
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (
            self._ids[piece] for piece in self.SPECIALS
        )

    @staticmethod
    def load(
        path: str | Path,
        *,
        lower_case: bool = True,
        keep_accents: bool = False,
        straight_quotes: bool = False,
        special_tokens_in_text: bool = False,
    ) -> "Tokenizer":
        """The vocabulary in a SentencePiece ``.model`` (English), or in a ``vocab.txt``
        of one piece a line (Chinese; needs the ``zh`` extra).

        Args:
          lower_case: false for a cased model; Hugging Face's ``do_lower_case``.
          keep_accents: leave accents, ligatures and the like as they are. The official
            code takes them apart, but never for a cased WordPiece vocabulary.
          straight_quotes: turn `` and '' into " first, as Hugging Face does and the
            official code does not; SentencePiece only.
          special_tokens_in_text: read [MASK], [SEP] and the like, where a text says
            so, as the special pieces; Hugging Face does, the official code does not.

        Raises:
          UserError: no such file, no vocabulary, or a special piece lacks.
        """
        rules = Normalization(straight_quotes, lower_case, keep_accents)
        try:
            vocabulary = Path(path).read_bytes()
        except OSError as error:
            raise UserError(
                f"vocabulary {str(path)!r} cannot be read: {error.strerror}"
            ) from error
        if Path(path).suffix != ".txt" and b"[CLS]" not in vocabulary.splitlines():
            from albert_jax.data.sentencepiece import SentencePieceTokenizer

            return SentencePieceTokenizer(
                vocabulary, path, rules, special_tokens_in_text
            )
        from albert_jax.data.wordpiece import WordPieceTokenizer

        return WordPieceTokenizer(vocabulary, path, rules, special_tokens_in_text)

    @staticmethod
    def train(
        sentences: Iterable[str], path: str | Path, vocab_size: int
    ) -> "Tokenizer":
        """Trains SentencePiece with the official flags and writes ``path``.

        The same sentences give the same file, on any number of cores.

        Raises:
          UserError: the sentences cannot fill ``vocab_size`` pieces, or need more.
        """
        from albert_jax.data.sentencepiece import SentencePieceTokenizer, train

        model = train(sentences, vocab_size)
        Path(path).write_bytes(model)
        return SentencePieceTokenizer(model, path)

    @property
    @abstractmethod
    def pieces(self) -> list[str]:
        """The piece of each id."""

    @property
    @abstractmethod
    def word_starts(self) -> np.ndarray:
        """Whether the piece of each id starts a word, bool [V]."""

    @property
    @abstractmethod
    def ordinary_ids(self) -> np.ndarray:
        """Ids of pieces of text, int32: all but special and unused pieces."""

    @abstractmethod
    def _encode_plain(self, texts: Sequence[str], threads: int) -> list[np.ndarray]:
        """``encode_batch`` of texts without special pieces."""

    @abstractmethod
    def _encode_plain_with_offsets(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """``encode_with_offsets`` of a text without special pieces."""

    @abstractmethod
    def _text(self, ids: list[int]) -> str:
        """The text of ids, none of them special."""

    def encode(self, text: str) -> list[int]:
        """Piece ids of one text, without [CLS] and [SEP] around them."""
        return self.encode_batch([text], threads=1)[0].tolist()

    def encode_batch(self, texts: Sequence[str], threads: int = -1) -> list[np.ndarray]:
        """Piece ids of each text, int32, as ``encode``; ``threads`` of -1 are as many
        as cores."""
        if not self.special_tokens_in_text:
            return self._encode_plain(texts, threads)
        cut = [self._special_tokens.split(text) for text in texts]
        plain = iter(self._encode_plain([p for c in cut for p in c[::2]], threads))
        return [
            np.concatenate(
                [[self._ids[p]] if i % 2 else next(plain) for i, p in enumerate(parts)],
                dtype=np.int32,
            )
            for parts in cut
        ]

    def encode_with_offsets(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """As ``encode``, and the span of each piece in ``text``.

        Returns:
          ids, int32 [n], and offsets, int32 [n, 2]: ``text[start:end]`` is what became
          the piece, without the space before it. A piece that stands for the space
          alone has an empty span at the word; pieces made of one character (a ligature,
          a fraction) share its span.
        """
        if not self.special_tokens_in_text:
            return self._encode_plain_with_offsets(text)
        all_ids, all_offsets, at = [], [], 0
        for i, part in enumerate(self._special_tokens.split(text)):
            if i % 2:
                ids, offsets = [self._ids[part]], [(0, len(part))]
            else:
                ids, offsets = self._encode_plain_with_offsets(part)
            all_ids.append(ids)
            all_offsets.append(np.add(offsets, at))
            at += len(part)
        ids = np.concatenate(all_ids, dtype=np.int32)
        return ids, np.concatenate(all_offsets, dtype=np.int32)

    def decode(
        self, ids: Iterable[SupportsIndex], *, skip_special_tokens: bool = False
    ) -> str:
        """The text of one row of piece ids, as the model sees it: normalised.

        Special pieces, <unk> among them, stand between spaces or are left out.
        """
        parts = []
        runs = groupby(map(index, ids), key=self._special_ids.__contains__)
        for is_special, run in runs:
            if not is_special:
                parts.append(self._text(list(run)).strip())
            elif not skip_special_tokens:
                parts += [self.pieces[i] for i in run]
        return " ".join(filter(None, parts))

    def decode_batch(
        self,
        rows: Iterable[Iterable[SupportsIndex]],
        *,
        skip_special_tokens: bool = False,
    ) -> list[str]:
        """``decode`` of each row."""
        return [self.decode(r, skip_special_tokens=skip_special_tokens) for r in rows]

    def __call__(
        self,
        text: str | Iterable[str],
        text_pair: str | Iterable[str] | None = None,
        *,
        padding: bool | str = False,
        truncation: bool | str = False,
        max_length: int | None = None,
        special_tokens_mask: bool = False,
        offsets: bool = False,
    ) -> dict[str, Int[np.ndarray, "b t"] | Int[np.ndarray, "b t 2"]]:
        """Rows of ``[CLS] text [SEP]`` or ``[CLS] text [SEP] text_pair [SEP]``.

        Args:
          text: one text (a batch of one row) or several.
          text_pair: the second text of each row.
          padding: to the ``longest`` row (or true), to ``max_length``, or not at all
            (false, ``do_not_pad``).
          truncation: ``longest_first`` (or true), ``only_first``, ``only_second``, or
            none (false, ``do_not_truncate``).
          max_length: most pieces in a row, special ones included.
          special_tokens_mask: whether to return that too: 1 for special pieces and
            padding.
          offsets: whether to return ``offsets`` [B, T, 2] too, the spans of
            ``encode_with_offsets`` in the text that a piece came from; (0, 0) for
            special pieces and padding. Slower.

        Returns:
          ``input_ids``, ``attention_mask`` (1 for pieces, 0 for padding) and
          ``token_type_ids`` (1 for ``text_pair [SEP]``), int32 [B, T], and what was
          asked for.

        Raises:
          UserError: a strategy or length that cannot be, texts that do not pair up, or
            rows of several lengths without padding.
        """
        layout = Layout(padding, truncation, max_length)
        encode = self._encode_with_offsets if offsets else self._encode
        encoded = [encode(texts) for texts in segments_of(text, text_pair)]
        ids, spans = zip(*encoded, strict=True)
        rows = Rows.plan([list(map(len, segment)) for segment in ids], layout)

        shape = len(ids[0]), rows.width
        input_ids = np.full(shape, self.pad_id, np.int32)
        input_ids[:, :1] = self.cls_id
        np.put_along_axis(input_ids, rows.separators.T, self.sep_id, axis=1)
        batch = {"input_ids": rows.fill(input_ids, ids)} | rows.masks()
        if not special_tokens_mask:
            del batch["special_tokens_mask"]
        if offsets:
            batch["offsets"] = rows.fill(np.zeros((*shape, 2), np.int32), spans)
        return batch

    def _encode(self, texts: list[str]) -> tuple[list[np.ndarray], None]:
        # Threads cost more than they save where there is little to do.
        return self.encode_batch(texts, threads=-1 if len(texts) > 100 else 1), None

    def _encode_with_offsets(
        self, texts: list[str]
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        both = [self.encode_with_offsets(text) for text in texts]
        return [ids for ids, _ in both], [spans for _, spans in both]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {piece: id_ for id_, piece in enumerate(self.pieces)}

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        return frozenset(self._ids[piece] for piece in self.SPECIALS)

    @cached_property
    def _special_tokens(self) -> re.Pattern:
        """Splits a text into plain parts and, between them, special pieces."""
        return re.compile(f"({'|'.join(map(re.escape, self.SPECIALS))})")
