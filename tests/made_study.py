"""A study's folder as runs leave it, with metrics made up instead of trained."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import tiny

from albert_jax.config import (
    DataConfig,
    EvaluationConfig,
    OptimizerConfig,
    PretrainingExperiment,
)
from albert_jax.config.study import Study
from albert_jax.finetuning.results import Results
from albert_jax.identity import to_dict

MASKED, ORDER = "eval/masked_lm_accuracy", "eval/sentence_order_accuracy"


def experiment(**model) -> PretrainingExperiment:
    """Two layers, eight rows of 16 tokens a step, forty steps, four evaluations."""
    return PretrainingExperiment(
        name="made",
        model=tiny.config(**({"num_hidden_layers": 2} | model)),
        data=DataConfig(sequence_length=16, batch_size=8),
        optimizer=OptimizerConfig(warmup_steps=2),
        steps=40,
        evaluation=EvaluationConfig(every=10),
    )


def study(arms: Mapping[str, PretrainingExperiment] | None = None, **fields) -> Study:
    """Two arms, the shared one and the unshared, where nothing else is said."""
    arms = arms or {share: experiment(share=share) for share in ("all", "none")}
    settings = dict(
        name="made",
        question="What does sharing cost?",
        arms=arms,
        baseline=next(iter(arms)),
        seeds=3,
    )
    return Study(**(settings | fields))


def write_study(folder: Path, made: Study, **record) -> None:
    """``study.json`` alone; keywords replace what it holds."""
    folder.mkdir(parents=True, exist_ok=True)
    steps = {name: arm.steps for name, arm in made.arms.items()}
    values = {"study": to_dict(made), "scale": "lab", "steps": steps} | record
    (folder / "study.json").write_text(json.dumps(values))


def write_run(
    folder: Path,
    arm: PretrainingExperiment,
    metrics: Mapping[str, Mapping[int, float]],
    *,
    until: int | None = None,
    curve: Callable[[float, float], float] = lambda share, value: share * value,
) -> None:
    """A run's experiment and log, in a folder named after its seeds.

    Args:
      folder: of the arm.
      metrics: name -> seed -> value at the last step; NaN is logged as null.
      until: the last step that was evaluated; by default the arm's last.
      curve: value at a share of all steps.
    """
    seeds = sorted({seed for by_seed in metrics.values() for seed in by_seed})
    first, last = seeds[0], seeds[-1]
    run = folder / (f"seeds-{first}-{last}" if last > first else f"seed-{first}")
    run.mkdir(parents=True)
    arm = replace(arm, seed=first, seeds=len(seeds))
    (run / "experiment.json").write_text(json.dumps({"experiment": to_dict(arm)}))
    lines = [{"step": 0, "eval/unigram_accuracy": 0.0625}]
    for step in range(0, arm.steps + 1, arm.evaluation.every):
        if step > (arm.steps if until is None else until):
            break
        line = {"step": step}
        for name, by_seed in metrics.items():
            values = {s: curve(step / arm.steps, v) for s, v in by_seed.items()}
            line[name] = sum(values.values()) / len(values)
            if len(seeds) > 1:
                line |= {f"{name}/seed-{seed}": v for seed, v in values.items()}
        null = {n: None if v != v else v for n, v in line.items()}
        lines += [null, {"step": step, "train/masked_lm_loss": 3.0, "tokens": 128}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run / "metrics.jsonl").write_text(text)


def write_task(
    folder: Path, seeds: tuple[int, ...], by_seed: list[dict[str, float]]
) -> None:
    """What a fine-tuning run leaves of its scores."""
    folder.mkdir(parents=True)
    results = Results.of(
        by_seed, task=folder.name, split="dev", examples=10, seeds=seeds, rule="last"
    )
    results.write(folder / "results-dev.json")
