"""Pretraining: its step as a pure function, and the run that drives it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

from albert_jax.config import PretrainingExperiment, UserError
from albert_jax.data.pipeline import PretrainingData
from albert_jax.data.shards import PreparedCorpus
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.model.heads import AlbertForPreTraining
from albert_jax.model.losses import MODEL_INPUTS, Sums, objective, pretraining_losses
from albert_jax.train.curves import draw_curves
from albert_jax.train.evaluation import HeldOut
from albert_jax.train.loop import Cadence, Recorder, run_loop
from albert_jax.train.metrics import MetricsLog, read_metrics
from albert_jax.train.optimizer import linear_schedule, make_optimizer
from albert_jax.train.progress import Progress, describe
from albert_jax.train.run import CHECKPOINTS, CURVES, METRICS, open_run, run_identity
from albert_jax.train.sharding import abstract, check_batch, make_mesh, place_batch
from albert_jax.train.state import TrainState, init_state, take_step
from albert_jax.train.utilization import Utilization

if TYPE_CHECKING:
    from rich.console import Console

Batch = Mapping[str, Array]


def _losses(model: nn.Module, params: PyTree, batch: Batch, **options) -> Sums:
    inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}
    output = model.apply({"params": params}, **inputs, **options)
    return pretraining_losses(output, batch)


def train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    batch: Batch,
) -> tuple[TrainState, Sums]:
    """One step on one batch: a pure function, fit for ``jit`` and ``vmap``.

    Returns the next state and the batch's losses, and what ``take_step`` adds.
    """

    def losses(params: PyTree, dropout: Array) -> tuple[Array, Sums]:
        sums = _losses(
            model, params, batch, deterministic=False, rngs={"dropout": dropout}
        )
        return objective(sums), sums

    seen = batch.get("attention_mask", jnp.ones_like(batch["input_ids"]))
    return take_step(losses, optimizer, state, seen)


def eval_step(model: nn.Module, params: PyTree, batch: Batch) -> Sums:
    """The losses of a batch without dropout."""
    return _losses(model, params, batch)


def pretrain(
    experiment: PretrainingExperiment,
    workdir: str | Path,
    *,
    accept_changes: bool = False,
    console: "Console | None" = None,
    stopping: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Trains an experiment on its prepared corpus, from where ``workdir`` left off.

    Args:
      accept_changes: resume although settings differ from the checkpoint's.
      console: what to show progress on; nothing is printed without one.
      stopping: asked before every step; once it says yes the state is saved and
        training ends, to be resumed later.

    Returns:
      The last evaluation's metrics, "eval/unigram_accuracy", what always answering
      the commonest piece would score, and "step", where training ended.

    Raises:
      UserError: the settings contradict the devices, the data, the run or each other.
      NonFiniteLossError: training diverged.
    """
    from albert_jax.train.checkpoint import Checkpoints

    run = Path(workdir)
    mesh = make_mesh(experiment.mesh)
    check_batch(mesh, "data.batch_size", experiment.data.batch_size)
    check_batch(mesh, "evaluation.batch_size", experiment.evaluation.batch_size)
    corpus, heldout, tokenizer = _open_corpus(experiment)
    data = PretrainingData(corpus, tokenizer, experiment.data, experiment.seed)
    fixed = PretrainingData(heldout, tokenizer, experiment.data, seed=0)
    programs = _compile(experiment, mesh)
    cadence = Cadence(
        steps=experiment.steps,
        log_every=experiment.log_every,
        evaluate_every=experiment.evaluation.every,
        save_every=experiment.checkpoint.every,
    )
    identity = run_identity(experiment, corpus)
    open_run(run, experiment, identity, tokenizer, accept_changes=accept_changes)

    with (
        jax.set_mesh(mesh),
        Progress(experiment.steps, console=console) as progress,
        Checkpoints(
            run / CHECKPOINTS,
            keep=experiment.checkpoint.keep,
            identity=identity,
            report=progress.message,
        ) as checkpoints,
    ):
        restored = checkpoints.restore(programs.shapes, accept_changes=accept_changes)
        start, state = 0, None
        if restored:
            start, state = restored.step, restored.state
            progress.message(f"resuming {run} at step {start:,}")
        position = restored.position if restored else 0
        heldout = HeldOut(
            fixed, experiment.evaluation, programs.evaluate, partial(place_batch, mesh)
        )
        baseline = {"eval/unigram_accuracy": heldout.unigram(corpus.piece_counts)}

        with MetricsLog(run, resume_step=start if restored else None) as log:
            past = _Past.read(run / METRICS)
            if not restored:
                log.write(0, baseline)
            metrics = dict(past.evaluation)

            def evaluate(step: int, state: TrainState) -> None:
                if step == past.evaluated:
                    return
                metrics.update(heldout(state.params))
                log.write(step, metrics)
                progress.message(f"step {step:,}: {describe(metrics)}")
                if step:
                    draw_curves(run / METRICS, run / CURVES, experiment.name)

            def save(step: int, state: TrainState) -> None:
                rows = position + (step - start) * experiment.data.batch_size
                checkpoints.save(step, state, rows)

            utilization = None
            if start < experiment.steps:
                utilization = Utilization.of(experiment.model, experiment.data)
                progress.message(utilization.source)
            _, step = run_loop(
                state or programs.init(jax.random.key(experiment.seed)),
                start,
                _batches(data, position, experiment.steps - start, mesh),
                programs.step,
                evaluate,
                save,
                Recorder(
                    log,
                    progress,
                    cadence,
                    programs.schedule,
                    past.tokens,
                    utilization,
                ),
                cadence,
                stopping,
            )
    return metrics | baseline | {"step": step}


@dataclass(frozen=True)
class _Programs:
    """What runs on the devices, and the shapes and places of what it runs on."""

    init: Callable[[Array], TrainState]
    step: Callable[[TrainState, Batch], tuple[TrainState, Sums]]
    evaluate: Callable[[PyTree, Batch], Sums]
    shapes: TrainState
    schedule: optax.Schedule


def _compile(experiment: PretrainingExperiment, mesh: Mesh) -> _Programs:
    model = AlbertForPreTraining(experiment.model)
    schedule = linear_schedule(
        experiment.optimizer.learning_rate,
        experiment.optimizer.warmup_steps,
        experiment.steps,
    )
    optimizer = make_optimizer(experiment.optimizer, schedule)
    init = partial(init_state, model=model, optimizer=optimizer)
    shapes = abstract(mesh, init, jax.random.key(0))
    placement = jax.tree.map(lambda leaf: leaf.sharding, shapes)
    return _Programs(
        init=jax.jit(init, out_shardings=placement),
        step=jax.jit(
            partial(train_step, model, optimizer),
            donate_argnums=0,
            out_shardings=(placement, None),
        ),
        evaluate=jax.jit(partial(eval_step, model)),
        shapes=shapes,
        schedule=schedule,
    )


@dataclass(frozen=True)
class _Past:
    """What a run's log says of the steps before."""

    tokens: int = 0
    """Real tokens seen."""
    evaluated: int | None = None
    """The last step that was evaluated."""
    evaluation: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "_Past":
        past: dict[str, Any] = {}
        for line in read_metrics(path):
            if "tokens" in line:
                past["tokens"] = line["tokens"]
            elif "eval/masked_lm_loss" in line:
                step = line.pop("step")
                past |= {"evaluated": step, "evaluation": line}
        return cls(**past)


def _open_corpus(
    experiment: PretrainingExperiment,
) -> tuple[PreparedCorpus, PreparedCorpus, Tokenizer]:
    """Both splits of the prepared corpus, and a vocabulary that fits the model."""
    folder = experiment.corpus.prepared
    corpus, heldout = (PreparedCorpus.open(folder, s) for s in ("train", "heldout"))
    tokenizer = Tokenizer.load(corpus.tokenizer_path)
    if tokenizer.vocab_size != experiment.model.vocab_size:
        raise UserError(
            f"model.vocab_size is {experiment.model.vocab_size}, but the vocabulary in "
            f"{folder} has {tokenizer.vocab_size} pieces"
        )
    return corpus, heldout, tokenizer


def _batches(
    data: PretrainingData, position: int, steps: int, mesh: Mesh
) -> Iterator[Batch]:
    """The batches of the steps that are left, on their devices."""
    size = data.config.batch_size
    rows = data.batches(
        position, position + steps * size, jax.process_index(), jax.process_count()
    )
    return (place_batch(mesh, batch) for batch in rows)
