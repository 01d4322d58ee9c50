"""Fine-tuning of several seeds: one program for all of them, beside one after another.

    python benchmarks/seeds.py experiments/glue.py:mrpc --init SOURCE [--folder glue]
        [--seeds 8] [--steps 40] [--batch 16] [--length 64]

Both train the same seeds on the same batches. Shown are how far the losses of the first
20 steps differ, the dev scores that either way comes to, and the seconds of a step of
all seeds, without compilation: the median over steps, the two ways in turn.
"""

import argparse
import statistics
import time
from dataclasses import replace

import jax
import numpy as np

from albert_jax.catalogue import load_experiment
from albert_jax.config import MeshConfig
from albert_jax.config.finetuning import FinetuningExperiment
from albert_jax.finetuning.evaluation import Evaluator, of_seeds
from albert_jax.finetuning.programs import Programs, compile_programs
from albert_jax.finetuning.results import Spread
from albert_jax.finetuning.start import Start, open_start
from albert_jax.tasks.batches import TrainingBatches, units_of
from albert_jax.tasks.features import features_of
from albert_jax.tasks.reader import read_examples
from albert_jax.train.sharding import make_mesh
from albert_jax.train.state import TrainState


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment")
    parser.add_argument("--init", required=True)
    parser.add_argument("--folder", default="glue")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-4)
    return parser.parse_args()


def experiment_of(args: argparse.Namespace) -> FinetuningExperiment:
    loaded = load_experiment(args.experiment)
    return replace(
        loaded,
        task=replace(loaded.task, folder=args.folder, max_length=args.length),
        init=args.init,
        optimizer=replace(
            loaded.optimizer, learning_rate=args.rate, warmup_steps=args.steps // 10
        ),
        batch_size=args.batch,
        steps=args.steps,
        seeds=args.seeds,
    )


class Way:
    """A state and what moves it; remembers losses and seconds."""

    def __init__(
        self, programs: Programs, start: Start, batches: TrainingBatches
    ) -> None:
        kept = programs.init(start.given)
        names = ("step", "params", "opt_state", "key")
        self.state = TrainState(**{name: kept[name] for name in names})
        self._programs, self._batches = programs, batches
        self.losses: list[float] = []

    def step(self, number: int) -> float:
        """The seconds that a step took."""
        batch = jax.device_put(self._batches[number])
        began = time.perf_counter()
        self.state, sums = self._programs.step(self.state, batch)
        total, weight = jax.device_get(sums["label_loss"])
        self.losses.append(float(total / weight))
        return time.perf_counter() - began


def main() -> None:
    args = parse()
    experiment = experiment_of(args)
    start = open_start(experiment, print)
    task, mesh = experiment.task, make_mesh(MeshConfig())
    train, dev = (read_examples(task, split, print) for split in ("train", "dev"))
    units = units_of(task, features_of(task, train, start.tokenizer))

    def way(some: FinetuningExperiment, programs: Programs) -> Way:
        batches = TrainingBatches(
            units,
            batch_size=args.batch,
            seeds=some.all_seeds,
            longest=start.model.config.max_position_embeddings,
            pad_id=start.tokenizer.pad_id,
        )
        return Way(programs, start, batches)

    together = way(experiment, compile_programs(experiment, start, mesh))
    one = replace(experiment, seeds=1)
    # All of them share the compiled step: it knows nothing of the seed.
    step = compile_programs(one, start, mesh).step
    alone = []
    for seed in experiment.all_seeds:
        some = replace(one, seed=seed)
        programs = compile_programs(some, start, mesh)
        alone.append(way(some, replace(programs, step=step)))

    seconds: dict[str, list[float]] = {"together": [], "alone": []}
    for number in range(args.steps):
        seconds["together"].append(together.step(number))
        seconds["alone"].append(sum(a.step(number) for a in alone))
    means = np.mean([a.losses for a in alone], axis=0)
    gap = np.abs(np.array(together.losses) - means)
    print(f"losses of the first 20 steps differ by at most {gap[:20].max():.1e}")

    evaluator = Evaluator(start.model, start.tokenizer, task, dev)
    metric = task.metrics[0]
    trees = {
        "together": of_seeds(together.state.params),
        "alone": (next(of_seeds(a.state.params)) for a in alone),
    }
    for name, params in trees.items():
        found = [evaluator.scores(evaluator.predict(p))[metric] for p in params]
        # The first steps compile, and each length of batch does.
        median = statistics.median(seconds[name])
        print(f"{name:9} {median:7.3f} s a step; dev {metric} {Spread.of(found)}")
    ratio = statistics.median(
        a / t for t, a in zip(seconds["together"], seconds["alone"], strict=True)
    )
    print(f"one program is {ratio:.2f} times as fast")


if __name__ == "__main__":
    main()
