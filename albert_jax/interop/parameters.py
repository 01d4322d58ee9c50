"""Named tensors <-> a head's parameters: all of them, or an error that names one."""

from collections.abc import Callable, Container, Iterable, Mapping
from functools import cache

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree

from albert_jax.config import AlbertConfig, UserError, nearest
from albert_jax.interop.names import (
    PARTS,
    Form,
    Leaf,
    leaves,
    module_of,
    names_of_parts,
    parts,
)
from albert_jax.model.albert import abstract_params, init_params
from albert_jax.model.table import HEADS, has_labels, make_head

Report = Callable[[str], None]


@cache  # Tracing a model takes longer than all the rest of a conversion.
def parameter_shapes(
    config: AlbertConfig, head: str, num_labels: int | None = None
) -> dict[str, tuple[int, ...]]:
    """Path of every parameter of a head -> shape; allocates none."""
    params = abstract_params(make_head(head, config, num_labels=num_labels))
    flat = flatten_dict(params, sep="/")
    return {path: leaf.shape for path, leaf in flat.items()}


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


def head_in(names: Container[str], form: Form) -> str:
    """The head with the most parts of which tensors with these names have all.

    ``AlbertModel`` where they have no head's; sequence classification, which has the
    same parts as multiple choice.
    """

    def complete(head: str) -> bool:
        return bool(parts(head, form)) and all(
            any(name in names for name in leaf.names + leaf.tied)
            for part in parts(head, form)
            for leaf in part.values()
        )

    others = [head for head in HEADS if head != "AlbertModel" and complete(head)]
    return max(others, key=lambda h: len(PARTS[h]), default="AlbertModel")


def collect(
    tensors: Mapping[str, np.ndarray],
    config: AlbertConfig,
    head: str,
    form: Form,
    *,
    num_labels: int | None,
    key: jax.Array | None,
    report: Report,
) -> PyTree:
    """The parameters of a head, float32, out of tensors with the names of a form.

    Args:
      num_labels: of a head that has labels; None: as many as its tensors have.
      key: draws the parts of the head of which there is no tensor at all, which is
        said; None: they are missing.

    Raises:
      UserError: a tensor is missing, has no place, has the wrong shape, or differs from
        one that it should be a copy of; nobody says how many labels there are.
    """
    wanted = leaves(config, head, form)
    drawn = _absent_parts(tensors, head, form) if key is not None else {}
    if has_labels(head) and num_labels is None:
        num_labels = _labels_in(tensors, wanted["classifier/bias"])
    shapes = parameter_shapes(config, head, num_labels)
    wanted = {path: leaf for path, leaf in wanted.items() if path not in drawn}
    placed = {name for leaf in wanted.values() for name in leaf.names + leaf.tied}
    rest = tensors.keys() - placed
    for path, leaf in wanted.items():
        _refuse_missing(tensors, leaf, f"{path} {list(shapes[path])} of {head}", rest)

    elsewhere = names_of_parts(form)
    for name in sorted(rest.difference(elsewhere)):
        raise UserError(
            f"tensor {name} {list(tensors[name].shape)} has no place in {head} of this "
            "configuration"
        )
    if rest:
        modules = sorted({elsewhere[name] for name in rest})
        report(f"{head} has no {', '.join(modules)}: ignored")

    found = {
        path: _taken(tensors, leaf, shapes[path], f"{path} of {head}")
        for path, leaf in wanted.items()
    }
    types = {str(tensors[name].dtype) for name in placed & tensors.keys()}
    if other := sorted(types - {"float32"}):
        report(f"tensors of type {', '.join(other)} are float32 now")
    if drawn:
        fresh = init_params(make_head(head, config, num_labels=num_labels), key)
        fresh = flatten_dict(fresh, sep="/")
        found |= {path: np.asarray(fresh[path]) for path in drawn}
        modules = sorted({module_of(path) for path in drawn})
        report(f"{', '.join(modules)} of {head} drawn afresh: nothing holds it yet")
    return unflatten_dict(found, sep="/")


def distribute(
    params: PyTree, config: AlbertConfig, head: str, form: Form
) -> dict[str, np.ndarray]:
    """The other way: tensors by the names of a form, copies included, tied ones not.

    Raises:
      UserError: the parameters are of another configuration, or the form has no names
        for such a head.
    """
    flat = {k: np.asarray(v) for k, v in flatten_dict(params, sep="/").items()}
    shapes = parameter_shapes(config, head, len(flat.get("classifier/bias", [0])))
    tensors = {}
    for path, leaf in leaves(config, head, form).items():
        value = flat[path]
        if value.shape != shapes[path]:
            raise UserError(
                f"{path} has shape {list(value.shape)}, but in {head} of this "
                f"configuration it has {list(shapes[path])}"
            )
        value = np.ascontiguousarray(value.T if leaf.transposed else value)
        tensors |= dict.fromkeys(leaf.names, value)
    return tensors


def _absent_parts(
    tensors: Mapping[str, np.ndarray], head: str, form: Form
) -> dict[str, Leaf]:
    """The parameters of those parts of a head of which no tensor is there."""
    absent = {}
    for part in parts(head, form):
        names = {name for leaf in part.values() for name in leaf.names + leaf.tied}
        if not names & tensors.keys():
            absent |= part
    return absent


def _labels_in(tensors: Mapping[str, np.ndarray], classifier_bias: Leaf) -> int:
    (name,) = classifier_bias.names
    if name not in tensors:
        raise UserError(
            "num_labels is not given, and there is no classifier that would tell it"
        )
    return len(tensors[name])


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
