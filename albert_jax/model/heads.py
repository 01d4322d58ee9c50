"""Heads of the pretraining objectives: masked LM, sentence order (section 3.1)."""

import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float, Int, PyTree

from albert_jax.config import AlbertConfig
from albert_jax.model.albert import AlbertModel, Input, ModelOption
from albert_jax.model.layers import ACTIVATIONS, Dense, LayerNorm, affine, initializer


@struct.dataclass
class AlbertForPreTrainingOutput:
    """What ``AlbertForPreTraining`` returns; field names as in Hugging Face.

    prediction_logits: [b, p, v] float32; p is the number of masked positions if they
      were given, else the length.
    sop_logits: [b, 2] float32, or [b, c, 2] for packed rows.
    The rest is as in ``AlbertOutput``.
    """

    prediction_logits: PyTree
    sop_logits: PyTree
    hidden_states: PyTree = None
    attentions: PyTree = None
    probed: PyTree = None


@struct.dataclass
class MaskedLMOutput:
    """What ``AlbertForMaskedLM`` returns; field names as in Hugging Face.

    logits: [b, p, v] float32; p is the number of masked positions if they were given,
      else the length.
    The rest is as in ``AlbertOutput``.
    """

    logits: PyTree
    hidden_states: PyTree = None
    attentions: PyTree = None
    probed: PyTree = None


def gather(
    hidden: Float[Array, "b t h"], positions: Int[Input, "b p"] | None
) -> Float[Array, "b p h"]:
    """The hidden states at ``positions``; all of them where none are given."""
    if positions is None:
        return hidden
    return jnp.take_along_axis(hidden, positions[..., None], axis=1)


class MaskedLMHead(nn.Module):
    """Dense to E, activation, LayerNorm, product with the word embeddings, bias."""

    config: AlbertConfig

    @nn.compact
    def __call__(
        self, hidden: Float[Array, "b p h"], word_embeddings: Float[Array, "v e"]
    ) -> Float[Array, "b p v"]:
        c = self.config
        hidden = ACTIVATIONS[c.hidden_act](
            Dense(c, c.embedding_size, name="dense")(hidden)
        )
        hidden = LayerNorm(c, name="LayerNorm")(hidden)
        bias = self.param("bias", nn.initializers.zeros, (c.vocab_size,))
        return affine(hidden, word_embeddings.astype(hidden.dtype).T, bias)


class AlbertForPreTraining(nn.Module):
    """The encoder with both pretraining heads (official ``run_pretraining.py``)."""

    config: AlbertConfig

    def setup(self) -> None:
        self.albert = AlbertModel(self.config)
        self.predictions = MaskedLMHead(self.config)
        # Two classes: 0 for segments in their natural order, 1 for swapped ones.
        self.sop_classifier = nn.Dense(2, kernel_init=initializer(self.config))

    def __call__(
        self,
        input_ids: Int[Input, "b t"],
        *inputs: Input,
        masked_positions: Int[Input, "b p"] | None = None,
        **options: ModelOption,
    ) -> AlbertForPreTrainingOutput:
        """Takes what ``AlbertModel`` takes, and where to predict.

        With ``masked_positions`` hidden states are gathered before the product with
        the vocabulary; without, every position is predicted.
        """
        output = self.albert(input_ids, *inputs, **options)
        hidden = gather(output.last_hidden_state, masked_positions)
        table = self.albert.embeddings.word_embeddings.embedding
        return AlbertForPreTrainingOutput(
            prediction_logits=self.predictions(hidden, table),
            sop_logits=self.sop_classifier(output.pooler_output.astype(jnp.float32)),
            **output.by_layer,
        )


class AlbertForMaskedLM(nn.Module):
    """The encoder, without pooler, and the masked-LM head alone."""

    config: AlbertConfig

    def setup(self) -> None:
        self.albert = AlbertModel(self.config, add_pooling_layer=False)
        self.predictions = MaskedLMHead(self.config)

    def __call__(
        self,
        input_ids: Int[Input, "b t"],
        *inputs: Input,
        masked_positions: Int[Input, "b p"] | None = None,
        **options: ModelOption,
    ) -> MaskedLMOutput:
        """Takes what ``AlbertForPreTraining`` takes."""
        output = self.albert(input_ids, *inputs, **options)
        hidden = gather(output.last_hidden_state, masked_positions)
        table = self.albert.embeddings.word_embeddings.embedding
        return MaskedLMOutput(self.predictions(hidden, table), **output.by_layer)
