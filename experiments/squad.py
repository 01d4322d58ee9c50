"""SQuAD 1.1 and 2.0, with the settings of the paper's Table 14.

Hardware: not said in the paper; a base model asks for one accelerator.
Expected: F1 and exact match of ALBERT-base, 89.3/82.3 on 1.1 and 80.0/77.1 on 2.0; of
ALBERT-xxlarge, 94.0/88.1 and 88.3/85.3 (dev sets, Tables 2 and 6).
Command: albert-jax finetune experiments/squad.py:squad1 --init runs/base
Measured: not run yet.

The files are the published ones, in ``squad/`` (``--task.folder`` says where else).
Steps count chunks of contexts, of which there are a few more than questions, so that
they are a little less than the paper's two and three epochs.
"""

from albert_jax.config import OptimizerConfig
from albert_jax.config.finetuning import FinetuningExperiment
from albert_jax.config.tasks import published

# Task: learning rate, steps, warm-up steps.
TABLE_14 = {"squad1": (5e-5, 3649, 365), "squad2": (3e-5, 8144, 814)}

EXPERIMENTS = {
    name: FinetuningExperiment(
        name=name,
        task=published(name),
        dropout=0.0,
        optimizer=OptimizerConfig(
            name="adamw", learning_rate=rate, warmup_steps=warmup
        ),
        batch_size=48,
        steps=steps,
    )
    for name, (rate, steps, warmup) in TABLE_14.items()
}
