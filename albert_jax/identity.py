"""Configurations as JSON, and what makes two runs the same run."""

import dataclasses
import hashlib
import json
import math
from typing import Any

from albert_jax.config import PretrainingExperiment, UserError, nearest
from albert_jax.config.finetuning import FinetuningExperiment

Experiment = PretrainingExperiment | FinetuningExperiment

# What a setting was before there was such a field.
_BEFORE = {"seeds": 1}

# Where the devices stand, when to look and how fast rows are built: a run may resume
# with other values of these, because they change no number that training computes.
_FREE = (
    "name",
    "mesh",
    "checkpoint",
    "evaluation",
    "log_every",
    "log_trust_ratios",
    "data.workers",
    "corpus",
    "task.folder",
)


def to_dict(value: Any) -> dict[str, Any]:
    """A configuration as nested dictionaries of JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(value)))


def from_dict(kind: type, values: dict[str, Any]) -> Any:
    """The configuration that ``to_dict`` was made of.

    Raises:
      UserError: a field that ``kind`` does not have.
    """
    known = {f.name: f for f in dataclasses.fields(kind)}
    for name in values:
        if name not in known:
            raise UserError(
                f"{kind.__name__} has no field {name!r}" + nearest(name, known)
            )
    parsed = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(known[name].type):
            value = from_dict(known[name].type, value)
        parsed[name] = tuple(value) if isinstance(value, list) else value
    return kind(**parsed)


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def identity(experiment: Experiment) -> dict[str, Any]:
    """The settings that a resumed run must share with its checkpoints, flat."""
    return lasting(to_dict(experiment))


def lasting(values: dict[str, Any]) -> dict[str, Any]:
    """``identity`` of an experiment that ``to_dict`` gave."""
    return {
        name: value
        for name, value in flatten(values).items()
        if not any(name == free or name.startswith(free + ".") for free in _FREE)
    }


def digest(value: Any) -> str:
    """Short hexadecimal digest of a JSON value; the order of keys does not matter."""
    canonical = json.dumps(value, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Lines "field: old -> new" for the flat settings that differ."""
    old, new = _BEFORE | old, _BEFORE | new
    return [
        f"{name}: {old.get(name, 'unset')!r} -> {new.get(name, 'unset')!r}"
        for name in sorted(old.keys() | new.keys())
        if not _same(old.get(name), new.get(name))
    ]


def _same(a: Any, b: Any) -> bool:
    # What is not set is as it was before there was such a field.
    if a in (None, []) and b in (None, []):
        return True
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-12) or a == b
    return a == b
