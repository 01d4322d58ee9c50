"""Hugging Face's tensors and configuration as ours, and back; no files here."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import PyTree

from albert_jax.config import AlbertConfig, UserError
from albert_jax.config.files import OFFICIAL_DEFAULTS, OWN, OWN_FIELDS, TO_HUGGING_FACE
from albert_jax.interop.names import PROJECTION, exported_groups, leaves
from albert_jax.interop.parameters import Report, collect, distribute, head_of
from albert_jax.model.table import head_named

# A buffer of 0, 1, 2, ... that old state dicts hold; it is no parameter.
_POSITION_IDS = "albert.embeddings.position_ids"


def from_hugging_face(
    state_dict: Mapping[str, np.ndarray],
    config: AlbertConfig,
    head: str,
    *,
    num_labels: int | None = None,
    key: jax.Array | None = None,
    report: Report = warnings.warn,
) -> PyTree:
    """The parameters of a head of ours, float32, out of Hugging Face's tensors.

    Args:
      state_dict: name -> array, of this head or of any other.
      config: of the model; ``AlbertConfig.from_json`` reads theirs.
      head: the class's name, ``"AlbertForMaskedLM"``.
      num_labels: as many as the tensors have, unless there is no classifier.
      key: draws what the head has and the tensors, as a whole, have not, the classifier
        of a pretrained model for example; without, that is an error.
      report: told what was drawn, which tensors belong to other heads, and which were
        of another type.

    Raises:
      UserError: a tensor is missing, has no place, has the wrong shape, or differs from
        one that it should be a copy of.
    """
    tensors = with_prefix(state_dict)
    if tensors.pop(_POSITION_IDS, None) is not None:
        report(f"{_POSITION_IDS} is no parameter: ignored")
    if head == "AlbertModel":
        tensors = {k.removeprefix("albert."): v for k, v in tensors.items()}
    if not config.has_projection:
        tensors = _without_identity(tensors, config, head)
    return collect(
        tensors,
        config,
        head,
        "hugging_face",
        num_labels=num_labels,
        key=key,
        report=report,
    )


def with_prefix(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors, the encoder's named ``albert.*`` even where it stands alone."""
    encoder = ("embeddings.", "encoder.", "pooler.")
    return {
        f"albert.{name}" if name.startswith(encoder) else name: np.asarray(value)
        for name, value in state_dict.items()
    }


def to_hugging_face(
    params: PyTree, config: AlbertConfig, *, tied: bool = True
) -> dict[str, np.ndarray]:
    """The state dict that ``transformers`` loads.

    The head follows from the parameters. Layers that share only a part, or nothing, are
    copied into groups of their own; where E = H and nothing projects, the projection
    that Hugging Face has anyway is the identity. ``hugging_face_config`` goes with it.

    Args:
      tied: whether to have tied tensors under both of their names, as a state dict in
        memory; a file holds them once.

    Raises:
      UserError: the parameters are of no head that Hugging Face has, or of another
        configuration.
    """
    head = head_of(flatten_dict(params, sep="/"), config)
    exported = distribute(params, config, head, "hugging_face")
    if tied:
        for leaf in leaves(config, head, "hugging_face").values():
            exported |= dict.fromkeys(leaf.tied, exported[leaf.names[0]])
    return exported if config.has_projection else exported | _identity(config, head)


def hugging_face_config(
    config: AlbertConfig,
    head: str,
    labels: Sequence[str] = (),
    classifier_dropout_prob: float | None = None,
) -> dict[str, Any]:
    """What ``config.json`` says of a model that ``to_hugging_face`` exported.

    ``albert_jax`` in it keeps what the export unrolls, so that we read back the model
    that was written; others pass it over.

    Args:
      config: of the model.
      head: the class's name.
      labels: of a classifier, in the order of its outputs.
      classifier_dropout_prob: of a head that has it.
    """
    own = dataclasses.asdict(config)
    written = {name: own[name] for name in OFFICIAL_DEFAULTS} | {
        "architectures": [head_named(head).__name__],
        "model_type": "albert",
        "vocab_size": config.vocab_size,
        "num_hidden_groups": len(exported_groups(config)),
        "hidden_act": TO_HUGGING_FACE[config.hidden_act],
        "layer_norm_eps": config.layer_norm_eps,
        OWN: {name: own[name] for name in OWN_FIELDS},
    }
    if classifier_dropout_prob is not None:
        written["classifier_dropout_prob"] = classifier_dropout_prob
    if labels:
        written["id2label"] = dict(enumerate(labels))
        written["label2id"] = {name: i for i, name in enumerate(labels)}
    return written


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
