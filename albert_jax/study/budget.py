"""How many steps an arm is trained: all arms get the same of something."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from albert_jax.config.study import Study
from albert_jax.study.costs import step_flops
from albert_jax.study.record import Record


def equal_steps(study: Study, cost: Mapping[str, int | float]) -> dict[str, int]:
    """Steps of the arms in ``cost``, so that each comes to what all of the baseline's
    come to.

    Args:
      cost: of a step, in any unit: of the arms that are asked for, and the baseline.
    """
    total = study.arms[study.baseline].steps * cost[study.baseline]
    return {arm: max(1, round(total / one)) for arm, one in cost.items()}


def decide_steps(
    study: Study,
    old: Record | None,
    wanted: Record,
    measure: Callable[[Sequence[str]], dict[str, float]],
) -> Record:
    """``wanted`` with every arm's steps: as they were decided before, where nothing of
    an arm and its budget has changed.

    Args:
      measure: seconds a step of these arms; called only where the budget is time.
    """
    kept = {arm: old.steps[arm] for arm in old.unchanged(wanted)} if old else {}
    missing = [arm for arm in study.arms if arm not in kept]
    seconds = {arm: old.seconds[arm] for arm in kept if arm in old.seconds}
    found: dict[str, int] = {}
    if missing:
        asked = list(dict.fromkeys([study.baseline, *missing]))
        if study.budget == "tokens":
            found = {arm: study.arms[arm].steps for arm in asked}
        elif study.budget == "flops":
            found = equal_steps(study, {a: step_flops(study.arms[a]) for a in asked})
        else:
            measured = measure(asked)
            found = equal_steps(study, measured)
            seconds = measured | seconds
    steps = {arm: kept.get(arm) or found[arm] for arm in study.arms}
    return replace(wanted, steps=steps, seconds=seconds)
