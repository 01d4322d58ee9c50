"""A study of seconds, and a stand-in for what its processes do that takes none."""

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import small_run

from albert_jax.config import CheckpointConfig, EvaluationConfig, PretrainingExperiment
from albert_jax.config.study import Study
from albert_jax.study.plan import Run

STEPS = 30


def experiment(folder: Path) -> PretrainingExperiment:
    """Of the corpus in ``folder``: ``small_run``'s, a little longer, of one layer and
    without dropout, as many processes compile it."""
    small = small_run.experiment(folder / "prepared", folder / "corpus.txt")
    return replace(
        small,
        model=replace(small.model, num_hidden_layers=1, hidden_dropout_prob=0.0),
        steps=STEPS,
        checkpoint=CheckpointConfig(every=5, keep=2),
        evaluation=EvaluationConfig(every=10, rows=16, batch_size=8),
    )


def study(folder: Path, **fields) -> Study:
    """Two seeds of a shared model, of one with weights of its own for every layer, of
    one that starts with larger weights, and of one whose losses are no numbers."""
    small = experiment(folder)

    def arm(**fields):
        return replace(small, model=replace(small.model, **fields))

    arms = {
        "shared": small,
        "own": arm(share="none"),
        # The programs of these are the first one's, so that they compile once.
        "large": arm(initializer_range=0.1),
        "lost": arm(initializer_range=1e38),
    }
    known = dict(name="small", question="What does it cost?", arms=arms)
    return Study(**(known | dict(baseline="shared", seeds=2) | fields))


def pretend(run: Run, log: Path, accept_changes: bool, seconds: float | None) -> None:
    """Does as the run's arm is called: ``ends``, ``fails``, ``dies``, ``waits``."""
    run.folder.mkdir(parents=True, exist_ok=True)
    steps = run.experiment.steps
    with (run.folder / "starts").open("a") as file:
        file.write(f"{time.time()} {sorted(os.sched_getaffinity(0))}\n")
    does = run.arm.partition("-")[0]
    if does == "fails":
        (run.folder / "failed.json").write_text('{"error": "it is lost"}')
        raise SystemExit(2)
    if does == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if does == "waits":
        told = []
        signal.signal(signal.SIGTERM, lambda *_: told.append(True))
        write_log(run, [{"step": 1, "train/masked_lm_loss": 5.0}])
        while not told:
            time.sleep(0.01)
        return
    write_log(run, [{"step": steps, "eval/masked_lm_accuracy": 0.5}])
    with (run.folder / "starts").open("a") as file:
        file.write(f"{time.time()}\n")


def pretend_steps(
    run: Run, log: Path, accept_changes: bool, seconds: float | None
) -> None:
    """Ten steps of 0.1 s, or of 0.2 s unless the arm is ``a``."""
    assert seconds and run.experiment.log_every == 1
    rate = 1000.0 if run.arm == "a" else 500.0
    first = {"step": 1, "tokens": 0, "tokens_per_second": 1.0}
    lines = [
        {"step": n + 1, "tokens": 100 * n, "tokens_per_second": rate}
        for n in range(1, 10)
    ]
    write_log(run, [first, *lines])


def write_log(run: Run, lines: list[dict]) -> None:
    run.folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run.folder / "metrics.jsonl").write_text(text)
