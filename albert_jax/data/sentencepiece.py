"""SentencePiece as the official code uses it: training, piece ids, word starts.

Imports sentencepiece at the top, so it is itself imported only where text is at hand.
"""

import io
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import sentencepiece as spm

from albert_jax.config import UserError
from albert_jax.data.normalization import OFFICIAL, Normalization, align, normalize
from albert_jax.data.tokenizer import Tokenizer

USER_DEFINED = ("(", ")", '"', "-", ".", "–", "£", "€")
UNDERLINE = "▁"

_PUNCTUATION = frozenset('!"#$%&()*+,-./:;?@[\\]^_`{|}~€£')
_JOINING = frozenset("abcdefghijklmnopqrstuvwxyz") | _PUNCTUATION


class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece model; text goes through ``normalize`` first."""

    FILE = "spiece.model"
    HUGGING_FACE = "AlbertTokenizer"
    SPECIALS = ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")

    def __init__(
        self,
        model: bytes,
        path: str | Path,
        rules: Normalization = OFFICIAL,
        special_tokens_in_text: bool = False,
    ) -> None:
        """Prefer ``load``; ``path`` is what error messages and copies refer to."""
        self._processor = _processor(model, str(path))
        super().__init__(model, path, rules, special_tokens_in_text)

    def _encode_plain(self, texts: Sequence[str], threads: int) -> list[np.ndarray]:
        encoded = self._processor.encode(
            [normalize(text, self.rules) for text in texts],
            out_type=int,
            num_threads=threads,
        )
        ends = np.cumsum([len(ids) for ids in encoded], dtype=np.int64)
        flat = np.fromiter(chain.from_iterable(encoded), np.int32)
        flat, ends = self._resplit(flat, ends)
        return [flat[a:b] for a, b in pairwise([0, *ends])]

    def _encode_plain_with_offsets(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """By three steps back: a piece's place in SentencePiece's own normal form, from
        there in ours, from there in ``text``."""
        official = align(text, self.rules)
        normal, source = self._processor.normalize(official.text, with_offsets=True)
        pieces = self._processor.encode(official.text, out_type=str)
        pieces = [part for p in pieces for part in self._resplits.get(p, (p,))]
        ids = np.array(self._processor.piece_to_id(pieces), np.int32)
        # Character i of SentencePiece's normal form was source[i]:until[i] of ours.
        source = np.array(source, np.int64)
        until = source[np.searchsorted(source, source[:-1], side="right")]
        starts, ends = official.starts[source[:-1]], official.ends[until - 1]
        return ids, _spans(pieces, normal, starts, ends)

    @cached_property
    def pieces(self) -> list[str]:
        """The piece of each id."""
        return self._processor.id_to_piece(list(range(self._processor.vocab_size())))

    @cached_property
    def word_starts(self) -> np.ndarray:
        """Whether the piece of each id starts a word, bool [V]."""
        return np.array([starts_word(piece) for piece in self.pieces])

    @cached_property
    def ordinary_ids(self) -> np.ndarray:
        """Ids of pieces of text, int32: all but control pieces and <unk>."""
        model = self._processor
        special = [
            model.is_control(i) or model.is_unknown(i) or model.is_unused(i)
            for i in range(self.vocab_size)
        ]
        return np.flatnonzero(~np.array(special)).astype(np.int32)

    def _text(self, ids: list[int]) -> str:
        return self._processor.decode(ids)

    @cached_property
    def _resplits(self) -> dict[str, list[str]]:
        """Pieces that stand in for a piece that ends in a digit and a comma.

        The official ``encode_pieces`` tokenises such a piece anew without its comma,
        so that "2010" is the same pieces before a comma as elsewhere.
        """
        resplits = {}
        for piece in self.pieces:
            if len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit():
                digits = piece[:-1].replace(UNDERLINE, "")
                parts = self._processor.encode(digits, out_type=str)
                if not piece.startswith(UNDERLINE) and parts[0].startswith(UNDERLINE):
                    # The underline was put there by tokenising mid-word text alone.
                    parts[:1] = [parts[0][1:]] if len(parts[0]) > 1 else []
                resplits[piece] = [*parts, ","]
        return resplits

    @cached_property
    def _resplit_ids(self) -> dict[int, list[int]]:
        to_id = self._processor.piece_to_id
        return {to_id(piece): to_id(parts) for piece, parts in self._resplits.items()}

    @cached_property
    def _resplit_counts(self) -> np.ndarray:
        counts = np.ones(self.vocab_size, np.int64)
        for id_, parts in self._resplit_ids.items():
            counts[id_] = len(parts)
        return counts

    def _resplit(
        self, flat: np.ndarray, ends: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Puts the stand-ins into ``flat``; texts end at ``ends``, which move."""
        counts = self._resplit_counts[flat]
        hits = np.flatnonzero(counts > 1)
        if not len(hits):
            return flat, ends
        moved = np.concatenate([[0], np.cumsum(counts)])
        resplit = np.repeat(flat, counts)
        for hit in hits:
            resplit[moved[hit] : moved[hit + 1]] = self._resplit_ids[int(flat[hit])]
        return resplit, moved[ends]


def train(sentences: Iterable[str], vocab_size: int) -> bytes:
    """A model trained on sentences with the official flags.

    Raises:
      UserError: the sentences cannot fill ``vocab_size`` pieces, or need more.
    """
    written = io.BytesIO()
    # Random only where more than input_sentence_size sentences are sampled.
    spm.set_random_generator_seed(0)
    try:
        spm.SentencePieceTrainer.train(
            sentence_iterator=map(normalize, sentences),
            model_writer=written,
            model_type="unigram",
            vocab_size=vocab_size,
            character_coverage=0.99995,
            input_sentence_size=10_000_000,
            shuffle_input_sentence=True,
            pad_id=0,
            unk_id=1,
            bos_id=-1,
            eos_id=-1,
            pad_piece=SentencePieceTokenizer.SPECIALS[0],
            unk_piece=SentencePieceTokenizer.SPECIALS[1],
            control_symbols=list(SentencePieceTokenizer.SPECIALS[2:]),
            user_defined_symbols=list(USER_DEFINED),
            # Sums are split over threads, so their number shows in the scores.
            num_threads=16,
            minloglevel=3,
        )
    except RuntimeError as error:
        raise _training_error(str(error), vocab_size) from error
    return written.getvalue()


def _processor(model: bytes, path: str) -> spm.SentencePieceProcessor:
    try:
        processor = spm.SentencePieceProcessor()
        processor.LoadFromSerializedProto(model)
    except RuntimeError as error:
        raise UserError(
            f"{path} is not a SentencePiece model; name a file that spm_train or "
            "albert-jax prepare wrote"
        ) from error
    return processor


def _spans(
    pieces: list[str], normal: str, starts: np.ndarray, ends: np.ndarray
) -> np.ndarray:
    """Spans [n, 2] of pieces that make up ``normal``, out of those of its characters;
    an underline is in none."""
    characters = np.frombuffer(normal.encode("utf-32-le"), np.uint32)
    shown = np.flatnonzero(characters != ord(UNDERLINE))
    stops = np.cumsum(np.fromiter(map(len, pieces), np.int64))
    until = np.searchsorted(shown, stops)
    since = np.append(0, until)[:-1]
    begins = np.append(starts[shown], ends[-1:])[since]
    closes = np.where(until > since, ends[shown][until - 1], begins)
    return np.stack([begins, closes], axis=1).astype(np.int32)


def starts_word(piece: str) -> bool:
    """Whether whole-word masking begins a word here (``_is_start_piece_sp``)."""
    # An underline, a digit, an apostrophe, "<" or a letter beyond a-z always does.
    return piece in _PUNCTUATION or not all(c.lower() in _JOINING for c in piece)


def _training_error(message: str, vocab_size: int) -> Exception:
    if most := re.search(r"too high.*<= (\d+)", message):
        return UserError(
            f"vocab_size is {vocab_size}, but this corpus fills at most "
            f"{most[1]}; lower it, or take a larger corpus"
        )
    if least := re.search(r"required_chars\. \d+ vs (\d+)", message):
        return UserError(
            f"vocab_size is {vocab_size}, but this corpus needs more than {least[1]} "
            "for its characters alone; raise it"
        )
    if "sentences_.empty()" in message:
        return UserError(
            "there is no text to train a vocabulary on; name a corpus with documents"
        )
    return RuntimeError(f"SentencePiece could not train a vocabulary: {message}")
