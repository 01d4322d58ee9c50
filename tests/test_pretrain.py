"""A run: it learns, it resumes bit for bit, and it refuses what it should."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import small_run

from albert_jax.config import UserError
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.interop.pretrained import save_pretrained
from albert_jax.interop.pretraining import check_init
from albert_jax.interop.pretraining import pretrain as continue_pretraining
from albert_jax.train.loop import NonFiniteLossError
from albert_jax.train.metrics import read_metrics
from albert_jax.train.pretrain import pretrain
from albert_jax.train.run import load_run

TIMES = ("tokens_per_second", "data_wait", "mfu")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return small_run.make(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def whole(experiment, tmp_path_factory):
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, pretrain(experiment, folder)


def log(folder: Path):
    """Lines of the log without what the clock says."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if name not in TIMES}
        for line in lines
    ]


def assert_same_run(a: Path, b: Path) -> None:
    assert log(a) == log(b)
    (_, ours, _), (_, theirs, _) = load_run(a), load_run(b)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_a_run_learns_and_explains_itself(experiment, whole):
    folder, metrics = whole
    assert metrics["step"] == experiment.steps
    lines = log(folder)
    assert [line["step"] for line in lines if "eval/unigram_accuracy" in line] == [0]
    losses = [
        line["eval/masked_lm_loss"] for line in lines if "eval/masked_lm_loss" in line
    ]
    assert losses[-1] < losses[0] - 0.3
    assert lines[-1]["eval/masked_lm_loss"] == metrics["eval/masked_lm_loss"]
    text = (folder / "metrics.jsonl").read_text()
    trained = [x for line in text.splitlines() if "tokens" in (x := json.loads(line))]
    assert [line["step"] for line in trained] == [2, 4, 6, 8, 10, 12]
    for line in trained:
        assert {"tokens_per_second", "data_wait", "mfu"} <= line.keys()
        assert 0.5 < line["real_token_share"] <= 1
    record = json.loads((folder / "experiment.json").read_text())
    assert record["experiment"]["model"]["hidden_size"] == 32
    assert record["versions"]["jax"] == jax.__version__
    assert {path.name for path in folder.iterdir()} >= {
        "experiment.json",
        "metrics.jsonl",
        "tokenizer.model",
        "checkpoints",
        "curves.png",
    }
    kept = sorted(int(path.name) for path in (folder / "checkpoints").iterdir())
    assert kept == [8, 12]


def test_curves_are_drawn_once_a_minute_and_at_the_end(
    experiment, tmp_path, monkeypatch
):
    # Three evaluations, half a minute apart; the run is stopped a step after the last.
    seconds = iter(30.0 * n for n in range(100))
    drawn, asked = [], iter(range(12))
    monkeypatch.setattr("albert_jax.train.pretrain.monotonic", lambda: next(seconds))
    monkeypatch.setattr(
        "albert_jax.train.curves.draw_curves",
        lambda log, png, title: drawn.append(max(x["step"] for x in read_metrics(log))),
    )
    often = dataclasses.replace(experiment.evaluation, every=2)
    stopped = dataclasses.replace(experiment, evaluation=often)
    pretrain(stopped, tmp_path, stopping=lambda: next(asked) == 7)
    assert drawn == [4, 6]


def test_a_finished_run_is_left_as_it_is(experiment, whole):
    folder, metrics = whole
    before = (folder / "metrics.jsonl").read_bytes()
    assert pretrain(experiment, folder) == metrics
    assert (folder / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("stop_after", [1, 4, 7])
def test_stopped_and_resumed_is_uninterrupted(experiment, whole, tmp_path, stop_after):
    asked = []

    def stopping():
        asked.append(None)
        return len(asked) > stop_after

    stopped = pretrain(experiment, tmp_path, stopping=stopping)
    assert stopped["step"] == stop_after
    pretrain(experiment, tmp_path)
    assert_same_run(tmp_path, whole[0])


def test_killed_and_run_again_is_uninterrupted(experiment, whole, tmp_path):
    # The log too: a killed run goes back to its checkpoint, and so does its log.
    folder = tmp_path / "run"
    prepared = str(experiment.corpus.prepared)
    code = f"import small_run; small_run.run({prepared!r}, {str(folder)!r})"
    rng = np.random.default_rng(0)
    kills = 0
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parent,
            env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
        )
        log_file = folder / "metrics.jsonl"
        grown = log_file.stat().st_size if log_file.exists() else 0
        while process.poll() is None and kills < 3:
            size = log_file.stat().st_size if log_file.exists() else 0
            if size > grown + 300:
                time.sleep(rng.uniform(0, 0.3))
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.01)
        if process.wait() == 0:
            break
        assert process.returncode == -signal.SIGKILL
    assert kills >= 2
    assert_same_run(folder, whole[0])


def test_eight_devices_go_on_as_one_began(experiment, whole, tmp_path):
    # NPROC gives XLA's pool threads enough: with as few as devices, all may wait in
    # collectives for a device that needs one of them, and the process aborts.
    folder, asked = tmp_path / "run", []

    def stopping():
        asked.append(None)
        return len(asked) > 4

    pretrain(experiment, folder, stopping=stopping)
    code = (
        "import jax, small_run; assert len(jax.devices()) == 8;"
        f"small_run.run({experiment.corpus.prepared!r}, {str(folder)!r}, (2, 2, 2))"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        env=os.environ
        | {
            "PYTHONPATH": ":".join(sys.path),
            "JAX_NUM_CPU_DEVICES": "8",
            "NPROC": "16",
        },
        check=True,
    )
    ours, theirs = log(folder), log(whole[0])
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a == pytest.approx(b, rel=1e-5)


def test_other_settings_do_not_resume_unless_accepted(experiment, whole, tmp_path):
    other = dataclasses.replace(experiment, steps=13)
    with pytest.raises(UserError, match="steps: 12 -> 13.*--accept-changes"):
        pretrain(other, whole[0])
    short = dataclasses.replace(experiment, steps=4)
    pretrain(short, tmp_path)
    metrics = pretrain(experiment, tmp_path, accept_changes=True)
    assert metrics["step"] == 12


def test_settings_that_change_no_number_resume(experiment, whole):
    other = dataclasses.replace(
        experiment,
        name="renamed",
        checkpoint=dataclasses.replace(experiment.checkpoint, every=5),
        log_every=3,
    )
    assert pretrain(other, whole[0])["step"] == 12


def test_a_damaged_checkpoint_falls_back_and_says_so(experiment, whole, tmp_path):
    import io
    import shutil

    from rich.console import Console

    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    newest = max((folder / "checkpoints").iterdir(), key=lambda p: int(p.name))
    victim = max(newest.rglob("*"), key=lambda p: p.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-20])
    # A reader of the run hears of it too.
    lines = []
    load_run(folder, report=lines.append)
    assert len(lines) == 1 and "step 12 is skipped" in lines[0]
    said = io.StringIO()
    pretrain(experiment, folder, console=Console(file=said, width=500))
    assert "step 12 is skipped" in said.getvalue()
    assert "resuming" in said.getvalue() and "at step 8" in said.getvalue()
    assert_same_run(folder, whole[0])


def test_divergence_stops_the_run_and_names_the_step(experiment, tmp_path):
    wild = dataclasses.replace(
        experiment,
        optimizer=dataclasses.replace(experiment.optimizer, learning_rate=1e38),
        evaluation=dataclasses.replace(experiment.evaluation, every=1),
    )
    with pytest.raises(NonFiniteLossError, match=r"at step \d+"):
        pretrain(wild, tmp_path)
    assert (tmp_path / "curves.png").exists()
    for folder in (tmp_path / "checkpoints").glob("*/manifest.json"):
        assert int(folder.parent.name) < 12


def test_a_folder_that_is_no_run_is_left_alone(experiment, tmp_path):
    (tmp_path / "thesis.tex").write_text("draft")
    with pytest.raises(UserError, match="not a run's folder"):
        pretrain(experiment, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_vocabulary_and_model_must_agree(experiment, tmp_path):
    other = dataclasses.replace(
        experiment, model=dataclasses.replace(experiment.model, vocab_size=999)
    )
    with pytest.raises(UserError, match="vocab_size is 999"):
        pretrain(other, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_dropout_differs_by_step(experiment):
    from albert_jax.data.pipeline import PretrainingData
    from albert_jax.data.shards import PreparedCorpus
    from albert_jax.data.tokenizer import Tokenizer
    from albert_jax.model.heads import AlbertForPreTraining
    from albert_jax.train.optimizer import lamb
    from albert_jax.train.pretrain import train_step
    from albert_jax.train.state import init_state

    corpus = PreparedCorpus.open(experiment.corpus.prepared)
    tokenizer = Tokenizer.load(corpus.tokenizer_path)
    rows = PretrainingData(corpus, tokenizer, experiment.data, 0)
    (batch,) = rows.batches(0, experiment.data.batch_size)
    model, optimizer = AlbertForPreTraining(experiment.model), lamb(0.0)
    state = init_state(jax.random.key(0), model, optimizer)
    step = jax.jit(lambda s, b: train_step(model, optimizer, s, b))
    state, first = step(state, batch)
    # The learning rate is 0: nothing but the dropout has changed.
    _, second = step(state, batch)
    assert first["masked_lm_loss"][0] != second["masked_lm_loss"][0]


def evaluated(folder: Path) -> list[tuple[int, float]]:
    name = "eval/masked_lm_loss"
    return [(line["step"], line[name]) for line in log(folder) if name in line]


@pytest.fixture(scope="module")
def continued(experiment, whole, tmp_path_factory):
    """Two more steps from where the whole run ended."""
    folder = tmp_path_factory.mktemp("runs") / "continued"
    more = dataclasses.replace(experiment, init=str(whole[0]), steps=2)
    continue_pretraining(more, folder, report=pytest.fail)
    return folder, more


def test_pretraining_goes_on_from_a_model(whole, continued, tmp_path):
    (first, last), (start, _) = evaluated(whole[0])[::3], evaluated(continued[0])
    assert start[0] == 0 and start[1] == pytest.approx(last[1], abs=1e-6) != first[1]
    # What a folder holds is what the run holds.
    folder, experiment = continued
    save_pretrained(tmp_path / "saved", *load_run(whole[0]))
    other = dataclasses.replace(experiment, init=str(tmp_path / "saved"))
    continue_pretraining(other, tmp_path / "run", report=pytest.fail)
    assert_same_run(folder, tmp_path / "run")


def test_another_init_is_another_run(continued, experiment, tmp_path):
    folder, more = continued
    # Where it resumes, nobody needs the source.
    gone = dataclasses.replace(more, init="gone")
    with pytest.raises(UserError, match="init: .*whole' -> 'gone'"):
        continue_pretraining(gone, folder)
    with pytest.raises(UserError, match="init: .*whole' -> None"):
        continue_pretraining(dataclasses.replace(more, init=None), folder)
    with pytest.raises(UserError, match="init is 'gone', which nobody has opened"):
        pretrain(gone, tmp_path / "run")


def test_an_init_must_be_the_same_model_with_the_same_vocabulary(
    continued, experiment, tmp_path
):
    _, more = continued
    check_init(more)
    easy = dataclasses.replace(more.model, hidden_dropout_prob=0.0, remat="nothing")
    check_init(dataclasses.replace(more, model=easy))
    other = dataclasses.replace(more.model, num_hidden_groups=2, hidden_act="relu")
    cure = "set model.num_hidden_groups to 1, model.hidden_act to 'gelu'"
    with pytest.raises(UserError, match=cure):
        check_init(dataclasses.replace(more, model=other))
    elsewhere = dataclasses.replace(more.corpus, prepared=str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"is None, .*; set it to .*tokenizer.model"):
        check_init(dataclasses.replace(more, corpus=elsewhere))
    text = small_run.write_corpus(tmp_path / "t.txt", 90).read_text().upper()
    own = Tokenizer.train(text.splitlines()[:200], tmp_path / "own.model", 56)
    elsewhere = dataclasses.replace(elsewhere, vocabulary=own.path)
    with pytest.raises(UserError, match="whose vocabulary is not that of .*own.model"):
        check_init(dataclasses.replace(more, corpus=elsewhere))
