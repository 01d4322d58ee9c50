"""The loop's order is a contract."""

import json

import jax.numpy as jnp
import pytest

from albert_jax.train import loop
from albert_jax.train.loop import Cadence, NonFiniteLossError, Recorder, run_loop
from albert_jax.train.metrics import MetricsLog
from albert_jax.train.progress import Progress
from albert_jax.train.state import TrainState
from albert_jax.train.utilization import Utilization


def run(tmp_path, *, bad_step=None, stop_at=None, start=0):
    """Runs six steps that count; returns what happened, in order."""
    happened = []

    def train_step(state, batch):
        step = state.step + 1
        happened.append(("step", int(step), batch))
        loss = jnp.float32("nan" if step == bad_step else 1.0)
        one = jnp.ones([])
        return state.replace(step=step), {
            "loss": (loss, one),
            "real_tokens": (one, 4 * one),
        }

    cadence = Cadence(steps=6, log_every=2, evaluate_every=3, save_every=3)
    state = TrainState(step=jnp.int32(start), params=(), opt_state=(), key=())
    with MetricsLog(tmp_path, resume_step=None) as log:
        recorder = Recorder(
            log,
            Progress(6),
            cadence,
            lambda step: 0.1,
            utilization=Utilization(step_flops=30, peak=1e3, source=""),
        )
        try:
            run_loop(
                state,
                start,
                iter(range(100)),
                train_step,
                lambda step, state: happened.append(("evaluate", step)),
                lambda step, state: happened.append(("save", step)),
                recorder,
                cadence,
                lambda: stop_at == sum(kind[0] == "step" for kind in happened),
            )
        except NonFiniteLossError as error:
            happened.append(("error", str(error)))
    return happened


def kinds(happened):
    return [entry[:2] for entry in happened]


def test_evaluate_then_save_then_step(tmp_path):
    expected = [
        *[("evaluate", 0), ("step", 1), ("step", 2), ("step", 3)],
        *[("evaluate", 3), ("save", 3), ("step", 4), ("step", 5), ("step", 6)],
        *[("evaluate", 6), ("save", 6)],
    ]
    assert kinds(run(tmp_path)) == expected


def test_stopping_saves_and_does_not_evaluate(tmp_path):
    happened = kinds(run(tmp_path, stop_at=3))
    assert happened[-2:] == [("step", 3), ("save", 3)]


@pytest.mark.parametrize("bad", [1, 3, 5, 6])
def test_a_step_that_is_not_finite_is_named_and_never_saved(tmp_path, bad):
    happened = run(tmp_path, bad_step=bad)
    kind, message = happened[-1]
    assert kind == "error" and f"at step {bad}" in message
    saved = [step for kind, step in kinds(happened) if kind == "save"]
    assert all(step < bad for step in saved)


def test_every_line_says_how_fast_and_how_full(tmp_path):
    run(tmp_path)
    text = (tmp_path / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["step"] for line in lines] == [2, 3, 4, 6]
    for line, steps in zip(lines, (2, 1, 1, 2), strict=True):
        assert line["tokens"] == line["step"] and line["real_token_share"] == 0.25
        assert 0 <= line["data_wait"] <= 1
        # One token a step, so that seconds are steps / tokens_per_second.
        seconds = steps / line["tokens_per_second"]
        assert line["mfu"] == pytest.approx(30 * steps / (seconds * 1e3))


@pytest.mark.parametrize("busy", [False, True])
def test_a_device_that_is_busy_does_not_wait(tmp_path, monkeypatch, busy):
    cadence = Cadence(steps=6, log_every=2, evaluate_every=3, save_every=3)
    with MetricsLog(tmp_path, resume_step=None) as log:
        recorder = Recorder(log, Progress(6), cadence, lambda step: 0.1)
        with recorder.waiting():
            pass
        # No step was under way at all: that time is in no line, nor is the wait.
        assert recorder.unlogged["waited"] == 0
        recorder.dispatched(1, {"loss": (jnp.ones([]), jnp.ones([]))})
        monkeypatch.setattr(loop, "_is_done", lambda sums: not busy)
        with recorder.waiting():
            pass
        assert (recorder.unlogged["waited"] == 0) == busy
