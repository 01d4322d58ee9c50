"""A study's folder as runs leave it, with metrics made up instead of trained."""

import json
import math
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
from albert_jax.config.finetuning import FinetuningExperiment
from albert_jax.config.study import Claim, Study
from albert_jax.config.tasks import published
from albert_jax.finetuning.results import Results
from albert_jax.identity import to_dict
from albert_jax.study.results import Arm, Progress, StudyResults

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


def results(scores: dict[str, dict[int, float]], seeds=3, **fields) -> StudyResults:
    """A finished study of arms with these scores of masked LM."""
    made = study({name: experiment() for name in scores}, seeds=seeds, **fields)
    done = dict.fromkeys(range(seeds), Progress("finished", 40))
    arms = {
        name: Arm(name, made.arms[name], 40, done, {}, {MASKED: by_seed})
        for name, by_seed in scores.items()
    }
    return StudyResults(made, "lab", arms, {})


def by_seed(values) -> dict[int, float]:
    return dict(enumerate(map(float, values)))


def claim(expected="above", margin=0.0, better="all", worse="none") -> Claim:
    return Claim(
        text="one is better",
        source="Table 4",
        contrast={better: 1.0, worse: -1.0},
        metric=MASKED,
        expected=expected,
        margin=margin,
    )


def sst2() -> FinetuningExperiment:
    return FinetuningExperiment(name="own-name", task=published("sst2"))


def write_six_arms(place: Path) -> Path:
    """A study of six arms: whole; whole, in two runs; failed; half-way; whole, but for
    a seed that diverged; not begun."""
    made = study(
        {
            "none": experiment(share="none"),
            "all": experiment(),
            "half": experiment(),
            "begun": experiment(),
            "wide": experiment(embedding_size=16),
            "later": experiment(),
        },
        baseline="none",
        starts={"later": "none"},
        tasks=(sst2(),),
        paper={
            "none": {"parameters": "108M", "Avg": 82.3},
            "all": {"parameters": "31M", "S1": "88.6/81.5", "Avg": 80.0, MASKED: 54.5},
        },
        table="Table 4",
        claims=(
            claim("below"),
            claim("above", better="half"),
            claim("below", better="wide"),
        ),
    )
    write_study(place / "made", made, paper_parameters={"none": 109_081_344})
    folder, arms = place / "made", made.arms
    none = by_seed([0.31, 0.34, 0.37])
    write_run(
        folder / "none", arms["none"], {MASKED: none, ORDER: by_seed([0.6, 0.7, 0.8])}
    )
    for seeds in ((0, 1), (2,)):
        shared = {seed: none[seed] - 0.1 - 0.01 * seed for seed in seeds}
        order = dict.fromkeys(seeds, 0.55)
        metrics = {MASKED: shared, ORDER: order}
        write_run(folder / "all", arms["all"], metrics)
    half = {MASKED: none, ORDER: by_seed([0.5, 0.5, 0.5])}
    write_run(folder / "half", arms["half"], half, until=20)
    failed = folder / "half" / "seeds-0-2" / "failed.json"
    failed.write_text(json.dumps({"error": f"no room in {folder}/half"}))
    write_run(folder / "begun", arms["begun"], {MASKED: {0: 0.3}}, until=10)
    lost = {MASKED: by_seed([0.2, 0.2, math.nan])}
    write_run(folder / "wide", arms["wide"], lost)
    scores = [{"accuracy": 0.8}, {"accuracy": 0.82}, {"accuracy": 0.84}]
    write_task(folder / "none" / "sst2", (0, 1, 2), scores)
    write_task(folder / "all" / "sst2" / "seed-2", (2,), [{"accuracy": 0.7}])
    (folder / "wide" / "sst2").mkdir()
    (folder / "wide" / "sst2" / "failed.json").write_text('{"error": "no file"}')
    return folder
