"""Fill-mask: what a pretrained model puts in the place of [MASK]."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Array, PyTree

from albert_jax.config import UserError
from albert_jax.data.shards import PreparedCorpus
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.model.heads import (
    AlbertForMaskedLM,
    AlbertForPreTraining,
    MaskedLMOutput,
)
from albert_jax.tasks.buckets import Batch, Buckets

MASK = "[MASK]"


@dataclass(frozen=True)
class Prediction:
    """A piece for one [MASK], and its probability."""

    piece: str
    probability: float


class FillMask:
    """Predicts masked pieces, in texts one by one or many at once.

    Only masked positions meet the vocabulary. What is compiled when, ``Buckets`` says.

    Raises:
      UserError: the model has no masked-LM head, or there is no tokenizer.
    """

    def __init__(
        self, model: nn.Module, variables: PyTree, tokenizer: Tokenizer | None
    ) -> None:
        if not isinstance(model, AlbertForPreTraining | AlbertForMaskedLM):
            raise UserError(
                f"{type(model).__name__} has no masked-LM head, so it fills no {MASK}"
            )
        if tokenizer is None:
            raise UserError(
                f"without a vocabulary there is nothing to fill {MASK} with"
            )
        self._tokenizer = tokenizer
        self._model = model
        self._variables = variables
        self._by_top: dict[int, Buckets] = {}

    def __call__(self, text: str, top: int = 5) -> list[list[Prediction]]:
        """The ``top`` predictions for every [MASK] in ``text``, left to right.

        Raises:
          UserError: no [MASK] in the text, or more tokens than the model's positions.
        """
        return self.predict([self.encode(text)], top)[0]

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

    def predict(
        self, rows: Sequence[np.ndarray], top: int = 5
    ) -> list[list[list[Prediction]]]:
        """As calling, for many rows of ids that hold [CLS], [MASK] and [SEP].

        Raises:
          UserError: a row has more tokens than the model's positions.
        """
        places = [np.flatnonzero(ids == self._tokenizer.mask_id) for ids in rows]
        inputs = [
            {"input_ids": ids, "masked_positions": masked}
            for ids, masked in zip(rows, places, strict=True)
        ]
        top = min(top, self._tokenizer.vocab_size)
        if top not in self._by_top:
            self._by_top[top] = self._buckets(top)
        answers = self._by_top[top](inputs)
        return [
            [
                [
                    Prediction(self._tokenizer.pieces[piece], probability)
                    for probability, piece in zip(*slot, strict=True)
                ]
                for slot in zip(
                    *(a[: len(masked)].tolist() for a in answer), strict=True
                )
            ]
            for masked, answer in zip(places, answers, strict=True)
        ]

    def _buckets(self, top: int) -> Buckets:
        def best(variables: PyTree, batch: Batch) -> list[Array]:
            output = self._model.apply(variables, **batch)
            alone = isinstance(output, MaskedLMOutput)
            logits = output.logits if alone else output.prediction_logits
            return jax.lax.top_k(jax.nn.softmax(logits), top)

        return Buckets(
            best,
            self._variables,
            longest=self._model.config.max_position_embeddings,
            pad_id=self._tokenizer.pad_id,
        )


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
