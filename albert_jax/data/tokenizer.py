"""SentencePiece as the official code uses it: training, normalisation, piece ids.

Imports sentencepiece at the top, so it is itself imported only where text is at hand.
"""

import hashlib
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import sentencepiece as spm

from albert_jax.config import UserError

SPECIALS = ("<pad>", "[CLS]", "[SEP]", "[MASK]")
USER_DEFINED = ("(", ")", '"', "-", ".", "–", "£", "€")
UNDERLINE = "▁"

_PUNCTUATION = frozenset('!"#$%&()*+,-./:;?@[\\]^_`{|}~€£')
_JOINING = frozenset("abcdefghijklmnopqrstuvwxyz") | _PUNCTUATION


def normalize(text: str) -> str:
    """Text as the official models see it: one space between words, compatibility
    decomposition, no combining marks, lower case (``preprocess_text``)."""
    text = " ".join(text.split())
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text)
        for mark in filter(unicodedata.combining, set(text)):
            text = text.replace(mark, "")
    return text.lower()


class Tokenizer:
    """A SentencePiece unigram model with ALBERT's special pieces.

    Text goes through ``normalize`` first; ``encode`` adds no special pieces. Values
    can be pickled and do not need the file again.
    """

    def __init__(self, model: bytes, path: str | Path) -> None:
        """Prefer ``load``; ``path`` is what error messages and copies refer to."""
        self.path = str(path)
        self.fingerprint = hashlib.sha256(model).hexdigest()
        self._processor = _processor(model, self.path)
        self.vocab_size: int = self._processor.vocab_size()
        ids = {piece: self._processor.piece_to_id(piece) for piece in SPECIALS}
        missing = [p for p, i in ids.items() if self._processor.id_to_piece(i) != p]
        if missing:
            raise UserError(
                f"{self.path} has no piece {', '.join(missing)}, but an ALBERT "
                f"vocabulary needs {', '.join(SPECIALS)}; train one with "
                "albert-jax prepare, or name another file"
            )
        self.pad_id, self.cls_id, self.sep_id, self.mask_id = ids.values()
        self.unk_id: int = self._processor.unk_id()

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """The model in a ``.model`` file.

        Raises:
          UserError: no such file, not a SentencePiece model, or a special piece lacks.
        """
        try:
            model = Path(path).read_bytes()
        except OSError as error:
            raise UserError(
                f"vocabulary {str(path)!r} cannot be read: {error.strerror}"
            ) from error
        return cls(model, path)

    @classmethod
    def train(
        cls, sentences: Iterable[str], path: str | Path, vocab_size: int
    ) -> "Tokenizer":
        """Trains on sentences with the official flags and writes ``path``.

        The same sentences give the same file, on any number of cores.

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
                pad_piece="<pad>",
                unk_piece="<unk>",
                control_symbols=list(SPECIALS[1:]),
                user_defined_symbols=list(USER_DEFINED),
                # Sums are split over threads, so their number shows in the scores.
                num_threads=16,
                minloglevel=3,
            )
        except RuntimeError as error:
            raise _training_error(str(error), vocab_size) from error
        Path(path).write_bytes(written.getvalue())
        return cls(written.getvalue(), path)

    def encode(self, text: str) -> list[int]:
        """Piece ids of one text, without special pieces."""
        return self.encode_batch([text], threads=1)[0].tolist()

    def encode_batch(self, texts: Sequence[str], threads: int = -1) -> list[np.ndarray]:
        """Piece ids of each text, int32; ``threads`` of -1 are as many as cores."""
        encoded = self._processor.encode(
            [normalize(text) for text in texts], out_type=int, num_threads=threads
        )
        ends = np.cumsum([len(ids) for ids in encoded], dtype=np.int64)
        flat = np.fromiter(chain.from_iterable(encoded), np.int32)
        flat, ends = self._resplit(flat, ends)
        return [flat[a:b] for a, b in pairwise([0, *ends])]

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        """The text of piece ids; control pieces say nothing."""
        return self._processor.decode([int(i) for i in ids])

    @cached_property
    def pieces(self) -> list[str]:
        """The piece of each id."""
        return self._processor.id_to_piece(list(range(self.vocab_size)))

    @cached_property
    def word_starts(self) -> np.ndarray:
        """Whether the piece of each id starts a word, bool [V]
        (``_is_start_piece_sp``)."""
        return np.array([_starts_word(piece) for piece in self.pieces])

    @cached_property
    def ordinary_ids(self) -> np.ndarray:
        """Ids of pieces of text, int32: all but control pieces and <unk>."""
        model = self._processor
        special = [
            model.is_control(i) or model.is_unknown(i) or model.is_unused(i)
            for i in range(self.vocab_size)
        ]
        return np.flatnonzero(~np.array(special)).astype(np.int32)

    @cached_property
    def _resplits(self) -> dict[int, list[int]]:
        """Ids that stand in for a piece that ends in a digit and a comma.

        The official ``encode_pieces`` tokenises such a piece anew without its comma,
        so that "2010" is the same pieces before a comma as elsewhere.
        """
        model, comma = self._processor, self._processor.piece_to_id(",")
        resplits = {}
        for id_, piece in enumerate(self.pieces):
            if len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit():
                parts = model.encode(piece[:-1].replace(UNDERLINE, ""), out_type=str)
                if not piece.startswith(UNDERLINE) and parts[0].startswith(UNDERLINE):
                    # The underline was put there by tokenising mid-word text alone.
                    parts[:1] = [parts[0][1:]] if len(parts[0]) > 1 else []
                resplits[id_] = [*map(model.piece_to_id, parts), comma]
        return resplits

    @cached_property
    def _resplit_counts(self) -> np.ndarray:
        counts = np.ones(self.vocab_size, np.int64)
        for id_, parts in self._resplits.items():
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
            resplit[moved[hit] : moved[hit + 1]] = self._resplits[int(flat[hit])]
        return resplit, moved[ends]


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


def _starts_word(piece: str) -> bool:
    return (
        piece.startswith((UNDERLINE, "<"))
        or piece in _PUNCTUATION
        # Digits, apostrophes and letters beyond a-z always start a word.
        or not all(character.lower() in _JOINING for character in piece)
    )


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
