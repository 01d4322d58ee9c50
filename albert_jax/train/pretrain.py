"""Pretraining: its step as a pure function, and the run that drives it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import AbstractMesh, Mesh
from jaxtyping import Array, PyTree

from albert_jax.config import PretrainingExperiment, UserError
from albert_jax.data.pipeline import PretrainingData
from albert_jax.data.shards import PreparedCorpus
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.identity import digest, to_dict
from albert_jax.model.attention import attention_path
from albert_jax.model.heads import AlbertForPreTraining
from albert_jax.model.losses import (
    MODEL_INPUTS,
    Sums,
    named,
    objective,
    pretraining_losses,
    pretraining_weights,
)
from albert_jax.train.accumulation import gradient
from albert_jax.train.evaluation import HeldOut
from albert_jax.train.loop import Cadence, NonFiniteLossError, Recorder, run_loop
from albert_jax.train.metrics import MetricsLog, read_metrics
from albert_jax.train.optimizer import linear_schedule, make_optimizer
from albert_jax.train.processes import agreed, alike, first, meet
from albert_jax.train.progress import Progress, describe
from albert_jax.train.run import CHECKPOINTS, CURVES, METRICS, open_run, run_identity
from albert_jax.train.seeds import (
    evaluation_of_seeds,
    keys_of,
    stack,
    step_of_seeds,
)
from albert_jax.train.sharding import (
    abstract,
    check_division,
    everywhere,
    host_part,
    make_mesh,
    on_mesh,
    place_batch,
    place_whole,
)
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
    accumulation: int = 1,
    asks: str = "sentence_order",
) -> tuple[TrainState, Sums]:
    """One step on one batch: a pure function, fit for ``jit`` and ``vmap``.

    The gradient is computed in ``accumulation`` parts, one after another. ``asks`` is
    the sentence objective of the batch, which its losses are named by.

    Returns the next state and the batch's losses, and what ``take_step`` adds.
    """
    weights = pretraining_weights(batch)

    def loss(params: PyTree, rows: Batch, key: Array) -> tuple[Array, Sums]:
        sums = _losses(model, params, rows, deterministic=False, rngs={"dropout": key})
        return objective({n: (sums[n][0], weights[n]) for n in weights}), sums

    def gradient_of(params: PyTree, dropout: Array) -> tuple[PyTree, Sums]:
        return gradient(loss, params, batch, dropout, accumulation)

    seen = batch.get("attention_mask", jnp.ones_like(batch["input_ids"]))
    state, sums = take_step(gradient_of, optimizer, state, seen)
    return state, named(sums, asks)


def eval_step(model: nn.Module, params: PyTree, batch: Batch) -> Sums:
    """The losses of a batch without dropout."""
    return _losses(model, params, batch)


def pretrain(
    experiment: PretrainingExperiment,
    workdir: str | Path,
    *,
    open_init: Callable[[Tokenizer], PyTree] | None = None,
    accept_changes: bool = False,
    console: "Console | None" = None,
    stopping: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Trains an experiment on its prepared corpus, from where ``workdir`` left off.

    Args:
      open_init: the parameters that a new run starts from, given the corpus's
        tokenizer, with an axis of seeds where there are several;
        ``interop.pretraining.pretrain`` opens the experiment's ``init``.
      accept_changes: resume although settings differ from the checkpoint's.
      console: what to show progress on; nothing is printed without one.
      stopping: asked before every step; once it says yes the state is saved and
        training ends, to be resumed later.

    Called in every process of a run, with the same arguments.

    Returns:
      The last evaluation's metrics (in the first process only), "step", where training
      ended, and "eval/unigram_accuracy", what always answering the commonest piece
      would score.

    Raises:
      UserError: the settings contradict the devices, the data, the run or each other.
      NonFiniteLossError: training diverged.
    """
    from albert_jax.train.checkpoint import Checkpoints

    run = Path(workdir)
    mesh = make_mesh(experiment.mesh)
    check_division(mesh, experiment)
    corpus, heldout, tokenizer = _open_corpus(experiment)
    data = [
        PretrainingData(corpus, tokenizer, experiment.data, seed)
        for seed in experiment.all_seeds
    ]
    fixed = [PretrainingData(heldout, tokenizer, d, seed=0) for d in experiment.heldout]
    programs = compile_programs(experiment, mesh)
    cadence = Cadence(
        steps=experiment.steps,
        log_every=experiment.log_every,
        evaluate_every=experiment.evaluation.every,
        save_every=experiment.checkpoint.every,
    )
    _refuse_other_settings(experiment, corpus)
    identity = run_identity(experiment, corpus)
    open_run(run, experiment, identity, tokenizer, accept_changes=accept_changes)

    with (
        _Picture(run, experiment.name) as picture,
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
            fixed, experiment.evaluation, programs.evaluate, partial(place_whole, mesh)
        )
        baseline = {"eval/unigram_accuracy": heldout.unigram(corpus.piece_counts)}

        with MetricsLog(run, resume_step=start if restored else None) as log:
            # Of several processes only the first one knows when it is cut back.
            past = _Past.read(run / METRICS) if first() else _Past()
            if not restored:
                log.write(0, baseline)
            evaluated = agreed(past.evaluated)
            metrics = dict(past.evaluation)
            # Anew when a run goes on: it may have ended before it was drawn.
            picture.behind = past.evaluated > 0

            def evaluate(step: int, state: TrainState) -> None:
                if step == evaluated:
                    return
                metrics.update(heldout(state.params))
                log.write(step, metrics)
                progress.message(f"step {step:,}: {describe(metrics)}")
                if step and first():
                    picture.changed()

            def save(step: int, state: TrainState) -> None:
                rows = position + (step - start) * experiment.data.batch_size
                checkpoints.save(step, state, rows, recorder.unlogged)

            utilization = None
            if start < experiment.steps:
                utilization = Utilization.of(
                    experiment.model, experiment.data, experiment.seeds
                )
                progress.message(utilization.source)
                progress.message(attention_path(experiment.model))
            recorder = Recorder(
                log,
                progress,
                cadence,
                programs.schedule,
                past.tokens,
                utilization,
                restored and restored.unlogged,
            )
            _, step = run_loop(
                state or _fresh(experiment, programs, tokenizer, open_init),
                start,
                _batches(data, position, experiment.steps - start, mesh),
                programs.step,
                evaluate,
                save,
                recorder,
                cadence,
                stopping,
            )
    meet("everything is written")
    return metrics | baseline | {"step": step}


@dataclass(frozen=True)
class Programs:
    """What runs on the devices, and the shapes and places of what it runs on.

    Of several seeds, states and batches to train on have an axis of seeds first.
    """

    init: Callable[..., TrainState]
    """Of a key, and perhaps ``params``."""
    step: Callable[[TrainState, Batch], tuple[TrainState, Sums]]
    evaluate: Callable[[PyTree, Batch], Sums]
    shapes: TrainState
    schedule: optax.Schedule


def compile_programs(
    experiment: PretrainingExperiment, mesh: Mesh | AbstractMesh
) -> Programs:
    """The programs of a run on a mesh; XLA compiles each when it is first called, which
    must be under ``jax.set_mesh(mesh)``."""
    model = AlbertForPreTraining(experiment.model)
    schedule = linear_schedule(
        experiment.optimizer.learning_rate,
        experiment.optimizer.warmup_steps,
        experiment.steps,
    )
    optimizer = make_optimizer(
        experiment.optimizer, schedule, tell_trust_ratios=experiment.log_trust_ratios
    )
    init = partial(init_state, model=model, optimizer=optimizer)
    step, evaluate = (on_mesh(mesh, program) for program in (train_step, eval_step))
    step = partial(
        step,
        model,
        optimizer,
        accumulation=experiment.accumulation,
        asks=experiment.data.objective,
    )
    evaluate = partial(evaluate, model)
    if experiment.seeds > 1:
        init = jax.vmap(init)
        step = step_of_seeds(step, experiment.all_seeds)
        evaluate = evaluation_of_seeds(evaluate, experiment.all_seeds)
    shapes = abstract(mesh, init, _key(experiment))
    placement = jax.tree.map(lambda leaf: leaf.sharding, shapes)
    return Programs(
        init=jax.jit(init, out_shardings=placement),
        step=jax.jit(
            step,
            donate_argnums=0,
            out_shardings=(placement, everywhere(mesh)),
        ),
        evaluate=jax.jit(evaluate, out_shardings=everywhere(mesh)),
        shapes=shapes,
        schedule=schedule,
    )


def _key(experiment: PretrainingExperiment) -> Array:
    """What all draws of a run derive from; of several seeds, a key each."""
    if experiment.seeds > 1:
        return keys_of(experiment.all_seeds)
    return jax.random.key(experiment.seed)


def _fresh(
    experiment: PretrainingExperiment,
    programs: Programs,
    tokenizer: Tokenizer,
    open_init: Callable[[Tokenizer], PyTree] | None,
) -> TrainState:
    """The state of a run that has not begun."""
    key = _key(experiment)
    if experiment.init is None:
        return programs.init(key)
    if open_init is None:
        raise UserError(
            f"init is {experiment.init!r}, which nobody has opened: call "
            "albert_jax.pretrain"
        )
    return programs.init(key, params=open_init(tokenizer))


@dataclass
class _Picture:
    """The curves of a run under way: drawing takes half a second, and can wait.

    Its end is the run's, once all is saved or the loss is no longer a number.
    """

    run: Path
    title: str
    behind: bool = False
    """Something was evaluated since it was drawn."""
    drawn: float = 0.0
    """When; at first, since when it could have been."""

    def __enter__(self) -> "_Picture":
        self.drawn = monotonic()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if error is None or isinstance(error, NonFiniteLossError):
            self.draw()

    def changed(self) -> None:
        """Something was evaluated: draws at most once a minute."""
        self.behind = True
        if monotonic() - self.drawn >= 60:
            self.draw()

    def draw(self) -> None:
        if self.behind:
            # matplotlib is slow to load, and a run that fails early needs none.
            from albert_jax.train.curves import draw_curves

            draw_curves(self.run / METRICS, self.run / CURVES, self.title)
            self.behind, self.drawn = False, monotonic()


@dataclass(frozen=True)
class _Past:
    """What a run's log says of the steps before."""

    tokens: int = 0
    """Real tokens seen."""
    evaluated: int = -1
    """The last step that was evaluated; -1 for none."""
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


def _refuse_other_settings(
    experiment: PretrainingExperiment, corpus: PreparedCorpus
) -> None:
    """Raises a ``UserError`` unless all processes train the same on the same data."""
    ours = int(digest([to_dict(experiment), corpus.fingerprint])[:7], 16)
    if not alike(ours):
        raise UserError(
            "the processes of this run differ in their settings, or in the corpus that "
            f"they find in {experiment.corpus.prepared}"
        )


def _batches(
    data: Sequence[PretrainingData], position: int, steps: int, mesh: Mesh
) -> Iterator[Batch]:
    """The batches of the steps that are left, on their devices; of several seeds,
    [seeds, rows, ...] of the same rows' numbers."""
    end = position + steps * data[0].config.batch_size
    streams = [one.batches(position, end, *host_part(mesh)) for one in data]
    rows = streams[0] if len(data) == 1 else map(stack, zip(*streams, strict=True))
    return (place_batch(mesh, batch) for batch in rows)
