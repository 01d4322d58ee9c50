"""What can be set: the model and the experiments, as frozen values.

Every hyper-parameter is declared here once, with its unit, and checked when the value
is made; ``dataclasses.replace`` is the whole override language.
"""

from albert_jax.config.checks import UserError, nearest
from albert_jax.config.model import AlbertConfig
from albert_jax.config.pretraining import (
    CheckpointConfig,
    CorpusConfig,
    DataConfig,
    EvaluationConfig,
    MeshConfig,
    OptimizerConfig,
    PretrainingExperiment,
)

__all__ = [
    "AlbertConfig",
    "CheckpointConfig",
    "CorpusConfig",
    "DataConfig",
    "EvaluationConfig",
    "MeshConfig",
    "OptimizerConfig",
    "PretrainingExperiment",
    "UserError",
    "nearest",
]
