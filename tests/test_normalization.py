"""Normal text and where it comes from."""

import itertools
import random
import sys
import unicodedata

import numpy as np
import pytest
from official_tokenizer import official_normalize

from albert_jax.data.normalization import Normalization, align, normalize

SPACES = " \t\n\r\x0b\x0c\x1c\x85\u00a0\u2003\u2028\u3000"
MARKS = "\u0301\u0308\u0327\u0345\u05b0\u3099"
FOLDED = "ßİıΣςǅﬁﬃ½℀¨´ﷺ\u1e9e한가\u1100\u1161\u11a8①㎯Ａ"


def random_texts(count: int) -> list[str]:
    """Words of all scripts, between spaces of all kinds, with marks and ligatures."""
    rng = random.Random(0)
    blocks = [(0x21, 0x7F), (0xA1, 0x250), (0x370, 0x530), (0x1E00, 0x2190)]
    blocks += [(0x3041, 0x3100), (0xAC00, 0xD7A0), (0xFB00, 0xFB50), (0x1F600, 0x1F650)]
    texts = []
    for _ in range(count):
        low, high = rng.choice(blocks)
        letters = [chr(rng.randrange(low, high)) for _ in range(8)]
        mixed = [*letters, *rng.choices("aB1,`'", k=6), *SPACES, *MARKS, *FOLDED]
        weights = [3] * 14 + [0.7] * len(SPACES) + [0.5] * (len(MARKS) + len(FOLDED))
        texts.append("".join(rng.choices(mixed, weights, k=rng.randint(0, 40))))
    return texts


EVERY_RULE = [Normalization(*on) for on in itertools.product([False, True], repeat=3)]


def test_normalises_as_the_official_code():
    for text in random_texts(500):
        assert normalize(text) == official_normalize(text)
    assert normalize("  Ça\tva,\n ½ \u00a0İ ") == "ca va, 1⁄2 i"


@pytest.mark.parametrize(
    ("lower_case", "keep_accents", "expected"),
    [
        (True, False, "ca va, 1⁄2 i e \U0001f600"),
        (False, False, "Ca Va, 1⁄2 I E \U0001f600"),
        (True, True, "ça va, ½ i\u0307 e\u0301 \U0001f600"),
        (False, True, "Ça Va, ½ İ E\u0301 \U0001f600"),
    ],
)
def test_case_and_accents_are_options(lower_case, keep_accents, expected):
    rules = Normalization(lower_case=lower_case, keep_accents=keep_accents)
    assert normalize("  Ça\tVa,\n ½ \u00a0İ E\u0301 \U0001f600", rules) == expected
    for text in random_texts(500):
        wanted = official_normalize(text, lower_case, keep_accents)
        assert normalize(text, rules) == wanted


def test_latex_quotes_are_straightened_on_request():
    text = "``Quoted'' isn't ```this''' ` '"
    assert normalize(text) == text.lower()
    assert (
        normalize(text, Normalization(straight_quotes=True))
        == '"quoted" isn\'t "`this"\' ` \''
    )


@pytest.mark.parametrize("rules", EVERY_RULE, ids=str)
def test_aligned_text_is_the_normal_text_and_each_slice_its_characters(rules):
    for text in ["", " ", "\u0301", "\u0301a", "a\u0301 \u0301b ", *random_texts(500)]:
        aligned = align(text, rules)
        assert aligned.text == normalize(text, rules)
        assert len(aligned.starts) == len(aligned.ends) == len(aligned.text)
        assert (aligned.starts < aligned.ends).all()
        assert (np.diff(aligned.starts) >= 0).all() and (
            np.diff(aligned.ends) >= 0
        ).all()
        for character, start, end in zip(
            aligned.text, aligned.starts, aligned.ends, strict=True
        ):
            # A slice of space alone, and a sigma's place in its word, are lost.
            part = normalize(f"|{text[start:end]}|", rules)[1:-1]
            assert character in part or character in "σς", (text, part)


def test_a_dropped_mark_stays_with_its_letter():
    aligned = align(" e\u0301\u0327 x")
    assert aligned.text == "e x"
    assert aligned.starts.tolist() == [1, 4, 5] and aligned.ends.tolist() == [4, 5, 6]


def test_a_kept_mark_is_a_character_of_its_own():
    aligned = align(" e\u0301 İx", Normalization(keep_accents=True))
    assert aligned.text == "e\u0301 i\u0307x"
    assert aligned.starts.tolist() == [1, 2, 3, 4, 4, 5]
    assert aligned.ends.tolist() == [2, 3, 4, 5, 5, 6]


@pytest.mark.parametrize("rules", EVERY_RULE[:4], ids=str)
def test_every_character_keeps_its_place(rules):
    """One after another, so that no character makes more or fewer than is counted."""
    characters = [chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000]
    assigned = [c for c in characters if unicodedata.category(c) not in ("Cn", "Co")]
    for chunk in range(0, len(assigned), 5000):
        text = "".join(assigned[chunk : chunk + 5000])
        aligned = align(text, rules)
        assert len(aligned.starts) == len(aligned.text)
        for i in range(0, len(aligned.text), 97):
            part = text[aligned.starts[i] : aligned.ends[i]]
            assert aligned.text[i] in normalize(f"|{part}|", rules) + "σς"
