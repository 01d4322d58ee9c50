"""WordPiece, the vocabulary of the Chinese models, by the library ``tokenizers``.

Imports tokenizers at the top, so it is itself imported only where a ``vocab.txt`` is.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from albert_jax.config import UserError
from albert_jax.data.normalization import OFFICIAL, Normalization
from albert_jax.data.tokenizer import Tokenizer

try:
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers
except ImportError as error:
    raise UserError(
        "a vocab.txt needs the package tokenizers: pip install 'albert_jax[zh]'"
    ) from error

CONTINUATION = "##"


class WordPieceTokenizer(Tokenizer):
    """BERT's tokenizer, as in the official ``FullTokenizer`` with a ``vocab_file``:
    clean text, each Chinese character a word, no accents, lower case, words split at
    punctuation, then the longest pieces from the left."""

    FILE = "vocab.txt"
    HUGGING_FACE = "BertTokenizer"
    SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

    def __init__(
        self,
        vocabulary: bytes,
        path: str | Path,
        rules: Normalization = OFFICIAL,
        special_tokens_in_text: bool = False,
    ) -> None:
        """Prefer ``load``; ``vocabulary`` is UTF-8, one piece a line, ids from 0."""
        if rules.straight_quotes:
            raise UserError(
                f"straight_quotes is True, but {str(path)!r} is a WordPiece vocabulary "
                "and its quotes are left alone by Hugging Face too; leave it out"
            )
        try:
            lines = vocabulary.decode().removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path} is not a WordPiece vocabulary; name a vocab.txt, in UTF-8, of "
                "one piece a line"
            ) from error
        self._pieces = [line.strip() for line in lines]
        super().__init__(vocabulary, path, rules, special_tokens_in_text)
        self._model = tokenizers.Tokenizer(
            models.WordPiece(
                self._ids,
                unk_token="[UNK]",
                continuing_subword_prefix=CONTINUATION,
                max_input_chars_per_word=200,
            )
        )
        self._model.normalizer = normalizers.BertNormalizer(
            lowercase=rules.lower_case,
            strip_accents=rules.lower_case and not rules.keep_accents,
        )
        self._model.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._model.decoder = decoders.WordPiece(prefix=CONTINUATION, cleanup=False)

    def _encode_plain(self, texts: Sequence[str], threads: int) -> list[np.ndarray]:
        # The library counts threads by itself: one, or as many as cores.
        encoded = (
            map(self._model.encode, texts)
            if threads == 1
            else self._model.encode_batch_fast(list(texts))
        )
        return [np.array(encoding.ids, np.int32) for encoding in encoded]

    def _encode_plain_with_offsets(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        encoding = self._model.encode(text)
        spans = np.array(encoding.offsets, np.int32).reshape(-1, 2)
        return np.array(encoding.ids, np.int32), spans

    @property
    def pieces(self) -> list[str]:
        """The piece of each id."""
        return self._pieces

    @cached_property
    def word_starts(self) -> np.ndarray:
        """Whether the piece of each id starts a word, bool [V]: it has no ``##``."""
        return np.array([not piece.startswith(CONTINUATION) for piece in self.pieces])

    @cached_property
    def ordinary_ids(self) -> np.ndarray:
        """Ids of pieces of text, int32: all but special and ``[unused1]`` pieces."""
        unused = re.compile(r"\[unused\d+\]").fullmatch
        ordinary = [
            piece not in self.SPECIALS and not unused(piece) for piece in self.pieces
        ]
        return np.flatnonzero(ordinary).astype(np.int32)

    def _text(self, ids: list[int]) -> str:
        return self._model.decode(ids)
