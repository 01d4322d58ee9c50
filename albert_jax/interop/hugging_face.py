"""Hugging Face's tensors and configuration as ours, and back; no files here."""

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import PyTree

from albert_jax.config import AlbertConfig, UserError
from albert_jax.config.files import OFFICIAL_DEFAULTS, TO_HUGGING_FACE
from albert_jax.interop.names import PROJECTION, exported_groups, head_named, leaves
from albert_jax.interop.parameters import collect, head_of, parameter_shapes

# A buffer of 0, 1, 2, ... that old state dicts hold; it is no parameter.
_POSITION_IDS = ("albert.embeddings.position_ids", "embeddings.position_ids")


def from_hugging_face(
    state_dict: Mapping[str, np.ndarray],
    config: AlbertConfig,
    head: str,
    *,
    report: Callable[[str], None] = warnings.warn,
) -> PyTree:
    """The parameters of a head of ours, float32, out of Hugging Face's tensors.

    Args:
      state_dict: name -> array, of the head itself or, for ``AlbertModel``, of any.
      config: of the model; ``AlbertConfig.from_json`` reads theirs.
      head: the class's name, ``"AlbertForMaskedLM"``.
      report: told which tensors belong to other heads, or were of another type.

    Raises:
      UserError: a tensor is missing, has no place, has the wrong shape, or differs from
        one that it should be a copy of.
    """
    tensors = {name: np.asarray(value) for name, value in state_dict.items()}
    for name in _POSITION_IDS:
        if tensors.pop(name, None) is not None:
            report(f"{name} is no parameter: ignored")
    if head == "AlbertModel":
        tensors = {k.removeprefix("albert."): v for k, v in tensors.items()}
    if not config.has_projection:
        tensors = _without_identity(tensors, config, head)
    labels = len(tensors.get("classifier.bias", [0]))
    return collect(tensors, config, head, "hugging_face", labels, report)


def to_hugging_face(params: PyTree, config: AlbertConfig) -> dict[str, np.ndarray]:
    """The state dict that ``transformers`` loads, tied tensors included.

    The head follows from the parameters. Layers that share only a part, or nothing, are
    copied into groups of their own; where E = H and nothing projects, the projection
    that Hugging Face has anyway is the identity. ``hugging_face_config`` goes with it.

    Raises:
      UserError: the parameters are of no head that Hugging Face has, or of another
        configuration.
    """
    flat = {k: np.asarray(v) for k, v in flatten_dict(params, sep="/").items()}
    head = head_of(flat, config)
    names = leaves(config, head, "hugging_face")
    shapes = parameter_shapes(config, head, len(flat.get("classifier/bias", [0])))
    exported = {}
    for path, leaf in names.items():
        value = flat[path]
        if value.shape != shapes[path]:
            raise UserError(
                f"{path} has shape {list(value.shape)}, but in {head} of this "
                f"configuration it has {list(shapes[path])}"
            )
        value = np.ascontiguousarray(value.T if leaf.transposed else value)
        exported |= dict.fromkeys(leaf.names + leaf.tied, value)
    return exported if config.has_projection else exported | _identity(config, head)


def hugging_face_config(config: AlbertConfig, head: str) -> dict[str, Any]:
    """What ``config.json`` says of a model that ``to_hugging_face`` exported."""
    own = dataclasses.asdict(config)
    return {name: own[name] for name in OFFICIAL_DEFAULTS} | {
        "architectures": [head_named(head).kind.__name__],
        "model_type": "albert",
        "vocab_size": config.vocab_size,
        "num_hidden_groups": len(exported_groups(config)),
        "hidden_act": TO_HUGGING_FACE[config.hidden_act],
        "layer_norm_eps": config.layer_norm_eps,
    }


def _identity(config: AlbertConfig, head: str) -> dict[str, np.ndarray]:
    """The projection that Hugging Face has even where E = H, made to do nothing."""
    (row,) = PROJECTION
    module = row.hugging_face
    if head == "AlbertModel":
        module = module.removeprefix("albert.")
    size = config.hidden_size
    return {
        f"{module}.weight": np.eye(size, dtype=np.float32),
        f"{module}.bias": np.zeros(size, np.float32),
    }


def _without_identity(
    tensors: Mapping[str, np.ndarray], config: AlbertConfig, head: str
) -> dict[str, np.ndarray]:
    """Drops a projection that does nothing; one that does something is refused."""
    identity = _identity(config, head)
    for name in identity.keys() & tensors.keys():
        if not np.array_equal(tensors[name], identity[name]):
            raise UserError(
                f"tensor {name} projects, but this configuration has no projection "
                "where E = H: set project_equal_sizes to true"
            )
    return {name: value for name, value in tensors.items() if name not in identity}
