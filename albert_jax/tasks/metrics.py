"""The metrics of GLUE and RACE, and of one's own labels, by scikit-learn and SciPy."""

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np

from albert_jax.config import UserError


def scores(
    metrics: Sequence[str],
    predictions: Sequence[int] | Sequence[float],
    labels: Sequence[int] | Sequence[float],
) -> dict[str, float]:
    """Each metric by its name, as a share of 1.

    ``accuracy``; ``f1`` of label 1; ``f1_macro``, the mean of every label's;
    ``matthews`` (0 where one class alone is predicted or true); ``pearson`` and
    ``spearman`` (NaN where all predictions or all labels are equal);
    ``mean_squared_error``.

    Raises:
      UserError: nothing to score, or not as many predictions as labels.
    """
    if len(predictions) != len(labels):
        raise UserError(
            f"there are {len(predictions)} predictions, but {len(labels)} labels"
        )
    if not len(labels):
        raise UserError("there is no prediction to score")
    given, true = np.asarray(predictions), np.asarray(labels)
    with warnings.catch_warnings():
        # Both warn of degenerate inputs; what comes out for them is said above.
        warnings.simplefilter("ignore")
        return {name: float(_METRICS[name](given, true)) for name in metrics}


def _accuracy(given: np.ndarray, true: np.ndarray) -> float:
    return np.mean(given == true)


def _f1(given: np.ndarray, true: np.ndarray) -> float:
    from sklearn.metrics import f1_score

    return f1_score(true, given, zero_division=0.0)


def _f1_macro(given: np.ndarray, true: np.ndarray) -> float:
    from sklearn.metrics import f1_score

    return f1_score(true, given, average="macro", zero_division=0.0)


def _matthews(given: np.ndarray, true: np.ndarray) -> float:
    from sklearn.metrics import matthews_corrcoef

    return matthews_corrcoef(true, given)


def _pearson(given: np.ndarray, true: np.ndarray) -> float:
    from scipy.stats import pearsonr

    # A correlation needs two points.
    return pearsonr(given, true).statistic if len(true) > 1 else math.nan


def _spearman(given: np.ndarray, true: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return spearmanr(given, true).statistic if len(true) > 1 else math.nan


def _mean_squared_error(given: np.ndarray, true: np.ndarray) -> float:
    return np.mean(np.square(given - true))


_METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "f1_macro": _f1_macro,
    "matthews": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
    "mean_squared_error": _mean_squared_error,
}
