"""A fine-tuning run: from a pretrained model to a task's scores, over many seeds."""

import hashlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from albert_jax.config import MeshConfig, UserError
from albert_jax.config.finetuning import FinetuningExperiment
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.finetuning.evaluation import Evaluator, conclude, of_seeds, sign_of
from albert_jax.finetuning.programs import Programs, compile_programs
from albert_jax.finetuning.results import Results
from albert_jax.finetuning.start import Start, open_start
from albert_jax.identity import identity, to_dict
from albert_jax.model.table import options_of
from albert_jax.tasks.batches import TrainingBatches, Unit, units_of
from albert_jax.tasks.examples import Example
from albert_jax.tasks.features import features_of
from albert_jax.tasks.reader import read_examples
from albert_jax.tasks.rows import refuse_too_long
from albert_jax.train.loop import Cadence, Recorder, run_loop
from albert_jax.train.metrics import MetricsLog, read_metrics
from albert_jax.train.progress import Progress, describe
from albert_jax.train.run import CHECKPOINTS, METRICS, open_run, vocabulary_file
from albert_jax.train.sharding import BATCH, check_batch, make_mesh
from albert_jax.train.state import TrainState

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Finetuned:
    """Where a run ended, and its results, if that was its last step."""

    step: int
    results: Results | None


def finetune(
    experiment: FinetuningExperiment,
    workdir: str | Path,
    *,
    accept_changes: bool = False,
    console: "Console | None" = None,
    report: Callable[[str], None] = warnings.warn,
    stopping: Callable[[], bool] = lambda: False,
) -> Finetuned:
    """Trains an experiment from where ``workdir`` left off, and scores it on ``dev``.

    Beside the files of any run, ``workdir`` receives ``results-dev.json`` and the
    predictions of every seed.

    Args:
      accept_changes: resume although settings differ from the checkpoint's.
      console: what to show progress on; nothing is printed without one.
      report: told what was left out of the data, and ignored or drawn of the model.
      stopping: asked before every step; once it says yes the state is saved and
        training ends, to be resumed later.

    Raises:
      UserError: the settings contradict the data, the model, the run or each other.
      NonFiniteLossError: a seed diverged.
    """
    from albert_jax.train.checkpoint import Checkpoints

    run, task = Path(workdir), experiment.task
    mesh = make_mesh(MeshConfig())
    check_batch(mesh, "batch_size", experiment.batch_size)
    train, dev = (read_examples(task, split, report) for split in ("train", "dev"))
    start = open_start(experiment, report)
    evaluator = Evaluator(start.model, start.tokenizer, task, dev)
    heldout = None
    if experiment.holds_out:
        train, held = _hold_out(train, experiment.heldout_fraction)
        heldout = Evaluator(start.model, start.tokenizer, task, held)
    units = _units(experiment, start, train)
    programs = compile_programs(experiment, start, mesh)
    shared = identity(experiment) | {"data": _digest(units)}
    open_run(
        run,
        experiment,
        shared,
        start.tokenizer,
        facts=_facts(start),
        accept_changes=accept_changes,
    )
    cadence = Cadence(
        steps=experiment.steps,
        log_every=experiment.log_every,
        evaluate_every=experiment.evaluate_every,
        save_every=experiment.checkpoint.every,
    )
    with (
        Progress(experiment.steps, console=console) as progress,
        Checkpoints(
            run / CHECKPOINTS,
            keep=experiment.checkpoint.keep,
            identity=shared,
            report=progress.message,
        ) as checkpoints,
    ):
        restored = checkpoints.restore(programs.shapes, accept_changes=accept_changes)
        first, kept = 0, None
        if restored:
            first, kept = restored.step, restored.state
            progress.message(f"resuming {run} at step {first:,}")
        else:
            kept = programs.init(start.given)
        state = TrainState(**{f.name: kept.pop(f.name) for f in fields(TrainState)})
        # What is chosen: ``Programs.init`` says what there is of it.
        best = kept

        with MetricsLog(run, resume_step=first if restored else None) as log:
            past = _Past.read(run / METRICS)

            def evaluate(step: int, state: TrainState) -> None:
                # By the last weights alone a rate is chosen where they count.
                early = experiment.rule == "last" and step < experiment.steps
                if heldout is None or early or step == past.evaluated:
                    return
                scores = _heldout_scores(experiment, heldout, programs, state.params)
                ranks = sign_of(task.metrics[0]) * scores[task.metrics[0]]
                best.update(
                    programs.choose(
                        best, state.params, jnp.float32(ranks), jnp.int32(step)
                    )
                )
                means = _means_by_rate(experiment, scores)
                log.write(step, means)
                progress.message(f"step {step:,}: {describe(means)}")

            def save(step: int, state: TrainState) -> None:
                position = step * experiment.batch_size
                checkpoints.save(step, vars(state) | best, position, recorder.unlogged)

            recorder = Recorder(
                log,
                progress,
                cadence,
                programs.schedule,
                past.tokens,
                unlogged=restored and restored.unlogged,
            )

            state, step = run_loop(
                state,
                first,
                _batches(experiment, start, units, first, mesh),
                programs.step,
                evaluate,
                save,
                recorder,
                cadence,
                stopping,
            )
            if step < experiment.steps:
                return Finetuned(step, None)
            chosen = best["best"] if experiment.rule == "best" else state.params
            ranks = np.asarray(best["score"]).tolist() if heldout else []
            begin = experiment.best_rate(ranks) * experiment.seeds if ranks else 0
            by_seed = islice(of_seeds(chosen), begin, begin + experiment.seeds)
            results = conclude(evaluator, experiment, "dev", by_seed, run, ranks)
            if results and not past.finished:
                means = {f"dev/{n}": one.mean for n, one in results.scores.items()}
                log.write(step, means)
    return Finetuned(step, results)


def _heldout_scores(
    experiment: FinetuningExperiment,
    heldout: Evaluator,
    programs: Programs,
    params: PyTree,
) -> dict[str, np.ndarray]:
    """Every metric, of each rate and seed; NaN where it has diverged."""
    lost = dict.fromkeys(experiment.task.metrics, math.nan)
    members = zip(np.asarray(programs.sound(params)), of_seeds(params), strict=True)
    scores = [
        heldout.scores(heldout.predict(one)) if alive else lost
        for alive, one in members
    ]
    return {
        name: np.array([one[name] for one in scores])
        for name in experiment.task.metrics
    }


def _means_by_rate(
    experiment: FinetuningExperiment, scores: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """For the log: means over seeds, under a name of each rate where there are more."""
    several = len(experiment.rates) > 1
    return {
        f"eval/{name}" + (f"/{rate:g}" if several else ""): float(mean)
        for name, values in scores.items()
        for rate, mean in zip(
            experiment.rates,
            values.reshape(-1, experiment.seeds).mean(axis=1),
            strict=True,
        )
    }


@dataclass(frozen=True)
class _Past:
    """What a run's log says of the steps before."""

    tokens: int = 0
    """Real tokens seen."""
    evaluated: int | None = None
    """The last step that was evaluated."""
    finished: bool = False
    """Whether the results are there."""

    @classmethod
    def read(cls, path: Path) -> "_Past":
        past: dict[str, Any] = {}
        for line in read_metrics(path):
            kinds = {name.partition("/")[0] for name in line}
            if "tokens" in line:
                past["tokens"] = line["tokens"]
            if "eval" in kinds:
                past["evaluated"] = line["step"]
            past["finished"] = "dev" in kinds
        return cls(**past)


def _hold_out(
    examples: Sequence[Example], fraction: float
) -> tuple[list[Example], list[Example]]:
    """The examples to train on, and those held out: the same for every seed."""
    count = round(fraction * len(examples))
    if not 0 < count < len(examples):
        raise UserError(
            f"heldout_fraction is {fraction}, but of {len(examples)} examples it must "
            "leave some on either side"
        )
    chosen = set(np.random.default_rng(0).permutation(len(examples))[:count].tolist())
    parts: tuple[list[Example], list[Example]] = ([], [])
    for number, example in enumerate(examples):
        parts[number in chosen].append(example)
    return parts


def _units(
    experiment: FinetuningExperiment, start: Start, examples: Sequence[Example]
) -> list[Unit]:
    rows = features_of(experiment.task, examples, start.tokenizer)
    refuse_too_long(rows, start.model.config.max_position_embeddings)
    return units_of(experiment.task, rows)


def _digest(units: Sequence[Unit]) -> str:
    """Of all that is trained on."""
    hashed = hashlib.sha256()
    for unit in units:
        for row in unit:
            for name, value in {**row.inputs, **row.targets}.items():
                hashed.update(name.encode() + np.asarray(value).tobytes())
    return hashed.hexdigest()[:16]


def _facts(start: Start) -> dict[str, Any]:
    """What ``load_run`` needs to know beside the experiment."""
    tokenizer: Tokenizer = start.tokenizer
    return {
        "model": {
            "head": type(start.model).__name__,
            "options": options_of(start.model),
            "config": to_dict(start.model.config),
        },
        "tokenizer": {"file": vocabulary_file(tokenizer)} | asdict(tokenizer.rules),
    }


def _batches(
    experiment: FinetuningExperiment,
    start: Start,
    units: Sequence[Unit],
    first: int,
    mesh: Mesh,
) -> Iterator[dict[str, Array]]:
    """The batches of the steps that are left, on their devices."""
    batches = TrainingBatches(
        units,
        batch_size=experiment.batch_size,
        seeds=experiment.all_seeds,
        longest=start.model.config.max_position_embeddings,
        pad_id=start.tokenizer.pad_id,
    )
    where = NamedSharding(mesh, PartitionSpec(None, *BATCH))
    steps = range(first, experiment.steps)
    return (jax.device_put(batches[step], where) for step in steps)
