"""ALBERT-xlarge as in the paper (tables 1 and 2, row ALBERT-xlarge).

Hardware: 64 to 512 TPU v3 chips in the paper; sizes are not told apart.
Expected: SQuAD 1.1 92.5/86.1, SQuAD 2.0 86.1/83.1, MNLI 86.4, SST-2 92.4, RACE 74.8
after 125,000 steps (dev sets; Table 2).
Command: albert-jax pretrain experiments/xlarge.py \\
    --corpus.vocabulary 30k-clean.model --mesh.fsdp 8
Measured: not run yet.

With 32 heads of 64, as in the paper and the TF-Hub modules.
"""

from dataclasses import replace

from albert_jax.config import AlbertConfig
from experiments.base import BASE

EXPERIMENTS = {"xlarge": replace(BASE, name="xlarge", model=AlbertConfig.xlarge("v1"))}
