"""Depth: how often should the layer be applied? (Table 11)

Hardware: PAPER as ``experiments/large.py``; LAB two cores.
Expected: deeper is better with shrinking gains (52.9, 71.2, 77.2, 81.5 and 82.1 at 1,
3, 6, 12 and 24 layers), and 48 layers are no better than 24 (81.8).
Command: albert-jax study experiments/ablations/depth.py
Measured: at the lab's scale (docs/results.md), five seeds, each from the shallower:
11.6, 12.9, 13.3, 13.4 and 13.6 % of masked LM. But one layer trained twice has 13.1 %,
and from random weights 2, 4 and 8 layers have the 11.5 to 11.6 % of one; of 16, two
seeds of five learned nothing (7.8 ± 4.2).

The paper starts each depth from the next shallower one, as the arms "-warm" do; these
have seen, in all, what those before them saw too. The other arms start from random
weights. The paper lacks "layers-1-warm", which goes on without becoming deeper: it
tells what a second layer gives from what a second training does. At both scales
masked-LM accuracy decides in place of the paper's average. LAB's 1, 2, 4, 8 and 16
layers stand for 1, 3, 6, 12 and 24.
"""

from itertools import pairwise

from albert_jax.config.study import Claim, Study
from experiments.ablations.scales import (
    SCALES,
    Scale,
    decidable,
    experiments_of,
    judged,
    row,
    vary,
)

TABLE_11 = {
    1: row("18M", "31.1/22.9", "50.1/50.1", 66.4, 80.8, 40.1, 52.9),
    3: row("18M", "79.8/69.7", "64.4/61.7", 77.7, 86.7, 54.0, 71.2),
    6: row("18M", "86.4/78.4", "73.8/71.1", 81.2, 88.9, 60.9, 77.2),
    12: row("18M", "89.8/83.3", "80.7/77.9", 83.3, 91.7, 66.7, 81.5),
    24: row("18M", "90.3/83.3", "81.8/79.0", 83.3, 91.5, 68.7, 82.1),
    48: row("18M", "90.0/83.1", "81.8/78.9", 83.4, 91.9, 66.9, 81.8),
}


def study(scale: Scale) -> Study:
    """The study at a scale: layers, from random weights and from fewer layers."""
    shallowest = min(scale.depths)
    cold = {layers: f"layers-{here}" for layers, here in scale.depths.items()}
    warm = {layers: f"{name}-warm" for layers, name in cold.items()}
    # Those of the paper, each from the one before.
    chain = warm | {shallowest: cold[shallowest]}
    arms = {
        names[layers]: vary(
            scale.large, model=dict(num_hidden_layers=scale.depths[layers])
        )
        for names in (cold, warm)
        for layers in scale.depths
    }

    def claim(text: str, *steps: tuple[int, int], expected: str = "above") -> Claim:
        """Of one step from a depth to the next, or of a first against a second."""
        contrast: dict[str, float] = {}
        for sign, (few, many) in zip((1.0, -1.0), steps, strict=False):
            for layers, weight in ((many, sign), (few, -sign)):
                name = chain.get(layers, f"layers-{layers}")
                contrast[name] = contrast.get(name, 0.0) + weight
        return judged("Table 11", text, contrast, expected=expected)

    claims = [
        claim("3 layers are better than 1 (71.2 against 52.9)", (1, 3)),
        claim("6 layers are better than 3 (77.2 against 71.2)", (3, 6)),
        claim("12 layers are better than 6 (81.5 against 77.2)", (6, 12)),
        claim("24 layers are better than 12 (82.1 against 81.5)", (12, 24)),
        claim("from 1 to 3 gains more than from 3 to 6 (18.3, 6.0)", (1, 3), (3, 6)),
        claim("from 3 to 6 gains more than from 6 to 12 (6.0, 4.3)", (3, 6), (6, 12)),
        claim(
            "from 6 to 12 gains more than from 12 to 24 (4.3, 0.6)", (6, 12), (12, 24)
        ),
        claim(
            "48 layers are no better than 24 (81.8 against 82.1)",
            (24, 48),
            expected="below",
        ),
    ]
    return Study(
        name="depth",
        question="How often should the layer be applied?",
        arms=arms,
        baseline=chain[12],
        seeds=scale.seeds,
        starts={
            warm[many]: chain[few]
            for few, many in pairwise((shallowest, *scale.depths))
        },
        tasks=scale.tasks,
        paper={chain[layers]: TABLE_11[layers] for layers in scale.depths},
        table="Table 11",
        claims=decidable(claims, arms),
    )


STUDIES = {scale.name: study(scale) for scale in SCALES}
EXPERIMENTS = experiments_of(STUDIES)
