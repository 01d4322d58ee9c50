"""Named tensors -> the parameters of a head, all of them or an error that names one."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from functools import cache

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree

from albert_jax.config import AlbertConfig, UserError, nearest
from albert_jax.interop.names import (
    HEADS,
    Form,
    Leaf,
    head_named,
    leaves,
    names_of_heads,
)
from albert_jax.model.albert import abstract_params


@cache  # Tracing a model takes longer than all the rest of a conversion.
def parameter_shapes(
    config: AlbertConfig, head: str, num_labels: int
) -> dict[str, tuple[int, ...]]:
    """Path of every parameter of a head -> shape; allocates none."""
    kind = head_named(head).kind
    labelled = "num_labels" in {field.name for field in dataclasses.fields(kind)}
    model = kind(config, num_labels=num_labels) if labelled else kind(config)
    params = flatten_dict(abstract_params(model), sep="/")
    return {path: leaf.shape for path, leaf in params.items()}


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


def collect(
    tensors: Mapping[str, np.ndarray],
    config: AlbertConfig,
    head: str,
    form: Form,
    num_labels: int,
    report: Callable[[str], None],
) -> PyTree:
    """The parameters of a head, float32, out of tensors with the names of a form.

    Raises:
      UserError: a tensor is missing, has no place, has the wrong shape, or differs from
        one that it should be a copy of.
    """
    wanted = leaves(config, head, form)
    shapes = parameter_shapes(config, head, num_labels)
    placed = {name for leaf in wanted.values() for name in leaf.names + leaf.tied}
    rest = tensors.keys() - placed
    for path, leaf in wanted.items():
        _refuse_missing(tensors, leaf, f"{path} {list(shapes[path])} of {head}", rest)

    elsewhere = sorted(rest & names_of_heads(form).keys())
    for name in sorted(rest.difference(elsewhere)):
        raise UserError(
            f"tensor {name} {list(tensors[name].shape)} has no place in {head} of this "
            "configuration"
        )
    if elsewhere:
        report(f"{head} has no place for {', '.join(elsewhere)}: ignored")

    found = {
        path: _taken(tensors, leaf, shapes[path], f"{path} of {head}")
        for path, leaf in wanted.items()
    }
    types = {str(tensors[name].dtype) for name in placed & tensors.keys()}
    if other := sorted(types - {"float32"}):
        report(f"tensors of type {', '.join(other)} are float32 now")
    return unflatten_dict(found, sep="/")


def _refuse_missing(
    tensors: Mapping[str, np.ndarray], leaf: Leaf, ours: str, rest: set[str]
) -> None:
    """Every tensor of a parameter must be there, or one that is tied to it."""
    if any(name in tensors for name in leaf.tied):
        return
    for name in leaf.names:
        if name not in tensors:
            raise UserError(
                f"tensor {name} is missing: {ours} comes from it"
                + nearest(name, rest, cutoff=0.8)
            )


def _taken(
    tensors: Mapping[str, np.ndarray], leaf: Leaf, shape: tuple[int, ...], ours: str
) -> np.ndarray:
    """One parameter, out of all the tensors that hold it."""
    first, *others = (name for name in leaf.names + leaf.tied if name in tensors)
    expected = shape[::-1] if leaf.transposed else shape
    for name in (first, *others):
        if tensors[name].shape != expected:
            raise UserError(
                f"tensor {name} has shape {list(tensors[name].shape)}, but {ours} "
                f"needs {list(expected)}"
            )
        if not np.array_equal(tensors[name], tensors[first]):
            raise UserError(
                f"tensors {first} and {name} differ, but {ours} is both of them"
            )
    value = tensors[first].astype(np.float32)
    return np.ascontiguousarray(value.T if leaf.transposed else value)
