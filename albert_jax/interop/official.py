"""The official TensorFlow variables and configuration as ours, and back; no files."""

import dataclasses
import re
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import PyTree

from albert_jax.config import AlbertConfig, UserError
from albert_jax.config.files import OFFICIAL_DEFAULTS
from albert_jax.interop.names import exported_groups
from albert_jax.interop.parameters import Report, collect, distribute, head_of

# What training leaves in a checkpoint beside the model (official ``optimization.py``,
# ``lamb_optimizer.py``, ``export_checkpoints.py``).
_TRAINING = re.compile(r"(^|/)global_step$|/(adam|lamb)_[mv]$")


def from_official(
    variables: Mapping[str, np.ndarray],
    config: AlbertConfig,
    head: str,
    *,
    num_labels: int | None = None,
    key: jax.Array | None = None,
    report: Report = warnings.warn,
) -> PyTree:
    """The parameters of a head of ours out of the official code's variables.

    Args:
      variables: name -> array; TF-Hub's prefix ``module/`` may stand before the names.
      config: of the model; ``AlbertConfig.from_json`` reads ``albert_config.json``.
      head: the class's name, ``"AlbertForPreTraining"``.
      num_labels, key: as for ``from_hugging_face``.
      report: told what was drawn, and which variables are the optimizer's or belong to
        other heads.

    Raises:
      UserError: as ``from_hugging_face``.
    """
    tensors = without_prefix(variables)
    training = sorted(name for name in tensors if _TRAINING.search(name))
    if training:
        report(f"{len(training)} variables of training, as {training[0]}: ignored")
    tensors = {name: tensors[name] for name in tensors.keys() - set(training)}
    return collect(
        tensors, config, head, "official", num_labels=num_labels, key=key, report=report
    )


def without_prefix(variables: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The variables under the names that they have outside of TF-Hub."""
    return {k.removeprefix("module/"): np.asarray(v) for k, v in variables.items()}


def to_official(params: PyTree, config: AlbertConfig) -> dict[str, np.ndarray]:
    """The variables that the official code restores; the head follows from them.

    Layers that share only a part, or nothing, are copied into groups of their own.

    Raises:
      UserError: the parameters are of no head, or of another configuration.
    """
    head = head_of(flatten_dict(params, sep="/"), config)
    return distribute(params, config, head, "official")


def official_config(config: AlbertConfig) -> dict[str, Any]:
    """What ``albert_config.json`` says of a model that ``to_official`` exported.

    Raises:
      UserError: the model computes what the official code cannot.
    """
    only = {
        "hidden_act": ("gelu", "relu", "tanh", "linear"),
        "layer_norm_eps": (1e-12,),
        "project_equal_sizes": (False,),
    }
    own = dataclasses.asdict(config)
    for name, allowed in only.items():
        if own[name] not in allowed:
            raise UserError(
                f"{name} is {own[name]!r}, but the official code can only do "
                f"{', '.join(map(repr, allowed))}"
            )
    return {name: own[name] for name in OFFICIAL_DEFAULTS} | {
        "vocab_size": config.vocab_size,
        "hidden_act": config.hidden_act,
        "num_hidden_groups": len(exported_groups(config)),
    }
