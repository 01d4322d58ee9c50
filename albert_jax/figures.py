"""Pictures of the model. Imports matplotlib (slow to load): import it late."""

import dataclasses
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from albert_jax.config import AlbertConfig
from albert_jax.config.model import SHARING
from albert_jax.model.costs import parameter_table, without_heads
from albert_jax.model.encoder import sharing_plan
from albert_jax.train.curves import write_figure

_COLOURS = {"attention": "#0072B2", "feed-forward": "#D55E00"}


def draw_sharing(config: AlbertConfig, path: Path) -> None:
    """Draws which layers use which weights under every ``share``, as PNG or SVG.

    One box a sub-block and layer, bottom to top; boxes of one shade and number are one
    set of weights. The configuration's own plan is named in bold; counts are of the
    encoder with embeddings and pooler.

    Raises:
      UserError: the file's ending is neither, or it cannot be written.
    """
    layers = config.num_hidden_layers * config.inner_group_num
    figure = Figure(figsize=(9, 1.6 + 0.27 * layers), layout="constrained")
    for axes, share in zip(figure.subplots(1, len(SHARING)), SHARING, strict=True):
        plan = dataclasses.replace(config, share=share)
        _draw_plan(axes, plan, chosen=share == config.share)
    figure.axes[0].set_ylabel("layer")
    write_figure(figure, path, dpi=130)


def _draw_plan(axes: Axes, config: AlbertConfig, *, chosen: bool) -> None:
    blocks = [block for layer in sharing_plan(config) for block in layer]
    for column, (kind, colour) in enumerate(_COLOURS.items()):
        owners = [block[column] for block in blocks]
        for height, owner in enumerate(owners):
            shade = 0.75 * owner / max(len(set(owners)) - 1, 1)
            fill = [(1 - shade) * c + shade for c in to_rgb(colour)]
            box = FancyBboxPatch(
                (column + 0.06, height + 0.12),
                0.88,
                0.76,
                boxstyle="round,pad=0,rounding_size=0.08",
                facecolor=fill,
                edgecolor="none",
            )
            axes.add_patch(box)
            axes.text(
                column + 0.5,
                height + 0.5,
                str(owner),
                ha="center",
                va="center",
                fontsize=8,
                color="white" if shade < 0.45 else "black",
            )
        axes.text(column + 0.5, -0.35, kind, ha="center", va="top", fontsize=8)
    count = without_heads(parameter_table(config))
    axes.set_title(
        f'share = "{config.share}"\n{count / 1e6:,.1f} M parameters',
        fontsize=10,
        fontweight="bold" if chosen else "normal",
    )
    axes.set(xlim=(0, 2), ylim=(-1, len(blocks)), xticks=[])
    layers = range(config.num_hidden_layers)
    inner = config.inner_group_num
    axes.set_yticks([i * inner + inner / 2 for i in layers], [i + 1 for i in layers])
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
