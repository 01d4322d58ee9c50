"""Heads that find an answer in a text: a span, or a span and whether there is one."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, Int, PyTree

from albert_jax.config import AlbertConfig
from albert_jax.model.albert import AlbertModel, Input, ModelOption
from albert_jax.model.classification import output_layer
from albert_jax.model.layers import initializer

# What the official code puts in place of logits where no answer may start or end.
NO_ANSWER = -1e30


@struct.dataclass
class QuestionAnsweringOutput:
    """What ``AlbertForQuestionAnswering`` returns; field names as in Hugging Face.

    start_logits, end_logits: [b, t] float32.
    The rest is as in ``AlbertOutput``.
    """

    start_logits: PyTree
    end_logits: PyTree
    hidden_states: PyTree = None
    attentions: PyTree = None
    probed: PyTree = None


@struct.dataclass
class BeamQuestionAnsweringOutput:
    """What ``AlbertForQuestionAnsweringWithBeam`` returns; names as of XLNet's head.

    With k = ``start_n_top`` and m = ``end_n_top``, but at most the length; all float32:
      start_logits: [b, t], -1e30 where ``p_mask`` is set.
      cls_logits: [b]; above 0: more likely than not, there is no answer.
      end_logits: [b, t], given the gold start; None without ``start_positions``.
    And without ``start_positions``, else None:
      start_top_log_probs, start_top_index: [b, k], the likeliest first.
      end_top_log_probs, end_top_index: [b, k * m]; entry i * m + j is the j-th end
        given the i-th start (official order; Hugging Face's XLNet has j * k + i).
    The rest is as in ``AlbertOutput``.
    """

    start_logits: PyTree
    cls_logits: PyTree
    end_logits: PyTree = None
    start_top_log_probs: PyTree = None
    start_top_index: PyTree = None
    end_top_log_probs: PyTree = None
    end_top_index: PyTree = None
    hidden_states: PyTree = None
    attentions: PyTree = None
    probed: PyTree = None


class AlbertForQuestionAnswering(nn.Module):
    """A start and an end logit for every token (``squad_utils.create_v1_model``).

    Neither question nor padding is masked, and there is no dropout, as in the official
    code.
    """

    config: AlbertConfig

    def setup(self) -> None:
        self.albert = AlbertModel(self.config, add_pooling_layer=False)
        self.qa_outputs = output_layer(2)

    def __call__(
        self,
        input_ids: Int[Input, "b t"],
        *inputs: Input,
        **options: ModelOption,
    ) -> QuestionAnsweringOutput:
        """Takes what ``AlbertModel`` takes."""
        output = self.albert(input_ids, *inputs, **options)
        logits = self.qa_outputs(output.last_hidden_state.astype(jnp.float32))
        return QuestionAnsweringOutput(
            logits[..., 0], logits[..., 1], **output.by_layer
        )


class StartLogits(nn.Module):
    """One dense layer to 1."""

    config: AlbertConfig

    @nn.compact
    def __call__(self, hidden: Float[Array, "b t h"]) -> Float[Array, "b t"]:
        kernel = initializer(self.config)
        return nn.Dense(1, kernel_init=kernel, name="dense")(hidden)[..., 0]


class EndLogits(nn.Module):
    """[token, start token] -> dense to H, tanh, LayerNorm, dense to 1."""

    config: AlbertConfig

    @nn.compact
    def __call__(
        self, hidden: Float[Array, "b t h"], starts: Float[Array, "b k h"]
    ) -> Float[Array, "b k t"]:
        c, kernel = self.config, initializer(self.config)
        shape = (*starts.shape[:2], *hidden.shape[1:])
        tokens = jnp.broadcast_to(hidden[:, None], shape)
        starts = jnp.broadcast_to(starts[:, :, None], shape)
        pairs = jnp.concatenate([tokens, starts], axis=-1)
        wide = nn.Dense(c.hidden_size, kernel_init=kernel, name="dense_0")(pairs)
        norm = nn.LayerNorm(c.layer_norm_eps, use_fast_variance=False, name="LayerNorm")
        wide = norm(jnp.tanh(wide))
        return nn.Dense(1, kernel_init=kernel, name="dense_1")(wide)[..., 0]


class AnswerClass(nn.Module):
    """[expected start, first token] -> dense to H, tanh, dropout, dense (no bias)."""

    config: AlbertConfig
    dropout_prob: float

    @nn.compact
    def __call__(
        self,
        hidden: Float[Array, "b t h"],
        start_logits: Float[Array, "b t"],
        deterministic: bool,
    ) -> Float[Array, "b"]:
        kernel = initializer(self.config)
        expected = jnp.einsum("bt,bth->bh", jax.nn.softmax(start_logits), hidden)
        both = jnp.concatenate([expected, hidden[:, 0]], axis=-1)
        width = self.config.hidden_size
        wide = jnp.tanh(nn.Dense(width, kernel_init=kernel, name="dense_0")(both))
        wide = nn.Dropout(self.dropout_prob)(wide, deterministic=deterministic)
        last = nn.Dense(1, use_bias=False, kernel_init=kernel, name="dense_1")
        return last(wide)[..., 0]


class AlbertForQuestionAnsweringWithBeam(nn.Module):
    """Start, end given the start, and answerability, for SQuAD 2.0.

    XLNet's head, as in the official ``squad_utils.create_v2_model``. In training the
    end is conditioned on the gold start, at inference on each of the likeliest starts.
    """

    config: AlbertConfig
    start_n_top: int = 5
    end_n_top: int = 5
    classifier_dropout_prob: float = 0.1

    def setup(self) -> None:
        self.albert = AlbertModel(self.config, add_pooling_layer=False)
        self.start_logits = StartLogits(self.config)
        self.end_logits = EndLogits(self.config)
        self.answer_class = AnswerClass(self.config, self.classifier_dropout_prob)

    def __call__(
        self,
        input_ids: Int[Input, "b t"],
        *inputs: Input,
        start_positions: Int[Input, "b"] | None = None,
        p_mask: Bool[Input, "b t"] | Int[Input, "b t"] | None = None,
        deterministic: bool = True,
        **options: ModelOption,
    ) -> BeamQuestionAnsweringOutput:
        """Takes what ``AlbertModel`` takes, the gold start, and where no answer is.

        Args:
          input_ids: pieces.
          *inputs: as of ``AlbertModel``.
          start_positions: the gold start, for training; without it, the beams.
          p_mask: true where no answer may start or end: question, [SEP], padding. The
            official features leave [CLS] free, since it stands for "no answer".
          deterministic: no dropout.
          **options: as of ``AlbertModel``.
        """
        output = self.albert(input_ids, *inputs, deterministic=deterministic, **options)
        hidden = output.last_hidden_state.astype(jnp.float32)
        if p_mask is None:
            p_mask = jnp.zeros(input_ids.shape)
        forbidden = jnp.asarray(p_mask, bool)
        start_logits = jnp.where(forbidden, NO_ANSWER, self.start_logits(hidden))
        cls_logits = self.answer_class(hidden, start_logits, deterministic)
        if start_positions is not None:
            ends = self._ends(hidden, start_positions[:, None], forbidden)
            spans = {"end_logits": ends[:, 0]}
        else:
            spans = self._beams(hidden, start_logits, forbidden)
        return BeamQuestionAnsweringOutput(
            start_logits, cls_logits, **spans, **output.by_layer
        )

    def _ends(
        self,
        hidden: Float[Array, "b t h"],
        starts: Int[Input, "b k"],
        forbidden: Bool[Array, "b t"],
    ) -> Float[Array, "b k t"]:
        states = jnp.take_along_axis(hidden, starts[..., None], axis=1)
        logits = self.end_logits(hidden, states)
        return jnp.where(forbidden[:, None], NO_ANSWER, logits)

    def _beams(
        self,
        hidden: Float[Array, "b t h"],
        start_logits: Float[Array, "b t"],
        forbidden: Bool[Array, "b t"],
    ) -> dict[str, Array]:
        rows, length = start_logits.shape
        starts, ends = min(self.start_n_top, length), min(self.end_n_top, length)
        start_probs, start_index = jax.lax.top_k(
            jax.nn.log_softmax(start_logits), starts
        )
        end_logits = self._ends(hidden, start_index, forbidden)
        end_probs, end_index = jax.lax.top_k(jax.nn.log_softmax(end_logits), ends)
        return {
            "start_top_log_probs": start_probs,
            "start_top_index": start_index,
            "end_top_log_probs": end_probs.reshape(rows, -1),
            "end_top_index": end_index.reshape(rows, -1),
        }
