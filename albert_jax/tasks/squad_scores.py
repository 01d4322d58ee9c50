"""Exact match and F1 of SQuAD 1.1 and 2.0, as the official scripts compute them."""

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from albert_jax.config import UserError

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalized(text: str) -> str:
    """Lower case, without punctuation, articles and further spaces."""
    text = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def f1_of(gold: str, given: str) -> float:
    """F1 over words, with their counts; two texts without words agree."""
    golds, words = normalized(gold).split(), normalized(given).split()
    if not golds or not words:
        return float(golds == words)
    same = sum((Counter(golds) & Counter(words)).values())
    # 2 * precision * recall / (precision + recall)
    return 2 * same / (len(golds) + len(words))


def squad_scores(
    golds: Sequence[Sequence[str]],
    given: Sequence[str],
    *,
    unanswerable: bool = False,
    texts: Sequence[str] | None = None,
    null_odds: Sequence[float] | None = None,
) -> dict[str, float]:
    """``exact`` and ``f1`` in percent, and ``total``; names as in the official scripts.

    For SQuAD 2.0 the same for questions with and without an answer (``HasAns_``,
    ``NoAns_``). With ``texts`` and ``null_odds`` also ``best_exact`` and ``best_f1``,
    and the thresholds that give them: chosen on the very answers they are measured on,
    so no result of a model.

    Args:
      golds: the true answers to each question; none: it has no answer.
      given: the answer to each question; "": none.
      unanswerable: whether the rules are those of SQuAD 2.0.
      texts: what would be the answers if every question had one.
      null_odds: how much is said against each having one, on any scale.

    Raises:
      UserError: there is nothing to score.
    """
    if not golds:
        raise UserError("there is no answer to score")
    pairs = zip(golds, given, strict=True)
    exact, f1 = np.transpose([_score(g, a, unanswerable) for g, a in pairs])
    result = _means("", exact, f1)
    if unanswerable:
        has = np.array([bool(gold) for gold in golds])
        for name, some in (("HasAns_", has), ("NoAns_", ~has)):
            if some.any():
                result |= _means(name, exact[some], f1[some])
        if texts is not None and null_odds is not None:
            pairs = zip(golds, texts, strict=True)
            raw = np.transpose([_score(g, t, True) for g, t in pairs])
            for name, scores in zip(("exact", "f1"), raw, strict=True):
                best, threshold = _best(scores, texts, null_odds, has)
                result |= {f"best_{name}": best, f"best_{name}_thresh": threshold}
    return result


def _score(golds: Sequence[str], given: str, unanswerable: bool) -> tuple[float, float]:
    """The best exact match and the best F1 with any true answer."""
    if unanswerable:
        # The script of 2.0 ignores true answers without words.
        golds = [gold for gold in golds if normalized(gold)] or [""]
    answer = normalized(given)
    exact = max(float(normalized(gold) == answer) for gold in golds)
    f1 = max(f1_of(gold, given) for gold in golds)
    if not unanswerable and not answer:
        f1 = 0.0  # In the script of 1.1 nothing in common is nothing right.
    return exact, f1


def _means(prefix: str, exact: np.ndarray, f1: np.ndarray) -> dict[str, float]:
    return {
        f"{prefix}exact": 100 * float(exact.mean()),
        f"{prefix}f1": 100 * float(f1.mean()),
        f"{prefix}total": len(exact),
    }


def _best(
    scores: np.ndarray,
    texts: Sequence[str],
    null_odds: Sequence[float],
    has: np.ndarray,
) -> tuple[float, float]:
    """The best mean in percent, answering where the null odds are at most a threshold,
    and the least such threshold (``find_best_thresh``)."""
    empty = np.array([not text for text in texts])
    # Answering a question wins its score; one without an answer is lost, unless the
    # answer is empty anyway.
    gains = np.where(has, scores, np.where(empty, 0.0, -1.0))
    order = np.argsort(null_odds, kind="stable")
    reached = np.cumsum([float((~has).sum()), *gains[order]])
    best = int(reached.argmax())
    threshold = float(null_odds[order[best - 1]]) if best else 0.0
    return 100 * float(reached[best]) / len(scores), threshold
