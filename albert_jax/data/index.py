"""The sidecars of all shards as one index a split; streaming, one shard at a time.

Imported by ``prepare`` only.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np

from albert_jax.data.sentences import read_sidecar
from albert_jax.data.shards import PIECE_COUNTS, SPLITS, index_file, replacing


def write_index(
    folder: Path, shards: Sequence[dict[str, Any]], vocab_size: int
) -> dict[str, dict[str, int]]:
    """Writes, for each split, sentence lengths (uint32), sentence ends and document
    offsets (int64, each from 0), and how often the train split has each piece.

    Returns:
      Documents, sentences, tokens and bytes of each split.
    """
    totals = {
        split: {key: sum(s[split][key] for s in shards) for key in shards[0][split]}
        for split in SPLITS
    }
    pieces = np.zeros(vocab_size, np.int64)
    with ExitStack() as stack:
        ends = {split: _Ends(folder, split, totals[split], stack) for split in SPLITS}
        for number in range(len(shards)):
            arrays = read_sidecar(folder, number)
            pieces += arrays["piece_counts"]
            for split in SPLITS:
                ends[split].add(
                    arrays[f"{split}_lengths"], arrays[f"{split}_sentences"]
                )
    with replacing(folder / PIECE_COUNTS) as path, path.open("wb") as file:
        np.save(file, pieces)
    return totals


class _Ends:
    """One split's index files, written shard by shard."""

    def __init__(
        self, folder: Path, split: str, totals: dict[str, int], stack: ExitStack
    ) -> None:
        def opened(kind: str, dtype: str, length: int) -> IO[bytes]:
            path = stack.enter_context(replacing(index_file(folder, split, kind)))
            file = stack.enter_context(path.open("wb"))
            header = {"descr": dtype, "fortran_order": False, "shape": (length,)}
            np.lib.format.write_array_header_1_0(file, header)
            return file

        sentences, documents = totals["sentences"], totals["documents"]
        self._lengths = opened("sentence_lengths", "<u4", sentences)
        self._sentence_ends = opened("sentence_ends", "<i8", sentences + 1)
        self._offsets = opened("document_offsets", "<i8", documents + 1)
        self._tokens = self._sentences = 0
        for file in (self._sentence_ends, self._offsets):
            file.write(bytes(8))

    def add(self, lengths: np.ndarray, sentences: np.ndarray) -> None:
        """Appends a shard's sentence lengths and documents' sentence counts."""
        ends = self._tokens + np.cumsum(lengths, dtype="<i8")
        offsets = self._sentences + np.cumsum(sentences, dtype="<i8")
        self._lengths.write(lengths.astype("<u4").tobytes())
        self._sentence_ends.write(ends.tobytes())
        self._offsets.write(offsets.tobytes())
        self._tokens += int(lengths.sum(dtype=np.int64))
        self._sentences += int(sentences.sum(dtype=np.int64))
