"""The official TensorFlow variables as our parameters; no files here."""

import re
import warnings
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import PyTree

from albert_jax.config import AlbertConfig
from albert_jax.interop.parameters import collect

# What training leaves in a checkpoint beside the model (official ``optimization.py``,
# ``lamb_optimizer.py``, ``export_checkpoints.py``).
_TRAINING = re.compile(r"(^|/)global_step$|/(adam|lamb)_[mv]$")


def from_official(
    variables: Mapping[str, np.ndarray],
    config: AlbertConfig,
    head: str,
    *,
    report: Callable[[str], None] = warnings.warn,
) -> PyTree:
    """The parameters of a head of ours out of the official code's variables.

    Args:
      variables: name -> array; TF-Hub's prefix ``module/`` may stand before the names.
      config: of the model; ``AlbertConfig.from_json`` reads ``albert_config.json``.
      head: the class's name, ``"AlbertForPreTraining"``.
      report: told which variables are the optimizer's, or belong to other heads.

    Raises:
      UserError: as ``from_hugging_face``.
    """
    tensors = {k.removeprefix("module/"): np.asarray(v) for k, v in variables.items()}
    training = sorted(name for name in tensors if _TRAINING.search(name))
    if training:
        report(f"{len(training)} variables of training, as {training[0]}: ignored")
    tensors = {name: tensors[name] for name in tensors.keys() - set(training)}
    labels = len(tensors.get("output_bias", [0]))
    return collect(tensors, config, head, "official", labels, report)
