"""The figure of what happens from layer to layer."""

import numpy as np
import pytest
import tiny
from matplotlib.figure import Figure

from albert_jax.config import UserError
from albert_jax.study import depth_figure
from albert_jax.study.depth import Depth, read_trust_ratios
from albert_jax.study.depth_figure import draw_depth
from albert_jax.study.passes import PassGradients
from albert_jax.study.profile import DepthProfile


def made(name="runs/shared", ratios=False, **fields) -> Depth:
    config = tiny.config(**fields)
    layers = config.num_hidden_layers * config.inner_group_num
    shared = config.share == "all"
    vectors = np.random.default_rng(0).normal(size=(layers, 6))
    steps, falling = np.arange(1, 6) * 10, np.linspace(0.5, 0.1, 5)
    matrices = ("albert/encoder/attention_0/query", "albert/encoder/attention_1/query")
    matrices += ("albert/embeddings/word_embeddings", "sop_classifier")
    return Depth(
        name=name,
        config=config,
        rows=4,
        profile=DepthProfile(
            distance=np.arange(1.0, layers + 1),
            angle=np.full(layers, 30.0),
            entropy=np.full((layers, 2), [1.0, 2.0]),
            uniform_entropy=3.0,
            tokens=1234,
        ),
        gradients=PassGradients(
            products={k: vectors @ vectors.T for k in ("attention", "ffn")},
            owners={k: np.arange(layers) * (not shared) for k in ("attention", "ffn")},
        ),
        trust_ratios={
            f"{matrix}/kernel": (steps, falling * (i + 1))
            for i, matrix in enumerate(matrices)
            if ratios
        },
    )


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, as they are saved."""
    saved = []

    class Kept(Figure):
        def savefig(self, *arguments, **settings):
            saved.append(self)
            return super().savefig(*arguments, **settings)

    monkeypatch.setattr(depth_figure, "Figure", Kept)
    return saved


def panels(figure):
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.axison}


def test_two_runs_stand_on_the_same_axes(tmp_path, figures):
    shared, unshared = made(), made("runs/none", share="none", num_hidden_layers=6)
    draw_depth([shared, unshared], tmp_path / "d.png")
    (figure,) = figures
    drawn = panels(figure)
    first = drawn["Input to output of a layer"]
    ours, theirs = first.get_lines()
    np.testing.assert_array_equal(ours.get_xydata(), [[n, n] for n in range(1, 5)])
    assert len(theirs.get_xdata()) == 6
    labels = [line.get_label() for line in (ours, theirs)]
    assert labels == ["shared (all shared)", "none (nothing shared)"]
    differ = [(x.get_color(), x.get_marker()) for x in (ours, theirs)]
    assert differ[0][0] != differ[1][0] and differ[0][1] != differ[1][1]
    units = [axes.get_ylabel() for axes in drawn.values()]
    assert units[:4] == ["L2 distance", "angle (degrees)", "entropy (nats)", "L2 norm"]
    # What is shared by nothing has no cosines to draw.
    matrices = [axes.get_title(loc="left") for axes in figure.axes if axes.images]
    assert matrices == ["Do passes agree? Attention", "Do passes agree? Feed-forward"]
    assert figure.get_supxlabel() == "4 held-out rows, 1,234 tokens"
    assert figure.get_facecolor() == (1, 1, 1, 1)


def test_cosines_and_trust_ratios_of_one_run(tmp_path, figures):
    depth = made(ratios=True)
    draw_depth([depth], tmp_path / "d.svg")
    drawn = panels(figures[0])
    axes = drawn["Do passes agree? Attention"]
    cosines = depth.gradients.cosines("attention")
    np.testing.assert_allclose(axes.get_images()[0].get_array(), cosines)
    assert axes.texts[1].get_text() == f"{cosines[0, 1]:.2f}"
    (line,) = drawn["Trust ratios, layers"].get_lines()
    assert line.get_label() == "attention query (2)"
    # The median of two layers' matrices.
    np.testing.assert_allclose(line.get_ydata(), 1.5 * np.linspace(0.5, 0.1, 5))
    rest = [x.get_label() for x in drawn["Trust ratios, all else"].get_lines()]
    assert rest == ["sop classifier", "word embeddings"]


def test_blocks_within_layers_have_their_names(tmp_path, figures):
    draw_depth([made(inner_group_num=2)], tmp_path / "d.png")
    axes = figures[0].axes[0]
    assert axes.get_xlabel() == "block (layer.block)"
    named = axes.xaxis.get_major_formatter()
    names = [named(place) for place in (0.0, 1.0, 2.0, 2.5, 8.0, 9.0)]
    assert names == ["", "1.1", "1.2", "", "4.2", ""]


def test_trust_ratios_out_of_a_log(tmp_path):
    log = tmp_path / "metrics.jsonl"
    assert read_trust_ratios(log) == {}
    log.write_text(
        '{"step": 0, "eval/masked_lm_loss": 3}\n'
        '{"step": 2, "train/trust_ratio/a/kernel": 0.5, "train/masked_lm_loss": 3}\n'
        '{"step": 4, "train/trust_ratio/a/kernel": null}\n'
        '{"step": 6, "train/trust_ratio/a/kernel": 0.25}\n'
    )
    (steps, values) = read_trust_ratios(log)["a/kernel"]
    assert steps.tolist() == [2, 6] and values.tolist() == [0.5, 0.25]


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(UserError, match="must end in .png or .svg"):
        draw_depth([made()], tmp_path / "d.pdf")
