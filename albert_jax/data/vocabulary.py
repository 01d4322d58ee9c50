"""A vocabulary from a corpus: which documents it is trained on, and the training.

Imported by ``prepare`` only.
"""

import heapq
from collections.abc import Callable, Iterator
from pathlib import Path

from albert_jax.config import CorpusConfig, UserError
from albert_jax.data.corpus import content_hash, documents, is_heldout, sources
from albert_jax.data.sentences import split
from albert_jax.data.shards import replacing
from albert_jax.data.tokenizer import Tokenizer


def train_vocabulary(
    config: CorpusConfig,
    vocab_size: int,
    path: Path,
    read: Callable[[int], None] = lambda position: None,
) -> None:
    """Trains on ``sample`` and writes ``path``, whole or not at all; ``read`` hears
    how many bytes on disk have been read.

    Raises:
      UserError: the corpus cannot be read, or cannot fill the vocabulary.
    """
    texts = sample(config, read)
    sentences = (s for text in texts for s in split(text, config.language))
    with replacing(path) as temporary:
        Tokenizer.train(sentences, temporary, vocab_size)


def sample(
    config: CorpusConfig, read: Callable[[int], None] = lambda position: None
) -> Iterator[str]:
    """``vocabulary_megabytes`` of the training documents, spread evenly: those with
    the smallest content hashes, in corpus order. One pass; memory is the sample's."""
    budget = config.vocabulary_megabytes * 10**6
    chosen: list[tuple[int, int, bytes]] = []  # The largest hash on top.
    size = 0
    for index, document in enumerate(documents(config, sources(config))):
        read(document.position)
        data = document.text.encode()
        hash_ = content_hash(data)
        if is_heldout(hash_, config.heldout_fraction):
            continue
        if size > budget and hash_ > -chosen[0][0]:
            continue
        heapq.heappush(chosen, (-hash_, index, data))
        size += len(data)
        while size - len(chosen[0][2]) >= budget:
            size -= len(heapq.heappop(chosen)[2])
    if not chosen:
        named = ", ".join(config.sources)
        raise UserError(f"the corpus ({named}) holds no documents to train on")
    chosen.sort(key=lambda entry: entry[1])
    return (data.decode() for _, _, data in chosen)
