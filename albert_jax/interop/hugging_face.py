"""Hugging Face's tensors and configuration as ours, and ours as theirs; no files here.

Nothing is loaded in part: every parameter is found, every tensor has a place, and what
a head has no place for is said.
"""

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree

from albert_jax.config import AlbertConfig, UserError, nearest
from albert_jax.config.files import OFFICIAL_DEFAULTS, TO_HUGGING_FACE
from albert_jax.interop.names import (
    HEADS,
    PROJECTION,
    Leaf,
    exported_groups,
    head_named,
    leaves,
    names_of_heads,
)
from albert_jax.model.albert import init_params

# A buffer of 0, 1, 2, ... that old state dicts hold; it is no parameter.
_POSITION_IDS = "embeddings.position_ids"


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
    wanted = leaves(config, head, "hugging_face")
    tensors = {name: np.asarray(value) for name, value in state_dict.items()}
    if head == "AlbertModel":
        tensors = {k.removeprefix("albert."): v for k, v in tensors.items()}
    labels = len(tensors.get("classifier.bias", [0]))
    shapes = parameter_shapes(config, head, labels)
    _refuse_missing(tensors, wanted, shapes, head)
    _account_for_the_rest(tensors, wanted, config, head, report)
    found = {
        path: _taken(tensors, leaf, shapes[path], head) for path, leaf in wanted.items()
    }
    placed = [n for leaf in wanted.values() for n in leaf.names if n in tensors]
    types = sorted({str(tensors[name].dtype) for name in placed} - {"float32"})
    if types:
        report(f"tensors of type {', '.join(types)} are float32 now")
    return unflatten_dict(found, sep="/")


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
    labels = len(flat.get("classifier/bias", [0]))
    shapes = parameter_shapes(config, head, labels)
    exported = {}
    for path, leaf in leaves(config, head, "hugging_face").items():
        if flat[path].shape != shapes[path]:
            raise UserError(
                f"{path} has shape {list(flat[path].shape)}, but in {head} of this "
                f"configuration it has {list(shapes[path])}"
            )
        value = np.ascontiguousarray(flat[path].T if leaf.transposed else flat[path])
        exported |= dict.fromkeys(leaf.names + leaf.tied, value)
    if not config.has_projection:
        exported |= _identity(config, head)
    return exported


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


def head_of(paths: Iterable[str], config: AlbertConfig) -> str:
    """The head that has exactly these parameters.

    Sequence classification and multiple choice have the same; the first is said.

    Raises:
      UserError: none has; the nearest one's difference is named.
    """
    paths = set(paths)
    differences = {}
    for name in HEADS:
        if paths == (expected := set(leaves(config, name, "official"))):
            return name
        differences[name] = paths ^ expected
    name = min(differences, key=lambda name: len(differences[name]))
    path = min(differences[name])
    which = "is too many for" if path in paths else "is missing for"
    raise UserError(
        f"no head has these parameters: {path} {which} {name} of this configuration"
    )


def parameter_shapes(
    config: AlbertConfig, head: str, num_labels: int
) -> dict[str, tuple[int, ...]]:
    """Path of every parameter of a head -> shape; allocates none."""
    kind = head_named(head).kind
    labelled = "num_labels" in {field.name for field in dataclasses.fields(kind)}
    model = kind(config, num_labels=num_labels) if labelled else kind(config)
    params = jax.eval_shape(partial(init_params, model), jax.random.key(0))
    return {k: leaf.shape for k, leaf in flatten_dict(params, sep="/").items()}


def _refuse_missing(
    tensors: Mapping, wanted: Mapping[str, Leaf], shapes: Mapping, head: str
) -> None:
    placed = {name for leaf in wanted.values() for name in leaf.names}
    for path, leaf in wanted.items():
        for name in leaf.names:
            if name not in tensors and not any(tied in tensors for tied in leaf.tied):
                raise UserError(
                    f"tensor {name} is missing: {path} {list(shapes[path])} of {head} "
                    "comes from it" + nearest(name, tensors.keys() - placed, cutoff=0.8)
                )


def _account_for_the_rest(
    tensors: Mapping[str, np.ndarray],
    wanted: Mapping[str, Leaf],
    config: AlbertConfig,
    head: str,
    report: Callable[[str], None],
) -> None:
    """Says which tensors have no place in this head; refuses those with none in any."""
    placed = {name for leaf in wanted.values() for name in leaf.names + leaf.tied}
    elsewhere, ignored = names_of_heads("hugging_face"), []
    identity = {} if config.has_projection else _identity(config, head)
    for name in sorted(tensors.keys() - placed):
        if name in identity:
            if not np.array_equal(tensors[name], identity[name]):
                raise UserError(
                    f"tensor {name} projects, but this configuration has no projection "
                    "where E = H: set project_equal_sizes to true"
                )
        elif name in elsewhere or "albert." + name in elsewhere:
            ignored.append(name)
        elif name.removeprefix("albert.") == _POSITION_IDS:
            ignored.append(name)
        else:
            raise UserError(
                f"tensor {name} {list(tensors[name].shape)} has no place in {head} of "
                "this configuration"
            )
    if ignored:
        report(f"{head} has no place for {', '.join(ignored)}: ignored")


def _taken(
    tensors: Mapping[str, np.ndarray], leaf: Leaf, shape: tuple[int, ...], head: str
) -> np.ndarray:
    """One parameter, out of all the tensors that hold it."""
    names = [name for name in leaf.names + leaf.tied if name in tensors]
    expected = shape[::-1] if leaf.transposed else shape
    for name in names:
        if tensors[name].shape != expected:
            raise UserError(
                f"tensor {name} has shape {list(tensors[name].shape)}, but "
                f"{leaf.ours} of {head} needs {list(expected)}"
            )
        if not np.array_equal(tensors[name], tensors[names[0]]):
            raise UserError(
                f"tensors {names[0]} and {name} differ, but {leaf.ours} of {head} is "
                "both of them"
            )
    value = tensors[names[0]].astype(np.float32)
    return np.ascontiguousarray(value.T if leaf.transposed else value)


def _identity(config: AlbertConfig, head: str) -> dict[str, np.ndarray]:
    """The projection that Hugging Face has even where E = H, made to do nothing."""
    prefix = "" if head == "AlbertModel" else "albert."
    module = prefix + PROJECTION[0].hugging_face.removeprefix("albert.")
    size = config.hidden_size
    return {
        f"{module}.weight": np.eye(size, dtype=np.float32),
        f"{module}.bias": np.zeros(size, np.float32),
    }
