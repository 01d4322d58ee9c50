"""What an arm costs: parameters as the paper counts them, FLOPs and tokens a step."""

from functools import cache

from albert_jax.config import AlbertConfig, PretrainingExperiment
from albert_jax.model.costs import (
    RowShape,
    parameter_table,
    training_flops,
    without_heads,
)


def encoder_parameters(config: AlbertConfig) -> int:
    """Of ``AlbertModel``: embeddings, encoder and pooler, without heads. It is what the
    paper's tables count."""
    return without_heads(_parts(config))


def all_parameters(config: AlbertConfig) -> int:
    """Of ``AlbertForPreTraining``: with both heads, as it is trained."""
    return sum(_parts(config).values())


@cache  # Counting takes a second for a model of twelve unshared layers.
def _parts(config: AlbertConfig) -> dict[str, int]:
    return parameter_table(config)


def step_flops(experiment: PretrainingExperiment) -> int:
    """Of a training step of one seed by formula: matrix products, three times the
    forward pass."""
    data = experiment.data
    return data.batch_size * training_flops(experiment.model, RowShape.of(data))


def step_tokens(experiment: PretrainingExperiment) -> int:
    """Of a training step: positions of its rows, padding included."""
    return experiment.data.batch_size * experiment.data.sequence_length
