"""Configuration files of others, read as they are: official and Hugging Face's.

Whatever a file says that the model does not do, or does otherwise, is said.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from albert_jax.config.checks import UserError, nearest, require_choice
from albert_jax.config.model import ACTIVATIONS, SIZES, AlbertConfig

Report = Callable[[str], None]

# Hugging Face's name of an activation -> ours. Its "gelu" is exact; ours is, like the
# official code's, the tanh form.
_FROM_HUGGING_FACE = {
    "gelu": "gelu_erf",
    "gelu_python": "gelu_erf",
    "gelu_new": "gelu",
    "gelu_fast": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "relu": "relu",
    "tanh": "tanh",
    "linear": "linear",
}
TO_HUGGING_FACE = {
    "gelu": "gelu_new",
    "gelu_erf": "gelu",
    "relu": "relu",
    "tanh": "tanh",
    "linear": "linear",
}

# The official constructor's defaults, the same in Hugging Face: those of xxlarge.
# Where a file is silent, they hold. The vocabulary's size has none.
OFFICIAL_DEFAULTS = {
    "embedding_size": 128,
    "hidden_size": 4096,
    "num_hidden_layers": 12,
    "num_hidden_groups": 1,
    "num_attention_heads": 64,
    "intermediate_size": 16384,
    "inner_group_num": 1,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "initializer_range": 0.02,
}

# In a ``config.json`` that we wrote: what Hugging Face's fields cannot say of a model
# whose layers were copied into groups of their own.
OWN = "albert_jax"
OWN_FIELDS = ("share", "num_hidden_groups", "project_equal_sizes")

# What else is read of a file, here or in ``interop``.
_READ_TOO = {
    OWN,
    "model_type",
    "architectures",
    "classifier_dropout_prob",
    "id2label",
    "label2id",
}

# The released English models, by what Hugging Face calls them: size and version.
RELEASED = {
    f"albert-{size}-{version}": (size, version)
    for version in ("v1", "v2")
    for size in SIZES
}


def read(
    path: Path, name: str | None, report: Report, overrides: Mapping[str, Any]
) -> AlbertConfig:
    """What ``AlbertConfig.from_json`` does."""
    fields = {f.name: f.default for f in dataclasses.fields(AlbertConfig)}
    for field in overrides.keys() - fields.keys():
        raise UserError(f"AlbertConfig has no field {field!r}{nearest(field, fields)}")
    values = _load(path)
    foreign = "model_type" in values
    if foreign:
        # Its "dtype", for one, is what the tensors are stored in.
        theirs = {*OFFICIAL_DEFAULTS, "vocab_size", "hidden_act", "layer_norm_eps"}
        fields = {name: fields[name] for name in fields if name in theirs}
    _refuse_misspellings(path, values, fields)
    ignored = sorted(values.keys() - fields.keys() - _READ_TOO)
    if ignored and OWN not in values:
        report(f"{path}: ignored {', '.join(ignored)}, which change nothing computed")

    known = {key: value for key, value in values.items() if key in fields}
    if foreign:
        _check_hugging_face(path, values)
        known["hidden_act"] = _activation(
            path, known.get("hidden_act", "gelu_new"), _FROM_HUGGING_FACE
        )
    else:
        act = known.get("hidden_act", "gelu") or "linear"
        known["hidden_act"] = _activation(path, act, {a: a for a in ACTIVATIONS})
    _fill(path, known, report, overrides)
    for key, value in known.items():
        known[key] = _typed(path, key, value, fields[key])
    if foreign:
        # Hugging Face projects from E to H even where they are equal.
        known["project_equal_sizes"] = known["embedding_size"] == known["hidden_size"]
    if foreign and OWN in values:
        known |= _own(path, values[OWN])
    elif foreign:
        name = (name or path.resolve().parent.name).rsplit("/", 1)[-1]
        _correct_released(path, name, known, report, overrides)
    try:
        return AlbertConfig(**(known | dict(overrides)))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _load(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no JSON object, so it is no configuration")
    return values


def _refuse_misspellings(path: Path, values: Mapping, fields: Mapping) -> None:
    """Foreign fields are many, but one that nearly names an absent one is a slip."""
    absent = [name for name in fields if name not in values]
    for key in values.keys() - fields.keys():
        hint = nearest(key, absent, cutoff=0.85)
        if hint:
            raise UserError(f"{path} has no use for {key!r} = {values[key]!r}{hint}")


def _check_hugging_face(path: Path, values: Mapping[str, Any]) -> None:
    """What would be another model is refused, not ignored."""
    only = {
        "model_type": ("albert",),
        "position_embedding_type": ("absolute",),
        "tie_word_embeddings": (True,),
    }
    for key, allowed in only.items():
        if key in values and values[key] not in allowed:
            raise UserError(
                f"{path}: {key} is {values[key]!r}, but it must be {allowed[0]!r}"
            )


def _activation(path: Path, value: Any, known: Mapping[str, str]) -> str:
    require_choice(f"{path}: hidden_act", value, known)
    return known[value]


def _fill(path: Path, known: dict, report: Report, overrides: Mapping) -> None:
    if "vocab_size" not in known and "vocab_size" not in overrides:
        raise UserError(f"{path} does not say vocab_size, which has no default")
    filled = {
        name: value
        for name, value in OFFICIAL_DEFAULTS.items()
        if name not in known and name not in overrides
    }
    if filled:
        listed = ", ".join(f"{name} = {value}" for name, value in filled.items())
        report(f"{path}: not in the file, so as in the official code: {listed}")
    known |= {k: v for k, v in OFFICIAL_DEFAULTS.items() if k not in known}


def _typed(path: Path, name: str, value: Any, default: Any) -> Any:
    """The value as the type of the field's default; a whole number is a float too."""
    kind = type(default)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        expected = {int: "a whole number", float: "a number", bool: "true or false"}
        raise UserError(
            f"{path}: {name} is {value!r}, but it must be "
            + expected.get(kind, "a string")
        )
    return value


def _own(path: Path, values: Any) -> dict[str, Any]:
    """The fields that we added to Hugging Face's file."""
    if not isinstance(values, dict) or values.keys() != set(OWN_FIELDS):
        raise UserError(
            f"{path}: {OWN} is {values!r}, but it must hold {', '.join(OWN_FIELDS)}"
        )
    fields = {field.name: field.default for field in dataclasses.fields(AlbertConfig)}
    return {key: _typed(path, key, value, fields[key]) for key, value in values.items()}


def _correct_released(
    path: Path, name: str, known: dict, report: Report, overrides: Mapping
) -> None:
    """What Hugging Face's files of the released English models are known to get wrong.

    Neither changes a tensor's shape, so that both degrade a model in silence.
    """

    def correct(field: str, wrong: Any, right: Any, why: str) -> None:
        if known[field] == wrong and field not in overrides:
            known[field] = right
            report(
                f"{path}: {field} corrected to {right!r} for {name}: {why}; "
                f"{field}={wrong!r} as an argument overrules this"
            )

    size, version = RELEASED.get(name, (None, None))
    if version == "v1":
        why = "the file says exact GELU, but the model was trained with the tanh form"
        correct("hidden_act", "gelu_erf", "gelu", why)
    if size == "xlarge" and known["hidden_size"] == 2048:
        why = "the file says 16, but the model was trained with heads of width 64"
        correct("num_attention_heads", 16, 32, why)
