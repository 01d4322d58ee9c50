"""Several seeds of one experiment: one program for all, beside one after another.

    python benchmarks/seeds.py experiments/glue.py:mrpc --init SOURCE [--folder glue]
        [--seeds 8] [--steps 40] [--batch 16] [--length 64]
    python benchmarks/seeds.py experiments/demo.py [--prepared FOLDER] [--seeds 5] ...

Of fine-tuning and of pretraining; the latter's corpus must be prepared. Both ways train
the same seeds on the same batches. Shown are how far the losses of the first 20 steps
differ; where it is fine-tuned, the dev scores that either way comes to; and the seconds
of a step of all seeds, without compilation: the median over steps, the two in turn.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from albert_jax.catalogue import load_experiment
from albert_jax.config import MeshConfig, PretrainingExperiment
from albert_jax.config.finetuning import FinetuningExperiment
from albert_jax.data.pipeline import PretrainingData
from albert_jax.data.shards import PreparedCorpus
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.finetuning.evaluation import Evaluator, of_seeds
from albert_jax.finetuning.programs import compile_programs as compile_finetuning
from albert_jax.finetuning.results import Spread
from albert_jax.finetuning.start import open_start
from albert_jax.heap import keep_heap
from albert_jax.tasks.batches import TrainingBatches, units_of
from albert_jax.tasks.features import features_of
from albert_jax.tasks.reader import read_examples
from albert_jax.train.metrics import means
from albert_jax.train.pretrain import compile_programs as compile_pretraining
from albert_jax.train.seeds import keys_of, over_seeds, stack
from albert_jax.train.sharding import make_mesh
from albert_jax.train.state import TrainState

MESH = make_mesh(MeshConfig())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--length", type=int)
    parser.add_argument("--rate", type=float)
    finetuning = parser.add_argument_group("fine-tuning")
    finetuning.add_argument("--init")
    finetuning.add_argument("--folder", default="glue")
    pretraining = parser.add_argument_group("pretraining")
    pretraining.add_argument("--prepared")
    return parser.parse_args()


class Way:
    """A state and what moves it; remembers losses."""

    def __init__(
        self,
        state: TrainState,
        step: Callable[..., Any],
        batches: Iterator[Any],
        loss: str,
    ) -> None:
        self.state, self._step, self._batches = state, step, batches
        self._loss = loss
        self.losses: list[float] = []

    def step(self) -> float:
        """The seconds that a step took."""
        batch = jax.device_put(next(self._batches))
        began = time.perf_counter()
        self.state, sums = self._step(self.state, batch)
        self.losses.append(means(over_seeds(jax.device_get(sums)))[self._loss])
        return time.perf_counter() - began


def race(together: Way, alone: list[Way], steps: int) -> None:
    """Trains both ways, and prints how far they differ and how long they took."""
    seconds: dict[str, list[float]] = {"together": [], "alone": []}
    for _ in range(steps):
        seconds["together"].append(together.step())
        seconds["alone"].append(sum(way.step() for way in alone))
    theirs = np.mean([way.losses for way in alone], axis=0)
    gap = np.abs(np.array(together.losses) / theirs - 1)[:20].max()
    print(f"losses of the first 20 steps differ by at most {gap:.1e} of them")
    for name, each in seconds.items():
        # The first steps compile, and each length of batch does.
        print(f"{name:9} {statistics.median(each):7.3f} s a step of all seeds")
    pairs = zip(seconds["together"], seconds["alone"], strict=True)
    ratio = statistics.median(alone / together for together, alone in pairs)
    print(f"one program is {ratio:.2f} times as fast")


def race_finetuning(loaded: FinetuningExperiment, args: argparse.Namespace) -> None:
    experiment = replace(
        loaded,
        task=replace(loaded.task, folder=args.folder, max_length=args.length or 64),
        init=args.init,
        optimizer=replace(
            loaded.optimizer,
            learning_rate=args.rate or 1e-4,
            warmup_steps=args.steps // 10,
        ),
        batch_size=args.batch or 16,
        steps=args.steps,
        seeds=args.seeds,
    )
    start = open_start(experiment, print)
    task = experiment.task
    train, dev = (read_examples(task, split, print) for split in ("train", "dev"))
    units = units_of(task, features_of(task, train, start.tokenizer))

    def way(some: FinetuningExperiment, step: Callable[..., Any] | None) -> Way:
        batches = TrainingBatches(
            units,
            batch_size=some.batch_size,
            seeds=some.all_seeds,
            longest=start.model.config.max_position_embeddings,
            pad_id=start.tokenizer.pad_id,
        )
        programs = compile_finetuning(some, start, MESH)
        kept = programs.init(start.given)
        state = TrainState(
            **{name: kept[name] for name in ("step", "params", "opt_state", "key")}
        )
        every = (batches[number] for number in range(args.steps))
        return Way(state, step or programs.step, every, "label_loss")

    one = replace(experiment, seeds=1)
    # All of them share the compiled step: it knows nothing of the seed.
    step = compile_finetuning(one, start, MESH).step
    together = way(experiment, None)
    alone = [way(replace(one, seed=seed), step) for seed in experiment.all_seeds]
    race(together, alone, args.steps)

    evaluator = Evaluator(start.model, start.tokenizer, task, dev)
    metric = task.metrics[0]
    trees = {
        "together": of_seeds(together.state.params),
        "alone": (next(of_seeds(a.state.params)) for a in alone),
    }
    for name, params in trees.items():
        found = [evaluator.scores(evaluator.predict(p))[metric] for p in params]
        print(f"{name:9} dev {metric} {Spread.of(found)}")


def race_pretraining(loaded: PretrainingExperiment, args: argparse.Namespace) -> None:
    data, optimizer = loaded.data, loaded.optimizer
    experiment = replace(
        loaded,
        data=replace(
            data,
            batch_size=args.batch or data.batch_size,
            sequence_length=args.length or data.sequence_length,
        ),
        # The first steps of its own schedule.
        optimizer=replace(
            optimizer, learning_rate=args.rate or optimizer.learning_rate
        ),
        seeds=args.seeds,
    )
    corpus = PreparedCorpus.open(args.prepared or loaded.corpus.prepared, "train")
    tokenizer = Tokenizer.load(corpus.tokenizer_path)

    def rows(seed: int) -> Iterator[Any]:
        one = PretrainingData(corpus, tokenizer, experiment.data, seed)
        return one.batches(0, args.steps * experiment.data.batch_size)

    with jax.set_mesh(MESH):
        programs = compile_pretraining(experiment, MESH)
        single = compile_pretraining(replace(experiment, seeds=1), MESH)
        together = Way(
            programs.init(keys_of(experiment.all_seeds)),
            programs.step,
            map(stack, zip(*map(rows, experiment.all_seeds), strict=True)),
            "masked_lm_loss",
        )
        alone = [
            Way(
                single.init(jax.random.key(seed)),
                single.step,
                rows(seed),
                "masked_lm_loss",
            )
            for seed in experiment.all_seeds
        ]
        race(together, alone, args.steps)


def main() -> None:
    args = parse()
    keep_heap()  # as the commands do
    experiment = load_experiment(args.experiment)
    if isinstance(experiment, FinetuningExperiment):
        race_finetuning(experiment, args)
    else:
        race_pretraining(experiment, args)


if __name__ == "__main__":
    main()
