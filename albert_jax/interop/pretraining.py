"""Pretraining that goes on from a model, wherever it comes from."""

import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PyTree

from albert_jax.config import AlbertConfig, PretrainingExperiment, UserError
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.interop.parameters import Report
from albert_jax.interop.pretrained import Pretrained, from_pretrained
from albert_jax.train import pretrain as plain
from albert_jax.train.run import run_seeds
from albert_jax.train.seeds import stack

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
        said: set[str] = set()

        def report_once(line: str) -> None:
            if line not in said:
                report(line)
            said.add(line)

        def params(seed: int, run_seed: int | None) -> PyTree:
            source = _open(experiment, seed, run_seed, report_once)
            _refuse_other_vocabulary(experiment, source, tokenizer)
            # From every process the same values, for the mesh to place.
            return jax.device_get(source.variables["params"])

        found = [params(*pair) for pair in _sources(experiment).items()]
        return stack(found) if experiment.seeds > 1 else found[0]

    return plain.pretrain(experiment, workdir, open_init=open_init, **options)


def check_init(experiment: PretrainingExperiment) -> None:
    """What can be known of ``init`` before the corpus is prepared.

    Raises:
      UserError: it cannot be read, is another model, or has another vocabulary than the
        corpus will have.
    """
    seed, run_seed = next(iter(_sources(experiment).items()))
    source = _open(experiment, seed, run_seed, [].append)
    corpus = experiment.corpus
    if corpus.vocabulary is not None:
        tokenizer = Tokenizer.load(corpus.vocabulary)
        _refuse_other_vocabulary(experiment, source, tokenizer)
    elif not Path(corpus.prepared).exists():
        theirs = source.tokenizer.path if source.tokenizer else "its vocabulary"
        raise UserError(
            f"init is {experiment.init}, but corpus.vocabulary is None, which trains "
            f"another one; set it to {theirs}"
        )


def _sources(experiment: PretrainingExperiment) -> dict[int, int | None]:
    """Seed of the experiment -> the seed of ``init`` that it starts from; None where
    all start from what ``init`` is by default.

    Each starts from its own, where ``init`` is a run of several seeds that has it.
    """
    ours, theirs = experiment.all_seeds, run_seeds(experiment.init)
    if len(theirs) < 2 or (len(ours) == 1 and ours[0] not in theirs):
        return dict.fromkeys(ours)
    if missing := [str(seed) for seed in ours if seed not in theirs]:
        raise UserError(
            f"init is {experiment.init}, with seeds {theirs[0]} to {theirs[-1]}, but "
            f"seed {', '.join(missing)} has no weights there to start from"
        )
    return {seed: seed for seed in ours}


def _open(
    experiment: PretrainingExperiment, seed: int, run_seed: int | None, report: Report
) -> Pretrained:
    """What one seed starts from: ``init``, or a seed of it."""
    source = from_pretrained(
        experiment.init,
        "AlbertForPreTraining",
        seed=seed,
        run_seed=run_seed,
        report=report,
    )
    known, wanted = source.model.config, experiment.model
    depths = known.num_hidden_layers, wanted.num_hidden_layers
    if depths[0] != depths[1] and _has_one_layer(known) and _has_one_layer(wanted):
        report(
            f"init is {experiment.init}, whose one layer is applied {depths[0]} times "
            f"there and {depths[1]} times here"
        )
        known = replace(known, num_hidden_layers=depths[1])
    theirs, ours = _meaning(known), _meaning(wanted)
    if wrong := {name: theirs[name] for name in ours if ours[name] != theirs[name]}:
        listed = ", ".join(
            f"model.{name} to {value!r}" for name, value in wrong.items()
        )
        raise UserError(
            f"init is {experiment.init}, which is another model; set {listed}"
        )
    return source


def _has_one_layer(config: AlbertConfig) -> bool:
    """Whether the parameters are the same at any depth, as where the paper starts
    deeper models from shallower ones (Table 11)."""
    return config.share == "all" and config.num_hidden_groups == 1


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
