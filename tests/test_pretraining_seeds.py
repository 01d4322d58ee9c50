"""Several seeds of a pretraining run in one program: each as it is alone."""

import dataclasses
import json
import math
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_run
import small_task
from jax.sharding import AbstractMesh

from albert_jax.config import MeshConfig, UserError
from albert_jax.config.finetuning import FinetuningExperiment
from albert_jax.data.pipeline import PretrainingData
from albert_jax.data.shards import PreparedCorpus
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.finetuning.programs import compile_programs as compile_tuning
from albert_jax.finetuning.start import open_start
from albert_jax.identity import differences
from albert_jax.inspection import inspect
from albert_jax.interop.pretrained import from_pretrained, save_pretrained
from albert_jax.interop.pretraining import check_init
from albert_jax.interop.pretraining import pretrain as continue_pretraining
from albert_jax.train import pretrain as module
from albert_jax.train.loop import NonFiniteLossError
from albert_jax.train.pretrain import compile_programs, pretrain
from albert_jax.train.run import load_run
from albert_jax.train.seeds import keys_of
from albert_jax.train.sharding import check_division, make_mesh

TIMES = ("tokens_per_second", "data_wait", "mfu")
METRIC = "eval/masked_lm_loss"
SEEDS = (3, 4)


@pytest.fixture(scope="module", autouse=True)
def programs():
    """Programs by what they depend on: compiled once for all tests of this file."""
    compiled = {}

    def programs_of(experiment, mesh):
        seed = experiment.seed if experiment.seeds > 1 else 0
        key = dataclasses.replace(experiment, init=None, seed=seed)
        if key not in compiled:
            compiled[key] = compile_programs(key, mesh)
        return compiled[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "compile_programs", programs_of)
        yield programs_of


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """Seed 3 alone: LAMB with all gradients clipped, and both kinds of dropout."""
    made = small_run.make(tmp_path_factory.mktemp("corpus"))
    return dataclasses.replace(
        made,
        model=dataclasses.replace(made.model, attention_probs_dropout_prob=0.1),
        optimizer=dataclasses.replace(made.optimizer, clip_norm=0.5),
        steps=20,
        checkpoint=dataclasses.replace(made.checkpoint, every=10),
        evaluation=dataclasses.replace(made.evaluation, every=10),
        seed=SEEDS[0],
    )


@pytest.fixture(scope="module")
def two(one):
    return dataclasses.replace(one, seeds=2)


@pytest.fixture(scope="module")
def together(two, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "together"
    return folder, pretrain(two, folder)


@pytest.fixture(scope="module")
def alone(one, tmp_path_factory):
    """Seed 4 alone."""
    folder = tmp_path_factory.mktemp("runs") / "alone"
    return folder, pretrain(dataclasses.replace(one, seed=SEEDS[1]), folder)


def log(folder: Path):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if name not in TIMES}
        for line in lines
    ]


def batches(experiment):
    """The batches of each of the experiment's seeds."""
    corpus = PreparedCorpus.open(experiment.corpus.prepared)
    tokenizer = Tokenizer.load(corpus.tokenizer_path)
    rows = experiment.steps * experiment.data.batch_size
    return [
        PretrainingData(corpus, tokenizer, experiment.data, seed).batches(0, rows)
        for seed in experiment.all_seeds
    ]


@pytest.mark.parametrize("accumulation", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_twenty_steps_together_are_those_of_each_seed_alone(
    one, two, programs, accumulation
):
    one, two = (dataclasses.replace(e, accumulation=accumulation) for e in (one, two))
    both, single = (programs(e, make_mesh(e.mesh)) for e in (two, one))
    state = both.init(keys_of(SEEDS))
    states = [single.init(jax.random.key(seed)) for seed in SEEDS]
    for i, other in enumerate(states):
        ours = jax.tree.map(lambda x, i=i: x[i], state.params)
        jax.tree.map(np.testing.assert_array_equal, ours, other.params)
    for rows in zip(*batches(two), strict=True):
        stacked = {n: jnp.stack([r[n] for r in rows]) for n in rows[0]}
        state, sums = both.step(state, stacked)
        for i, row in enumerate(rows):
            states[i], own = single.step(states[i], row)
            for name, pair in own.items():
                ours = [float(x) for x in sums[f"{name}/seed-{SEEDS[i]}"]]
                theirs = [float(x) for x in pair]
                assert ours == pytest.approx(theirs, rel=1e-5), name
            assert own["gradient_norm"][0] > one.optimizer.clip_norm


def test_the_log_has_means_and_each_seeds_own_values(one, together, alone):
    lines, single = log(together[0]), log(alone[0])
    assert [line["step"] for line in lines] == [line["step"] for line in single]
    for line, other in zip(lines, single, strict=True):
        own = {n for n in line if "/seed-" in n}
        assert bool(own) == (METRIC in line)
        for name in {n.partition("/seed-")[0] for n in own}:
            values = [line[f"{name}/seed-{seed}"] for seed in SEEDS]
            # Two accuracies of so few predictions may be equal.
            assert values[0] != values[1] or name.endswith("accuracy")
            assert line[name] == pytest.approx(sum(values) / 2, rel=1e-6)
            # By now the weights differ in the last bits.
            assert values[1] == pytest.approx(other[name], rel=1e-3, abs=2e-3)
        assert line.keys() - own == other.keys()
    assert lines[-1][METRIC] == together[1][METRIC]
    assert together[1][METRIC + "/seed-3"] < lines[1][METRIC + "/seed-3"] - 0.2


def test_tokens_are_those_of_all_seeds(one, two, together, alone, tmp_path):
    pretrain(one, tmp_path)
    counted = [
        [line["tokens"] for line in log(folder) if "tokens" in line]
        for folder in (tmp_path, alone[0], together[0])
    ]
    assert [a + b for a, b in zip(*counted[:2], strict=True)] == counted[2]
    ours, theirs = inspect(two), inspect(one)
    assert ours["batch"]["tokens"] == 2 * theirs["batch"]["tokens"]
    for part, count in theirs["flops_per_step"].items():
        assert ours["flops_per_step"][part] == 2 * count
    for part, count in theirs["bytes_per_device"].items():
        # What is at work may be another of its terms.
        assert ours["bytes_per_device"][part] == pytest.approx(2 * count, rel=0.01)


def stop_after(steps: int):
    asked = iter(range(steps + 1))
    return lambda: next(asked) == steps


def assert_same_weights(a: Path, b: Path) -> None:
    for seed in SEEDS:
        ours, theirs = (load_run(folder, seed=seed)[1] for folder in (a, b))
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_stopped_and_resumed_is_uninterrupted(two, together, tmp_path):
    assert pretrain(two, tmp_path, stopping=stop_after(7))["step"] == 7
    assert pretrain(two, tmp_path) == together[1]
    assert_same_weights(tmp_path, together[0])


def test_killed_and_run_again_is_uninterrupted(two, together, tmp_path):
    # Killed before its last checkpoint was whole: its log goes beyond the one before.
    folder = tmp_path / "run"
    shutil.copytree(together[0], folder)
    (folder / "checkpoints" / "20" / "manifest.json").unlink()
    assert pretrain(two, folder) == together[1]
    assert log(folder) == log(together[0])
    assert_same_weights(folder, together[0])


def test_a_run_is_loaded_seed_by_seed(together, alone):
    said = []
    _, first, _ = load_run(together[0], said.append)
    assert said == [f"{together[0]} has seeds 3, 4: these are the weights of 3"]
    found = [load_run(together[0], pytest.fail, seed=s)[1]["params"] for s in SEEDS]
    jax.tree.map(np.testing.assert_array_equal, found[0], first["params"])
    theirs = load_run(alone[0], pytest.fail)[1]["params"]

    def distance(params):
        gaps = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), params, theirs)
        return max(jax.tree.leaves(gaps))

    assert distance(found[1]) < 0.01 < 0.1 < distance(found[0])
    with pytest.raises(UserError, match="seed is 5, but .* has 3, 4"):
        load_run(together[0], seed=5)


def begin(experiment, folder: Path, report) -> None:
    """The first evaluation, and a step."""
    continue_pretraining(experiment, folder, report=report, stopping=stop_after(1))


def starts(folder: Path) -> dict[str, float]:
    """What was evaluated before the first step."""
    return next(line for line in log(folder) if METRIC in line)


def test_each_seed_goes_on_from_its_own_weights(two, together, tmp_path):
    more = dataclasses.replace(two, init=str(together[0]))
    check_init(more)
    begin(more, tmp_path / "both", pytest.fail)
    begun = starts(tmp_path / "both")
    for seed in SEEDS:
        own = f"{METRIC}/seed-{seed}"
        assert begun[own] == pytest.approx(together[1][own], rel=1e-5)
    # One seed alone finds its own too, and the first one's where it has none.
    for seed, source, said in ((4, 4, 0), (0, 3, 1)):
        single, lines = dataclasses.replace(more, seed=seed, seeds=1), []
        begin(single, tmp_path / str(seed), lines.append)
        found = starts(tmp_path / str(seed))[METRIC]
        assert found == pytest.approx(together[1][f"{METRIC}/seed-{source}"], rel=1e-5)
        assert len(lines) == said
    with pytest.raises(UserError, match="with seeds 3 to 4, but seed 2 has no weights"):
        check_init(dataclasses.replace(more, seed=2))
    # All seeds start from the one that there is.
    both = dataclasses.replace(more, init=str(tmp_path / "4"))
    begin(both, tmp_path / "one", pytest.fail)
    begun = starts(tmp_path / "one")
    assert begun[f"{METRIC}/seed-3"] == begun[f"{METRIC}/seed-4"] == begun[METRIC]


def test_each_seed_is_fine_tuned_from_its_own_weights(together):
    tuning = FinetuningExperiment(
        name="tuned",
        task=small_task.TASK,
        init=str(together[0]),
        seed=SEEDS[0],
        seeds=2,
        learning_rates=(1e-3, 1e-4),
    )
    mesh, said = make_mesh(MeshConfig()), []

    def encoders(experiment):
        start = open_start(experiment, said.append)
        state = compile_tuning(experiment, start, mesh).init(start.given)
        return state["params"]["albert"]

    theirs = {s: load_run(together[0], seed=s)[1]["params"]["albert"] for s in SEEDS}
    ours = encoders(tuning)
    for i, seed in enumerate(2 * SEEDS):
        each = jax.tree.map(lambda leaf, i=i: leaf[i], ours)
        jax.tree.map(np.testing.assert_array_equal, each, theirs[seed])
    assert not any("these are the weights" in line for line in said)
    # Where it has not all of the seeds, all start from its first one.
    ours = encoders(dataclasses.replace(tuning, seed=4, learning_rates=()))
    for i in range(2):
        each = jax.tree.map(lambda leaf, i=i: leaf[i], ours)
        jax.tree.map(np.testing.assert_array_equal, each, theirs[3])


def test_a_deeper_model_starts_from_a_shallower_one(two, together, tmp_path):
    deep = dataclasses.replace(two.model, num_hidden_layers=3)
    more = dataclasses.replace(two, model=deep, init=str(together[0]))
    lines = []
    begin(more, tmp_path, lines.append)
    assert len(lines) == 1 and "applied 2 times there and 3 times here" in lines[0]
    begun = starts(tmp_path)[METRIC]
    fresh, learnt = (starts(together[0])[METRIC], together[1][METRIC])
    assert not math.isclose(begun, learnt, rel_tol=1e-6) and begun < fresh
    for share in ({"share": "none"}, {"num_hidden_groups": 2}):
        other = dataclasses.replace(deep, **share)
        with pytest.raises(UserError, match="model.num_hidden_layers to 2"):
            check_init(dataclasses.replace(more, model=other))


def test_the_seed_that_diverges_is_named(two, tmp_path, monkeypatch):
    def poisoned(*given):
        for number, rows in enumerate(real(*given)):
            if number == 2:
                weights = rows["masked_weights"]
                rows["masked_weights"] = weights.at[1].set(jnp.nan)
            yield rows

    real = module._batches
    monkeypatch.setattr(module, "_batches", poisoned)
    with pytest.raises(NonFiniteLossError, match="/seed-4 is nan at step 3"):
        pretrain(two, tmp_path)


def test_several_seeds_need_one_device(two, together):
    wide = AbstractMesh((2, 1, 1), ("data", "fsdp", "tensor"))
    with pytest.raises(UserError, match="seeds is 2, .* the mesh has 2"):
        check_division(wide, two)
    with pytest.raises(UserError, match="seeds is 2, .* the mesh has 2"):
        inspect(dataclasses.replace(two, mesh=MeshConfig(fsdp=2)))
    with pytest.raises(UserError, match="seeds: 2 -> 1"):
        pretrain(dataclasses.replace(two, seeds=1), together[0])


def test_a_run_from_before_there_were_seeds_is_a_run_of_one(alone, one, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(alone[0], folder)
    path = folder / "experiment.json"
    record = json.loads(path.read_text())
    del record["experiment"]["seeds"], record["identity"]["seeds"]
    path.write_text(json.dumps(record))
    same = dataclasses.replace(one, seed=SEEDS[1])
    assert pretrain(same, folder)["step"] == one.steps
    assert load_run(folder, pytest.fail, seed=SEEDS[1])
    assert differences({}, {"seeds": 2}) == ["seeds: 1 -> 2"]


def test_only_a_run_has_seeds(together, tmp_path):
    model, params, _ = from_pretrained(together[0], run_seed=4, report=pytest.fail)
    theirs = load_run(together[0], seed=4)[1]
    jax.tree.map(np.testing.assert_array_equal, params, theirs)
    save_pretrained(tmp_path / "saved", model, params)
    with pytest.raises(UserError, match="run_seed is 4, but .*saved is no run"):
        from_pretrained(tmp_path / "saved", run_seed=4)
