"""An arm's parameters at the paper's scale, which its table prints rounded."""

from albert_jax.config.study import Study
from albert_jax.study.costs import encoder_parameters


def counterparts(study: Study, paper: Study) -> dict[str, str]:
    """Arm -> the arm at the paper's scale that it stands for.

    That is the one with the same row of the paper's table; their names differ, and one
    name may mean two things. Arms that the paper has no row of have none.
    """
    return {
        arm: next(name for name in paper.arms if paper.paper.get(name) == row)
        for arm, row in study.paper.items()
        if row and row in paper.paper.values()
    }


def paper_parameters(study: Study, paper: Study) -> dict[str, int]:
    """Arm -> exact parameters of its counterpart, counted as the paper does."""
    return {
        arm: encoder_parameters(paper.arms[name].model)
        for arm, name in counterparts(study, paper).items()
    }
