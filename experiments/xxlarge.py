"""ALBERT-xxlarge as in the paper (tables 1 and 6, row ALBERT-xxlarge).

Hardware: 64 to 512 TPU v3 chips in the paper; sizes are not told apart.
Expected: SQuAD 1.1 94.0/88.1, SQuAD 2.0 88.3/85.3, MNLI 87.8, SST-2 95.4, RACE 82.5
after 125,000 steps, 32 hours (dev sets; Table 6).
Command: albert-jax pretrain experiments/xxlarge.py \\
    --corpus.vocabulary 30k-clean.model --mesh.fsdp 8
Measured: not run yet.

No dropout (Table 8). The paper warm-started its 12 layers from a 6-layer model; the
authors say that this is not needed (google-research issue 126).
"""

from dataclasses import replace

from albert_jax.config import AlbertConfig
from experiments.base import BASE

EXPERIMENTS = {
    "xxlarge": replace(BASE, name="xxlarge", model=AlbertConfig.xxlarge("v1"))
}
