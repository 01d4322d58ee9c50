"""A study's figures: what is drawn, and how large the files are."""

import struct
from dataclasses import replace
from pathlib import Path

import made_study
import matplotlib
import numpy as np
import pytest
from made_study import MASKED, ORDER, by_seed, results, write_six_arms
from matplotlib.figure import Figure
from scipy.stats import ttest_1samp

from albert_jax.study import figures, panels
from albert_jax.study.costs import encoder_parameters
from albert_jax.study.report import write_report
from albert_jax.study.results import StudyResults, read_study


@pytest.fixture
def folder(tmp_path) -> Path:
    """The made study, to be changed."""
    return write_six_arms(tmp_path)


def drawn(made: StudyResults, name: str):
    with matplotlib.rc_context(panels.SETTINGS):
        return figures.FIGURES[name](made)


def test_curves_are_means_with_bands(folder):
    figure = drawn(read_study(folder), "curves")
    masked, order = figure.axes
    assert masked.get_title(loc="left") == "masked-LM accuracy"
    assert masked.get_xlabel() == "training tokens (million)"
    lines = {line.get_label(): line for line in masked.get_lines()}
    tokens = np.array([0, 10, 20, 30, 40]) * 8 * 16 / 1e6
    np.testing.assert_allclose(lines["none"].get_xdata(), tokens)
    np.testing.assert_allclose(
        lines["none"].get_ydata(), 34 * np.linspace(0, 1, 5), atol=1e-9
    )
    assert len(lines["half (unfinished)"].get_xdata()) == 3
    assert len(lines["begun (unfinished)"].get_xdata()) == 2
    # The band at the end of the baseline, the first that is drawn.
    (band,) = masked.collections[0].get_paths()
    ends = band.vertices[np.isclose(band.vertices[:, 0], tokens[-1]), 1]
    low, high = ttest_1samp([31, 34, 37], 0).confidence_interval(0.95)
    assert (ends.min(), ends.max()) == pytest.approx((low, high))
    assert {text.get_text() for text in masked.texts} == {"commonest piece"}
    assert {text.get_text() for text in order.texts} == {"chance"}


def test_differences_are_paired_and_named(folder):
    figure = drawn(read_study(folder), "differences")
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        "all",
        "half",
        "begun",
        "wide",
        "later",
    ]
    assert axes.get_xlabel() == "difference to none (points)"
    assert [text.get_text() for text in axes.texts] == [
        "−11.00 ± 2.48",
        "no result",
        "no result",
        "−12.50 ± 19.06",
        "no result",
    ]
    (interval,) = axes.collections[0].get_segments()
    expected = ttest_1samp([-10, -11, -12], 0).confidence_interval(0.95)
    np.testing.assert_allclose(interval[:, 0], expected)


def test_costs_stand_on_the_x_axis(folder):
    made = read_study(folder)
    figure = drawn(made, "costs")
    parameters, flops = figure.axes[:2]
    assert parameters.get_xlabel() == "parameters (without heads)"
    assert flops.get_xlabel() == "training FLOPs"
    assert parameters.get_ylabel() == "masked-LM accuracy (%)"
    labels = parameters.get_legend_handles_labels()[1]
    assert labels == ["none", "all", "wide"]
    points = [
        line.get_xydata()[0]
        for line in parameters.get_lines()
        if len(line.get_xydata())
    ]
    expected = encoder_parameters(made.study.arms["none"].model)
    assert any(point == pytest.approx((expected, 34.0)) for point in points)


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        (
            [2.3e12, 2.7e13],
            ["2·10¹²", "3·10¹²", "5·10¹²", "1·10¹³", "2·10¹³", "3·10¹³"],
        ),
        ([9e19, 1.1e20], ["9·10¹⁹", "1·10²⁰", "1.1·10²⁰"]),
        ([183_808.0, 2_000_000.0], ["200 k", "300 k", "500 k", "1 M", "2 M"]),
    ],
)
def test_costs_are_numbers_that_are_read_at_once(costs, expected):
    axes = Figure().add_subplot()
    panels.scale_costs(axes, costs)
    low, high = axes.get_xlim()
    ticks = [x for x in axes.get_xticks() if low <= x <= high]
    assert axes.xaxis.get_major_formatter().format_ticks(ticks) == expected


def test_where_arms_cost_the_same_there_is_no_figure_of_costs():
    made = results({"all": by_seed([1, 2, 3])})
    assert drawn(made, "costs") is None


def test_pictures_of_twelve_arms_stay_small(tmp_path):
    # Of one size, because counting takes a while; twice the steps for half of them.
    often = replace(made_study.experiment().evaluation, every=2)
    base = replace(made_study.experiment(), evaluation=often)
    arms = {f"arm-{n}": replace(base, steps=40 + 40 * (n % 2)) for n in range(12)}
    study = made_study.study(arms, baseline="arm-3", seeds=5)
    made_study.write_study(tmp_path, study)
    rng = np.random.default_rng(0)
    for number, name in enumerate(arms):
        metrics = {
            MASKED: by_seed(0.2 + 0.01 * number + 0.004 * rng.normal(size=5)),
            ORDER: by_seed(0.6 + 0.01 * number + 0.02 * rng.normal(size=5)),
        }
        made_study.write_run(tmp_path / name, arms[name], metrics)
    write_report(tmp_path, tmp_path / "report")
    for name in figures.FIGURES:
        png = (tmp_path / "report" / f"{name}.png").read_bytes()
        width, _ = struct.unpack(">II", png[16:24])
        assert len(png) <= 150_000 and 1000 <= width <= 1300, (name, len(png), width)
    looks = panels.looks_of(read_study(tmp_path)).values()
    seen = {(look.color, look.marker, str(look.linestyle)) for look in looks}
    assert len(seen) == 12


# Parameters.
