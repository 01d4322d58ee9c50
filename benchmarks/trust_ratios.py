"""What it costs to log LAMB's trust ratios: a pretraining step with them, and without.

    python benchmarks/trust_ratios.py [experiments/small.py:short] [--steps 200]
        [--batch ROWS] [--rounds 9]

Each way is its compiled step and what the loop does on the host with its losses: they
are fetched, their means and the window's sums computed. (Training does that while the
next step computes; here it counts in full.) A round times so many steps of either way
in turn; shown is the median ratio of a round, and the quartiles.

Measured: docs/results.md, *From layer to layer*.
"""

import argparse
import time
from dataclasses import replace

import jax
from remat import make_batch
from spread import ratios, spread

from albert_jax.catalogue import load_experiment
from albert_jax.config import PretrainingExperiment
from albert_jax.heap import keep_heap
from albert_jax.model.losses import Sums
from albert_jax.train.metrics import add, means
from albert_jax.train.pretrain import compile_programs
from albert_jax.train.sharding import make_mesh

WAYS = {"without": False, "with": True}


class Way:
    """A state and the compiled step that moves it."""

    def __init__(self, experiment: PretrainingExperiment) -> None:
        self._mesh = make_mesh(experiment.mesh)
        programs = compile_programs(experiment, self._mesh)
        data = experiment.data
        self._batch = make_batch(
            data.batch_size, data.sequence_length, experiment.model.vocab_size
        )
        with jax.set_mesh(self._mesh):
            self._state = programs.init(jax.random.key(0))
        self._step = programs.step
        self.run(2)

    def run(self, steps: int) -> float:
        """The seconds of a step, over so many."""
        window: Sums = {}
        began = time.perf_counter()
        with jax.set_mesh(self._mesh):
            for _ in range(steps):
                self._state, sums = self._step(self._state, self._batch)
                fetched = jax.device_get(sums)
                means(fetched)
                window = add(window, fetched)
        return (time.perf_counter() - began) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", nargs="?", default="experiments/small.py:short")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    keep_heap()  # as the commands do

    experiment = load_experiment(args.experiment)
    rows = args.batch or experiment.data.batch_size
    experiment = replace(experiment, data=replace(experiment.data, batch_size=rows))
    ways = {
        name: Way(replace(experiment, log_trust_ratios=logs))
        for name, logs in WAYS.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(args.rounds):
        for name in sorted(ways, reverse=number % 2 == 0):
            seconds[name].append(ways[name].run(args.steps))
    shape = f"{rows} x {experiment.data.sequence_length}"
    print(f"{args.experiment}, {shape}, jax {jax.__version__}, ", end="")
    print(f"{jax.devices()[0].device_kind}; {args.rounds} rounds of {args.steps} steps")
    for name in WAYS:
        print(f"{name:8} {spread([1000 * s for s in seconds[name]]):.2f} ms a step")
    print(f"with / without: {ratios(seconds['with'], seconds['without']):.4f}")


if __name__ == "__main__":
    main()
