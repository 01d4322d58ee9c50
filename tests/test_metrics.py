"""Weighted means, the metrics log and the progress report."""

import importlib.machinery
import io
import json
import math
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from albert_jax.config import UserError
from albert_jax.train import progress
from albert_jax.train.metrics import MetricsLog, Progress, add, means, read_metrics


@pytest.fixture(autouse=True)
def no_wandb(monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)


def sums_of(values, weights):
    return {"loss": ((values * weights).sum(), weights.sum())}


def test_any_split_gives_the_mean_of_the_whole():
    rng = np.random.default_rng(0)
    values = jnp.array(rng.normal(size=64), jnp.float32)
    weights = jnp.array(rng.integers(0, 3, size=64), jnp.float32)
    whole = means(sums_of(values, weights))["loss"]
    np.testing.assert_allclose(whole, np.average(values, weights=weights), rtol=1e-5)
    for cuts in ([1], [10, 11, 50], [32]):
        total = {}
        pieces = zip(jnp.split(values, cuts), jnp.split(weights, cuts), strict=True)
        for v, w in pieces:
            total = jax.jit(add)(total, sums_of(v, w))
        np.testing.assert_allclose(means(total)["loss"], whole, rtol=1e-6)


def test_a_metric_that_one_part_lacks_adds_nothing():
    one = {"a": (jnp.float32(1.0), jnp.float32(2.0))}
    other = {"b": (jnp.float32(3.0), jnp.float32(4.0))}
    assert means(add(one, other)) == {"a": 0.5, "b": 0.75}


def test_nothing_has_no_mean():
    nothing = {"a": (jnp.float32(0.0), jnp.float32(0.0))}
    assert means(nothing) == {} and means({}) == {}
    some = {"b": (jnp.float32(1.0), jnp.float32(2.0))}
    assert means(add(nothing, some)) == {"b": 0.5}


def lines(run):
    return [json.loads(s) for s in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_line_is_on_disk_as_soon_as_it_is_written(tmp_path):
    with MetricsLog(tmp_path / "run", resume_step=None) as log:
        log.write(3, {"train/loss": jnp.float32(0.5), "tokens": 1_000_000_007})
        line = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert line == '{"step": 3, "train/loss": 0.5, "tokens": 1000000007}\n'


def test_what_is_not_finite_is_null_and_every_line_is_strict_json(tmp_path):
    with MetricsLog(tmp_path, resume_step=None) as log:
        log.write(1, {"a": math.nan, "b": math.inf, "c": np.float32(2.0)})
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    assert lines(tmp_path) == [{"step": 1, "a": None, "b": None, "c": 2.0}]


def test_resuming_cuts_the_log_back(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"note": "kept"}\n')
    with MetricsLog(tmp_path, resume_step=0) as log:
        for step in (100, 200, 300):
            log.write(step, {"x": float(step)})
    with path.open("a") as file:
        file.write('{"step": 150, "x": 0.1')
    assert [entry.get("step") for entry in read_metrics(path)] == [None, 100, 200, 300]
    with MetricsLog(tmp_path, resume_step=200) as log:
        log.write(250, {"x": 1.5})
    assert [entry.get("step") for entry in lines(tmp_path)] == [None, 100, 200, 250]
    with MetricsLog(tmp_path, resume_step=None):
        pass
    assert lines(tmp_path) == [{"note": "kept"}]


def test_cutting_back_is_all_or_nothing(tmp_path, monkeypatch):
    with MetricsLog(tmp_path, resume_step=None) as log:
        log.write(1, {"x": 1.0})
        log.write(2, {"x": 2.0})
    before = (tmp_path / "metrics.jsonl").read_bytes()

    def broken(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", broken)
    with pytest.raises(UserError, match="metrics.jsonl: No space left on device"):
        MetricsLog(tmp_path, resume_step=1)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_tensorboard_gets_the_same_values(tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    with MetricsLog(tmp_path, resume_step=4) as log:
        log.write(7, {"train/loss": 0.25})
    (path,) = (tmp_path / "tensorboard").iterdir()
    events = [Event.FromString(data) for data in records(path.read_bytes())]
    assert any(e.session_log.status == 1 and e.step == 5 for e in events)
    found = [(e.step, v.tag, v.simple_value) for e in events for v in e.summary.value]
    assert found == [(7, "train/loss", 0.25)]


def records(data):
    """The payloads of a TFRecord file."""
    while data:
        size = int.from_bytes(data[:8], "little")
        yield data[12 : 12 + size]
        data = data[16 + size :]


@pytest.fixture
def wandb(monkeypatch):
    """A stand-in that keeps what it is given."""
    calls = []

    class Run:
        def define_metric(self, name, step_metric):
            calls.append(("define", name, step_metric))

        def log(self, values):
            calls.append(("log", values))

        def finish(self):
            calls.append(("finish",))

    module = types.ModuleType("wandb")
    module.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    module.init = lambda **settings: (calls.append(("init", settings)), Run())[1]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return calls


def test_wandb_is_left_alone_unless_the_user_configured_it(tmp_path, wandb):
    with MetricsLog(tmp_path, resume_step=None) as log:
        log.write(1, {"x": 1.0})
    assert wandb == []


def test_wandb_continues_the_same_run(tmp_path, wandb, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "experiment.json").write_text('{"seed": 1}')
    for resume_step in (None, 1):
        with MetricsLog(tmp_path, resume_step=resume_step) as log:
            log.write(2, {"x": 1.0})
    (_, first), define, log_call, finish = wandb[:4]
    (_, second), *_ = wandb[4:]
    assert first["id"] == second["id"] and first["resume"] == "allow"
    assert first["config"] == {"seed": 1} and first["name"] == tmp_path.name
    assert define == ("define", "*", "step") and finish == ("finish",)
    assert log_call == ("log", {"step": 2, "x": 1.0})


VALUES = {
    "train/masked_lm_loss": 6.12345,
    "train/masked_lm_accuracy": 0.0587,
    "learning_rate": 0.001,
    "tokens_per_second": 31_415.9,
}
DESCRIBED = "masked LM loss 6.123, masked LM accuracy 5.9 %, 31.4k tokens/s"


class Clock:
    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


def test_a_log_gets_plain_lines_at_a_readable_pace(monkeypatch, capsys):
    clock, out = Clock(monkeypatch), io.StringIO()
    console = Console(file=out, width=20)
    with Progress(10_000, initial=4000, console=console) as shown:
        for step in range(4000, 10_001):
            shown.update(step, VALUES)
            clock.now += 0.125
        shown.message("[kept as it is]")
    text = out.getvalue().splitlines()
    assert text[0] == f"4,000/10,000 steps (40 %): {DESCRIBED}"
    assert text[1] == f"4,080/10,000 steps (41 %), 0:12:20 left: {DESCRIBED}"
    assert text[-2] == f"10,000/10,000 steps (100 %): {DESCRIBED}"
    assert text[-1] == "[kept as it is]"
    assert 20 < len(text) < 60
    assert "\x1b" not in out.getvalue()
    assert capsys.readouterr() == ("", "")


def test_a_job_that_stops_early_reports_where(monkeypatch):
    clock, out = Clock(monkeypatch), io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        with Progress(10, console=Console(file=out)) as shown:
            shown.update(1)
            clock.now += 1.0
            shown.update(2)
            raise KeyboardInterrupt
    first, last = out.getvalue().splitlines()
    assert first == "1/10 steps (10 %)" and last == "2/10 steps (20 %), 0:00:08 left"


def test_bytes_are_counted_as_such():
    out = io.StringIO()
    with Progress(3_000_000, unit="bytes", console=Console(file=out)) as shown:
        shown.update(1_500_000, {"documents": 116_645})
    assert out.getvalue() == "1.5 MB of 3.0 MB (50 %): 116,645 documents\n"


def test_a_terminal_gets_a_bar_with_the_latest_values():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, _environ={})
    with Progress(4, initial=1, console=console) as shown:
        shown.update(3, VALUES)
        shown.message("saved a checkpoint")
        shown.update(4)
    text = out.getvalue()
    assert "━" in text and "4/4 steps" in text and "100%" in text
    assert DESCRIBED in text
    assert "saved a checkpoint\n" in text


def test_without_a_console_nothing_is_printed(capsys):
    with Progress(4) as shown:
        shown.update(4, VALUES)
        shown.message("unheard")
    assert capsys.readouterr() == ("", "")
