"""Every experiment in the repository builds, has its shapes, and takes a step."""

import dataclasses
import os
import re
import subprocess
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_corpus import MadeTokenizer, make

from albert_jax.catalogue import find_experiments, load_experiment
from albert_jax.config import PretrainingExperiment, UserError
from albert_jax.data.pipeline import PretrainingData
from albert_jax.identity import differences, from_dict, identity, to_dict
from albert_jax.model.albert import init_params
from albert_jax.model.heads import AlbertForPreTraining
from albert_jax.train.optimizer import linear_schedule, make_optimizer
from albert_jax.train.pretrain import train_step
from albert_jax.train.sharding import abstract, make_mesh, shardings
from albert_jax.train.state import init_state

ROOT = Path(__file__).parents[1]
ALL = {entry.spec: entry.experiment for entry in find_experiments(ROOT)}
# The arms of studies are looked at in test_ablations, without a step.
ENTRIES = {
    spec: experiment
    for spec, experiment in ALL.items()
    if isinstance(experiment, PretrainingExperiment) and "/ablations/" not in spec
}

CORPUS = make(documents=30)


def shrunk(experiment: PretrainingExperiment) -> PretrainingExperiment:
    """The same experiment, small: its plan of sharing, depth and recipe stay."""
    model = dataclasses.replace(
        experiment.model,
        vocab_size=40_000,
        embedding_size=8,
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    data = dataclasses.replace(experiment.data, sequence_length=64, batch_size=2)
    return dataclasses.replace(experiment, model=model, data=data)


@pytest.mark.parametrize("spec", ENTRIES)
def test_an_experiment_has_its_shapes_and_takes_a_shrunk_step(spec):
    experiment = load_experiment(str(ROOT / spec))
    schedule = linear_schedule(
        experiment.optimizer.learning_rate,
        experiment.optimizer.warmup_steps,
        experiment.steps,
    )
    optimizer = make_optimizer(experiment.optimizer, schedule)
    model = AlbertForPreTraining(experiment.model)
    state = jax.eval_shape(
        lambda key: init_state(key, model, optimizer), jax.random.key(0)
    )
    assert state.step.shape == ()

    small = shrunk(experiment)
    model = AlbertForPreTraining(small.model)
    tokenizer = MadeTokenizer(vocab_size=40_000)
    rows = PretrainingData(CORPUS, tokenizer, small.data, small.seed)
    (batch, *_) = rows.batches(0, small.data.batch_size)
    batch = {name: jnp.asarray(value) for name, value in batch.items()}
    state = init_state(jax.random.key(0), model, optimizer)
    step = jax.jit(lambda s, b: train_step(model, optimizer, s, b))
    state, sums = step(*step(state, batch)[:1], batch)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(sums))
    assert int(state.step) == 2


def test_experiments_tell_what_they_are():
    paths = set((ROOT / "experiments").rglob("*.py"))
    for path in paths - {ROOT / "experiments" / "ablations" / "scales.py"}:
        text = path.read_text()
        for word in ("Hardware:", "Expected:", "Command:", "Measured:"):
            assert word in text, (path.name, word)


def test_an_experiment_survives_json():
    for experiment in ALL.values():
        assert from_dict(type(experiment), to_dict(experiment)) == experiment


def test_an_unknown_field_is_named_with_the_nearest():
    values = to_dict(ENTRIES["experiments/base.py"])
    values["model"]["hiden_size"] = 3
    with pytest.raises(UserError, match="'hiden_size'; did you mean 'hidden_size'"):
        from_dict(PretrainingExperiment, values)


def test_identity_is_what_training_computes():
    base = ENTRIES["experiments/base.py"]
    free = dataclasses.replace(
        base, name="other", log_every=7, mesh=dataclasses.replace(base.mesh, fsdp=2)
    )
    assert identity(free) == identity(base)
    other = dataclasses.replace(
        base, model=dataclasses.replace(base.model, share="none")
    )
    changed = differences(identity(base), identity(other))
    assert changed == ["model.share: 'all' -> 'none'"]


def test_every_matrix_of_every_experiment_has_a_rule():
    # A matrix that no rule splits stays whole on every device; none of ours should.
    devices = jax.sharding.AbstractMesh((1, 2, 2), ("data", "fsdp", "tensor"))
    for spec, experiment in ENTRIES.items():
        model = AlbertForPreTraining(experiment.model)
        params = jax.eval_shape(partial(init_params, model), jax.random.key(0))
        placed = jax.tree_util.tree_leaves_with_path(shardings(devices, params))
        for (path, where), leaf in zip(placed, jax.tree.leaves(params), strict=True):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            tables = ("token_type", "position", "sop_classifier")
            if leaf.ndim == 2 and not any(table in name for table in tables):
                assert any(where.spec), (spec, name)


def test_a_mesh_must_be_made_of_the_devices():
    from albert_jax.config import MeshConfig

    count = len(jax.devices())
    assert make_mesh(MeshConfig()).shape == {"data": count, "fsdp": 1, "tensor": 1}
    with pytest.raises(UserError, match="does not make the"):
        make_mesh(MeshConfig(data=1, fsdp=7 * count))
    with pytest.raises(UserError, match="does not make the"):
        make_mesh(MeshConfig(fsdp=7 * count))


def test_abstract_state_has_shardings_and_no_values():
    mesh = make_mesh(ENTRIES["experiments/base.py"].mesh)
    shapes = abstract(
        mesh, lambda key: {"w": jax.random.normal(key, (4, 2))}, jax.random.key(0)
    )
    assert shapes["w"].sharding.mesh.shape == mesh.shape


def test_launch_scripts_are_shell_and_say_whether_they_were_run():
    scripts = sorted((ROOT / "experiments" / "launch").glob("*.sh"))
    assert len(scripts) == 4
    for script in scripts:
        subprocess.run(["bash", "-n", script], check=True)
        text = script.read_text()
        assert "Not run yet." in text or "Run with" in text
        assert re.search("albert-jax (pretrain|study) ", text)
        assert os.access(script, os.X_OK)
