"""Every model of ours by the name of its class, and what it is made with."""

from dataclasses import fields
from typing import Any

from flax import linen as nn

from albert_jax.config import AlbertConfig, UserError, nearest
from albert_jax.model.albert import AlbertModel
from albert_jax.model.classification import (
    AlbertForMultipleChoice,
    AlbertForSequenceClassification,
    AlbertForTokenClassification,
)
from albert_jax.model.heads import AlbertForMaskedLM, AlbertForPreTraining
from albert_jax.model.question_answering import (
    AlbertForQuestionAnswering,
    AlbertForQuestionAnsweringWithBeam,
)

HEADS = {
    kind.__name__: kind
    for kind in (
        AlbertModel,
        AlbertForPreTraining,
        AlbertForMaskedLM,
        AlbertForSequenceClassification,
        AlbertForTokenClassification,
        AlbertForMultipleChoice,
        AlbertForQuestionAnswering,
        AlbertForQuestionAnsweringWithBeam,
    )
}
# What a head may be made with, beside its configuration.
_OPTIONS = ("num_labels", "classifier_dropout_prob")


def head_named(name: str) -> type[nn.Module]:
    """The class of that name.

    Raises:
      UserError: there is none.
    """
    if name not in HEADS:
        raise UserError(
            f"head is {name!r}, but it must be one of {', '.join(HEADS)}"
            + nearest(name, HEADS)
        )
    return HEADS[name]


def has_labels(name: str) -> bool:
    """Whether a head must be told how many labels there are."""
    return "num_labels" in _options(head_named(name))


def make_head(name: str, config: AlbertConfig, **options: Any) -> nn.Module:
    """The model of that name; ``options`` that it does not have are passed over."""
    kind = head_named(name)
    has = _options(kind)
    return kind(config, **{key: options[key] for key in options if key in has})


def options_of(model: nn.Module) -> dict[str, Any]:
    """What ``make_head`` made a model with, beside its configuration."""
    return {key: getattr(model, key) for key in _options(type(model))}


def _options(kind: type[nn.Module]) -> list[str]:
    has = {field.name for field in fields(kind)}
    return [key for key in _OPTIONS if key in has]
