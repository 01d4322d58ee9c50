"""The learning curves of a run, drawn from its metrics log.

Loads matplotlib: import it late. The user's backend and settings stay as they are.
"""

import errno
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from albert_jax.config import UserError
from albert_jax.train.metrics import read_metrics

# Blue and vermilion of Okabe and Ito: told apart by every kind of colour vision, and by
# lightness in print.
_TRAIN, _HELDOUT, _BASELINE, _INK, _FAINT = (
    "#0072B2",
    "#D55E00",
    "#555555",
    "#222222",
    "#DDDDDD",
)
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 13,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "axes.titlesize": 14,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": "#888888",
    "axes.facecolor": "white",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _FAINT,
    "grid.linestyle": "-",
    "grid.linewidth": 0.8,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "lines.linewidth": 2.0,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "text.usetex": False,
}


@dataclass(frozen=True)
class _Panel:
    """One pair of axes: a metric, and the line that it has to beat."""

    metric: str
    title: str
    unit: str
    baseline: str = ""
    """What the baseline is called; its value is given or logged."""
    value: float | None = None


_SHARE = "share correct"
_PANELS = (
    _Panel("masked_lm_loss", "Masked LM loss", "cross-entropy (nats)"),
    _Panel("masked_lm_accuracy", "Masked LM accuracy", _SHARE, "unigram baseline"),
    _Panel("sentence_order_accuracy", "Sentence-order accuracy", _SHARE, "chance", 0.5),
    _Panel("next_sentence_accuracy", "Next-sentence accuracy", _SHARE, "chance", 0.5),
    _Panel("learning_rate", "Learning rate", "learning rate"),
)

_Series = tuple[np.ndarray, np.ndarray]  # steps, values


def draw_curves(metrics_path: Path, png_path: Path, title: str) -> None:
    """Draw the learning curves of a run into a PNG, 1200 pixels wide.

    A metric that was never logged has no panel. The picture appears whole or not at
    all.

    Raises:
      UserError: there is no log, nothing in it that could be drawn, or no room.
    """
    try:
        metrics = _Metrics(metrics_path)
    except OSError as error:
        raise UserError(f"cannot read {metrics_path}: {error.strerror}") from error
    panels = [panel for panel in _PANELS if any(metrics.of(panel.metric))]
    if not panels:
        raise UserError(f"{metrics_path} holds no pretraining metrics to draw")
    with matplotlib.rc_context(STYLE):
        write_figure(_figure(panels, metrics, title), png_path)


def check_figure(path: Path) -> None:
    """Raises a ``UserError`` for a file that ``write_figure`` would not write."""
    if path.suffix not in (".png", ".svg"):
        raise UserError(f"figure is {str(path)!r}, but it must end in .png or .svg")
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path}: {os.strerror(errno.ENOENT)}")


def write_figure(figure: Figure, path: Path, dpi: int = 100) -> None:
    """Writes a figure as PNG or SVG; whole or not at all.

    Raises:
      UserError: the file ends otherwise, has no folder, or there is no room.
    """
    check_figure(path)
    image = io.BytesIO()
    # The same figure is the same bytes, whenever it is drawn.
    undated = {"Date": None} if path.suffix == ".svg" else None
    figure.savefig(image, format=path.suffix[1:], dpi=dpi, metadata=undated)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        temporary.write_bytes(image.getvalue())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror}") from error


class _Metrics:
    """The series of a log; where a step was logged twice, the later line holds."""

    def __init__(self, path: Path) -> None:
        self._values: dict[str, dict[int, float]] = {}
        for entry in read_metrics(path):
            step = entry.pop("step", None)
            for name, value in entry.items():
                if isinstance(step, int) and isinstance(value, int | float):
                    self._values.setdefault(name, {})[step] = value

    def series(self, name: str) -> _Series | None:
        points = sorted(self._values.get(name, {}).items())
        return tuple(np.array(points, float).T) if points else None

    def last(self, name: str) -> float | None:
        series = self.series(name)
        return None if series is None else series[1][-1]

    @property
    def last_step(self) -> int:
        return max((max(points) for points in self._values.values()), default=0)

    def of(self, metric: str) -> Iterator[_Series]:
        """Training and held-out series of a metric, where there are such."""
        names = ("train/" + metric, "eval/" + metric, metric)
        return (s for s in map(self.series, names) if s is not None)

    def subtitle(self) -> str:
        """How far the run has come: steps, tokens, pace."""
        parts = [f"{self.last_step:,} steps"]
        if (tokens := self.last("tokens")) is not None:
            parts.append(f"{_short(tokens)} tokens seen")
        if (pace := self.series("tokens_per_second")) is not None:
            parts.append(f"{_short(np.median(pace[1]))} tokens/s")
        return "  ·  ".join(parts)


# Where the panels stand, by how many there are.
_LAYOUTS = {
    1: ["A"],
    2: ["AB"],
    3: ["AB", "AC"],
    4: ["AB", "CD"],
    5: ["AB", "AC", "DE"],
}


def _figure(panels: list[_Panel], metrics: _Metrics, title: str) -> Figure:
    layout = _LAYOUTS[len(panels)]
    figure = Figure(figsize=(12, 1.0 + 3.5 * len(layout)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
    grid = figure.subplot_mosaic("\n".join(layout), sharex=True)
    for letter, panel in zip("ABCDE", panels, strict=False):
        _draw_panel(grid[letter], panel, metrics)
    for letter in layout[-1]:
        grid[letter].set_xlabel("training step")
    figure.suptitle(title, x=0.012, ha="left", fontsize=18, fontweight="bold")
    figure.supxlabel(metrics.subtitle(), x=0.988, ha="right", fontsize=12, color="#666")
    handles = {}
    for axes in grid.values():
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="upper right",
            bbox_to_anchor=(0.995, 0.997),
            ncols=len(handles),
            borderaxespad=0.0,
        )
    return figure


def _draw_panel(axes: Axes, panel: _Panel, metrics: _Metrics) -> None:
    axes.set_title(panel.title)
    axes.set_ylabel(panel.unit)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    ticks = {"steps": [1, 2, 2.5, 5, 10]}
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, **ticks))
    axes.yaxis.set_major_locator(MaxNLocator(6, **ticks))
    last = max(metrics.last_step, 1)
    axes.set_xlim(-0.02 * last, 1.02 * last)
    if panel.metric.endswith("accuracy"):
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: _percent(y)))
    if (plain := metrics.series(panel.metric)) is not None:
        steps, values = plain
        if (highest := values.max()) > 0:
            exponent = int(np.floor(np.log10(highest)))
            values = values / 10.0**exponent
            axes.set_ylabel(rf"{panel.unit} ($\times 10^{{{exponent}}}$)")
        axes.plot(steps, values, color=_TRAIN)
    if (train := metrics.series("train/" + panel.metric)) is not None:
        steps, values = train
        axes.plot(steps, values, color=_TRAIN, alpha=0.25, linewidth=1.0)
        smooth = _smoothed(values)
        axes.plot(steps, smooth, color=_TRAIN, label="training batches, smoothed")
    if (heldout := metrics.series("eval/" + panel.metric)) is not None:
        axes.plot(
            *heldout,
            color=_HELDOUT,
            marker="o",
            markersize=5,
            markeredgecolor="white",
            markeredgewidth=0.7,
            label="held-out documents",
        )
    value = panel.value
    if panel.baseline and value is None:
        value = metrics.last("eval/unigram_accuracy")
    if value is not None:
        _draw_baseline(axes, value, f"{panel.baseline} {_percent(value)}")


def _draw_baseline(axes: Axes, value: float, text: str) -> None:
    """A dashed line, named below its right end, with room for the name."""
    axes.axhline(value, color=_BASELINE, linestyle=(0, (5, 3)), linewidth=1.5)
    axes.annotate(
        text,
        (0.995, value),
        xycoords=("axes fraction", "data"),
        xytext=(0, -5),
        textcoords="offset points",
        ha="right",
        va="top",
        color=_BASELINE,
        fontsize=12,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0},
    )
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, value - 0.11 * (high - value)), high)


def _smoothed(values: np.ndarray) -> np.ndarray:
    """A local straight line, weighted by a Gaussian about a thirtieth of the curve
    wide: without lag, and true at both ends, where a plain mean is not."""
    width = len(values) / 60
    if width < 0.5:
        return values
    reach = int(3 * width) + 1
    offsets = np.arange(-reach, reach + 1) / width
    weights = np.exp(-0.5 * offsets**2)

    def moment(x: np.ndarray, power: int) -> np.ndarray:
        padded = np.pad(x, reach)
        return np.correlate(padded, weights * offsets**power, mode="valid")

    ones = np.ones_like(values)
    s0, s1, s2 = (moment(ones, power) for power in range(3))
    return (s2 * moment(values, 0) - s1 * moment(values, 1)) / (s0 * s2 - s1**2)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _short(amount: Any) -> str:
    """ "1.3 B", "31.4 k": three digits and a letter."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if amount >= size:
            return f"{amount / size:.3g} {letter}"
    return f"{amount:.3g}"
