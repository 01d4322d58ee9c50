"""Any ALBERT, out of whatever holds it, and into what others read."""

import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict
from jaxtyping import PyTree

from albert_jax.config import AlbertConfig, UserError, nearest
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.interop import hub, tensors
from albert_jax.interop.hugging_face import (
    from_hugging_face,
    hugging_face_config,
    to_hugging_face,
    with_prefix,
)
from albert_jax.interop.names import Form
from albert_jax.interop.official import (
    from_official,
    official_config,
    to_official,
    without_prefix,
)
from albert_jax.interop.parameters import Report, head_in
from albert_jax.model.table import HEADS, head_named, make_head, options_of
from albert_jax.train.run import EXPERIMENT, load_run

CONFIG = "config.json"  # Hugging Face's
_CONFIGS = {
    "hugging_face": (CONFIG,),
    "official": ("albert_config.json", "assets/albert_config.json", CONFIG),
}
_VOCABULARIES = ("*.model", "vocab*.txt", "assets/*.model", "assets/vocab*.txt")
# As the official releases are called, and TF-Hub's.
_CHECKPOINTS = ("*.index", "variables/*.index")
_RELEASED_CHECKPOINT = "model.ckpt-best"


class Pretrained(NamedTuple):
    """A model that has learned something; ``tokenizer`` is None without vocabulary."""

    model: nn.Module
    variables: PyTree
    tokenizer: Tokenizer | None


def from_pretrained(
    source: str | Path,
    head: str | None = None,
    *,
    num_labels: int | None = None,
    vocabulary: str | Path | None = None,
    revision: str | None = None,
    seed: int = 0,
    run_seed: int | None = None,
    report: Report = warnings.warn,
    **overrides: Any,
) -> Pretrained:
    """A model, its variables in float32, and its tokenizer.

    Args:
      source: a folder: a run's, one with Hugging Face's files, or with an official
        TensorFlow checkpoint or TF-Hub module; the prefix of an official checkpoint,
        ``albert_base/model.ckpt-best``; or a name on the Hugging Face hub,
        ``albert-base-v2`` (needs the ``hub`` extra).
      head: the class, ``"AlbertForMaskedLM"``; by default what the source says. A part
        of it for which the source has no tensor, such as a new classifier, is drawn
        from ``seed``, and that is said.
      run_seed: which of a run's several seeds; its first by default.
      num_labels: of a classifier that is drawn.
      vocabulary: a ``.model`` or ``vocab.txt`` that holds whatever the source has.
      revision: branch, tag or commit on the hub.
      report: told, line by line, what was ignored, corrected or drawn.
      **overrides: fields of the configuration that hold whatever the source says.

    Raises:
      UserError: there is no such source, or seed of it; it lacks a configuration,
        weights or single tensors; or these, or the vocabulary, do not fit each other.
    """
    if head is not None:
        head_named(head)
    path, name = locate(str(source), revision)
    drawing = {
        "num_labels": num_labels,
        # What the source says that it holds must be there.
        "key": None if head is None else jax.random.key(seed),
        "report": report,
    }
    if (path / EXPERIMENT).is_file():
        model, variables, tokenizer = load_run(path, report, seed=run_seed, **overrides)
        config, params = model.config, variables["params"]
        options = options_of(model)
        if head and head != type(model).__name__:
            params = from_official(to_official(params, config), config, head, **drawing)
        head = head or type(model).__name__
    elif run_seed is not None:
        raise UserError(
            f"run_seed is {run_seed}, but {source} is no run, which alone has seeds"
        )
    else:
        folder = path if path.is_dir() else path.parent
        form, found = _read_weights(path)
        config = _read_config(folder, form, name, report, overrides)
        options = {}
        if form == "hugging_face":
            head = head or _architecture(folder, report)
            head = head or head_in(with_prefix(found), form)
            params = from_hugging_face(found, config, head, **drawing)
            options = _head_options(folder)
        else:
            head = head or head_in(without_prefix(found), form)
            params = from_official(found, config, head, **drawing)
        tokenizer = _read_tokenizer(folder, report) if vocabulary is None else None
    if vocabulary is not None:
        tokenizer = Tokenizer.load(vocabulary)
    if tokenizer and tokenizer.vocab_size != config.vocab_size:
        raise UserError(
            f"{tokenizer.path} has {tokenizer.vocab_size} pieces, but the model's "
            f"vocab_size is {config.vocab_size}; name its own with vocabulary"
        )
    labels = flatten_dict(params, sep="/").get("classifier/bias", [])
    model = make_head(head, config, **(options | {"num_labels": len(labels)}))
    return Pretrained(model, {"params": jax.tree.map(jnp.asarray, params)}, tokenizer)


def save_pretrained(
    folder: str | Path,
    model: nn.Module,
    variables: PyTree,
    tokenizer: Tokenizer | None = None,
    *,
    form: str = "hugging_face",
    labels: Sequence[str] = (),
) -> None:
    """Writes a new folder that ``transformers``, or the official code, loads.

    Layers that share only a part, or nothing, are written as groups of their own;
    ``from_pretrained`` reads back the model that was given, from Hugging Face's form.

    Args:
      form: ``hugging_face``: ``config.json``, ``model.safetensors``, ``spiece.model``
        or ``vocab.txt``, ``tokenizer_config.json``. ``official``: the vocabulary,
        ``albert_config.json``, the files of ``model.ckpt-best``; needs TensorFlow.
      labels: what a classifier's outputs are called, in their order; ``LABEL_0`` and so
        on by default. The official form has no place for them.

    Raises:
      UserError: the folder holds something already; the form cannot express the model;
        there are not as many labels as outputs.
    """
    folder = Path(folder)
    if form not in _WRITERS:
        raise UserError(
            f"form is {form!r}, but it must be one of {', '.join(_WRITERS)}"
            + nearest(form, _WRITERS)
        )
    outputs = options_of(model).get("num_labels", 0)
    if labels and len(labels) != outputs:
        raise UserError(
            f"labels names {len(labels)} labels, but the model has {outputs} outputs"
        )
    refuse_occupied(folder)
    # Beside its place and moved there last: a folder is whole, or is not there.
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        _WRITERS[form](partial, model, variables["params"], tokenizer, labels)
        partial.replace(folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def refuse_occupied(folder: Path) -> None:
    """Raises UserError where ``save_pretrained`` could lose something."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already; name a folder that does not")


def locate(source: str, revision: str | None) -> tuple[Path, str | None]:
    """A folder, or a checkpoint's prefix; and the name of what comes from the hub."""
    path = Path(source).expanduser()
    here = path.is_dir() or path.with_name(path.name + ".index").is_file()
    if here and revision is not None:
        raise UserError(
            f"revision is {revision!r}, but {source} is a folder and not on the hub"
        )
    if here:
        return path, None
    if path.exists():
        raise UserError(
            f"{source} is a file; name the folder that holds it beside a configuration"
        )
    if not hub.is_name(source):
        raise UserError(f"there is no folder {source}")
    return hub.fetch(source, revision), source


def _read_weights(path: Path) -> tuple[Form, tensors.Tensors]:
    """The tensors of a folder or prefix, and whose names they have."""
    if not path.is_dir():
        return "official", tensors.read_tensorflow(path)
    if files := sorted(path.glob(tensors.SAFETENSORS)):
        return "hugging_face", tensors.read_safetensors(files)
    if files := sorted(path.glob(tensors.TORCH)):
        return "hugging_face", tensors.read_torch(files)
    indexes = sorted(index for p in _CHECKPOINTS for index in path.glob(p))
    if len(indexes) > 1:
        listed = ", ".join(str(index.with_suffix("")) for index in indexes)
        raise UserError(f"{path} holds several checkpoints; name one: {listed}")
    if indexes:
        return "official", tensors.read_tensorflow(indexes[0].with_suffix(""))
    raise UserError(
        f"{path} holds no weights: neither model.safetensors nor pytorch_model.bin, "
        f"nor a TensorFlow checkpoint's .index, nor a run's {EXPERIMENT}"
    )


def _read_config(
    folder: Path,
    form: Form,
    name: str | None,
    report: Report,
    overrides: Mapping[str, Any],
) -> AlbertConfig:
    for file in _CONFIGS[form]:
        if (folder / file).is_file():
            return AlbertConfig.from_json(
                folder / file, name=name, report=report, **overrides
            )
    raise UserError(f"{folder} has no {_CONFIGS[form][0]}, so what it holds is unknown")


def _architecture(folder: Path, report: Report) -> str | None:
    """The head that Hugging Face's file says the tensors are of."""
    values = read_json(folder / CONFIG)
    said = values.get("architectures") or []
    if said and said[0] not in HEADS:
        report(f"{folder} says it is {said[0]!r}, unknown here: its tensors decide")
    return next((head for head in said[:1] if head in HEADS), None)


def _head_options(folder: Path) -> dict[str, float]:
    """What Hugging Face's file says of a head."""
    file, field = folder / CONFIG, "classifier_dropout_prob"
    said = read_json(file).get(field)
    if said is None:
        return {}
    if type(said) not in (int, float) or not 0 <= said < 1:
        raise UserError(
            f"{file}: {field} is {said!r}, but it must be at least 0 and below 1"
        )
    return {field: float(said)}


def _read_tokenizer(folder: Path, report: Report) -> Tokenizer | None:
    found = [file for p in _VOCABULARIES for file in sorted(folder.glob(p))]
    if len(found) > 1:
        listed = ", ".join(map(str, found))
        raise UserError(f"{folder} holds several vocabularies; name one: {listed}")
    if not found:
        report(f"{folder} has no vocabulary, so there is no tokenizer")
        return None
    return Tokenizer.load(found[0], **_text_rules(folder))


def _text_rules(folder: Path) -> dict[str, bool]:
    """What Hugging Face's file says of case and accents; as the official without it."""
    file = folder / "tokenizer_config.json"
    said = read_json(file) if file.is_file() else {}
    return {
        "lower_case": said.get("do_lower_case", True),
        # Two classes, two names for it.
        "keep_accents": said.get("keep_accents", said.get("strip_accents") is False),
    }


def _write_hugging_face(
    folder: Path,
    model: nn.Module,
    params: PyTree,
    tokenizer: Tokenizer | None,
    labels: Sequence[str],
) -> None:
    options = options_of(model)
    outputs = options.pop("num_labels", 0)
    names = labels or [f"LABEL_{i}" for i in range(outputs)]
    config = hugging_face_config(model.config, type(model).__name__, names, **options)
    _write_json(folder / CONFIG, config)
    exported = to_hugging_face(params, model.config, tied=False)
    tensors.write_safetensors(folder / "model.safetensors", exported)
    if tokenizer:
        (folder / tokenizer.FILE).write_bytes(tokenizer.vocabulary)
        _write_json(
            folder / "tokenizer_config.json",
            {
                "tokenizer_class": tokenizer.HUGGING_FACE,
                "do_lower_case": tokenizer.rules.lower_case,
                "keep_accents": tokenizer.rules.keep_accents,
                "strip_accents": not tokenizer.rules.keep_accents,
                "model_max_length": model.config.max_position_embeddings,
            },
        )


def _write_official(
    folder: Path,
    model: nn.Module,
    params: PyTree,
    tokenizer: Tokenizer | None,
    labels: Sequence[str],
) -> None:
    _write_json(folder / "albert_config.json", official_config(model.config))
    variables = to_official(params, model.config)
    tensors.write_tensorflow(folder / _RELEASED_CHECKPOINT, variables)
    if tokenizer:
        (folder / tokenizer.FILE).write_bytes(tokenizer.vocabulary)


_WRITERS = {"hugging_face": _write_hugging_face, "official": _write_official}


def read_json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error


def _write_json(file: Path, values: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
