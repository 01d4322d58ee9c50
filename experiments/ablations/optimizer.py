"""Optimizer: official LAMB, optax.lamb's, or AdamW? (no table)

Hardware: PAPER as ``experiments/base.py``; LAB two cores.
Expected: nothing; the paper trains with LAMB and does not compare.
Command: albert-jax study experiments/ablations/optimizer.py
Measured: not run yet.

``optax.lamb`` corrects the moments' bias and has a trust ratio for LayerNorm and biases
too; the official LAMB does neither. AdamW has no trust ratio, so that LAMB's learning
rate need not suit it: it is tried with that, a quarter and a sixteenth of it.
"""

from albert_jax.config.study import Study
from experiments.ablations.scales import SCALES, Scale, experiments_of, vary


def study(scale: Scale) -> Study:
    """The study at a scale: LAMB as the official code has it, and others."""
    optax = dict(bias_correction=True, adapt_all=True)
    arms = {"lamb": scale.base, "optax-lamb": vary(scale.base, optimizer=optax)}
    for rate in scale.adamw_rates:
        adamw = dict(name="adamw", learning_rate=rate)
        arms[f"adamw-{rate:g}"] = vary(scale.base, optimizer=adamw)
    return Study(
        name="optimizer",
        question="Does it matter whose LAMB it is, and would AdamW do?",
        arms=arms,
        baseline="lamb",
        seeds=scale.seeds,
        tasks=scale.tasks,
    )


STUDIES = {scale.name: study(scale) for scale in SCALES}
EXPERIMENTS = experiments_of(STUDIES)
