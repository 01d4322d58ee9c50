"""Tasks of the small model: what a pretraining of an hour on one core is good for.

Hardware: two cores.
Expected: no row of the paper. Pretraining should win on SST-2, STS-B, CoLA and SQuAD.
Command: albert-jax finetune experiments/small_tasks.py:sst2 --init runs/small-long \\
    --workdir runs/sst2, and the same --from-scratch --workdir runs/sst2-scratch
Measured: not run yet.
"""

from dataclasses import replace

from albert_jax.config import CheckpointConfig, OptimizerConfig
from albert_jax.config.finetuning import FinetuningExperiment
from albert_jax.config.tasks import Split, published

SQUAD = replace(
    published("squad1"),
    train=Split(path="train-stand-in.json"),
    max_length=256,
)

# Arm: task, most pieces in a row, batch size, steps, seeds.
RUNS = {
    "cola": (published("cola"), 64, 32, 804, 5),
    "sst2": (published("sst2"), 64, 32, 1050, 5),
    "mrpc": (published("mrpc"), 128, 32, 345, 5),
    "stsb": (published("stsb"), 128, 32, 360, 5),
    "rte": (published("rte"), 256, 32, 156, 5),
    "squad": (SQUAD, 256, 16, 400, 3),
    "race-middle": (published("race-middle"), 256, 8, 120, 3),
}

EXPERIMENTS = {
    name: FinetuningExperiment(
        name=name,
        task=replace(task, max_length=length),
        dropout=0.0,
        optimizer=OptimizerConfig(
            name="adamw", learning_rate=3e-4, warmup_steps=steps // 10
        ),
        batch_size=batch,
        steps=steps,
        seeds=seeds,
        checkpoint=CheckpointConfig(every=200, keep=1),
        log_every=20,
    )
    for name, (task, length, batch, steps, seeds) in RUNS.items()
}
