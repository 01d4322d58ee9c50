"""Factorization: how wide must the embeddings be? (Table 3)

Hardware: PAPER as ``experiments/base.py``; LAB two cores.
Expected: where nothing is shared a wider E is better, though not by much (81.3, 81.7,
81.8 and 82.3 in the average of five tasks); where everything is, E = 128 is best (79.0,
80.1, 79.6 and 79.8).
Command: albert-jax study experiments/ablations/factorization.py
Measured: at the lab's scale (docs/results.md), five seeds: wider is better up to H,
shared (9.2, 11.5, 13.7, 14.3 % of masked LM) or not (9.3, 11.7, 13.8, 14.7); that
E = 128 is best where everything is shared is not reproduced.

At both scales masked-LM accuracy decides in place of the paper's average.
"""

from functools import partial
from itertools import product

from albert_jax.config.study import Study
from experiments.ablations.scales import (
    SCALES,
    Scale,
    better,
    experiments_of,
    judged,
    row,
    vary,
)

TABLE_3 = {
    ("none", 64): row("87M", "89.9/82.9", "80.1/77.8", 82.9, 91.5, 66.7, 81.3),
    ("none", 128): row("89M", "89.9/82.8", "80.3/77.3", 83.7, 91.5, 67.9, 81.7),
    ("none", 256): row("93M", "90.2/83.2", "80.3/77.4", 84.1, 91.9, 67.3, 81.8),
    ("none", 768): row("108M", "90.4/83.2", "80.4/77.6", 84.5, 92.8, 68.2, 82.3),
    ("all", 64): row("10M", "88.7/81.4", "77.5/74.8", 80.8, 89.4, 63.5, 79.0),
    ("all", 128): row("12M", "89.3/82.3", "80.0/77.1", 81.6, 90.3, 64.0, 80.1),
    ("all", 256): row("16M", "88.8/81.5", "79.1/76.3", 81.5, 90.3, 63.4, 79.6),
    ("all", 768): row("31M", "88.6/81.5", "79.2/76.6", 82.0, 90.6, 63.3, 79.8),
}


def study(scale: Scale) -> Study:
    """The study at a scale: E, where everything is shared and where nothing is."""
    arm = {
        (share, size): f"{share}-e{scale.embeddings[size]}"
        for share, size in product(("none", "all"), scale.embeddings)
    }

    claim = partial(judged, "Table 3")
    return Study(
        name="factorization",
        question="How wide must the embeddings be, with sharing and without?",
        arms={
            name: vary(
                scale.base,
                model=dict(share=share, embedding_size=scale.embeddings[size]),
            )
            for (share, size), name in arm.items()
        },
        baseline=arm["all", 128],
        seeds=scale.seeds,
        tasks=scale.tasks,
        paper={arm[key]: TABLE_3[key] for key in arm},
        table="Table 3",
        claims=(
            claim(
                "nothing shared: E = 128 is better than 64 (81.7 against 81.3)",
                better(arm["none", 128], arm["none", 64]),
            ),
            claim(
                "nothing shared: E = 768 is better than 128 (82.3 against 81.7)",
                better(arm["none", 768], arm["none", 128]),
            ),
            claim(
                "all shared: E = 128 is better than 64 (80.1 against 79.0)",
                better(arm["all", 128], arm["all", 64]),
            ),
            claim(
                "all shared: E = 128 is better than 256 (80.1 against 79.6)",
                better(arm["all", 128], arm["all", 256]),
            ),
            claim(
                "all shared: E = 128 is better than 768 (80.1 against 79.8)",
                better(arm["all", 128], arm["all", 768]),
            ),
        ),
    )


STUDIES = {scale.name: study(scale) for scale in SCALES}
EXPERIMENTS = experiments_of(STUDIES)
