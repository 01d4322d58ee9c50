"""N-grams: how long should masked spans be? (no table)

Hardware: PAPER as ``experiments/base.py``; LAB two cores.
Expected: nothing; the paper masks n-grams of at most three words and does not compare.
Command: albert-jax study experiments/ablations/ngram.py
Measured: not run yet.

All arms are evaluated on rows masked as the paper says, in n-grams of at most three: an
arm trained on shorter spans has not seen longer ones, and is judged by them too.
"""

from albert_jax.config.study import Study
from experiments.ablations.scales import SCALES, Scale, experiments_of, vary


def study(scale: Scale) -> Study:
    """The study at a scale: the longest span that is masked."""
    return Study(
        name="ngram",
        question="How long should masked spans be?",
        arms={
            f"ngram-{words}": vary(scale.base, data=dict(max_ngram=words))
            for words in (1, 2, 3)
        },
        baseline="ngram-3",
        seeds=scale.seeds,
        tasks=scale.tasks,
    )


STUDIES = {scale.name: study(scale) for scale in SCALES}
EXPERIMENTS = experiments_of(STUDIES)
