"""Dropout: is a model without it better? (Table 8)

Hardware: PAPER as ``experiments/xxlarge.py``, for a million steps; LAB two cores.
Expected: without dropout the average of five tasks is 90.7, with it 90.4, and masked LM
is better too (Figure 2b).
Command: albert-jax study experiments/ablations/dropout.py
Measured: not run yet.

LAB's runs see a tenth of their text, each document at most once. Masked-LM accuracy
decides at both scales.
"""

from albert_jax.config.study import Claim, Study
from experiments.ablations.scales import (
    MASKED_LM,
    SCALES,
    Scale,
    better,
    experiments_of,
    row,
    vary,
)

TABLE_8 = {
    "dropout": row("94.7/89.2", "89.6/86.9", 90.0, 96.3, 85.7, 90.4),
    "no-dropout": row("94.8/89.5", "89.9/87.2", 90.4, 96.5, 86.1, 90.7),
}


def study(scale: Scale) -> Study:
    """The study at a scale: dropout of hidden states and attention, or none."""
    none = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return Study(
        name="dropout",
        question="Is a model better without dropout?",
        arms={"dropout": scale.xxlarge, "no-dropout": vary(scale.xxlarge, model=none)},
        baseline="dropout",
        seeds=scale.seeds,
        tasks=scale.tasks,
        paper=TABLE_8,
        table="Table 8",
        claims=(
            Claim(
                text="without dropout masked LM is better",
                source="Figure 2b",
                contrast=better("no-dropout", "dropout"),
                metric=MASKED_LM,
            ),
        ),
    )


STUDIES = {scale.name: study(scale) for scale in SCALES}
EXPERIMENTS = experiments_of(STUDIES)
