"""Steps of fine-tuning: frozen parts, many seeds and learning rates in one program."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import optax
import pytest
import small_corpus
import small_task
import tiny

from albert_jax.config import MeshConfig, OptimizerConfig, UserError
from albert_jax.config.finetuning import FinetuningExperiment
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.finetuning.programs import compile_programs
from albert_jax.finetuning.start import Start
from albert_jax.finetuning.step import sound, train_step
from albert_jax.model.albert import abstract_params, init_params
from albert_jax.model.frozen import frozen_leaves
from albert_jax.model.table import make_head
from albert_jax.tasks.batches import TrainingBatches
from albert_jax.tasks.rows import Row
from albert_jax.train.optimizer import freeze, make_optimizer
from albert_jax.train.sharding import make_mesh
from albert_jax.train.state import TrainState, init_state

CONFIG = tiny.config(
    num_hidden_layers=2, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1
)
EXPERIMENT = FinetuningExperiment(
    name="mine",
    task=small_task.TASK,
    optimizer=OptimizerConfig(name="adamw", learning_rate=0.01, warmup_steps=3),
    batch_size=8,
    steps=20,
    seeds=8,
)
MODEL = make_head("AlbertForSequenceClassification", CONFIG, num_labels=2)


def batches_of(seeds, rows=90):
    random = np.random.default_rng(0)
    units = []
    for number in range(rows):
        ids = random.integers(5, 50, int(random.integers(4, 16)))
        inputs = {"input_ids": ids, "token_type_ids": np.zeros_like(ids)}
        units.append((Row(number, inputs, {"labels": int(ids[1] > 25)}),))
    return TrainingBatches(units, batch_size=8, seeds=seeds, longest=16, pad_id=0)


def programs_of(experiment):
    encoder = init_params(make_head("AlbertModel", CONFIG), jax.random.key(1))
    tokenizer = Tokenizer.load(small_corpus.vocabulary())
    start = Start(MODEL, {"albert": encoder}, tokenizer)
    return compile_programs(experiment, start, make_mesh(MeshConfig())), start


def fresh(programs, start):
    state = programs.init(start.given)
    return TrainState(**{n: state[n] for n in ("step", "params", "opt_state", "key")})


def same(a, b):
    jax.tree.map(partial(np.testing.assert_array_equal, strict=True), a, b)


def losses_of(programs, state, batches, steps):
    losses = []
    for step in range(steps):
        state, sums = programs.step(state, batches[step])
        total, weight = sums["label_loss"]
        losses.append(float(total) / float(weight))
    return np.array(losses), state


def members(tree, places):
    return jax.tree.map(lambda x: x[places], tree)


def near(path, ours, theirs, first):
    """As near as a thousandth of how far training moved the leaf.

    By norms: where a gradient is nearly zero, Adam makes its rounding large. A bias of
    the keys, which adds the same to every logit of a softmax, is moved by that alone.
    """
    if jax.tree_util.keystr(path, simple=True, separator="/").endswith("key/bias"):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
    else:
        distance, moved = np.linalg.norm(ours - theirs), np.linalg.norm(theirs - first)
        assert distance <= 1e-3 * moved, path


def test_eight_seeds_in_one_program_are_eight_runs():
    programs, start = programs_of(EXPERIMENT)
    begin = fresh(programs, start)
    first = jax.device_get(begin.params)
    for drawn in (jax.random.key_data(begin.key), begin.params["classifier"]["kernel"]):
        assert len(np.unique(drawn, axis=0)) == 8
    states = [members(begin, slice(seed, seed + 1)) for seed in range(8)]
    mean, together = losses_of(programs, begin, batches_of(range(8)), 20)
    alone, losses = programs_of(replace(EXPERIMENT, seeds=1, seed=5))[0], []
    own = fresh(alone, start)
    same(own.params, states[5].params)
    assert (own.key == states[5].key).all()
    for seed in range(8):
        # The program knows nothing of the seed.
        found, state = losses_of(alone, states[seed], batches_of([seed]), 20)
        losses.append(found)
        ours, theirs = members(together.params, seed), members(state.params, 0)
        jax.tree_util.tree_map_with_path(near, ours, theirs, members(first, seed))
    np.testing.assert_allclose(mean, np.mean(losses, axis=0), rtol=0, atol=1e-5)
    assert np.std(losses, axis=0).min() > 1e-3  # seeds differ


def test_every_rate_has_every_seed_and_its_own_steps():
    rates = (1e-9, 0.03)
    several = replace(EXPERIMENT, seeds=2, learning_rates=rates)
    programs, start = programs_of(several)
    batches = batches_of(range(2))
    before = jax.device_get(programs.init(start.given)["params"])
    _, state = losses_of(programs, fresh(programs, start), batches, 5)
    near = partial(np.testing.assert_allclose, atol=1e-5)
    jax.tree.map(near, members(state.params, slice(2)), members(before, slice(2)))
    same(members(before, slice(2)), members(before, slice(2, 4)))
    optimizer = replace(EXPERIMENT.optimizer, learning_rate=0.03)
    one = replace(several, learning_rates=(), optimizer=optimizer)
    alone, start = programs_of(one)
    _, theirs = losses_of(alone, fresh(alone, start), batches, 5)
    jax.tree.map(near, members(state.params, slice(2, 4)), theirs.params)
    # The log's learning rate is the greatest.
    assert float(programs.schedule(3)) == pytest.approx(0.03 * 0.85)


def test_a_rate_that_diverges_leaves_the_others_alone():
    rates = (0.01, 1e30)
    programs, start = programs_of(replace(EXPERIMENT, seeds=2, learning_rates=rates))
    losses, state = losses_of(programs, fresh(programs, start), batches_of([0, 1]), 6)
    assert np.isfinite(losses).all()
    assert sound(state.params).tolist() == [True, True, False, False]


FROZEN = {
    ("all", 1): {"layer_0": {"attention_0", "ffn_0"}},
    ("all", 2): {
        "layer_1": {"attention_0", "ffn_0"},
        "layer_2": {"attention_1", "ffn_1"},
    },
    ("attention", 1): {"layer_2": {"attention_0", "ffn_2"}},
    ("none", 1): {"layer_3": {"attention_3", "ffn_3"}},
}


@pytest.mark.parametrize(("share", "groups"), FROZEN, ids=str)
def test_a_frozen_layer_takes_with_it_what_it_shares(share, groups):
    config = tiny.config(share=share, num_hidden_groups=groups)
    head = make_head("AlbertForSequenceClassification", config, num_labels=2)
    params = abstract_params(head)
    for part, expected in FROZEN[share, groups].items():
        found = frozen_leaves(config, [part])(params)
        encoder = found["albert"].pop("encoder")
        modules = {name for name in encoder if any(jax.tree.leaves(encoder[name]))}
        assert modules == expected and not any(jax.tree.leaves(found))
        assert all(all(jax.tree.leaves(encoder[name])) for name in modules)
    with pytest.raises(UserError, match="from 'layer_0' to 'layer_3'"):
        frozen_leaves(config, ["layer_4"])


@pytest.mark.parametrize(
    ("part", "modules"),
    {
        "embeddings": {"embeddings", "embedding_hidden_mapping_in"},
        "layers": {"encoder"},
        "base_model": {
            "embeddings",
            "embedding_hidden_mapping_in",
            "encoder",
            "pooler",
        },
    }.items(),
)
def test_a_part_is_all_of_its_modules(part, modules):
    found = frozen_leaves(CONFIG, [part])(abstract_params(MODEL))
    assert not any(jax.tree.leaves(found["classifier"]))
    for name, module in found["albert"].items():
        assert set(jax.tree.leaves(module)) == {name in modules}


def test_what_is_frozen_stays_to_the_bit_and_the_rest_trains_as_if_alone():
    # LAMB, which has all that AdamW has, and the trust ratio.
    config = OptimizerConfig(learning_rate=0.1, weight_decay=0.3, clip_norm=1e-2)
    plain = make_optimizer(config, 0.1)
    frozen = frozen_leaves(CONFIG, ["embeddings"])
    optimizer = freeze(plain, frozen)
    state = init_state(jax.random.key(0), MODEL, optimizer)
    batch = {n: x[0] for n, x in batches_of([0])[0].items()}
    step = jax.jit(
        partial(train_step, MODEL, EXPERIMENT.task, optimizer, frozen=frozen)
    )
    after, sums = step(state, batch)
    after, _ = step(after, batch)

    params, fixed = state.params, frozen(state.params)
    jax.tree.map(
        lambda stays, a, b: np.array_equal(a, b) == stays or pytest.fail(),
        fixed,
        params,
        after.params,
    )
    trained = [x for x in jax.tree.leaves(fixed) if not x]
    moments = [x for x in jax.tree.leaves(state.opt_state) if x.ndim]
    assert len(moments) == 2 * len(trained)
    # The gradient's norm, which is clipped, is that of what is trained.
    spy = optax.GradientTransformation(
        lambda params: params, lambda gradients, state, params: (gradients, gradients)
    )
    whole = state.replace(opt_state=params)
    seen, _ = jax.jit(partial(train_step, MODEL, EXPERIMENT.task, spy))(whole, batch)
    kept = jax.tree.map(lambda g, stays: 0 * g if stays else g, seen.opt_state, fixed)
    norm = float(optax.tree.norm(kept))
    assert float(sums["gradient_norm"][0]) == pytest.approx(norm, rel=1e-5)


def test_a_step_goes_down_the_gradient_of_the_loss_and_fillers_weigh_nothing():
    config = replace(CONFIG, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = make_head(
        EXPERIMENT.task.head, config, num_labels=2, classifier_dropout_prob=0.0
    )
    state = init_state(jax.random.key(0), model, optax.sgd(1.0))
    batch = {n: x[0] for n, x in batches_of([0])[0].items()}
    batch["example_weights"] = np.array([1, 1, 1, 1, 1, 0, 0, 0], np.float32)
    step = partial(train_step, model, EXPERIMENT.task, optax.sgd(1.0))
    after, sums = jax.jit(step)(state, batch)

    def loss(params):
        inputs = {n: batch[n][:5] for n in ("input_ids", "attention_mask")}
        logits = model.apply({"params": params}, **inputs).logits
        return -jax.nn.log_softmax(logits)[np.arange(5), batch["labels"][:5]].mean()

    value, gradient = jax.jit(jax.value_and_grad(loss))(state.params)
    assert float(sums["label_loss"][0]) / 5 == pytest.approx(float(value), rel=1e-5)
    expected = jax.tree.map(lambda x, g: x - g, state.params, gradient)
    close = partial(np.testing.assert_allclose, atol=1e-6)
    jax.tree.map(close, after.params, expected)


def test_wrong_parts_and_rates():
    with pytest.raises(UserError, match="frozen has 'embedings', .* did you mean 'emb"):
        replace(EXPERIMENT, frozen=("embedings",))
    with pytest.raises(UserError, match="learning_rates is -1.0, but"):
        replace(EXPERIMENT, learning_rates=(-1.0,))
    with pytest.raises(UserError, match="names one rate twice"):
        replace(EXPERIMENT, learning_rates=(0.1, 0.1))


def test_the_best_rate_is_that_of_the_best_mean():
    three = replace(EXPERIMENT, seeds=2, learning_rates=(0.1, 0.2, 0.3))
    nan = float("nan")
    for scores, expected in (
        ([0.9, 0.1, 0.6, 0.6, 0.5, 0.5], 1),  # not the best single one
        ([0.1, 0.9, 0.5, 0.4, 0.9, 0.9], 2),
        ([0.5, 0.5, 0.6, 0.4, 0.2, 0.8], 0),  # the first of equals
        ([nan, 0.9, 0.2, 0.2, -1.0, 0.0], 1),
        ([nan] * 6, 0),
    ):
        assert three.best_rate(scores) == expected
