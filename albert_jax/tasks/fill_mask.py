"""Fill-mask: what a pretrained model puts in the place of [MASK]."""

from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import PyTree

from albert_jax.config import UserError
from albert_jax.data.shards import PreparedCorpus
from albert_jax.data.tokenizer import Tokenizer

MASK = "[MASK]"


@dataclass(frozen=True)
class Prediction:
    """A piece for one [MASK], and its probability."""

    piece: str
    probability: float


class FillMask:
    """Predicts masked pieces; compiled once for every power-of-two length."""

    def __init__(
        self, model: nn.Module, variables: PyTree, tokenizer: Tokenizer
    ) -> None:
        self._tokenizer = tokenizer
        self._longest = model.config.max_position_embeddings
        self._variables = variables
        self._apply = jax.jit(
            lambda variables, ids, mask: jax.nn.softmax(
                model.apply(variables, ids, mask).prediction_logits
            )
        )

    def __call__(self, text: str, top: int = 5) -> list[list[Prediction]]:
        """The ``top`` predictions for every [MASK] in ``text``, left to right.

        Raises:
          UserError: no [MASK] in the text, or more tokens than the model's positions.
        """
        return self.predict(self.encode(text), top)

    def encode(self, text: str) -> np.ndarray:
        """Ids of [CLS] text [SEP]; [MASK] in the text is the special piece."""
        if MASK not in text:
            raise UserError(f"{text!r} has no {MASK} to fill")
        ids = [self._tokenizer.cls_id]
        for i, part in enumerate(text.split(MASK)):
            pieces = self._tokenizer.encode(part)
            if i:
                ids.append(self._tokenizer.mask_id)
                # What follows the mask without a space continues the word.
                if part[:1].strip() and self._tokenizer.pieces[pieces[0]] == "▁":
                    pieces = pieces[1:]
            ids += pieces
        return np.array([*ids, self._tokenizer.sep_id], np.int32)

    def predict(self, ids: np.ndarray, top: int = 5) -> list[list[Prediction]]:
        """As calling, for ids that hold [CLS], [MASK] and [SEP]."""
        if len(ids) > self._longest:
            raise UserError(
                f"the text has {len(ids)} tokens, more than the model's "
                f"{self._longest} positions"
            )
        length = min(1 << (len(ids) - 1).bit_length(), self._longest)
        padded = np.full((1, length), self._tokenizer.pad_id, np.int32)
        padded[0, : len(ids)] = ids
        mask = jnp.arange(length)[None] < len(ids)
        probabilities = np.asarray(self._apply(self._variables, padded, mask)[0])
        return [
            [
                Prediction(self._tokenizer.pieces[i], float(probabilities[position, i]))
                for i in probabilities[position].argsort()[::-1][:top]
            ]
            for position in np.flatnonzero(ids == self._tokenizer.mask_id)
        ]


def masked_sentences(
    corpus: PreparedCorpus, tokenizer: Tokenizer, longest: int, seed: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Sentences with one whole word masked, in random order.

    Yields:
      ids of [CLS] sentence [SEP], at most ``longest``, and the pieces of the word.
    """
    rng = np.random.default_rng(seed)
    ends, offsets = corpus.sentence_ends, corpus.document_offsets
    for sentence in rng.permutation(len(ends) - 1):
        document = int(np.searchsorted(offsets, sentence, side="right")) - 1
        start, stop = ends[sentence : sentence + 2] - ends[offsets[document]]
        ids = corpus.tokens(document)[start:stop]
        if not 6 <= len(ids) <= longest - 2:
            continue
        bounds = np.append(np.flatnonzero(tokenizer.word_starts[ids]), len(ids))
        word = int(rng.integers(len(bounds) - 1))
        masked = slice(bounds[word], bounds[word + 1])
        truth = ids[masked].copy()
        if len(spell(tokenizer, truth)) > 2:  # Neither a letter nor punctuation.
            row = np.array([tokenizer.cls_id, *ids, tokenizer.sep_id], np.int32)
            row[1:-1][masked] = tokenizer.mask_id
            yield row, truth


def spell(tokenizer: Tokenizer, ids: np.ndarray) -> str:
    """The text of ids, [MASK] included."""
    pieces = (tokenizer.pieces[i].replace(MASK, f"▁{MASK}") for i in ids)
    return "".join(pieces).replace("▁", " ").strip()
