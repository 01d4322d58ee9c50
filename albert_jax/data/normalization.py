"""Text as the official models see it, and where its characters lay before."""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int

_LATEX_QUOTES = re.compile("``|''")
_WIDE_SPACE = re.compile(r"\s{2,}")


@dataclass(frozen=True)
class Normalization:
    """The rules that a model's text goes by; those of the official models by default
    (``preprocess_text`` in the official ``tokenization.py``)."""

    straight_quotes: bool = False
    """Turn `` and '' into ", as Hugging Face does and the official code does not."""
    lower_case: bool = True
    keep_accents: bool = False
    """Neither decompose characters nor drop combining marks."""


OFFICIAL = Normalization()


def normalize(text: str, rules: Normalization = OFFICIAL) -> str:
    """One space between words, compatibility decomposition, no combining marks, lower
    case, or what ``rules`` say instead."""
    text = " ".join(text.split())
    if rules.straight_quotes:
        text = _LATEX_QUOTES.sub('"', text)
    if not (text.isascii() or rules.keep_accents):
        text = unicodedata.normalize("NFKD", text)
        for mark in filter(unicodedata.combining, set(text)):
            text = text.replace(mark, "")
    return text.lower() if rules.lower_case else text


@dataclass(frozen=True)
class AlignedText:
    """A normalised text whose character i stands for ``[starts[i], ends[i])`` of the
    text as given; characters that came out of one share its span."""

    text: str
    starts: Int[np.ndarray, " c"]
    ends: Int[np.ndarray, " c"]


def align(text: str, rules: Normalization = OFFICIAL) -> AlignedText:
    """``normalize``, and where its characters come from.

    A combining mark that is dropped belongs to the character before it, so that a span
    never cuts an accent off its letter.
    """
    starts = _collapsed(text)
    ends = starts + 1
    source = " ".join(text.split())
    if rules.straight_quotes:
        seconds = [match.end() - 1 for match in _LATEX_QUOTES.finditer(source)]
        ends[[second - 1 for second in seconds]] += 1
        starts, ends = np.delete(starts, seconds), np.delete(ends, seconds)
        source = _LATEX_QUOTES.sub('"', source)
    if not source.isascii():
        counts = np.array(_counts(source, rules), np.int64)
        for mark in np.flatnonzero(counts == 0)[::-1]:
            if mark:
                ends[mark - 1] = ends[mark]
        starts, ends = np.repeat(starts, counts), np.repeat(ends, counts)
    return AlignedText(normalize(text, rules), starts, ends)


def _collapsed(text: str) -> np.ndarray:
    """Where in ``text`` each character of ``" ".join(text.split())`` is."""
    begin, stop = len(text) - len(text.lstrip()), len(text.rstrip())
    spaces = (space.span() for space in _WIDE_SPACE.finditer(text, begin, stop))
    further = [i - begin for first, end in spaces for i in range(first + 1, end)]
    return np.delete(np.arange(begin, stop), further)


def _counts(source: str, rules: Normalization) -> list[int]:
    """How many characters ``normalize`` makes of each.

    Decomposing a whole text only reorders marks, which are dropped, and lower-casing
    keeps the length of what is decomposed: so characters can be counted one by one.
    """
    if not rules.keep_accents:
        return [_remains(character) for character in source]
    # Lower-casing makes two of an İ.
    return [len(c.lower()) if rules.lower_case else 1 for c in source]


@lru_cache(maxsize=4096)
def _remains(character: str) -> int:
    """How many characters of one are left, decomposed and without marks."""
    parts = unicodedata.normalize("NFKD", character)
    return sum(not unicodedata.combining(part) for part in parts)
