"""Vectors of sentences: what a pooler makes of them, and the mean of their pieces."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, PyTree

from albert_jax.config import UserError
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.model.albert import AlbertModel
from albert_jax.tasks.buckets import Batch, Buckets
from albert_jax.tasks.rows import row_inputs


@dataclass(frozen=True)
class Embedded:
    """Vectors of texts, in their order."""

    mean: Float[np.ndarray, "n h"]
    """The mean of the last hidden states of all pieces, [CLS] and [SEP] among them."""
    pooled: Float[np.ndarray, "n h"] | None
    """The pooler's output; none where the model has no pooler."""


class Embedder:
    """Embeds texts with the encoder of any model; its head, if it has one, is idle.

    What is compiled when, ``Buckets`` says.

    Raises:
      UserError: there is no tokenizer.
    """

    def __init__(
        self, model: nn.Module, variables: PyTree, tokenizer: Tokenizer | None
    ) -> None:
        if tokenizer is None:
            raise UserError("without a vocabulary there is no reading of texts")
        self._tokenizer = tokenizer
        self._longest = model.config.max_position_embeddings
        params = variables["params"]
        params = params.get("albert", params)
        encoder = AlbertModel(model.config, add_pooling_layer="pooler" in params)

        def vectors(params: PyTree, batch: Batch) -> dict[str, Array | None]:
            output = encoder.apply({"params": params}, **batch)
            weights = batch["attention_mask"][..., None]
            hidden = output.last_hidden_state.astype(jnp.float32)
            total = jnp.sum(hidden * weights, axis=1)
            return {"mean": total / weights.sum(axis=1), "pooled": output.pooler_output}

        self._vectors = Buckets(
            vectors, params, longest=self._longest, pad_id=tokenizer.pad_id
        )

    def __call__(
        self, texts: Sequence[str], report: Callable[[str], None] = warnings.warn
    ) -> Embedded:
        """The vectors of texts; those longer than the model's positions are cut there.

        Args:
          report: told how many were cut.
        """
        room = self._longest - 2
        pieces = self._tokenizer.encode_batch(list(texts))
        if cut := sum(len(ids) > room for ids in pieces):
            report(f"{cut} texts are longer than {room} pieces and were cut there")
        found = self._vectors([row_inputs(self._tokenizer, p[:room]) for p in pieces])
        parts = {name: [one[name] for one in found] for name in ("mean", "pooled")}
        has_pooler = bool(found) and found[0]["pooled"] is not None
        return Embedded(
            np.stack(parts["mean"]), np.stack(parts["pooled"]) if has_pooler else None
        )
