"""What a model costs before it is built: parameters by part, FLOPs by formula."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from flax.traverse_util import flatten_dict

from albert_jax.config import AlbertConfig, DataConfig
from albert_jax.model.albert import abstract_params
from albert_jax.model.heads import AlbertForPreTraining

_HEADS = ("masked-LM head", "sentence-order head")


def parameter_shapes(config: AlbertConfig) -> dict[str, tuple[int, ...]]:
    """Path of every parameter of ``AlbertForPreTraining`` -> shape; allocates none."""
    leaves = flatten_dict(abstract_params(AlbertForPreTraining(config)), sep="/")
    return {path: leaf.shape for path, leaf in leaves.items()}


def parameter_table(config: AlbertConfig) -> dict[str, int]:
    """Parameters by part of the model, in the order of the forward pass.

    Attention and feed-forward count every set of weights once, however many layers use
    it. The masked-LM head is without the word embeddings that it is tied to.
    """
    parts = {
        "embeddings": "albert/embeddings/",
        "embedding projection": "albert/embedding_hidden_mapping_in/",
        "attention": "albert/encoder/attention_",
        "feed-forward": "albert/encoder/ffn_",
        "pooler": "albert/pooler/",
        "masked-LM head": "predictions/",
        "sentence-order head": "sop_classifier/",
    }
    shapes = parameter_shapes(config)
    return {
        part: sum(
            math.prod(shape)
            for path, shape in shapes.items()
            if path.startswith(prefix)
        )
        for part, prefix in parts.items()
    }


def without_heads(table: Mapping[str, int]) -> int:
    """Of a ``parameter_table``: ``AlbertModel``, what the paper's tables count."""
    return sum(table.values()) - sum(table[head] for head in _HEADS)


@dataclass(frozen=True)
class RowShape:
    """A row of a batch: tokens, positions to predict, pairs to judge."""

    length: int
    predictions: int
    pairs: int

    @classmethod
    def of(cls, data: DataConfig) -> "RowShape":
        """That of pretraining's rows."""
        return cls(data.sequence_length, data.predictions, data.pairs)


def forward_flops(config: AlbertConfig, row: RowShape) -> dict[str, int]:
    """Floating-point operations of one row's forward pass, by part.

    Matrix products only, a multiplication and an addition each; what is shared is
    computed as often as it is used. A row counts whole: its padding, and the attention
    between the pairs packed in it, which the mask throws away.
    """
    c, t = config, row.length
    blocks = c.num_hidden_layers * c.inner_group_num
    e, h, f, v = c.embedding_size, c.hidden_size, c.intermediate_size, c.vocab_size
    return {
        "embedding projection": 2 * t * e * h if c.has_projection else 0,
        "attention projections": blocks * 8 * t * h * h,
        "attention products": blocks * 4 * t * t * h,
        "feed-forward": blocks * 4 * t * h * f,
        "pooler and sentence order": row.pairs * (2 * h * h + 4 * h),
        "masked LM": row.predictions * (2 * h * e + 2 * e * v),
    }


def training_flops(config: AlbertConfig, row: RowShape) -> int:
    """FLOPs of one row in a training step: three times the forward pass, because the
    backward pass multiplies every gradient with both factors. What ``remat`` computes
    again is not counted."""
    return 3 * sum(forward_flops(config, row).values())
