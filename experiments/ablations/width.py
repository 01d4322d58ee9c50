"""Width: how wide should a shallow encoder be? (Table 12)

Hardware: PAPER as ``experiments/large.py``, the widest of 495 M parameters; LAB two
cores.
Expected: wider is better, 71.2, 74.6 and 76.3 at H = 1024, 2048 and 4096 with three
layers, but 6144 is not (74.0).
Command: albert-jax study experiments/ablations/width.py
Measured: not run yet.

Heads keep their width. LAB's H = 32, 64, 128 and 256 stand for 1024 to 6144. The sigma
of the initial weights is one for all, as in the paper. At both scales masked-LM
accuracy decides in place of the paper's average.
"""

from functools import partial

from albert_jax.config.study import Study
from experiments.ablations.scales import (
    SCALES,
    Scale,
    better,
    experiments_of,
    judged,
    row,
    vary,
    widened,
)

TABLE_12 = {
    1024: row("18M", "79.8/69.7", "64.4/61.7", 77.7, 86.7, 54.0, 71.2),
    2048: row("60M", "83.3/74.1", "69.1/66.6", 79.7, 88.6, 58.2, 74.6),
    4096: row("225M", "85.0/76.4", "71.0/68.1", 80.3, 90.4, 60.4, 76.3),
    6144: row("499M", "84.7/75.8", "67.8/65.4", 78.1, 89.1, 56.0, 74.0),
}


def study(scale: Scale) -> Study:
    """The study at a scale: H, in an encoder of three layers."""
    arm = {width: f"hidden-{here}" for width, here in scale.widths.items()}
    base = vary(scale.large, model=dict(num_hidden_layers=scale.shallow))

    claim = partial(judged, "Table 12")
    return Study(
        name="width",
        question="How wide should a shallow encoder be?",
        arms={
            arm[width]: vary(base, model=widened(base.model, here))
            for width, here in scale.widths.items()
        },
        baseline=arm[1024],
        seeds=scale.seeds,
        tasks=scale.tasks,
        paper={arm[width]: TABLE_12[width] for width in arm},
        table="Table 12",
        claims=(
            claim(
                "H = 2048 is better than 1024 (74.6 against 71.2)",
                better(arm[2048], arm[1024]),
            ),
            claim(
                "H = 4096 is better than 2048 (76.3 against 74.6)",
                better(arm[4096], arm[2048]),
            ),
            claim(
                "H = 6144 is worse than 4096 (74.0 against 76.3)",
                better(arm[4096], arm[6144]),
            ),
        ),
    )


STUDIES = {scale.name: study(scale) for scale in SCALES}
EXPERIMENTS = experiments_of(STUDIES)
