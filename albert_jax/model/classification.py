"""Heads that sort things into classes: sequences, tokens, choices."""

import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Bool, Int, PyTree

from albert_jax.config import AlbertConfig
from albert_jax.model.albert import AlbertModel, Input, ModelOption


@struct.dataclass
class ClassifierOutput:
    """What the classifiers return; field names as in Hugging Face.

    logits: float32; [b, num_labels] of sequences, [b, c, num_labels] of packed rows,
      [b, t, num_labels] of tokens, [b, c] of choices.
    The rest is as in ``AlbertOutput``.
    """

    logits: PyTree
    hidden_states: PyTree = None
    attentions: PyTree = None
    probed: PyTree = None


def output_layer(features: int) -> nn.Dense:
    """The last layer of a classifier or span head, in float32.

    Sigma is 0.02 whatever the configuration says: the official fine-tuning code
    (``classifier_utils.py``, ``race_utils.py``, ``squad_utils.create_v1_model``) holds
    that number itself.
    """
    return nn.Dense(features, kernel_init=nn.initializers.truncated_normal(0.02))


class AlbertForSequenceClassification(nn.Module):
    """Pooled output, dropout, dense (official ``classifier_utils.create_model``).

    ``num_labels`` is 1 for regression (STS-B), with the raw score as its logit.
    """

    config: AlbertConfig
    num_labels: int
    classifier_dropout_prob: float = 0.1

    def setup(self) -> None:
        self.albert = AlbertModel(self.config)
        self.dropout = nn.Dropout(self.classifier_dropout_prob)
        self.classifier = output_layer(self.num_labels)

    def __call__(
        self,
        input_ids: Int[Input, "b t"],
        *inputs: Input,
        deterministic: bool = True,
        **options: ModelOption,
    ) -> ClassifierOutput:
        """Takes what ``AlbertModel`` takes."""
        output = self.albert(input_ids, *inputs, deterministic=deterministic, **options)
        pooled = self.dropout(output.pooler_output, deterministic=deterministic)
        logits = self.classifier(pooled.astype(jnp.float32))
        return ClassifierOutput(logits, **output.by_layer)


class AlbertForTokenClassification(nn.Module):
    """Every hidden state, dropout, dense; not in the official code, as Hugging Face."""

    config: AlbertConfig
    num_labels: int
    classifier_dropout_prob: float = 0.1

    def setup(self) -> None:
        self.albert = AlbertModel(self.config, add_pooling_layer=False)
        self.dropout = nn.Dropout(self.classifier_dropout_prob)
        self.classifier = output_layer(self.num_labels)

    def __call__(
        self,
        input_ids: Int[Input, "b t"],
        *inputs: Input,
        deterministic: bool = True,
        **options: ModelOption,
    ) -> ClassifierOutput:
        """Takes what ``AlbertModel`` takes."""
        output = self.albert(input_ids, *inputs, deterministic=deterministic, **options)
        hidden = self.dropout(output.last_hidden_state, deterministic=deterministic)
        logits = self.classifier(hidden.astype(jnp.float32))
        return ClassifierOutput(logits, **output.by_layer)


class AlbertForMultipleChoice(nn.Module):
    """One score for each choice: pooled output, dropout, dense to 1 (``race_utils``).

    Each choice is a row of its own, with the passage in it; a softmax over the scores
    chooses. Values by layer come with one row for each choice, [b * c, ...].
    """

    config: AlbertConfig
    classifier_dropout_prob: float = 0.1

    def setup(self) -> None:
        self.albert = AlbertModel(self.config)
        self.dropout = nn.Dropout(self.classifier_dropout_prob)
        self.classifier = output_layer(1)

    def __call__(
        self,
        input_ids: Int[Input, "*c t"],
        attention_mask: Bool[Input, "*c t"] | Int[Input, "*c t"] | None = None,
        token_type_ids: Int[Input, "*c t"] | None = None,
        position_ids: Int[Input, "*c t"] | None = None,
        *,
        deterministic: bool = True,
        **options: ModelOption,
    ) -> ClassifierOutput:
        """Takes [b, c, t] of what ``AlbertModel`` takes, which gives logits [b, c].

        The axes before the last may be any; rows are scored one by one.
        """
        inputs = (input_ids, attention_mask, token_type_ids, position_ids)
        rows = [x if x is None else x.reshape(-1, x.shape[-1]) for x in inputs]
        output = self.albert(*rows, deterministic=deterministic, **options)
        pooled = self.dropout(output.pooler_output, deterministic=deterministic)
        logits = self.classifier(pooled.astype(jnp.float32))
        return ClassifierOutput(logits.reshape(input_ids.shape[:-1]), **output.by_layer)
