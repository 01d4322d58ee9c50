"""GLUE, one arm a task, with the settings of the paper's Table 14.

Hardware: not said in the paper; a base model at length 512 asks for one accelerator.
Expected: of ALBERT-base, MNLI 81.6 and SST-2 90.3; of ALBERT-xxlarge, MNLI 87.8 and
SST-2 95.4 (dev sets, Table 2). The best single models (Table 9, dev): MNLI 90.8, QNLI
95.3, QQP 92.2, RTE 89.2, SST-2 96.9, MRPC 90.9, CoLA 71.4, STS-B 93.0.
Command: albert-jax finetune experiments/glue.py:mrpc --init runs/base --seeds 5
Measured: not run yet.

The files are those that GLUE publishes, in ``glue/`` (``--task.folder`` says where
else). Dropout is that of Table 14; the table does not name the size of the model. RTE,
STS-B and MRPC of Table 9 start from a model that was fine-tuned for MNLI: ``--init
runs/mnli``. The paper reports the best of many checkpoints on dev; here the last one
counts, or, with ``--rule best``, the best on examples held out of train; these choose
among ``--learning-rates 1e-5 2e-5 3e-5`` too, which train together with all seeds.
"""

from albert_jax.config import OptimizerConfig
from albert_jax.config.finetuning import FinetuningExperiment
from albert_jax.config.tasks import published

# Task: learning rate, batch size, dropout, steps, warm-up steps.
TABLE_14 = {
    "cola": (1e-5, 16, 0.0, 5336, 320),
    "stsb": (2e-5, 16, 0.0, 3598, 214),
    "sst2": (1e-5, 32, 0.0, 20935, 1256),
    "mnli": (3e-5, 128, 0.0, 10000, 1000),
    "qnli": (1e-5, 32, 0.0, 33112, 1986),
    "qqp": (5e-5, 128, 0.1, 14000, 1000),
    "rte": (3e-5, 32, 0.1, 800, 200),
    "mrpc": (2e-5, 32, 0.0, 800, 200),
    "wnli": (2e-5, 16, 0.1, 2000, 250),
}

EXPERIMENTS = {
    name: FinetuningExperiment(
        name=name,
        task=published(name),
        dropout=dropout,
        optimizer=OptimizerConfig(
            name="adamw", learning_rate=rate, warmup_steps=warmup
        ),
        batch_size=batch,
        steps=steps,
    )
    for name, (rate, batch, dropout, steps, warmup) in TABLE_14.items()
}
