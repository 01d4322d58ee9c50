"""A corpus in memory, with the face of ``PreparedCorpus`` that the stream reads."""

from dataclasses import dataclass

import numpy as np

from albert_jax.data.sentencepiece import SentencePieceTokenizer
from albert_jax.data.shards import PreparedCorpus


@dataclass(frozen=True)
class MadeCorpus(PreparedCorpus):
    """Documents whose every token tells where it came from.

    Ids: 10 + document * 1000 + place in the document, so that a test can read off a
    row which tokens of which document it shows.
    """

    documents: tuple[tuple[int, ...], ...]
    """Sentence lengths of each document."""

    @property
    def document_offsets(self) -> np.ndarray:
        return np.cumsum([0, *map(len, self.documents)])

    @property
    def sentence_ends(self) -> np.ndarray:
        return np.cumsum([0, *(n for document in self.documents for n in document)])

    def __len__(self) -> int:
        return len(self.documents)

    def __reduce__(self):
        return MadeCorpus, (self.documents,)

    def tokens(self, document: int) -> np.ndarray:
        size = sum(self.documents[document])
        return (10 + 1000 * document + np.arange(size)).astype(np.int32)


@dataclass(frozen=True)
class MadeTokenizer(SentencePieceTokenizer):
    """Every third piece begins no word."""

    vocab_size: int = 500_000
    pad_id: int = 0
    cls_id: int = 2
    sep_id: int = 3
    mask_id: int = 4

    @property
    def word_starts(self) -> np.ndarray:
        return np.arange(self.vocab_size) % 3 != 2

    @property
    def ordinary_ids(self) -> np.ndarray:
        return np.arange(5, self.vocab_size)


def make(seed: int = 0, documents: int = 40) -> MadeCorpus:
    """Documents of 1 to 29 sentences of 1 to 39 tokens, one of a single token."""
    rng = np.random.default_rng(seed)
    made = [
        tuple(rng.integers(1, 40, rng.integers(1, 30)).tolist())
        for _ in range(documents)
    ]
    return MadeCorpus((*made, (1,), (30,)))
