"""The figure of what happens from layer to layer: one run, or two on the same axes.

Loads matplotlib: import it late. Drawn on opaque white in dark ink, so that one file
reads on light and on dark pages; runs differ in colour, marker and line.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from albert_jax.study.depth import Depth, Series
from albert_jax.study.passes import KINDS
from albert_jax.train.curves import STYLE, write_figure

# Okabe and Ito's, told apart by every kind of colour vision; yellow is lost on white.
_BLUE, _VERMILION, _INK = "#0072B2", "#D55E00", "#222222"
_COLOURS = (_BLUE, _VERMILION, "#009E73", "#E69F00", "#CC79A7", "#56B4E9", _INK)
_RUNS = ((_BLUE, "o"), (_VERMILION, "s"))
_NAMES = {"attention": "attention", "ffn": "feed-forward"}
_DASHES = {"attention": "-", "ffn": (0, (4, 2))}
_AGREEMENT = LinearSegmentedColormap.from_list(
    "agreement", [_VERMILION, "#FFFFFF", _BLUE]
)
# Cells of more layers are too small for a number.
_MOST_NUMBERS = 12


def draw_depth(depths: Sequence[Depth], path: Path) -> None:
    """Draws one run's ``Depth``, or two on the same axes, as PNG or SVG.

    Distance and angle (the paper's Figure 1), attention entropy, gradients by pass; the
    cosines of these for every run that shares weights, and the trust ratios of every
    run that logged them.

    Raises:
      UserError: the file has another ending, or cannot be written.
    """
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "albert_jax"}):
        write_figure(_figure(depths), path)


def _figure(depths: Sequence[Depth]) -> Figure:
    cosines = list(_cosines(depths))
    logged = [depth for depth in depths if depth.trust_ratios]
    heights = [1.0, 1.0] + [1.5] * (len(cosines) > 0) + [1.1] * len(logged)
    figure = Figure(figsize=(12, 1.0 + 3.6 * sum(heights)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
    # Each row lays out its own columns, since legends beside axes take room.
    rows = figure.subfigures(len(heights), 1, height_ratios=heights)
    grid = [row.subplots(1, 2).tolist() for row in rows]
    _draw_lines(grid[0], depths)
    _draw_inside(grid[1], depths)
    if cosines:
        image = None
        for axes, (depth, kinds, title) in zip(grid[2], cosines, strict=False):
            image = _draw_cosines(axes, depth, kinds, title)
        for axes in grid[2][len(cosines) :]:
            axes.set_axis_off()
        rows[2].colorbar(image, ax=grid[2], label="cosine", shrink=0.8)
    for row, depth in zip(grid[len(heights) - len(logged) :], logged, strict=True):
        _draw_ratios(row, depth, named=len(depths) > 1)
    _name_runs(figure, depths)
    return figure


def _name_runs(figure: Figure, depths: Sequence[Depth]) -> None:
    title = "From layer to layer"
    figure.suptitle(title, x=0.012, ha="left", fontsize=18, fontweight="bold")
    rows, tokens = depths[0].rows, depths[0].profile.tokens
    counted = f"{rows:,} held-out rows, {tokens:,} tokens"
    figure.supxlabel(counted, x=0.988, ha="right", fontsize=12, color="#666")
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(),
        loc="upper right",
        bbox_to_anchor=(0.995, 0.997),
        ncols=2,
        borderaxespad=0.0,
    )


def _names(depths: Sequence[Depth]) -> list[str]:
    """What runs are called beside each other: without the folders that all lie in."""
    if len(depths) < 2:
        return [depth.name for depth in depths]
    paths = [PurePath(depth.name).parts for depth in depths]
    common = len(os.path.commonprefix([parts[:-1] for parts in paths]))
    return [str(PurePath(*parts[common:])) for parts in paths]


def _draw_lines(row: Sequence[Axes], depths: Sequence[Depth]) -> None:
    """Figure 1 of the paper."""
    panels = (
        ("distance", "Input to output of a layer", "L2 distance"),
        ("angle", "Between input and output", "angle (degrees)"),
    )
    for axes, (field, title, unit) in zip(row, panels, strict=True):
        _label(axes, title, unit, depths)
        for depth, called, (colour, marker) in zip(
            depths, _names(depths), _RUNS, strict=False
        ):
            values = getattr(depth.profile, field)
            name = f"{called} ({_sharing(depth)})"
            axes.plot(_places(values), values, marker, ls="-", c=colour, label=name)
        axes.set_ylim(bottom=0)


def _draw_inside(row: Sequence[Axes], depths: Sequence[Depth]) -> None:
    """Attention entropy, and the gradient's norms."""
    _label(row[0], "Attention entropy by head", "entropy (nats)", depths)
    _label(row[1], "Gradient by pass", "L2 norm", depths)
    for depth, (colour, marker) in zip(depths, _RUNS, strict=False):
        entropy = depth.profile.entropy
        places = _places(entropy)
        row[0].plot(places, entropy, ".", c=colour, alpha=0.35, ms=5)
        row[0].plot(places, entropy.mean(axis=1), marker, ls="-", c=colour)
        for kind in KINDS:
            norms = depth.gradients.norms(kind)
            row[1].plot(places, norms, marker, ls=_DASHES[kind], c=colour)
    uniform = depths[0].profile.uniform_entropy
    row[0].axhline(uniform, color="#555555", linestyle=(0, (5, 3)), linewidth=1.5)
    row[0].set_ylim(0, 1.12 * uniform)
    row[0].annotate(
        "all keys alike",
        (0.995, uniform),
        xycoords=("axes fraction", "data"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="right",
        color="#555555",
        fontsize=12,
    )
    for kind in KINDS:
        row[1].plot([], [], ls=_DASHES[kind], c=_INK, label=_NAMES[kind])
    row[1].legend()
    row[1].set_ylim(bottom=0)


def _cosines(depths: Sequence[Depth]) -> Iterator[tuple[Depth, Sequence[str], str]]:
    """What matrices of cosines to draw: two at most."""
    shared = [
        (depth, [k for k in KINDS if depth.gradients.agreement(k)]) for depth in depths
    ]
    shared = [(depth, kinds) for depth, kinds in shared if kinds]
    if len(shared) == 1:
        ((depth, kinds),) = shared
        for kind in kinds:
            yield depth, (kind,), f"Do passes agree? {_NAMES[kind].capitalize()}"
        return
    for depth, kinds in shared:
        yield depth, kinds, f"Do passes agree? {depth.name}"


def _draw_cosines(axes: Axes, depth: Depth, kinds: Sequence[str], title: str):
    """The matrix of one run, as an image for the bar of colours."""
    cosines = depth.gradients.cosines(*kinds)
    count = len(cosines)
    edge = (0.5, count + 0.5)
    axes.set_facecolor("#DDDDDD")  # Where passes have no weights in common.
    image = axes.imshow(
        np.ma.masked_invalid(cosines),
        cmap=_AGREEMENT,
        vmin=-1,
        vmax=1,
        origin="lower",
        extent=(*edge, *edge),
    )
    _label(axes, title, "pass", [depth])
    axes.set_xlabel("pass")
    axes.yaxis.set_major_locator(axes.xaxis.get_major_locator())
    axes.yaxis.set_major_formatter(axes.xaxis.get_major_formatter())
    axes.grid(False)
    axes.spines[:].set_visible(False)
    if count > _MOST_NUMBERS:
        return image
    for (i, j), cosine in np.ndenumerate(cosines):
        if np.isfinite(cosine):
            ink = "white" if abs(cosine) > 0.6 else _INK
            text = f"{cosine:.2f}"
            size = 12 if count <= 6 else 8
            axes.text(j + 1, i + 1, text, c=ink, ha="center", va="center", size=size)
    return image


def _draw_ratios(row: Sequence[Axes], depth: Depth, *, named: bool) -> None:
    """The trust ratios of one run: the encoder's matrices, and all others."""
    encoder, rest = "albert/encoder/", {}
    inside: dict[str, list[Series]] = {}
    for name, series in depth.trust_ratios.items():
        path = name.removesuffix("/kernel").removesuffix("/embedding")
        if path.startswith(encoder):
            kind, *matrix = path.removeprefix(encoder).split("/")
            short = " ".join((_NAMES[kind.rpartition("_")[0]], *matrix))
            inside.setdefault(short, []).append(series)
        else:
            short = path.removeprefix("albert/").rpartition("embeddings/")[2]
            rest[short.replace("/", " ").replace("_", " ")] = [series]
    suffix = f" ({depth.name})" if named else ""
    panels = (
        (f"Trust ratios, layers{suffix}", inside),
        (f"Trust ratios, all else{suffix}", rest),
    )
    for axes, (title, curves) in zip(row, panels, strict=True):
        axes.set_title(title)
        axes.set_ylabel("norm of matrix / norm of update")
        axes.set_xlabel("training step")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        highest_last = sorted(curves, key=lambda name: -curves[name][0][1][-1])
        colours = dict(zip(curves, _COLOURS * len(curves), strict=False))
        for name in highest_last:
            _draw_spread(axes, curves[name], name, colours[name])
        # In the order in which the curves end.
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=11)


def _draw_spread(axes: Axes, curves: list[Series], name: str, colour: str) -> None:
    """One line for one matrix; for those of several layers their median and range."""
    steps = curves[0][0]
    values = np.stack([values for _, values in curves])
    if len(curves) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
        name += f" ({len(curves)})"
    axes.plot(steps, np.median(values, axis=0), c=colour, label=name)


def _label(axes: Axes, title: str, unit: str, depths: Sequence[Depth]) -> None:
    """Title and units over an axis of layers, or of blocks where these are more."""
    axes.set_title(title)
    axes.set_ylabel(unit)
    longest = max((depth.blocks for depth in depths), key=len)
    plain = "." not in longest[0]
    axes.set_xlabel("layer" if plain else "block (layer.block)")
    axes.set_xlim(0.5, len(longest) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True, min_n_ticks=1))

    def named(place: float, _: int | None) -> str:
        inside = place == int(place) and 1 <= place <= len(longest)
        return longest[int(place) - 1] if inside else ""

    axes.xaxis.set_major_formatter(FuncFormatter(named))


def _places(values: np.ndarray) -> np.ndarray:
    return np.arange(1, len(values) + 1)


def _sharing(depth: Depth) -> str:
    """What a run shares, in few words."""
    config = depth.config
    said = {"all": "all shared", "none": "nothing shared"}
    shared = said.get(config.share, f"shared: {_NAMES.get(config.share)}")
    groups = config.num_hidden_groups
    return shared + (f", {groups} groups" if groups > 1 else "")
