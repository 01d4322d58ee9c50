"""Entities in labelled words, and how many of them are found, as CoNLL counts them.

The rules of ``conlleval`` for labels ``O`` and ``PREFIX-TYPE``: any of IOB1, IOB2,
IOE, IOBES and BILOU, and whatever a model makes of them.
"""

from collections.abc import Sequence

# A word alone, or the last of several; BILOU's letters beside those of IOBES.
_CLOSED = "ESLU"
_INNER = "IEL"
OUTSIDE = "O"

Entity = tuple[str, int, int]


def entities(labels: Sequence[str]) -> set[Entity]:
    """Type, first and last word of every entity.

    An entity ends where the prefix says so, and where the next word begins another one,
    is of another type or is outside; what begins in the middle is an entity too.
    """
    found: set[Entity] = set()
    begin, before = 0, (OUTSIDE, "")
    for place, label in enumerate([*labels, OUTSIDE]):
        prefix, _, kind = label.partition("-")
        goes_on = (
            before[0] not in (OUTSIDE, *_CLOSED)
            and prefix in _INNER
            and kind == before[1]
        )
        if not goes_on:
            if before[0] != OUTSIDE:
                found.add((before[1], begin, place - 1))
            begin = place
        before = (prefix, kind)
    return found


def entity_scores(
    given: Sequence[Sequence[str]], true: Sequence[Sequence[str]]
) -> dict[str, float]:
    """``entity_f1``, ``entity_precision`` and ``entity_recall``, as shares of 1.

    Of all entities of all texts together; an entity is found if its type and both its
    ends are right. A share of nothing is 0.
    """
    pairs = [(entities(g), entities(t)) for g, t in zip(given, true, strict=True)]
    right = sum(len(g & t) for g, t in pairs)
    said, there = (sum(len(pair[side]) for pair in pairs) for side in (0, 1))
    return {
        "entity_f1": 2 * right / (said + there) if said + there else 0.0,
        "entity_precision": right / said if said else 0.0,
        "entity_recall": right / there if there else 0.0,
    }
