"""LAMB and AdamW are the official equations, and the schedule its official values."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from albert_jax.config import OptimizerConfig
from albert_jax.model.heads import AlbertForPreTraining
from albert_jax.train.optimizer import (
    adamw,
    decayed,
    lamb,
    linear_schedule,
    make_optimizer,
)
from albert_jax.train.pretrain import train_step
from albert_jax.train.state import init_state

STEPS = 200


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


def reference(params, gradients, rate, *, ratio):
    """The equations of ``lamb_optimizer.py`` and ``optimization.py``, in float64."""
    w = paths(params)
    m = {name: np.zeros_like(x) for name, x in w.items()}
    v = {name: np.zeros_like(x) for name, x in w.items()}
    for step, tree in enumerate(gradients):
        g = paths(tree)
        norm = np.sqrt(sum((x**2).sum() for x in g.values()))
        clip = 1.0 / max(norm, 1.0)
        for name in w:
            m[name] = 0.9 * m[name] + 0.1 * clip * g[name]
            v[name] = 0.999 * v[name] + 0.001 * (clip * g[name]) ** 2
            u = m[name] / (np.sqrt(v[name]) + 1e-6)
            if "LayerNorm" in name or "bias" in name:
                trust = 1.0
            else:
                u = u + 0.01 * w[name]
                lengths = np.linalg.norm(w[name]), np.linalg.norm(u)
                trust = lengths[0] / lengths[1] if ratio and all(lengths) else 1.0
            w[name] = w[name] - rate(step) * trust * u
    return w


@pytest.mark.parametrize("make", [lamb, adamw])
def test_optimizer_is_its_equations(problem, make):
    params, gradients = problem
    schedule = linear_schedule(0.01, 20, STEPS)
    optimizer = make(schedule)

    @jax.jit
    def step(params, state, gradient):
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    ours, state = params, optimizer.init(params)
    for gradient in gradients:
        ours, state = step(ours, state, gradient)
    expected = reference(
        params, gradients, lambda t: float(schedule(t)), ratio=make is lamb
    )
    for name, value in paths(ours).items():
        distance = np.linalg.norm(value - expected[name])
        assert distance <= 2e-6 * np.linalg.norm(expected[name]) + 1e-9, name
        moved = np.linalg.norm(expected[name] - paths(params)[name])
        assert moved > 1e3 * distance, name


def test_exclusions():
    model = AlbertForPreTraining(tiny.config(num_hidden_groups=2))
    params = model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"]
    for path, takes_part in jax.tree_util.tree_leaves_with_path(decayed(params)):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        kind = name.rsplit("/", 1)[-1]
        assert takes_part == (kind in ("kernel", "embedding")), name


def test_trust_ratio_is_one_per_matrix():
    params = {"a": {"kernel": jnp.full((2, 2), 3.0)}, "b": {"kernel": jnp.ones((4, 1))}}
    gradient = {"a": {"kernel": jnp.eye(2)}, "b": {"kernel": jnp.full((4, 1), 1e-3)}}
    optimizer = lamb(1.0, weight_decay=0.0, clip_norm=1e9)
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    for name in "ab":
        moved, size = (
            np.linalg.norm(tree[name]["kernel"]) for tree in (updates, params)
        )
        assert moved == pytest.approx(size, rel=1e-5)


def test_a_zero_matrix_still_moves():
    params = {"kernel": jnp.zeros((2, 2))}
    optimizer = lamb(1.0)
    updates, _ = optimizer.update(
        {"kernel": jnp.ones((2, 2))}, optimizer.init(params), params
    )
    assert (updates["kernel"] != 0).all()


def test_options_reproduce_optax_lamb(problem):
    params, gradients = problem
    ours = lamb(
        1e-2, weight_decay=0.0, clip_norm=1e9, bias_correction=True, adapt_all=True
    )
    theirs = optax.lamb(1e-2)
    states = ours.init(params), theirs.init(params)
    a = b = params
    for gradient in gradients[:5]:
        for_a, state_a = ours.update(gradient, states[0], a)
        for_b, state_b = theirs.update(gradient, states[1], b)
        states = state_a, state_b
        a, b = optax.apply_updates(a, for_a), optax.apply_updates(b, for_b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), a, b)


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
        assert float(rate(step)) == pytest.approx(value, rel=1e-5, abs=1e-12), step


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
