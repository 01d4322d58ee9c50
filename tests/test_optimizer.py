"""LAMB and AdamW are the official equations, and the schedule its official values."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from albert_jax.config import OptimizerConfig, UserError
from albert_jax.model.albert import abstract_params
from albert_jax.model.heads import AlbertForPreTraining
from albert_jax.train.optimizer import (
    decayed,
    lamb,
    linear_schedule,
    make_optimizer,
    take_trust_ratios,
)
from albert_jax.train.pretrain import train_step
from albert_jax.train.state import init_state

STEPS = 200
OFFICIAL = linear_schedule(0.01, 20, STEPS)


def real_gradients(steps: int = STEPS):
    """Parameters of a small model, and gradients of it on changing batches."""
    model = AlbertForPreTraining(tiny.config(num_hidden_layers=2))
    state = init_state(jax.random.key(0), model, optax.sgd(0.1))

    def keep_gradient(updates, state, params=None):
        return jax.tree.map(lambda g: -0.1 * g, updates), updates

    probe = optax.GradientTransformation(lambda p: p, keep_gradient)
    step = jax.jit(lambda s, b: train_step(model, probe, s, b))
    state = state.replace(opt_state=state.params)
    first = jax.device_get(state.params)
    gradients = []
    for seed in range(steps):
        state, _ = step(state, tiny.batch(seed % 7))
        gradients.append(jax.device_get(state.opt_state))
    return first, gradients


@pytest.fixture(scope="module")
def problem():
    return real_gradients()


def paths(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(x, np.float64) for path, x in leaves}


def rate(step):
    """The equation of ``create_optimizer``'s schedule."""
    return 0.01 * (step / 20 if step < 20 else 1 - step / STEPS)


def reference(
    params, gradients, *, ratio=True, correct=False, adapt_all=False, told=None
):
    """The equations of ``lamb_optimizer.py`` and ``optimization.py``, in float64.

    ``told`` is a list that gets the trust ratios of every step.
    """
    w = paths(params)
    m = {name: np.zeros_like(x) for name, x in w.items()}
    v = {name: np.zeros_like(x) for name, x in w.items()}
    for step, tree in enumerate(gradients):
        g = paths(tree)
        norm = np.sqrt(sum((x**2).sum() for x in g.values()))
        clip = 1.0 / max(norm, 1.0)
        ratios = {}
        for name in w:
            m[name] = 0.9 * m[name] + 0.1 * clip * g[name]
            v[name] = 0.999 * v[name] + 0.001 * (clip * g[name]) ** 2
            first, second = m[name], v[name]
            if correct:
                first = first / (1 - 0.9 ** (step + 1))
                second = second / (1 - 0.999 ** (step + 1))
            u = first / (np.sqrt(second) + 1e-6)
            excluded = "LayerNorm" in name or "bias" in name
            if not excluded:
                u = u + 0.01 * w[name]
            trust = 1.0
            if ratio and (adapt_all or not excluded):
                lengths = np.linalg.norm(w[name]), np.linalg.norm(u)
                trust = lengths[0] / lengths[1] if all(lengths) else 1.0
                ratios[name] = trust
            w[name] = w[name] - rate(step) * trust * u
        if told is not None:
            told.append(ratios)
    return w


def run(optimizer, params, gradients):
    """Parameters after one step with each gradient."""

    @jax.jit
    def step(params, state, gradient):
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for gradient in gradients:
        params, state = step(params, state, gradient)
    return params


def run_double(optimizer, problem, steps=STEPS):
    """``run`` in float64, where only an equation can make a difference."""
    params, gradients = jax.tree.map(lambda x: x.astype(np.float64), problem)
    with jax.enable_x64(True):
        return paths(run(optimizer, params, gradients[:steps]))


@pytest.mark.parametrize(
    ("fields", "equations"),
    [
        ({"name": "lamb"}, {}),
        ({"name": "adamw"}, {"ratio": False}),
        ({"name": "lamb", "bias_correction": True}, {"correct": True}),
        ({"name": "adamw", "bias_correction": True}, {"ratio": False, "correct": True}),
        ({"name": "lamb", "adapt_all": True}, {"adapt_all": True}),
    ],
)
def test_optimizer_is_its_equations(problem, fields, equations):
    expected = reference(*problem, **equations)
    ours = run_double(make_optimizer(OptimizerConfig(**fields), OFFICIAL), problem)
    for name, start in paths(problem[0]).items():
        distance = np.linalg.norm(ours[name] - expected[name])
        assert distance <= 1e-6 * np.linalg.norm(expected[name]), name
        assert np.linalg.norm(expected[name] - start) > 1e3 * distance, name


@pytest.mark.parametrize("name", ["lamb", "adamw"])
def test_single_precision_keeps_to_the_equations(problem, name):
    ours = paths(run(make_optimizer(OptimizerConfig(name=name), OFFICIAL), *problem))
    expected = reference(*problem, ratio=name == "lamb")
    ours, expected = (
        np.concatenate([tree[path].ravel() for path in expected])
        for tree in (ours, expected)
    )
    distance = np.linalg.norm(ours - expected)
    assert 0 < distance <= 1e-6 * np.linalg.norm(expected)


def test_exclusions():
    model = AlbertForPreTraining(tiny.config(num_hidden_groups=2))
    params = model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"]
    for path, takes_part in jax.tree_util.tree_leaves_with_path(decayed(params)):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        kind = name.rsplit("/", 1)[-1]
        assert takes_part == (kind in ("kernel", "embedding")), name


def test_trust_ratio_is_one_per_matrix():
    """After the first step each matrix has moved by the rate times its own length."""
    config = tiny.config(num_hidden_groups=2, inner_group_num=2)
    rng = np.random.default_rng(0)
    params, gradient = (
        jax.tree.map(
            lambda w: rng.normal(size=w.shape).astype(np.float32),
            abstract_params(AlbertForPreTraining(config)),
        )
        for _ in range(2)
    )
    optimizer = lamb(0.5, clip_norm=1e9)
    updates, _ = jax.jit(optimizer.update)(gradient, optimizer.init(params), params)
    moved, lengths, matrices = paths(updates), paths(params), paths(decayed(params))
    assert sum(matrices.values()) == 3 + 1 + 2 * 2 * 6 + 1 + 1 + 1
    for name, matrix in matrices.items():
        if matrix:
            assert lengths[name].ndim == 2, name
            length = 0.5 * np.linalg.norm(lengths[name])
            assert np.linalg.norm(moved[name]) == pytest.approx(length, rel=1e-5), name
        else:
            # m / sqrt(v) of a first gradient is its sign times 0.1 / sqrt(0.001).
            size = np.abs(moved[name])
            assert np.median(size) == pytest.approx(0.5 * 10**0.5, rel=0.01), name


@pytest.mark.parametrize("adapt_all", [False, True])
def test_trust_ratios_told_are_those_of_the_equations(problem, adapt_all):
    params, gradients = jax.tree.map(lambda x: x.astype(np.float64), problem)
    expected = []
    reference(params, gradients[:30], adapt_all=adapt_all, told=expected)
    config = OptimizerConfig(adapt_all=adapt_all)
    telling = make_optimizer(config, OFFICIAL, tell_trust_ratios=True)
    plain = make_optimizer(config, OFFICIAL)

    @jax.jit
    def step(params, state, gradient):
        updates, told = telling.update(gradient, state, params)
        same, next_state = plain.update(gradient, state, params)
        told_state, ratios = take_trust_ratios(told)
        assert jax.tree.structure(told_state) == jax.tree.structure(next_state)
        assert take_trust_ratios(next_state)[1] == {}
        apart = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), updates, same)
        return optax.apply_updates(params, updates), told_state, ratios, apart

    with jax.enable_x64(True):
        state = telling.init(params)
        for gradient, ratios in zip(gradients[:30], expected, strict=True):
            params, state, told, apart = step(params, state, gradient)
            assert not any(map(float, jax.tree.leaves(apart)))
            found = {f"['{n}']".replace("/", "']['"): x for n, x in told.items()}
            assert found == pytest.approx(ratios, rel=1e-6)


def test_a_zero_matrix_still_moves():
    params = {"kernel": jnp.zeros((2, 2))}
    optimizer = lamb(1.0)
    updates, _ = optimizer.update(
        {"kernel": jnp.ones((2, 2))}, optimizer.init(params), params
    )
    assert (updates["kernel"] != 0).all()


OURS_AND_OPTAX = {
    # What is left apart by the options, set equal on our side or on theirs.
    "lamb": (
        {"weight_decay": 0.0, "clip_norm": 1e9, "adapt_all": True},
        optax.lamb(OFFICIAL),
    ),
    "lamb, with our decay and clipping": (
        {"adapt_all": True},
        optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.lamb(OFFICIAL, weight_decay=0.01, mask=decayed),
        ),
    ),
    "adamw": (
        {"name": "adamw", "clip_norm": 1e9},
        optax.adamw(OFFICIAL, eps=1e-6, weight_decay=0.01, mask=decayed),
    ),
}


@pytest.mark.parametrize(
    ("fields", "theirs"), OURS_AND_OPTAX.values(), ids=OURS_AND_OPTAX.keys()
)
def test_options_are_optax(problem, fields, theirs):
    config = OptimizerConfig(bias_correction=True, **fields)
    ours = run_double(make_optimizer(config, OFFICIAL), problem, steps=40)
    for name, expected in run_double(theirs, problem, steps=40).items():
        distance = np.linalg.norm(ours[name] - expected)
        assert distance <= 1e-12 * np.linalg.norm(expected), name


def test_adamw_has_no_trust_ratio_to_adapt():
    with pytest.raises(UserError, match="adapt_all is True, but adamw"):
        OptimizerConfig(name="adamw", adapt_all=True)


def test_official_schedule():
    rate = linear_schedule(0.00176, 3125, 125_000)
    expected = {
        0: 0.0,
        1: 0.00176 / 3125,
        3124: 0.00176 * 3124 / 3125,
        3125: 0.00176 * 0.975,
        62_500: 0.00088,
        125_000: 0.0,
        200_000: 0.0,
    }
    for step, value in expected.items():
        assert float(rate(step)) == pytest.approx(value, rel=1e-6, abs=1e-12), step


def test_first_step_of_a_schedule_without_warmup():
    assert float(linear_schedule(0.1, 0, 10)(0)) == pytest.approx(0.1)


def test_config_names_every_setting():
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    gradient = {"kernel": jnp.full((2, 2), 0.3), "bias": jnp.full(2, 0.1)}

    def step(**fields):
        optimizer = make_optimizer(OptimizerConfig(**fields), 0.1)
        return optimizer.update(gradient, optimizer.init(params), params)[0]

    plain = step()
    for changed in (
        {"name": "adamw"},
        {"b1": 0.5},
        {"b2": 0.5},
        {"eps": 0.1},
        {"weight_decay": 0.5},
        {"clip_norm": 1e-7},
        {"bias_correction": True},
        {"adapt_all": True},
    ):
        other = step(**changed)
        leaves = zip(jax.tree.leaves(plain), jax.tree.leaves(other), strict=True)
        assert any(not np.array_equal(a, b) for a, b in leaves), changed


@pytest.mark.thorough
def test_vmap_over_seeds_and_learning_rates():
    model = AlbertForPreTraining(tiny.config(num_hidden_layers=2))

    def init(key, rate):
        return init_state(key, model, lamb(rate))

    def step(state, rate, batch):
        return train_step(model, lamb(rate), state, batch)

    def losses(init, step, key, rate):
        state, seen = init(key, rate), []
        for seed in range(5):
            state, sums = step(state, rate, tiny.batch(seed))
            seen.append(sums["masked_lm_loss"][0])
        return np.stack(seen, axis=-1)

    keys = jax.random.split(jax.random.key(3), 3)
    rates = jnp.array([0.0, 0.01, 0.1])
    many = jax.jit(jax.vmap(init)), jax.jit(jax.vmap(step, in_axes=(0, 0, None)))
    together = losses(*many, keys, rates)
    one = jax.jit(init), jax.jit(step)
    for i in range(3):
        alone = losses(*one, keys[i], rates[i])
        np.testing.assert_allclose(together[i], alone, rtol=1e-5)
    # Each rate made its own way.
    assert len({tuple(np.round(row, 3)) for row in together}) == 3
