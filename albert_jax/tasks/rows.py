"""A row: what the model takes for one example, or for a part of it, unpadded."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int

from albert_jax.config import UserError
from albert_jax.data.tokenizer import Tokenizer


@dataclass(frozen=True)
class Row:
    """What the model takes for one example, or for a part or a choice of it."""

    example: int
    """Number of the example."""
    inputs: dict[str, Int[np.ndarray, " t"]]
    """``input_ids``, ``token_type_ids``; for the head of SQuAD 2.0 ``answer_mask`` too,
    1 where an answer may start or end: its ``p_mask`` is what is not."""
    targets: dict[str, Any] = field(default_factory=dict)
    """What the loss takes; nothing where the example has no label. ``labels``: the
    class (int), the number (float), each piece's class [t] with ``label_weights`` [t],
    or the example's right choice (int). For spans ``start_positions``,
    ``end_positions``, and for SQuAD 2.0 ``is_impossible``."""


def row_inputs(
    tokenizer: Tokenizer, first: np.ndarray, second: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """``[CLS] first [SEP]``, or ``[CLS] first [SEP] second [SEP]``, and its types."""
    parts = [[tokenizer.cls_id], first, [tokenizer.sep_id]]
    if second is not None:
        parts += [second, [tokenizer.sep_id]]
    ids = np.concatenate(parts, dtype=np.int32)
    return {
        "input_ids": ids,
        "token_type_ids": (np.arange(len(ids)) > len(first) + 1).astype(np.int32),
    }


def refuse_too_long(rows: Sequence[Row], positions: int) -> None:
    """Raises UserError if a row has more pieces than the model has positions."""
    most = max((len(row.inputs["input_ids"]) for row in rows), default=0)
    if most > positions:
        raise UserError(
            f"a row has {most} pieces, but the model has {positions} positions; set "
            f"max_length to {positions} or less"
        )
