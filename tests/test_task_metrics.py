"""Metrics against their definitions, scikit-learn and SciPy, on easy and odd inputs."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from albert_jax.config import UserError
from albert_jax.tasks.metrics import scores
from albert_jax.tasks.squad_scores import f1_of, normalized, squad_scores


def confusion(given, true):
    given, true = np.asarray(given), np.asarray(true)
    return [int(((given == g) & (true == t)).sum()) for g in (1, 0) for t in (1, 0)]


def f1_by_definition(given, true):
    tp, fp, fn, _ = confusion(given, true)
    return 2 * tp / (2 * tp + fp + fn) if tp else 0.0


def matthews_by_definition(given, true):
    tp, fp, fn, tn = confusion(given, true)
    below = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return (tp * tn - fp * fn) / math.sqrt(below) if below else 0.0


CLASSES = {
    "all right": ([0, 1, 1], [0, 1, 1]),
    "all wrong": ([0, 1, 1], [1, 0, 0]),
    "one class predicted": ([1, 1, 1], [0, 1, 1]),
    "one class true": ([0, 1, 1], [1, 1, 1]),
    "one class both": ([1, 1], [1, 1]),
    "the other class both": ([0, 0], [0, 0]),
    "one of each, never met": ([0, 0], [1, 1]),
    "a single example": ([1], [1]),
} | {
    f"random {seed}": tuple(
        np.random.default_rng(seed).integers(0, 2, (2, 3 + 40 * seed)).tolist()
    )
    for seed in range(8)
}


@pytest.mark.parametrize("name", CLASSES)
def test_two_classes(name):
    given, true = CLASSES[name]
    found = scores(["accuracy", "f1", "matthews"], given, true)
    assert found == {
        "accuracy": pytest.approx(np.mean(np.equal(given, true))),
        "f1": pytest.approx(f1_by_definition(given, true)),
        "matthews": pytest.approx(matthews_by_definition(given, true), abs=1e-12),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert found["accuracy"] == reference.accuracy_score(true, given)
        assert found["f1"] == reference.f1_score(true, given)
        assert found["matthews"] == reference.matthews_corrcoef(true, given)


def test_three_classes():
    given, true = np.random.default_rng(0).integers(0, 3, (2, 100))
    found = scores(["f1_macro", "matthews"], given.tolist(), true.tolist())
    parts = [f1_by_definition(given == c, true == c) for c in range(3)]
    assert found["f1_macro"] == pytest.approx(np.mean(parts))
    assert found["matthews"] == reference.matthews_corrcoef(true, given)


def ranks(values):
    """Average ranks of ties, by counting."""
    values = np.asarray(values, float)
    below = (values[:, None] > values).sum(axis=1)
    return below + ((values[:, None] == values).sum(axis=1) + 1) / 2


def correlation(a, b):
    a, b = np.asarray(a, float), np.asarray(b, float)
    a, b = a - a.mean(), b - b.mean()
    return (a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum())


RNG = np.random.default_rng(0)
NUMBERS = {
    "two points": ([1.0, 2.0], [5.0, 0.0]),
    "ties": ([1.0, 1.0, 2.0, 3.0, 3.0], [0.0, 2.0, 2.0, 5.0, 2.0]),
    "random": tuple(RNG.normal(size=(2, 200)).tolist()),
    "random with ties": tuple(RNG.integers(0, 6, (2, 300)).astype(float).tolist()),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(name):
    given, true = NUMBERS[name]
    found = scores(["pearson", "spearman", "mean_squared_error"], given, true)
    assert found == {
        "pearson": pytest.approx(correlation(given, true), abs=1e-12),
        "spearman": pytest.approx(correlation(ranks(given), ranks(true)), abs=1e-12),
        "mean_squared_error": pytest.approx(np.mean(np.subtract(given, true) ** 2)),
    }
    assert found["pearson"] == stats.pearsonr(given, true).statistic
    assert found["spearman"] == stats.spearmanr(given, true).statistic


@pytest.mark.parametrize(
    ("given", "true"),
    [([1.0] * 3, [1.0, 2.0, 3.0]), ([1.0, 2.0], [3.0] * 2), ([1.0], [1.0])],
)
def test_a_correlation_with_a_constant_is_no_number(given, true):
    found = scores(["pearson", "spearman"], given, true)
    assert all(map(math.isnan, found.values()))


def test_nothing_to_score_is_refused():
    with pytest.raises(UserError, match="no prediction to score"):
        scores(["accuracy"], [], [])
    with pytest.raises(UserError, match="2 predictions, but 1 labels"):
        scores(["accuracy"], [1, 0], [1])
    with pytest.raises(UserError, match="no answer to score"):
        squad_scores([], [])


def test_answers_are_compared_without_case_articles_and_punctuation():
    assert normalized(" The  Café's, a\tan (theory)! ") == "cafés theory"
    assert normalized("the") == normalized("!") == ""


def test_f1_counts_words():
    assert f1_of("a cat sat", "The CAT sat!") == 1.0
    assert f1_of("the cat sat down", "cat cat") == pytest.approx(2 * 1 / (3 + 2))
    assert f1_of("cat", "dog") == 0.0
    assert f1_of("", "the") == 1.0


GOLDS = [["Denver Broncos", "Broncos"], ["1999"], ["the"]]


def test_squad_1_takes_the_best_of_the_true_answers():
    found = squad_scores(GOLDS, ["broncos!", "in 1999", "cat"])
    assert found == pytest.approx(
        {"exact": 100 / 3, "f1": 100 * (1 + 2 / 3) / 3, "total": 3}
    )
    # Two texts without words: an exact match, and by the script of 1.1 no F1.
    found = squad_scores([["the"]], [""])
    assert found == {"exact": 100.0, "f1": 0.0, "total": 1}


def test_squad_2_scores_questions_without_answers_apart():
    golds = [["Broncos"], ["1999", "the"], [], []]
    given = ["", "in 1999", "", "something"]
    found = squad_scores(golds, given, unanswerable=True)
    assert found == pytest.approx(
        {
            "exact": 25.0,
            "f1": 100 * (2 / 3 + 1) / 4,
            "total": 4,
            "HasAns_exact": 0.0,
            "HasAns_f1": 100 / 3,
            "HasAns_total": 2,
            "NoAns_exact": 50.0,
            "NoAns_f1": 50.0,
            "NoAns_total": 2,
        }
    )
    assert "NoAns_f1" not in squad_scores([["a cat"]], ["cat"], unanswerable=True)
    # A true answer without words is none, in the script of 2.0.
    assert squad_scores([["the"]], [""], unanswerable=True)["f1"] == 100.0
    assert squad_scores([["the", "cat"]], [""], unanswerable=True)["exact"] == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_the_best_threshold_is_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    texts = [rng.choice(["cat", "cat sat", "dog", ""]) for _ in range(24)]
    golds = [[["cat"], ["dog"], []][i] for i in rng.integers(0, 3, 24)]
    odds = rng.permutation(24) / 7 - 3
    found = squad_scores(
        golds, texts, unanswerable=True, texts=texts, null_odds=odds.tolist()
    )
    for name in ("exact", "f1"):
        tried = {}
        for threshold in [odds.min() - 1, *np.sort(odds)]:
            given = [
                t if o <= threshold else "" for t, o in zip(texts, odds, strict=True)
            ]
            tried[threshold] = squad_scores(golds, given, unanswerable=True)[name]
        best = max(tried.values())
        assert found[f"best_{name}"] == pytest.approx(best)
        if best > tried[odds.min() - 1]:
            at = found[f"best_{name}_thresh"]
            assert tried[at] == pytest.approx(best)
            assert at == min(t for t, s in tried.items() if s > best - 1e-9)
