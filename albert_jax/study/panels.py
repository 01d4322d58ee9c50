"""What a study's figures have in common: looks of arms, panels, legend, axes.

Loads matplotlib: import it late. The ground is opaque white, so that figures are read
in the same way on light and on dark pages; colours are those of Okabe and Ito, with
markers and line styles beside them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from albert_jax.study.results import StudyResults
from albert_jax.train.curves import STYLE

INK, FAINT = "#222222", "#777777"
ACROSS = 2
"""Panels beside each other."""
SETTINGS = STYLE | {
    "svg.hashsalt": "albert_jax",
    "font.size": 11,
    "axes.titlesize": 12,
    "lines.markeredgewidth": 0.0,
}

# Okabe and Ito's, without yellow, which white swallows, and black, the baseline's.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("s", "^", "D", "v", "P", "X")
_LINES = ("-", (0, (5, 2)), (0, (1, 1.5)))
_STEPS = [1, 2, 2.5, 5, 10]
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Look:
    """How an arm is drawn, the same in every figure."""

    color: str
    marker: str
    linestyle: Any


def looks_of(results: StudyResults) -> dict[str, Look]:
    """Arm -> look; the baseline has ink and dots."""
    baseline = results.study.baseline
    looks = {baseline: Look(INK, "o", "-")}
    for number, arm in enumerate(arm for arm in results.arms if arm != baseline):
        line, place = divmod(number, len(_COLOURS))
        marker = _MARKERS[(place + line) % len(_MARKERS)]
        looks[arm] = Look(_COLOURS[place], marker, _LINES[line % len(_LINES)])
    return looks


def make_panels(count: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels, each ``height`` inches high."""
    across = min(count, ACROSS)
    down = -(-count // across)
    size = (3.0 + 4.4 * across, 0.7 + height * down)
    figure = Figure(figsize=size, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for spare in axes[count:]:
        spare.remove()
    return figure, axes[:count]


def set_title(figure: Figure, title: str) -> None:
    """Above all panels."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, weight="bold")


def add_legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """Every arm once, beside the panels."""
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside right upper")


def scale_values(axis: Axis) -> None:
    """Few round ticks."""
    axis.set_major_locator(MaxNLocator(6, steps=_STEPS))
    axis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}".replace("-", "−")))


def scale_costs(axes: Axes, values: Sequence[float]) -> None:
    """The x axis of costs: logarithmic where they differ by more than three."""
    low, high = min(values), max(values)
    if high / low > 3:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.35, high * 1.35)
        ratio = high / low
        subs = (1, 2, 3, 5) if ratio < 20 else (1, 2, 5) if ratio < 300 else (1,)
        axes.xaxis.set_major_locator(LogLocator(subs=subs))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        margin = 0.15 * (high - low)
        axes.set_xlim(low - margin, high + margin)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _short(x)))


def _short(amount: float) -> str:
    """ "12 M" and the like below 10^12, then "1.5·10¹⁵"."""
    if amount >= 1e12:
        mantissa, exponent = f"{amount:.3e}".split("e+")
        return f"{float(mantissa):g}·10{exponent.translate(_RAISED)}"
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if amount >= size:
            return f"{amount / size:.4g} {letter}"
    return f"{amount:.4g}"
