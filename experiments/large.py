"""ALBERT-large as in the paper (tables 1 and 2, row ALBERT-large).

Hardware: 64 to 512 TPU v3 chips in the paper; sizes are not told apart.
Expected: SQuAD 1.1 90.6/83.9, SQuAD 2.0 82.3/79.4, MNLI 83.5, SST-2 91.7, RACE 68.5
after 125,000 steps (dev sets; Table 2).
Command: albert-jax pretrain experiments/large.py \\
    --corpus.vocabulary 30k-clean.model --mesh.fsdp 8
Measured: not run yet.
"""

from dataclasses import replace

from albert_jax.config import AlbertConfig
from experiments.base import BASE

EXPERIMENTS = {"large": replace(BASE, name="large", model=AlbertConfig.large("v1"))}
