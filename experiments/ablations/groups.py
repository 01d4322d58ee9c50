"""Groups: do layers that share in smaller groups do better? (text on Table 4)

Hardware: PAPER as ``experiments/base.py``; LAB two cores.
Expected: the smaller the groups, the better; the paper says so and prints no numbers.
Command: albert-jax study experiments/ablations/groups.py
Measured: LAB, 2026-11-27, five seeds, nine minutes a run on one core of an AMD EPYC
(docs/lab/groups). Undecided: 2, 3 and 6 groups are 0.14 [-0.05, 0.34], 0.22 [-0.20,
0.64] and 0.20 [-0.15, 0.56] points of masked LM ahead of one. PAPER: not run yet.

One group is ALBERT; with as many groups as layers nothing is shared.
"""

from functools import partial

from albert_jax.config.study import Study
from experiments.ablations.scales import (
    SCALES,
    Scale,
    better,
    experiments_of,
    judged,
    vary,
)


def study(scale: Scale) -> Study:
    """The study at a scale: into how many groups the layers are divided."""
    arm = {groups: f"groups-{groups}" for groups in scale.groups}
    most = max(arm)

    claim = partial(judged, "text on Table 4")
    return Study(
        name="groups",
        question="Do layers that share in smaller groups do better?",
        arms={
            name: vary(scale.base, model=dict(num_hidden_groups=groups))
            for groups, name in arm.items()
        },
        baseline=arm[1],
        seeds=scale.seeds,
        tasks=scale.tasks,
        claims=(
            claim("two groups are better than one", better(arm[2], arm[1])),
            claim("three groups are better than one", better(arm[3], arm[1])),
            claim(
                f"groups of one layer are better than one of all {most}",
                better(arm[most], arm[1]),
            ),
            claim(
                f"groups of one layer are better than {most // 3} of three",
                better(arm[most], arm[most // 3]),
            ),
        ),
    )


STUDIES = {scale.name: study(scale) for scale in SCALES}
EXPERIMENTS = experiments_of(STUDIES)
