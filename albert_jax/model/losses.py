"""Losses as (sum, weight), so that any split of a batch adds up."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from albert_jax.model.heads import AlbertForPreTrainingOutput
from albert_jax.model.question_answering import (
    BeamQuestionAnsweringOutput,
    QuestionAnsweringOutput,
)

# On devices, or fetched from them.
Scalar = Float[Array | np.ndarray, ""] | np.floating | float

# Name -> (sum over examples, what to divide it by). Adding two of these, sums and
# weights apart, gives those of the joined batch; means of means would not.
Sums = dict[str, tuple[Scalar, Scalar]]

# The part of a batch that the model sees; the rest are labels.
MODEL_INPUTS = (
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "position_ids",
    "segment_ids",
    "cls_positions",
    "masked_positions",
)


def classification(
    name: str,
    logits: Float[Array, "*b k"],
    labels: Int[Array, "*b"],
    weights: Float[Array, "*b"],
) -> Sums:
    """Cross-entropy in nats, and accuracy, of weighted examples.

    Right is a label whose logit no other reaches, so that a tie is wrong.
    """
    logits = logits.astype(jnp.float32)
    chosen = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    losses = jax.nn.logsumexp(logits, axis=-1) - chosen
    # Counting is a fused reduction; XLA's argmax on a CPU is not (4 % of a step).
    reaching = (logits >= chosen[..., None]).sum(axis=-1)
    correct = (reaching == 1).astype(jnp.float32)
    total = weights.sum()
    return {
        f"{name}_loss": ((losses * weights).sum(), total),
        f"{name}_accuracy": ((correct * weights).sum(), total),
    }


def regression(
    name: str,
    predictions: Float[Array, "*b"],
    labels: Float[Array, "*b"],
    weights: Float[Array, "*b"],
) -> Sums:
    """Squared error of weighted examples, on the raw score (STS-B: 0 to 5)."""
    losses = jnp.square(predictions.astype(jnp.float32) - labels)
    return {f"{name}_loss": ((losses * weights).sum(), weights.sum())}


def span_losses(
    output: QuestionAnsweringOutput | BeamQuestionAnsweringOutput,
    batch: Mapping[str, Array],
) -> Sums:
    """Start and end of an answer, a class for each token of the padded length.

    Reads ``start_positions`` and ``end_positions`` [b], 0 and 0 where there is no
    answer, and ``example_weights`` [b] (1 where left out).
    """
    start, end = batch["start_positions"], batch["end_positions"]
    weights = batch.get("example_weights", jnp.ones(start.shape))
    return classification("start", output.start_logits, start, weights) | (
        classification("end", output.end_logits, end, weights)
    )


def answerable_span_losses(
    output: BeamQuestionAnsweringOutput, batch: Mapping[str, Array]
) -> Sums:
    """``span_losses``, and whether there is an answer at all (SQuAD 2.0).

    Reads ``is_impossible`` [b] too: 1 where there is no answer. The span of such an
    example counts as well, as in the official code.
    """
    impossible = batch["is_impossible"].astype(jnp.int32)
    weights = batch.get("example_weights", jnp.ones(impossible.shape))
    # A sigmoid is a softmax against a logit of 0.
    logits = jnp.stack([jnp.zeros_like(output.cls_logits), output.cls_logits], axis=-1)
    return span_losses(output, batch) | (
        classification("answerability", logits, impossible, weights)
    )


def pretraining_losses(
    output: AlbertForPreTrainingOutput, batch: Mapping[str, Array]
) -> Sums:
    """Masked LM and sentence order: losses and accuracies of a batch.

    Reads ``masked_labels`` and ``masked_weights`` [b, p], ``sentence_order_label`` [b]
    or [b, c], and ``sentence_order_weights`` of the same shape (1 where left out).
    """
    order = batch["sentence_order_label"]
    order_weights = batch.get("sentence_order_weights", jnp.ones(order.shape))
    return classification(
        "masked_lm",
        output.prediction_logits,
        batch["masked_labels"],
        batch["masked_weights"],
    ) | classification("sentence_order", output.sop_logits, order, order_weights)


def pretraining_weights(batch: Mapping[str, Array]) -> dict[str, Scalar]:
    """What the two losses of ``objective`` are divided by: known before the forward
    pass, and for a batch of which only a part is at hand."""
    order = batch["sentence_order_label"]
    order_weights = batch.get("sentence_order_weights", jnp.ones(order.shape))
    return {
        "masked_lm_loss": batch["masked_weights"].sum(),
        "sentence_order_loss": order_weights.sum(),
    }


def named(values: Mapping[str, Any], objective: str) -> dict[str, Any]:
    """Metrics under the name of what their rows ask: one head and one loss serve
    sentence order and next sentence."""
    name = "next_sentence" if objective == "next_sentence" else "sentence_order"
    return {key.replace("sentence_order", name): values[key] for key in values}


def mean(pair: tuple[Scalar, Scalar]) -> Float[Array, ""]:
    """Sum over weight; 0 where nothing has weight."""
    total, weight = pair
    return jnp.where(weight > 0, total / jnp.maximum(weight, 1e-9), 0.0)


def objective(sums: Sums) -> Float[Array, ""]:
    """What pretraining minimises: masked LM + sentence order, equally weighted."""
    return mean(sums["masked_lm_loss"]) + mean(sums["sentence_order_loss"])


def span_objective(sums: Sums) -> Float[Array, ""]:
    """What question answering minimises: the mean of start and end (``squad_utils``).

    With answerability (SQuAD 2.0), half of that is added.
    """
    loss = 0.5 * (mean(sums["start_loss"]) + mean(sums["end_loss"]))
    if "answerability_loss" in sums:
        loss += 0.5 * mean(sums["answerability_loss"])
    return loss
