"""Studies: which runs there are, with how many steps, and what becomes of each."""

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_run
import small_study
import small_task
from small_study import STEPS, pretend, pretend_steps, study, write_log

from albert_jax.config import CheckpointConfig, OptimizerConfig, UserError
from albert_jax.config.finetuning import FinetuningExperiment
from albert_jax.config.study import Study
from albert_jax.data.pipeline import PretrainingData
from albert_jax.data.prepare import prepare
from albert_jax.data.shards import PreparedCorpus
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.identity import to_dict
from albert_jax.study.budget import decide_steps, equal_steps
from albert_jax.study.costs import step_flops
from albert_jax.study.machine import Machine, Place, places
from albert_jax.study.measurement import measure_steps
from albert_jax.study.plan import at_steps, groups, plan
from albert_jax.study.record import Record, read_record, refuse_changes
from albert_jax.study.runner import train_all
from albert_jax.study.standing import (
    Standing,
    is_finished,
    read_failure,
    seconds_left,
    write_failure,
)


def of_arms(folder: Path, *names: str, seeds: int = 1, **fields) -> Study:
    """A study of arms that differ in their names only."""
    small = small_study.experiment(folder)
    arms = dict.fromkeys(names, small)
    return study(folder, arms=arms, baseline=names[0], seeds=seeds, **fields)


def planned(chosen: Study, folder: Path, together: int = 1):
    steps = {name: arm.steps for name, arm in chosen.arms.items()}
    return plan(chosen, folder, steps, together)


def record(chosen: Study, **fields) -> Record:
    return Record(**(dict(study=to_dict(chosen), scale="lab", together=1) | fields))


# Plan


def test_runs_stand_in_the_studys_order(tmp_path):
    chosen = of_arms(tmp_path, "a", "b", seeds=5, starts={"b": "a"})
    runs = planned(chosen, Path("runs/s"), together=2)
    names = ["seeds-0-1", "seeds-2-3", "seed-4"]
    assert [str(run.folder) for run in runs] == [
        f"runs/s/{arm}/{name}" for arm in "ab" for name in names
    ]
    assert [run.experiment.all_seeds for run in runs[:3]] == [(0, 1), (2, 3), (4,)]
    # An arm goes on from another one seed by seed.
    assert [run.experiment.init for run in runs[:3]] == [None] * 3
    for run, before in zip(runs[3:], runs[:3], strict=True):
        assert run.after == before and run.experiment.init == str(before.folder)
        assert run.seeds == before.seeds
    assert groups(5, 5) == [(0, 1, 2, 3, 4)] and groups(2, 1) == [(0,), (1,)]


def test_tasks_come_after_their_arm_seed_by_seed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tuning = FinetuningExperiment(name="any", task=small_task.TASK, steps=300)
    chosen = of_arms(tmp_path, "a", "b", seeds=3, tasks=(tuning,))
    runs = planned(chosen, Path("s"), together=3)
    names = ["s/a/seeds-0-2", "s/a/mine", "s/b/seeds-0-2", "s/b/mine"]
    assert [str(run.folder) for run in runs] == names
    for trained, tuned in zip(runs[::2], runs[1::2], strict=True):
        assert tuned.after == trained and tuned.experiment.init == str(trained.folder)
        assert tuned.experiment.all_seeds == trained.seeds == (0, 1, 2)
        write_log(tuned, [{"step": 300, "eval/accuracy": 1.0}])
        assert not is_finished(tuned)
        write_log(tuned, [{"step": 300, "dev/accuracy": 1.0}])
        assert is_finished(tuned)
    apart = planned(chosen, Path("s"), together=2)
    assert str(apart[1].folder) == "s/a/mine/seeds-0-1"
    assert apart[3].experiment.all_seeds == (2,)
    assert str(apart[3].folder) == "s/a/mine/seed-2"


def test_all_arms_of_a_seed_see_the_same_batches(tmp_path):
    small_run.write_corpus(tmp_path / "corpus.txt")
    chosen = study(tmp_path)
    one = chosen.arms["shared"]
    prepare(one.corpus, one.model.vocab_size, processes=1)
    corpus = PreparedCorpus.open(one.corpus.prepared, "train")
    tokenizer = Tokenizer.load(corpus.tokenizer_path)
    seen = {}
    for run in planned(chosen, tmp_path / "run"):
        data, seed = run.experiment.data, run.experiment.seed
        rows = PretrainingData(corpus, tokenizer, data, seed).batches(0, 40)
        seen[run.arm, run.seeds] = next(iter(rows))
    for seed in (0, 1):
        ours, theirs = seen["shared", (seed,)], seen["own", (seed,)]
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])
    first, second = (seen["shared", (seed,)]["input_ids"] for seed in (0, 1))
    assert not np.array_equal(first, second)


# Budget


def test_equal_flops_are_equal_to_half_a_step(tmp_path):
    small = small_study.experiment(tmp_path)
    wide = replace(small.model, hidden_size=64, intermediate_size=256)
    longer = replace(small.data, batch_size=32)
    arms = {
        "small": replace(small, steps=1000),
        "wide": replace(small, model=wide),
        "batch": replace(small, data=longer),
    }
    chosen = study(tmp_path, arms=arms, baseline="small", budget="flops")
    steps = decide_steps(chosen, None, record(chosen), pytest.fail).steps
    assert steps["small"] == 1000 and steps["batch"] == 250
    cost = {name: step_flops(arm) for name, arm in arms.items()}
    assert abs(steps["wide"] * cost["wide"] - 1000 * cost["small"]) <= cost["wide"] / 2
    # By tokens every arm keeps its own.
    own = replace(chosen, budget="tokens")
    assert decide_steps(own, None, record(own), pytest.fail).steps == {
        "small": 1000,
        "wide": STEPS,
        "batch": STEPS,
    }


def test_another_length_keeps_the_shares_of_warm_up_and_evaluation(tmp_path):
    small = small_study.experiment(tmp_path)
    one = replace(small, optimizer=OptimizerConfig(warmup_steps=6))
    assert at_steps(one, STEPS) is one
    longer = at_steps(one, 10 * STEPS)
    assert longer.steps == 10 * STEPS and longer.optimizer.warmup_steps == 60
    assert longer.evaluation.every == 100 and longer.checkpoint == one.checkpoint
    shorter = at_steps(one, 1)
    assert shorter.optimizer.warmup_steps == 0 and shorter.evaluation.every == 1


def test_steps_are_decided_once(tmp_path):
    chosen = of_arms(tmp_path, "a", "b", budget="time")
    asked = []

    def measure(arms):
        asked.append(list(arms))
        return {arm: {"a": 0.1, "b": 0.3, "c": 0.2}[arm] for arm in arms}

    first = decide_steps(chosen, None, record(chosen), measure)
    assert first.steps == {"a": STEPS, "b": STEPS // 3}
    again = decide_steps(chosen, first, record(chosen), pytest.fail)
    assert again == first
    # A new arm is measured beside the baseline; the others keep theirs.
    more = of_arms(tmp_path, "a", "b", "c", budget="time")
    kept = replace(first, steps={"a": STEPS, "b": 7})
    found = decide_steps(more, kept, record(more), measure)
    assert found.steps == {"a": STEPS, "b": 7, "c": STEPS // 2}
    assert asked == [["a", "b"], ["a", "c"]]
    # Another budget: all of them anew.
    other = replace(chosen, budget="flops")
    steps = decide_steps(other, first, record(other), pytest.fail).steps
    assert steps == {"a": STEPS, "b": STEPS}
    assert equal_steps(chosen, {"a": 1.0, "b": 1e9})["b"] == 1


# Record


def test_a_study_goes_on_as_it_was_begun(tmp_path):
    chosen = of_arms(tmp_path, "a", "b")
    assert read_record(tmp_path / "new") is None
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "draft.tex").write_text("draft")
    with pytest.raises(UserError, match="not a study's folder"):
        read_record(tmp_path / "thesis")
    begun = record(chosen, steps={"a": 3, "b": 4})
    begun.write(tmp_path / "new")
    assert read_record(tmp_path / "new") == begun
    (tmp_path / "new" / "study.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        read_record(tmp_path / "new")

    rate = replace(
        chosen.arms["b"], optimizer=OptimizerConfig(learning_rate=1.0, warmup_steps=2)
    )
    other = replace(chosen, arms=chosen.arms | {"b": rate}, seeds=3)
    with pytest.raises(UserError) as error:
        refuse_changes(tmp_path, begun, record(other), accept_changes=False)
    said = str(error.value)
    assert "seeds: 1 -> 3" in said and "arms.b.optimizer.learning_rate: 0.05" in said
    assert "arms.a" not in said and "--accept-changes" in said
    refuse_changes(tmp_path, begun, record(other), accept_changes=True)
    assert begun.unchanged(record(other)) == ["a"]
    more = record(of_arms(tmp_path, "a", "b", "c"))
    assert begun.changes(more) == ["arms: ['a', 'b'] -> ['a', 'b', 'c']"]
    # What no number depends on may change.
    words = replace(chosen, question="Another one?", metrics=("eval/masked_lm_loss",))
    saved = replace(chosen.arms["a"], checkpoint=CheckpointConfig(every=1))
    words = replace(words, arms=chosen.arms | {"a": saved})
    assert begun.changes(record(words)) == []


# Standing


def test_a_run_is_finished_by_its_log_alone(tmp_path):
    run = planned(of_arms(tmp_path, "a"), tmp_path)[0]
    last = {"step": STEPS, "train/masked_lm_loss": 3.0}
    assert not is_finished(run)
    write_log(run, [{"step": 20, "eval/masked_lm_loss": 3.0}, last])
    assert not is_finished(run)
    assert Standing.of(run, "running").loss == 3.0
    write_log(run, [last, {"step": STEPS, "eval/masked_lm_loss": 3.0}])
    assert is_finished(run)
    # Killed between the evaluation and the checkpoint that others start from.
    (run.folder / "checkpoints" / "25").mkdir(parents=True)
    assert not is_finished(run)
    (run.folder / "checkpoints" / str(STEPS)).mkdir()
    assert not is_finished(run)
    (run.folder / "checkpoints" / str(STEPS) / "manifest.json").write_text("{}")
    assert is_finished(run)
    write_failure(run, "two\nlines")
    assert read_failure(run) == "two lines"


def test_the_time_that_is_left_goes_by_flops(tmp_path):
    small = small_study.experiment(tmp_path)
    double = replace(small, data=replace(small.data, batch_size=16))
    chosen = study(tmp_path, arms={"a": small, "b": double}, baseline="a", seeds=1)
    a, b = planned(chosen, tmp_path)
    half = Standing(a, "running", step=STEPS // 2, seconds_left=10.0)
    # Half of a takes 10 s; b is twice as dear: 40 s more.
    assert seconds_left([half, Standing(b, "waiting")]) == pytest.approx(50.0)
    assert seconds_left([Standing(a, "running"), Standing(b, "waiting")]) is None
    assert seconds_left([half, Standing(b, "finished", step=STEPS)]) == 10.0


# Machine


def machine(platform: str, devices: int = 1, **fields) -> Machine:
    sizes = dict(memory=1000, needed=90, paper_parameters={})
    return Machine(platform=platform, devices=devices, **(sizes | fields))


def test_every_process_has_its_share(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 3, 5, 7, 8})
    assert machine("cpu").jobs == 5 and machine("gpu", 8).jobs == 1
    shares = [place.cores for place in places(machine("cpu"), 2, together=5)]
    assert sorted(sum(shares, ())) == [2, 3, 5, 7, 8]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")

    def visible(jobs, together):
        shared = places(machine("gpu", 4), jobs, together)
        return [place.environment.get("CUDA_VISIBLE_DEVICES") for place in shared]

    assert visible(2, 1) == ["4,5", "6,7"] and visible(1, 1) == [None]
    # Several seeds in one program need a single device.
    assert visible(1, 5) == ["4"] and visible(3, 5) == ["4", "5", "6"]
    for there, jobs in ((machine("cpu"), 6), (machine("gpu", 4), 5)):
        with pytest.raises(UserError, match=f"jobs is {jobs}, but it must be 1 to"):
            places(there, jobs, 1)
    with pytest.raises(UserError, match="not shared out"):
        places(machine("tpu", 4), 1, together=5)


def test_as_many_seeds_together_as_fit():
    assert machine("gpu").together(5, jobs=1) == 5
    assert machine("gpu", needed=300).together(5, jobs=1) == 2
    assert machine("gpu", needed=5000).together(5, jobs=1) == 1
    assert machine("cpu", needed=100).together(5, jobs=2) == 4


def test_a_place_is_left_as_it_was(monkeypatch):
    monkeypatch.delenv("NOWHERE_ELSE", raising=False)
    before = os.sched_getaffinity(0)
    with Place(cores=(min(before),), environment={"NOWHERE_ELSE": "1"}).taken():
        assert os.sched_getaffinity(0) == {min(before)}
        assert os.environ["NOWHERE_ELSE"] == "1"
    assert os.sched_getaffinity(0) == before and "NOWHERE_ELSE" not in os.environ


# Processes


def starts(folder: Path) -> int:
    file = folder / "starts"
    return file.read_text().count("[") if file.exists() else 0


def test_what_fails_or_dies_does_not_stop_the_rest(tmp_path):
    chosen = of_arms(
        tmp_path,
        *("ends-0", "fails-0", "dies-0", "ends-1", "ends-2", "ends-3"),
        starts={"ends-1": "fails-0", "ends-2": "ends-1", "ends-3": "ends-0"},
    )
    runs = planned(chosen, tmp_path)
    here = Place(cores=(min(os.sched_getaffinity(0)),))
    seen = []
    ended = train_all(runs, [here], seen.append, work=pretend)
    assert seen[-1] == ended
    states = {one.run.arm: one.state for one in ended}
    assert states == {
        "ends-0": "finished",
        "fails-0": "failed",
        "dies-0": "failed",
        "ends-1": "failed",
        "ends-2": "failed",
        "ends-3": "finished",
    }
    errors = {one.run.arm: one.error for one in ended}
    assert errors["fails-0"] == "it is lost" and "by signal 9" in errors["dies-0"]
    assert errors["ends-1"] == "it starts from fails-0, seed 0, not finished yet"
    assert all(read_failure(one.run) == one.error for one in ended)
    assert str(list(here.cores)) in (runs[0].folder / "starts").read_text()
    # A second time: what is finished is left alone, what failed is tried again.
    write_failure(next(r for r in runs if r.arm == "dies-0"), "an old one")
    again = train_all(runs, [here], work=pretend)
    assert again == ended
    assert [starts(run.folder) for run in runs] == [1, 2, 2, 0, 0, 1]


def test_runs_work_at_once_and_end_when_told(tmp_path):
    runs = planned(of_arms(tmp_path, "waits-0", "waits-1", "ends-0"), tmp_path)

    def both():
        return all((run.folder / "metrics.jsonl").exists() for run in runs[:2])

    until = time.monotonic() + 100
    ended = train_all(
        runs,
        [Place(), Place()],
        stopping=lambda: both() or time.monotonic() > until,
        work=pretend,
    )
    assert [one.state for one in ended] == ["stopped", "stopped", "waiting"]
    assert ended[0].step == 1 and not runs[2].folder.exists()


def test_steps_are_measured_in_every_place(tmp_path):
    chosen = of_arms(tmp_path / "corpus", "a", "b", "fails")
    folder = tmp_path / "runs" / "study"
    shared = [Place()]
    options = dict(together=1, stopping=lambda: False, work=pretend_steps)
    seconds = measure_steps(chosen, ["a", "b"], folder, shared, **options)
    assert seconds == {"a": pytest.approx(0.1), "b": pytest.approx(0.2)}
    assert not list(folder.parent.iterdir())
    with pytest.raises(UserError, match="fails cannot be measured: it is lost"):
        measure_steps(
            chosen, ["fails"], folder, shared, **(options | {"work": pretend})
        )
