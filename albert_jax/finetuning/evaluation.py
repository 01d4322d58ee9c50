"""A head's parameters on the examples of a task: predictions and scores."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from flax import linen as nn
from jaxtyping import PyTree

from albert_jax.config import UserError
from albert_jax.config.finetuning import FinetuningExperiment
from albert_jax.config.tasks import Task
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.finetuning.results import Results, Spread
from albert_jax.identity import from_dict
from albert_jax.tasks.evaluation import Prediction, evaluate
from albert_jax.tasks.examples import Example
from albert_jax.tasks.predictions import write_predictions
from albert_jax.tasks.predictor import Predictor
from albert_jax.tasks.reader import read_examples
from albert_jax.train.run import load_seeds, read_experiment

PREDICTIONS = "predictions"
# Metrics of which less is better.
_ERRORS = ("mean_squared_error",)


class Evaluator:
    """Predicts and scores the same examples with any parameters of a model.

    Args:
      model: the task's head.
      tokenizer: the model's.
      task: of any kind.
      examples: as read.

    Raises:
      UserError: a row is longer than the model's positions.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        task: Task,
        examples: Sequence[Example],
    ) -> None:
        self.task, self.examples = task, examples
        self._predictor = Predictor(model, tokenizer, task)
        self._rows = self._predictor.rows(examples)

    @property
    def labelled(self) -> bool:
        """Whether every example has what predictions are compared with."""
        return all(row.targets for row in self._rows)

    def predict(self, params: PyTree) -> list[Prediction]:
        """What the model says of each example (``tasks.evaluation.predict``)."""
        return self._predictor.predict({"params": params}, self.examples, self._rows)

    def scores(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """The task's metrics, the deciding one first (``tasks.evaluation.evaluate``).

        Raises:
          UserError: an example has no label.
        """
        return evaluate(self.task, self.examples, predictions)


def conclude(
    evaluator: Evaluator,
    experiment: FinetuningExperiment,
    split: str,
    params_by_seed: Iterable[PyTree],
    run: Path,
    heldout: Sequence[float] = (),
) -> Results | None:
    """The scores of every seed's parameters, or none where an example has no label.

    The run's folder receives ``results-SPLIT.json`` and the predictions of each seed.

    Args:
      heldout: what the learning rate was chosen by, more being better: the scores of
        every rate and seed.
    """
    task, examples = evaluator.task, evaluator.examples
    given = [evaluator.predict(params) for params in params_by_seed]
    results = None
    if evaluator.labelled:
        results = Results.of(
            [evaluator.scores(predictions) for predictions in given],
            task=task.name,
            split=split,
            examples=len(examples),
            seeds=experiment.all_seeds,
            rule=rule_of(experiment),
            **_choice(experiment, heldout),
        )
    for seed, predictions in zip(experiment.all_seeds, given, strict=True):
        folder = run / PREDICTIONS / f"{split}-seed-{seed}"
        write_predictions(task, examples, predictions, folder)
    if results:
        results.write(run / f"results-{split}.json")
    return results


def evaluate_run(
    folder: str | Path,
    split: str = "dev",
    report: Callable[[str], None] = warnings.warn,
) -> Results | None:
    """What ``conclude`` finds for the weights that a finished run has chosen.

    Raises:
      UserError: not a fine-tuning run, one that is not finished, or no such examples.
    """
    run = Path(folder)
    record = read_experiment(run)
    if "model" not in record:
        raise UserError(f"{run} is not a fine-tuning run, so there is no task to score")
    experiment = from_dict(FinetuningExperiment, record["experiment"])
    examples = read_examples(experiment.task, split, report)
    model, params, scores, tokenizer = load_seeds(run, report)
    evaluator = Evaluator(model, tokenizer, experiment.task, examples)
    by_seed = of_seeds(params)
    return conclude(evaluator, experiment, split, by_seed, run, scores)


def rule_of(experiment: FinetuningExperiment) -> str:
    """Which weights count, in words."""
    share = f"{100 * experiment.heldout_fraction:.0f} % of train, held out"
    rate = ""
    if len(experiment.rates) > 1:
        rate = f"; the learning rate with the best mean on {share}"
    if experiment.rule == "last":
        return f"those of the last step, {experiment.steps:,}{rate}"
    return (
        f"the best by {experiment.task.metrics[0]} of every "
        f"{experiment.evaluate_every:,} of {experiment.steps:,} steps, on "
        f"{share}{rate}"
    )


def sign_of(metric: str) -> float:
    """1 where more is better, -1 where less is."""
    return -1.0 if metric in _ERRORS else 1.0


def _choice(
    experiment: FinetuningExperiment, heldout: Sequence[float]
) -> dict[str, Any]:
    """Facts of results, out of the held-out scores of every rate and seed."""
    if len(experiment.rates) == 1:
        return {}
    sign, seeds = sign_of(experiment.task.metrics[0]), experiment.seeds
    parts = [heldout[i : i + seeds] for i in range(0, len(heldout), seeds)]
    spreads = [Spread.of([sign * score for score in part]) for part in parts]
    return {
        "learning_rate": experiment.rates[experiment.best_rate(heldout)],
        "heldout": dict(zip(experiment.rates, spreads, strict=True)),
    }


def of_seeds(params: PyTree) -> Iterator[PyTree]:
    """Each seed's parameters, of a tree that has an axis of seeds first."""
    count = jax.tree.leaves(params)[0].shape[0]
    return (jax.tree.map(lambda leaf, i=i: leaf[i], params) for i in range(count))
