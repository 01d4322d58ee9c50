"""The pretraining losses, as (sum, weight) so that any split of a batch adds up."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from albert_jax.model.heads import AlbertForPreTrainingOutput

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


def mean(pair: tuple[Scalar, Scalar]) -> Float[Array, ""]:
    """Sum over weight; 0 where nothing has weight."""
    total, weight = pair
    return jnp.where(weight > 0, total / jnp.maximum(weight, 1e-9), 0.0)


def objective(sums: Sums) -> Float[Array, ""]:
    """What pretraining minimises: masked LM + sentence order, equally weighted."""
    return mean(sums["masked_lm_loss"]) + mean(sums["sentence_order_loss"])
