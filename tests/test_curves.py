"""The figure of a run's learning curves."""

import json
import math
import struct

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from albert_jax.config import UserError
from albert_jax.train import curves
from albert_jax.train.curves import draw_curves


def write_metrics(path, steps=400, every=4, sentence_order=True, heldout=True):
    with path.open("w") as file:
        for step in range(0, steps + 1, every):
            decay = math.exp(-step / 100)
            line = {"step": step, "learning_rate": 1e-3 * (1 - step / steps)}
            values = {"masked_lm_loss": 2 + 7 * decay, "masked_lm_accuracy": 1 - decay}
            if sentence_order:
                values["sentence_order_accuracy"] = 1 - 0.5 * decay
            line |= {f"train/{name}": value for name, value in values.items()}
            line |= {"tokens": 512 * step, "tokens_per_second": 1e4}
            file.write(json.dumps(line) + "\n")
            if heldout and step % 100 == 0:
                line = {f"eval/{name}": value for name, value in values.items()}
                file.write(json.dumps({"step": step} | line) + "\n")
        if heldout:
            file.write(json.dumps({"step": 0, "eval/unigram_accuracy": 0.0625}) + "\n")
    return path


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, as they are saved."""
    saved = []

    class Kept(Figure):
        def savefig(self, *arguments, **settings):
            saved.append(self)
            return super().savefig(*arguments, **settings)

    monkeypatch.setattr(curves, "Figure", Kept)
    return saved


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


ALL = [
    "Masked LM loss",
    "Masked LM accuracy",
    "Sentence-order accuracy",
    "Learning rate",
]


def test_the_picture_has_every_panel_and_its_size(tmp_path, figures):
    png = tmp_path / "curves.png"
    draw_curves(write_metrics(tmp_path / "m.jsonl"), png, "demo")
    data = png.read_bytes()
    assert data.startswith(b"\x89PNG") and struct.unpack(">II", data[16:24]) == (
        1200,
        800,
    )
    (figure,) = figures
    assert titles(figure) == ALL and figure.get_suptitle() == "demo"
    assert figure.get_supxlabel() == "400 steps  ·  205 k tokens seen  ·  10 k tokens/s"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curves.png", "m.jsonl"]


def test_both_sentence_objectives_have_panels(tmp_path, figures):
    path = write_metrics(tmp_path / "m.jsonl")
    with path.open("a") as file:
        for step in (0, 400):
            line = {"step": step, "eval/next_sentence_accuracy": 0.5 + step / 1000}
            file.write(json.dumps(line) + "\n")
    draw_curves(path, tmp_path / "c.png", "demo")
    assert titles(figures[0]) == [*ALL[:3], "Next-sentence accuracy", ALL[3]]
    (heldout,) = lines_of(figures[0].axes[3])["held-out documents"][:, 1:].T
    np.testing.assert_allclose(heldout, [0.5, 0.9])


def lines_of(axes):
    return {line.get_label(): line.get_xydata() for line in axes.get_lines()}


def test_the_lines_are_the_logged_values(tmp_path, figures):
    draw_curves(write_metrics(tmp_path / "m.jsonl"), tmp_path / "c.png", "demo")
    loss, accuracy, order, rate = figures[0].axes
    heldout = lines_of(loss)["held-out documents"]
    np.testing.assert_array_equal(heldout[:, 0], [0, 100, 200, 300, 400])
    np.testing.assert_allclose(heldout[:, 1], 2 + 7 * np.exp(-heldout[:, 0] / 100))
    raw, smooth = (line.get_ydata() for line in loss.get_lines()[:2])
    assert len(raw) == 101
    np.testing.assert_allclose(smooth, raw, atol=0.2)
    (baseline,) = (t.get_text() for t in accuracy.texts)
    assert baseline == "unigram baseline 6.25 %"
    assert accuracy.get_lines()[-1].get_ydata() == [0.0625, 0.0625]
    (chance,) = (t.get_text() for t in order.texts)
    assert chance == "chance 50 %"
    assert rate.get_lines()[0].get_ydata()[0] == pytest.approx(1.0)
    assert "10^{-3}" in rate.get_ylabel()


def test_a_metric_that_was_not_logged_has_no_panel(tmp_path, figures):
    path = write_metrics(tmp_path / "m.jsonl", sentence_order=False, heldout=False)
    draw_curves(path, tmp_path / "c.png", "demo")
    assert titles(figures[0]) == ["Masked LM loss", "Masked LM accuracy", ALL[3]]
    assert not figures[0].axes[1].texts


def test_one_evaluation_is_enough(tmp_path, figures):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 0, "eval/masked_lm_loss": 10.3, "learning_rate": 0.0}\n')
    draw_curves(path, tmp_path / "c.png", "demo")
    assert titles(figures[0]) == ["Masked LM loss", "Learning rate"]


def test_a_torn_line_a_null_and_a_repeated_step_do_no_harm(tmp_path, figures):
    path = tmp_path / "m.jsonl"
    path.write_text(
        '{"step": 1, "train/masked_lm_loss": 9.0}\n'
        '{"step": 2, "train/masked_lm_loss": null}\n'
        '{"step": 1, "train/masked_lm_loss": 8.0}\n'
        '{"step": 3, "train/masked'
    )
    draw_curves(path, tmp_path / "c.png", "demo")
    xy = lines_of(figures[0].axes[0])["training batches, smoothed"]
    np.testing.assert_array_equal(xy, [[1, 8]])


def test_smoothing_keeps_straight_lines_and_calms_noise():
    x = np.arange(600.0)
    np.testing.assert_allclose(curves._smoothed(3 - 0.01 * x), 3 - 0.01 * x, atol=1e-9)
    noise = np.random.default_rng(0).normal(size=600)
    assert curves._smoothed(noise).std() < 0.3
    np.testing.assert_array_equal(curves._smoothed(noise[:20]), noise[:20])


def test_nothing_to_draw_is_an_error(tmp_path):
    with pytest.raises(UserError, match="cannot read .*no.jsonl"):
        draw_curves(tmp_path / "no.jsonl", tmp_path / "c.png", "demo")
    (tmp_path / "m.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    with pytest.raises(UserError, match="no pretraining metrics"):
        draw_curves(tmp_path / "m.jsonl", tmp_path / "c.png", "demo")
    assert not (tmp_path / "c.png").exists()


def test_a_picture_without_room_is_one_line(tmp_path):
    log = write_metrics(tmp_path / "metrics.jsonl", steps=40)
    with pytest.raises(UserError, match="cannot write .*curves.png: No such file"):
        draw_curves(log, tmp_path / "nowhere" / "curves.png", "run")


def test_the_users_matplotlib_is_left_as_it_is(tmp_path):
    with matplotlib.rc_context({"font.size": 21.0}):
        before = dict(matplotlib.rcParams)
        draw_curves(write_metrics(tmp_path / "m.jsonl"), tmp_path / "c.png", "demo")
        assert dict(matplotlib.rcParams) == before
