"""Pretraining that goes on from a model, wherever it comes from."""

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PyTree

from albert_jax.config import AlbertConfig, PretrainingExperiment, UserError
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.interop.parameters import Report
from albert_jax.interop.pretrained import Pretrained, from_pretrained
from albert_jax.train import pretrain as plain

# What of a configuration does not say what its parameters mean.
_FREE = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "initializer_range",
    "dtype",
    "scan_layers",
    "remat",
)


def pretrain(
    experiment: PretrainingExperiment,
    workdir: str | Path,
    *,
    report: Report = warnings.warn,
    **options: Any,
) -> dict[str, float]:
    """``train.pretrain.pretrain``, which a new run of an ``init`` starts from.

    Args:
      report: told what of ``init`` was ignored, corrected or drawn.
      **options: ``accept_changes``, ``console``, ``stopping``, as there.

    Raises:
      UserError: as there; or ``init`` cannot be read, or is another model.
    """

    def open_init(tokenizer: Tokenizer) -> PyTree:
        source = _open(experiment, report)
        _refuse_other_vocabulary(experiment, source, tokenizer)
        # From every process the same values, for the mesh to place.
        return jax.device_get(source.variables["params"])

    return plain.pretrain(experiment, workdir, open_init=open_init, **options)


def check_init(experiment: PretrainingExperiment) -> None:
    """What can be known of ``init`` before the corpus is prepared.

    Raises:
      UserError: it cannot be read, is another model, or has another vocabulary than the
        corpus will have.
    """
    source, corpus = _open(experiment, [].append), experiment.corpus
    if corpus.vocabulary is not None:
        tokenizer = Tokenizer.load(corpus.vocabulary)
        _refuse_other_vocabulary(experiment, source, tokenizer)
    elif not Path(corpus.prepared).exists():
        theirs = source.tokenizer.path if source.tokenizer else "its vocabulary"
        raise UserError(
            f"init is {experiment.init}, but corpus.vocabulary is None, which trains "
            f"another one; set it to {theirs}"
        )


def _open(experiment: PretrainingExperiment, report: Report) -> Pretrained:
    source = from_pretrained(
        experiment.init, "AlbertForPreTraining", seed=experiment.seed, report=report
    )
    theirs, ours = _meaning(source.model.config), _meaning(experiment.model)
    if wrong := {name: theirs[name] for name in ours if ours[name] != theirs[name]}:
        listed = ", ".join(
            f"model.{name} to {value!r}" for name, value in wrong.items()
        )
        raise UserError(
            f"init is {experiment.init}, which is another model; set {listed}"
        )
    return source


def _meaning(config: AlbertConfig) -> dict[str, Any]:
    return {name: value for name, value in asdict(config).items() if name not in _FREE}


def _refuse_other_vocabulary(
    experiment: PretrainingExperiment, source: Pretrained, tokenizer: Tokenizer
) -> None:
    theirs = source.tokenizer
    if theirs is not None and theirs.fingerprint != tokenizer.fingerprint:
        raise UserError(
            f"init is {experiment.init}, whose vocabulary is not that of "
            f"{tokenizer.path}; set corpus.vocabulary to {theirs.path}, and "
            "corpus.prepared to a new folder"
        )
