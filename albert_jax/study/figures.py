"""A study's figures: learning curves, cost against quality, paired differences.

Loads matplotlib: import it late. The files hold no date and no version: the same study
gives the same bytes.
"""

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from albert_jax.finetuning.results import Spread
from albert_jax.study.contrasts import Contrast, contrast
from albert_jax.study.costs import encoder_parameters, step_flops, step_tokens
from albert_jax.study.metrics import Metric, metric_of, shown_metrics
from albert_jax.study.panels import (
    ACROSS,
    FAINT,
    INK,
    SETTINGS,
    Look,
    add_legend,
    looks_of,
    make_panels,
    scale_costs,
    scale_values,
    set_title,
)
from albert_jax.study.results import Arm, Curve, StudyResults


def draw_figures(results: StudyResults) -> dict[str, bytes]:
    """File -> content: every figure that there is something to draw for, as PNG (about
    1200 pixels wide, 256 colours) and as SVG."""
    files = {}
    with matplotlib.rc_context(SETTINGS):
        for name, draw in FIGURES.items():
            figure = draw(results)
            if figure is not None:
                files[f"{name}.png"] = _png(figure)
                files[f"{name}.svg"] = _svg(figure)
    return files


def _png(figure: Figure) -> bytes:
    """With a palette, which a third of the bytes suffice for; it says nothing of what
    made it."""
    drawn, file = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=100)
    image = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    image.save(file, format="png", optimize=True)
    return file.getvalue()


def _svg(figure: Figure) -> bytes:
    """Without what made it, and when."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Creator": None, "Date": None})
    return file.getvalue()


# Learning curves.


def _draw_curves(results: StudyResults) -> Figure | None:
    arms = list(results.arms.values())
    metrics = [
        metric_of(name, results.study)
        for name in results.study.metrics
        if any(name in arm.curves for arm in arms)
    ]
    if not metrics:
        return None
    figure, panels = make_panels(len(metrics), 3.7)
    longest = max(arm.steps * step_tokens(arm.experiment) for arm in arms)
    size, unit = (1e9, "billion") if longest >= 2e9 else (1e6, "million")
    looks = looks_of(results)
    for axes, metric in zip(panels, metrics, strict=True):
        axes.set_title(metric.label)
        axes.set_ylabel(f"held out ({metric.unit})".removesuffix(" ()"))
        axes.set_xlabel(f"training tokens ({unit})")
        axes.set_xlim(-0.02 * longest / size, 1.02 * longest / size)
        scale_values(axes.yaxis)
        for number, arm in enumerate(arms):
            if metric.name in arm.curves:
                # Markers of one curve stand between those of the others.
                first = 0.02 + 0.14 * number / len(arms)
                _draw_curve(axes, arm, metric, looks[arm.name], size, (first, 0.14))
        _draw_guess(axes, metric, results)
    set_title(figure, f"{results.study.name}: learning curves, with 95 % intervals")
    add_legend(figure, panels)
    return figure


def _draw_curve(
    axes: Axes,
    arm: Arm,
    metric: Metric,
    look: Look,
    size: float,
    markevery: tuple[float, float],
) -> None:
    """Its mean over seeds, and a band for the interval."""
    curve = _mean_curve(arm, arm.curves[metric.name])
    if not curve:
        return
    tokens = np.array(list(curve)) * step_tokens(arm.experiment) / size
    low, high = metric.scale * np.array([_bounds(one) for one in curve.values()]).T
    axes.plot(
        tokens,
        [metric.scale * one.mean for one in curve.values()],
        color=look.color,
        marker=look.marker,
        linestyle=look.linestyle,
        linewidth=1.5,
        markersize=6,
        markevery=markevery if len(tokens) > 4 else None,
        label=arm.name if _finished(arm) else f"{arm.name} (unfinished)",
    )
    axes.fill_between(tokens, low, high, color=look.color, alpha=0.18, linewidth=0)


def _finished(arm: Arm) -> list[int]:
    return [s for s, reached in arm.progress.items() if reached.state == "finished"]


def _mean_curve(arm: Arm, by_seed: Mapping[int, Curve]) -> dict[int, Spread]:
    """Step -> spread over the finished seeds or, where there is none yet, over those
    that have begun, as far as all of them have come and have numbers."""
    curves = [by_seed[s] for s in _finished(arm) if s in by_seed]
    curves = curves or list(by_seed.values())
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    columns = {step: [curve[step] for curve in curves] for step in steps}
    return {s: Spread.of(c) for s, c in columns.items() if np.isfinite(c).all()}


def _bounds(spread: Spread) -> tuple[float, float]:
    """The interval; of one seed, its value."""
    return spread.interval or (spread.mean, spread.mean)


def _draw_guess(axes: Axes, metric: Metric, results: StudyResults) -> None:
    """A dashed line at what can be had for nothing."""
    value, what = metric.chance, "chance"
    if metric.name == "eval/masked_lm_accuracy":
        value = results.arms[results.study.baseline].unigram
        what = "commonest piece"
    if value is None:
        return
    level = metric.scale * value
    axes.axhline(level, color=FAINT, linestyle=(0, (4, 3)), linewidth=1)
    axes.annotate(
        what,
        (0.99, level),
        xycoords=("axes fraction", "data"),
        xytext=(0, -3),
        textcoords="offset points",
        ha="right",
        va="top",
        color=FAINT,
        fontsize=9,
    )


# Cost against quality.


def _draw_costs(results: StudyResults) -> Figure | None:
    arms = results.arms.values()
    costs = {
        "parameters (without heads)": {
            arm.name: float(encoder_parameters(arm.experiment.model)) for arm in arms
        },
        "training FLOPs": {
            arm.name: float(arm.steps * step_flops(arm.experiment)) for arm in arms
        },
    }
    costs = {name: one for name, one in costs.items() if len(set(one.values())) > 1}
    panels = [(m, name) for m in _measured(results) for name in costs]
    if not panels:
        return None
    figure, grid = make_panels(len(panels), 3.2)
    looks = looks_of(results)
    for axes, (metric, name) in zip(grid, panels, strict=True):
        axes.set_ylabel(f"{metric.label} ({metric.unit})".removesuffix(" ()"))
        axes.set_xlabel(name)
        scale_values(axes.yaxis)
        scale_costs(axes, list(costs[name].values()))
        places = _side_by_side(axes, costs[name])
        for arm, place in places.items():
            spread = contrast(results, {arm: 1.0}, metric.name).spread
            if spread is not None:
                _draw_point(axes, place, spread, metric, looks[arm], arm)
    set_title(figure, f"{results.study.name}: cost and quality, with 95 % intervals")
    add_legend(figure, grid)
    return figure


def _measured(results: StudyResults) -> Iterator[Metric]:
    """The metrics that some arm has a score of."""
    for metric in shown_metrics(results.study):
        arms = results.arms
        if any(contrast(results, {arm: 1.0}, metric.name).values for arm in arms):
            yield metric


def _side_by_side(axes: Axes, costs: Mapping[str, float]) -> dict[str, float]:
    """Arm -> x; arms of one cost stand a little apart, around their place."""
    scale = axes.transAxes + axes.transData.inverted()
    counts, before = Counter(costs.values()), Counter()
    places = {}
    for arm, cost in costs.items():
        shift = 0.014 * (before[cost] - (counts[cost] - 1) / 2)
        before[cost] += 1
        middle = scale.inverted().transform((cost, axes.get_ylim()[0]))
        places[arm] = scale.transform(middle + (shift, 0.0))[0]
    return places


def _draw_point(
    axes: Axes, x: float, spread: Spread, metric: Metric, look: Look, label: str
) -> None:
    low, high = _bounds(spread)
    axes.errorbar(
        x,
        metric.scale * spread.mean,
        yerr=metric.scale * (high - low) / 2,
        color=look.color,
        marker=look.marker,
        linestyle="none",
        markersize=8,
        elinewidth=1.5,
        label=label,
    )


# Paired differences.


def _draw_differences(results: StudyResults) -> Figure | None:
    baseline = results.study.baseline
    arms = [arm for arm in results.arms if arm != baseline]
    differences = {
        metric: {
            arm: contrast(results, {arm: 1.0, baseline: -1.0}, metric.name)
            for arm in arms
        }
        for metric in _measured(results)
    }
    differences = {
        metric: by_arm
        for metric, by_arm in differences.items()
        if any(found.values for found in by_arm.values())
    }
    if not differences:
        return None
    figure, panels = make_panels(len(differences), 1.0 + 0.42 * len(arms))
    looks = looks_of(results)
    for number, (metric, by_arm) in enumerate(differences.items()):
        axes = panels[number]
        axes.set_title(metric.label)
        unit = f" ({metric.difference_unit})" if metric.difference_unit else ""
        axes.set_xlabel(f"difference to {baseline}{unit}")
        axes.axvline(0, color=INK, linewidth=1)
        # Names stand at the left end of a line of panels.
        names = arms if number % ACROSS == 0 else [""] * len(arms)
        axes.set_yticks(range(len(arms)), names)
        axes.set_ylim(len(arms) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        for place, (arm, found) in enumerate(by_arm.items()):
            _draw_difference(axes, place, found, metric, looks[arm])
        scale_values(axes.xaxis)
    title = f"differences to {baseline}, paired by seed, with 95 % intervals"
    set_title(figure, f"{results.study.name}: {title}")
    return figure


def _draw_difference(
    axes: Axes, place: int, found: Contrast, metric: Metric, look: Look
) -> None:
    """Its mean and interval, its seeds below, its numbers to the right."""
    spread = found.spread
    said: dict[str, Any] = {"text": "no result", "color": FAINT}
    if spread is not None:
        low, high = _bounds(spread)
        axes.errorbar(
            metric.scale * spread.mean,
            place,
            xerr=metric.scale * (high - low) / 2,
            color=look.color,
            marker=look.marker,
            linestyle="none",
            markersize=8,
            elinewidth=2,
        )
        axes.plot(
            [metric.scale * value for value in found.values.values()],
            [place + 0.3] * len(found.values),
            color=look.color,
            linestyle="none",
            marker=".",
            markersize=5,
            alpha=0.6,
        )
        reach = f" ± {metric.format((high - low) / 2)}" if spread.interval else ""
        said = {"text": metric.format_signed(spread.mean) + reach, "color": INK}
    axes.annotate(
        **said,
        xy=(1.01, place),
        xycoords=("axes fraction", "data"),
        va="center",
        fontsize=9,
    )


FIGURES = {
    "curves": _draw_curves,
    "costs": _draw_costs,
    "differences": _draw_differences,
}
"""Name of the file -> what draws it, or returns nothing."""
