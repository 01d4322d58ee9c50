"""A corpus in blocks, so that what is planned and held at once does not grow with it.

A block is a sample of the whole corpus: one of every B neighbouring documents, drawn,
where there are B blocks. It is planned as if it were all there is, and a corpus of less
than a block is one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from albert_jax.data.packing import ragged
from albert_jax.data.segments import Epoch
from albert_jax.data.shards import PreparedCorpus

# 16,384 rows of 512: four of the paper's batches, in 16 MB.
BLOCK_PIECES = 1 << 23

# A page of the index that is touched brings 16 into memory, 64 kB; these so many
# documents together hold no more than 16 MB of it.
_AT_ONCE = 256


@dataclass(frozen=True)
class Block:
    """Some documents; documents, sentences and tokens are numbered in the block."""

    documents: np.ndarray
    """Their numbers in the corpus, ascending."""
    sentence_ends: np.ndarray
    """[sentences + 1], tokens before each sentence, and in all."""
    document_offsets: np.ndarray
    """[documents + 1], into sentences."""

    def tokens(self, corpus: PreparedCorpus, vocab_size: int) -> np.ndarray:
        """All tokens of its documents, end to end, in as few bytes as they need."""
        ends = self.sentence_ends[self.document_offsets].tolist()
        read = np.empty(ends[-1], np.min_scalar_type(vocab_size - 1))
        places = zip(self.documents.tolist(), ends[:-1], ends[1:], strict=True)
        for document, begin, end in places:
            read[begin:end] = corpus.tokens(document)
        return read


@dataclass(frozen=True)
class PlannedBlock(Epoch):
    """A block's rows in one epoch, and the tokens that they are cut out of."""

    tokens: np.ndarray


def count_blocks(corpus: PreparedCorpus) -> int:
    """How many blocks a corpus makes, each of about ``BLOCK_PIECES`` or less.

    Each has two documents at least, for segments that want another document.
    """
    wanted = -(-int(corpus.sentence_ends[-1]) // BLOCK_PIECES)
    return max(1, min(wanted, len(corpus) // 2))


def draw_block(
    corpus: PreparedCorpus, block: int, blocks: int, rng: np.random.Generator
) -> Block:
    """Block ``block`` of ``blocks``; together they hold every document once, if all
    are drawn with the same random numbers."""
    first = np.arange(0, len(corpus), blocks)
    # Drawn, because documents may alternate: titles and texts, for example.
    documents = first + (block + rng.integers(0, blocks, len(first))) % blocks
    documents = documents[documents < len(corpus)]
    lengths, sentences = zip(*_boundaries(corpus, documents), strict=True)
    return Block(documents, _from_zero(lengths), _from_zero(sentences))


def _boundaries(
    corpus: PreparedCorpus, documents: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Sentence lengths, and how many sentences a document has; some at a time."""
    for begin in range(0, len(documents), _AT_ONCE):
        some = documents[begin : begin + _AT_ONCE]
        # Mapped anew each time, or all that was ever touched would stay in memory.
        ends, offsets = corpus.sentence_ends, corpus.document_offsets
        sentences = offsets[some + 1] - offsets[some]
        place = ragged(offsets[some], sentences)
        yield ends[place + 1] - ends[place], sentences


def _from_zero(sizes: tuple[np.ndarray, ...]) -> np.ndarray:
    """Where each begins, and the sum of all."""
    return np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
