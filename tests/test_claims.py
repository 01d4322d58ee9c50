"""Differences between arms and what they decide of a claim: intervals, verdicts."""

import math

import numpy as np
import pytest
from made_study import MASKED, by_seed, claim, results
from scipy.stats import ttest_1samp, ttest_rel

from albert_jax.study.claims import decide
from albert_jax.study.contrasts import contrast

# Contrasts.


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_a_paired_difference_has_scipys_interval(seeds):
    rng = np.random.default_rng(seeds)
    ours, theirs = rng.normal(0.3, 0.1, (2, seeds))
    made = results({"all": by_seed(ours), "none": by_seed(theirs)}, seeds=seeds)
    found = contrast(made, {"all": 1.0, "none": -1.0}, MASKED)
    expected = ttest_rel(ours, theirs).confidence_interval(0.95)
    assert found.spread.interval == pytest.approx(expected, rel=1e-9)
    assert found.spread.mean == pytest.approx((ours - theirs).mean())
    assert found.excludes_zero == (ttest_rel(ours, theirs).pvalue < 0.05)


def test_a_level_and_a_contrast_of_four_have_students_interval():
    rng = np.random.default_rng(1)
    a, b, c, d = rng.normal(size=(4, 6))
    arms = dict(zip(("all", "attention", "ffn", "none"), (a, b, c, d), strict=True))
    made = results({name: by_seed(x) for name, x in arms.items()}, seeds=6)
    level = contrast(made, {"ffn": 1.0}, MASKED).spread.interval
    expected = ttest_1samp(c, 0).confidence_interval(0.95)
    assert level == pytest.approx(expected, rel=1e-9)
    weights = {"all": 1.0, "attention": -1.0, "ffn": -1.0, "none": 1.0}
    found = contrast(made, weights, MASKED).spread.interval
    expected = ttest_1samp((a - b) - (c - d), 0).confidence_interval(0.95)
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_difference_by_hand():
    made = results({"all": by_seed([5, 7, 9]), "none": by_seed([4, 5, 6])})
    spread = contrast(made, {"all": 1.0, "none": -1.0}, MASKED).spread
    # Differences 1, 2, 3; t of two degrees of freedom is 4.302653.
    assert (spread.mean, spread.std) == (2.0, 1.0)
    reach = 4.302652729911275 / math.sqrt(3)
    assert spread.interval == pytest.approx((2 - reach, 2 + reach))
    back = contrast(made, {"none": 1.0, "all": -1.0}, MASKED).spread
    assert back.mean == -2.0


def test_equal_differences_have_an_interval_of_no_width():
    made = results({"all": by_seed([3, 4, 5]), "none": by_seed([1, 2, 3])})
    found = contrast(made, {"all": 1.0, "none": -1.0}, MASKED)
    assert found.spread.interval == (2.0, 2.0) and found.excludes_zero
    made = results({"all": by_seed([3, 4, 5]), "none": by_seed([3, 4, 5])})
    same = contrast(made, {"all": 1.0, "none": -1.0}, MASKED)
    assert same.spread.interval == (0.0, 0.0) and not same.excludes_zero


def test_seeds_that_only_one_arm_has_are_left_out_of_the_pairs():
    made = results({"all": {0: 0.5, 2: 0.7}, "none": by_seed([0.1, 0.9, 0.2])})
    found = contrast(made, {"all": 1.0, "none": -1.0}, MASKED)
    assert found.values == pytest.approx({0: 0.4, 2: 0.5})
    assert (found.missing, found.not_finite) == ((1,), ())


def test_a_seed_that_diverged_is_told_from_one_that_is_missing():
    made = results({"all": {0: 0.5, 1: math.nan}, "none": by_seed([0.1, 0.9, 0.2])})
    found = contrast(made, {"all": 1.0, "none": -1.0}, MASKED)
    assert (list(found.values), found.missing, found.not_finite) == ([0], (2,), (1,))
    assert found.spread.interval is None and not found.excludes_zero
    assert contrast(made, {"all": 1.0}, "eval/nothing").spread is None


# Claims.

# Differences 1, 2, 3 of an interval from -0.48 to 4.48; 11, 12, 13 of one from 9.52.
_NEAR, _FAR = [1, 2, 3], [11, 12, 13]


@pytest.mark.parametrize(
    ("differences", "expected", "margin", "verdict"),
    [
        (_FAR, "above", 0, "reproduced"),
        (_FAR, "below", 0, "not reproduced"),
        (_NEAR, "above", 0, "undecided"),
        (_NEAR, "below", 0, "undecided"),
        ([-x for x in _FAR], "above", 0, "not reproduced"),
        ([-x for x in _FAR], "below", 0, "reproduced"),
        (_NEAR, "about", 5, "reproduced"),
        (_NEAR, "about", 4, "undecided"),
        ([-x for x in _NEAR], "about", 5, "reproduced"),
        ([-x for x in _NEAR], "about", 4, "undecided"),
        (_FAR, "about", 5, "not reproduced"),
        ([-x for x in _FAR], "about", 5, "not reproduced"),
        # Wider than the margin on both sides.
        ([-9, 0, 9], "about", 1, "undecided"),
        # Without any width: 0 is neither above nor below, and about 0.
        ([0, 0, 0], "above", 0, "not reproduced"),
        ([0, 0, 0], "below", 0, "not reproduced"),
        ([0, 0, 0], "about", 0.1, "reproduced"),
    ],
)
def test_an_interval_decides_a_claim(differences, expected, margin, verdict):
    theirs = np.array([20.0, 50.0, 30.0])
    made = results({"all": by_seed(theirs + differences), "none": by_seed(theirs)})
    decision = decide(claim(expected, float(margin)), made)
    assert decision.verdict == verdict
    edge = "the margin" if expected == "about" else "0"
    told = f"the interval reaches across {edge}" if verdict == "undecided" else ""
    assert decision.reason == told


@pytest.mark.parametrize(
    ("ours", "reason"),
    [
        ({0: 1.0}, "one seed has no interval"),
        ({}, f"no {MASKED} of all"),
        ({0: 9.0, 1: 9.0, 2: math.nan}, "not a number for seed 2"),
    ],
)
def test_what_has_no_interval_is_undecided_and_says_why(ours, reason):
    made = results({"all": ours, "none": by_seed([0, 0, 0])})
    decision = decide(claim(), made)
    assert (decision.verdict, decision.reason) == ("undecided", reason)


def test_arms_without_a_common_seed_are_undecided():
    made = results({"all": {0: 1.0}, "none": {1: 0.0}})
    assert decide(claim(), made).reason == "its arms have no seed in common"
