"""Losses are sums with weights: parts of a batch add up, and nothing else counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from albert_jax.model.losses import classification, mean
from albert_jax.train.metrics import add, means


def examples(seed: int = 0, count: int = 12, classes: int = 5):
    keys = jax.random.split(jax.random.key(seed), 3)
    logits = 3 * jax.random.normal(keys[0], (count, classes))
    labels = jax.random.randint(keys[1], (count,), 0, classes)
    return logits, labels, jax.random.uniform(keys[2], (count,))


def test_cross_entropy_and_accuracy_are_their_definitions():
    given = examples()
    logits, labels, weights = map(np.asarray, given)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    losses = -np.log(probabilities[np.arange(12), labels])
    right = probabilities.argmax(-1) == labels
    values = means(classification("x", *given))
    assert values["x_loss"] == pytest.approx(np.average(losses, weights=weights))
    assert values["x_accuracy"] == pytest.approx(np.average(right, weights=weights))


def test_a_tie_is_not_right():
    logits = jnp.array([[1.0, 1.0, 0.0], [2.0, 1.0, 0.0]])
    sums = classification("x", logits, jnp.array([0, 0]), jnp.ones(2))
    assert means(sums)["x_accuracy"] == 0.5


def test_unequal_parts_add_up_to_the_whole():
    whole = examples()
    first, second = ([x[:3] for x in whole], [x[3:] for x in whole])
    parts = add(classification("x", *first), classification("x", *second))
    expected = means(classification("x", *whole))
    assert means(parts) == pytest.approx(expected, rel=1e-5)
    # Means of means would not do.
    halves = [means(classification("x", *part))["x_loss"] for part in (first, second)]
    assert np.mean(halves) != pytest.approx(expected["x_loss"], rel=1e-3)


def test_what_has_no_weight_does_not_count():
    logits, labels, weights = examples()
    weights = weights.at[::2].set(0.0)
    other = logits.at[::2].set(1e4), labels.at[::2].set(0), weights
    a, b = classification("x", logits, labels, weights), classification("x", *other)
    assert means(a) == pytest.approx(means(b))


def test_a_mean_over_nothing_is_zero_with_a_zero_gradient():
    logits, labels, _ = examples()

    def loss(logits):
        return mean(classification("x", logits, labels, jnp.zeros(12))["x_loss"])

    value, gradient = jax.value_and_grad(loss)(logits)
    assert value == 0 and not gradient.any()
