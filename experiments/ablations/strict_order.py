"""Strict order: what does the released code's leak do to sentence order? (no table)

Hardware: PAPER as ``experiments/base.py``; LAB two cores.
Expected: nothing; the paper pairs neighbours, the released code takes the second
segment of a one-sentence chunk from another document and calls it "swapped", and the
two are not compared.
Command: albert-jax study experiments/ablations/strict_order.py
Measured: not run yet.

All arms are evaluated on strict pairs, and on next sentence, which the leak is a piece
of. LAB's rows of 32 tokens hold mostly one sentence, so that most of its "swapped"
pairs leak; at 512 few do.
"""

from albert_jax.config.study import Study
from experiments.ablations.scales import (
    MASKED_LM,
    NEXT_SENTENCE,
    SCALES,
    SENTENCE_ORDER,
    Scale,
    experiments_of,
    vary,
)


def study(scale: Scale) -> Study:
    """The study at a scale: both segments of one document, or not always."""
    both = dict(objectives=("sentence_order", "next_sentence"))
    return Study(
        name="strict-order",
        question="What does the released code's leak do to sentence order?",
        arms={
            arm: vary(scale.base, data=dict(official_segments=leaks), evaluation=both)
            for arm, leaks in (("strict", False), ("leaking", True))
        },
        baseline="strict",
        seeds=scale.seeds,
        metrics=(SENTENCE_ORDER, NEXT_SENTENCE, MASKED_LM),
        tasks=scale.tasks,
    )


STUDIES = {scale.name: study(scale) for scale in SCALES}
EXPERIMENTS = experiments_of(STUDIES)
