"""What a fine-tuning run starts from: the task's head on a pretrained encoder."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
from flax import linen as nn
from jaxtyping import PyTree

from albert_jax.config import UserError
from albert_jax.config.finetuning import FinetuningExperiment
from albert_jax.config.tasks import Task
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.interop.pretrained import Pretrained, from_pretrained
from albert_jax.model.albert import abstract_params
from albert_jax.model.frozen import frozen_leaves
from albert_jax.model.table import make_head, options_of
from albert_jax.train.run import run_seeds
from albert_jax.train.seeds import stack


@dataclass(frozen=True)
class Start:
    """A model that is not trained for its task yet."""

    model: nn.Module
    given: PyTree
    """Parameters that are not drawn, by their names at the top of the tree."""
    tokenizer: Tokenizer
    each: bool = False
    """Whether every seed is given its own, along an axis that comes first."""


def open_start(
    experiment: FinetuningExperiment, report: Callable[[str], None]
) -> Start:
    """The model of an experiment, and those parameters that its ``init`` gives.

    Each seed starts from its own, where ``init`` is a run of several that has them all.

    Args:
      report: told what was ignored, corrected or drawn.

    Raises:
      UserError: no ``init``, one that cannot be read or has no vocabulary, or, with
        ``keep_head``, one of another head or other labels.
    """
    task = experiment.task
    if experiment.init is None:
        raise UserError(
            "init is None, but it must be what to start from: a run, a folder, or a "
            "name on the hub"
        )
    overrides = {}
    if experiment.dropout is not None:
        names = ("hidden_dropout_prob", "attention_probs_dropout_prob")
        overrides = dict.fromkeys(names, experiment.dropout)
    head = None if experiment.keep_head else "AlbertModel"

    def opened(seed: int | None, report: Callable[[str], None]) -> Pretrained:
        return from_pretrained(
            experiment.init, head, run_seed=seed, report=report, **overrides
        )

    # What is said of the first holds for the others.
    first, *rest = _own_seeds(experiment) or [None]
    source, others = opened(first, report), [opened(s, [].append) for s in rest]
    if source.tokenizer is None:
        raise UserError(f"{experiment.init} has no vocabulary, which a task needs")
    model = make_head(
        task.head,
        source.model.config,
        num_labels=1 if task.kind == "regression" else len(task.labels),
        classifier_dropout_prob=experiment.classifier_dropout,
    )
    params = source.variables["params"]
    if others:
        every = [one.variables["params"] for one in (source, *others)]
        params = stack(jax.device_get(every))
    if experiment.keep_head:
        _refuse_other_head(experiment.init, source, task, model)
        given = params
    elif experiment.from_scratch:
        given = {}
    else:
        # Heads that read every position have no pooler.
        known = abstract_params(model)["albert"]
        given = {"albert": {name: params[name] for name in known}}
    if experiment.frozen:
        report(_frozen_share(experiment, model))
    return Start(model, given, source.tokenizer, each=bool(others and given))


def _own_seeds(experiment: FinetuningExperiment) -> tuple[int, ...]:
    """The seeds of ``init`` that the experiment's start from, one from each; none where
    all start from the same."""
    ours, theirs = experiment.all_seeds, run_seeds(experiment.init)
    return ours if len(theirs) > 1 and set(ours) <= set(theirs) else ()


def _frozen_share(experiment: FinetuningExperiment, model: nn.Module) -> str:
    """How much is frozen; shared weights make it more than it may seem."""
    params = abstract_params(model)
    frozen = frozen_leaves(model.config, experiment.frozen)(params)
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    pairs = zip(sizes, jax.tree.leaves(frozen), strict=True)
    some = sum(size for size, stays in pairs if stays)
    return f"frozen: {some:,} of {sum(sizes):,} parameters"


def _refuse_other_head(
    init: str, source: Pretrained, task: Task, model: nn.Module
) -> None:
    theirs = type(source.model).__name__
    if theirs != task.head:
        raise UserError(
            f"keep_head is True, but {init} is {theirs} and {task.name} needs "
            f"{task.head}; without keep_head a new head is drawn"
        )
    given, wanted = (options_of(m).get("num_labels") for m in (source.model, model))
    if given != wanted:
        raise UserError(
            f"keep_head is True, but the head of {init} has {given} labels and "
            f"{task.name} has {wanted}; without keep_head a new head is drawn"
        )
