"""RACE, whole and by level, with the settings of the paper's Table 14.

Hardware: not said in the paper; a base model asks for one accelerator.
Expected: accuracy of ALBERT-base 64.0, of ALBERT-xxlarge 82.5 (Tables 2 and 6).
Command: albert-jax finetune experiments/race.py:race --init runs/base
Measured: not run yet.

The files are the published ones, in ``RACE/`` (``--task.folder`` says where else). An
example is four rows, so that a step takes 128.
"""

from albert_jax.config import OptimizerConfig
from albert_jax.config.finetuning import FinetuningExperiment
from albert_jax.config.tasks import published

EXPERIMENTS = {
    name: FinetuningExperiment(
        name=name,
        task=published(name),
        dropout=0.1,
        optimizer=OptimizerConfig(name="adamw", learning_rate=2e-5, warmup_steps=1000),
        batch_size=32,
        steps=12000,
    )
    for name in ("race", "race-middle", "race-high")
}
