"""Masked share: what does it cost that the released code masks 3.9 %, not 15 %?

Hardware: PAPER as ``experiments/base.py``; LAB two cores.
Expected: nothing; the paper says 15 %, the released code caps a row at 20 predictions,
which are 3.9 % of 512 tokens, and neither is compared.
Command: albert-jax study experiments/ablations/masked_share.py
Measured: LAB, 2026-11-27 (``docs/lab/masked-share``): masked LM 11.5 ± 0.4 %
with 15 %, 9.9 ± 0.3 % as released; sentence order 58.8 ± 1.9 and
58.7 ± 1.3 %. PAPER: not run yet.

LAB's rows of 32 tokens have 5 predictions, or 1 (3.1 %) for the cap. All arms are
evaluated on rows with 15 % masked, which the capped arm has not seen.
"""

from albert_jax.config.study import Study
from experiments.ablations.scales import SCALES, Scale, experiments_of, vary


def study(scale: Scale) -> Study:
    """The study at a scale: predictions a row."""
    cap = dict(max_predictions=scale.released_predictions)
    return Study(
        name="masked-share",
        question="What does it cost that the released code masks 3.9 % and not 15 %?",
        arms={"15-percent": scale.base, "released": vary(scale.base, data=cap)},
        baseline="15-percent",
        seeds=scale.seeds,
        tasks=scale.tasks,
    )


STUDIES = {scale.name: study(scale) for scale in SCALES}
EXPERIMENTS = experiments_of(STUDIES)
