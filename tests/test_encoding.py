"""Rows of one text or two: truncation, padding, masks, offsets, and what is refused."""

import itertools

import numpy as np
import pytest
import small_corpus

from albert_jax.config import UserError
from albert_jax.data.encoding import truncate
from albert_jax.data.tokenizer import Tokenizer

FIRST = "The river was governed, and in 2010, the mountain was not."
SECOND = "Twelve presidents had their attention on one river."


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(small_corpus.vocabulary())


def row(tokenizer, first, second=None):
    """Ids, token types and special tokens of a row, put together by hand."""
    ids = [tokenizer.cls_id, *first, tokenizer.sep_id]
    special = [1, *[0] * len(first), 1]
    types = [0] * len(ids)
    if second is not None:
        ids += [*second, tokenizer.sep_id]
        special += [*[0] * len(second), 1]
        types += [1] * (len(second) + 1)
    return ids, types, special


def test_a_text_is_a_batch_of_one(tokenizer):
    ids, types, special = row(tokenizer, tokenizer.encode(FIRST))
    batch = tokenizer(FIRST, special_tokens_mask=True)
    assert {name: array.tolist() for name, array in batch.items()} == {
        "input_ids": [ids],
        "attention_mask": [[1] * len(ids)],
        "token_type_ids": [types],
        "special_tokens_mask": [special],
    }
    assert all(array.dtype == np.int32 for array in batch.values())
    names = ["input_ids", "attention_mask", "token_type_ids"]
    assert list(tokenizer(FIRST)) == names


def test_a_pair_is_two_segments(tokenizer):
    first, second = tokenizer.encode(FIRST), tokenizer.encode(SECOND)
    ids, types, special = row(tokenizer, first, second)
    batch = tokenizer(FIRST, SECOND, special_tokens_mask=True)
    assert batch["input_ids"].tolist() == [ids]
    assert batch["token_type_ids"].tolist() == [types]
    assert batch["special_tokens_mask"].tolist() == [special]
    (empty,) = tokenizer(FIRST, "")["input_ids"]
    assert empty.tolist() == row(tokenizer, first, [])[0]


@pytest.mark.parametrize("pairs", [False, True])
def test_padding_changes_no_row(tokenizer, pairs):
    texts = [FIRST, "", SECOND, "one"]
    others = texts[::-1] if pairs else None
    longest = tokenizer(texts, others, padding=True, special_tokens_mask=True)
    wide = tokenizer(
        texts, others, padding="max_length", max_length=99, special_tokens_mask=True
    )
    assert wide["input_ids"].shape == (4, 99)
    fills = {"input_ids": tokenizer.pad_id, "special_tokens_mask": 1}
    for i, text in enumerate(texts):
        other = None if others is None else others[i]
        alone = tokenizer(text, other, special_tokens_mask=True)
        for batch in (longest, wide):
            for name, array in batch.items():
                size = alone[name].shape[1]
                assert array[i, :size].tolist() == alone[name][0].tolist()
                assert (array[i, size:] == fills.get(name, 0)).all()
    width = longest["input_ids"].shape[1]
    assert width == longest["attention_mask"].sum(axis=1).max()


def test_truncation_by_one_piece_at_a_time():
    """The official ``_truncate_seq_pair``, step by step."""
    for first, second, room in itertools.product(range(12), range(12), range(24)):
        a, b = first, second
        while a + b > room:
            if a > b:
                a -= 1
            else:
                b -= 1
        assert truncate(first, second, room, "longest_first") == (a, b)
        excess = max(first + second - room, 0)
        if excess <= first:
            cut = truncate(first, second, room, "only_first")
            assert cut == (first - excess, second)
        if excess <= second:
            cut = truncate(first, second, room, "only_second")
            assert cut == (first, second - excess)


@pytest.mark.parametrize("strategy", ["longest_first", "only_first", "only_second"])
def test_truncation_keeps_the_beginning(tokenizer, strategy):
    first, second = tokenizer.encode(FIRST), tokenizer.encode(SECOND)
    for length in range(max(len(first), len(second)) + 3, len(first) + len(second) + 5):
        batch = tokenizer(FIRST, SECOND, truncation=strategy, max_length=length)
        a, b = truncate(len(first), len(second), length - 3, strategy)
        assert batch["input_ids"].tolist() == [row(tokenizer, first[:a], second[:b])[0]]
    assert batch["input_ids"].shape[1] == length - 1  # Nothing to cut at last.


def test_truncation_of_one_text(tokenizer):
    ids = tokenizer.encode(FIRST)
    for strategy in (True, "longest_first", "only_first"):
        batch = tokenizer(FIRST, truncation=strategy, max_length=7)
        assert batch["input_ids"].tolist() == [row(tokenizer, ids[:5])[0]]
    batch = tokenizer(FIRST, truncation=True, max_length=2)
    assert batch["input_ids"].tolist() == [[tokenizer.cls_id, tokenizer.sep_id]]


def test_offsets_stand_where_their_pieces_do(tokenizer):
    batch = tokenizer(
        [FIRST, "one"], [SECOND, FIRST], padding=True, offsets=True,
        truncation=True, max_length=30, special_tokens_mask=True,
    )  # fmt: skip
    assert batch["offsets"].shape == (*batch["input_ids"].shape, 2)
    assert batch["offsets"].dtype == np.int32
    texts = [(FIRST, SECOND), ("one", FIRST)]
    for i, pair in enumerate(texts):
        for segment, text in enumerate(pair):
            inside = batch["token_type_ids"][i] == segment
            inside &= batch["special_tokens_mask"][i] == 0
            ids, spans = tokenizer.encode_with_offsets(text)
            assert inside.sum() > 0
            assert (batch["input_ids"][i, inside] == ids[: inside.sum()]).all()
            assert (batch["offsets"][i, inside] == spans[: inside.sum()]).all()
    assert not batch["offsets"][batch["special_tokens_mask"] == 1].any()


def test_no_texts_make_no_rows(tokenizer):
    assert tokenizer([])["input_ids"].shape == (0, 0)
    empty = tokenizer([], [], padding="max_length", max_length=8, offsets=True)
    assert empty["input_ids"].shape == (0, 8) and empty["offsets"].shape == (0, 8, 2)


def test_any_iterable_of_strings_will_do(tokenizer):
    wanted = tokenizer([FIRST, "one"], padding=True)["input_ids"]
    for texts in ((FIRST, "one"), iter([FIRST, "one"]), np.array([FIRST, "one"])):
        assert (tokenizer(texts, padding=True)["input_ids"] == wanted).all()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (
            {"truncation": "longest"},
            "truncation is 'longest', but it must be True, False or one of "
            "'longest_first', 'only_first', 'only_second', 'do_not_truncate'; "
            "did you mean 'longest_first'?",
        ),
        (
            {"padding": "max-length"},
            "padding is 'max-length', .* did you mean 'max_length'",
        ),
        ({"truncation": True}, "truncation is 'longest_first', but max_length is None"),
        ({"padding": "max_length"}, "padding is 'max_length', but max_length is None"),
        ({"max_length": 8}, "max_length is 8, but nothing is cut .* truncation=True"),
        (
            {"truncation": True, "max_length": 2},
            "max_length is 2, but a row has 3 special pieces alone; .* at least 3",
        ),
        (
            {"truncation": "only_first", "max_length": 10},
            "truncation is 'only_first', but the second text of a row alone has .* "
            "pieces, and max_length leaves room for 7",
        ),
        (
            {"padding": "max_length", "max_length": 9},
            "row 0 has .* pieces, more than max_length = 9; add truncation=True",
        ),
    ],
)
def test_what_cannot_be_is_said(tokenizer, fields, says):
    with pytest.raises(UserError, match=says):
        tokenizer(FIRST, SECOND, **fields)


def test_texts_that_do_not_pair_up_are_said(tokenizer):
    with pytest.raises(UserError, match="text is a list, but text_pair is one text"):
        tokenizer([FIRST], SECOND)
    with pytest.raises(UserError, match="text is one text, but text_pair is a list"):
        tokenizer(FIRST, [SECOND])
    with pytest.raises(UserError, match="text has 2 texts, but text_pair has 1"):
        tokenizer([FIRST, FIRST], [SECOND])
    with pytest.raises(UserError, match=r"text\[1\] is \('a', 'b'\), but .* a string"):
        tokenizer(iter([FIRST, ("a", "b")]))
    with pytest.raises(UserError, match="there is no text_pair to cut"):
        tokenizer(FIRST, truncation="only_second", max_length=8)


def test_rows_of_several_lengths_need_padding(tokenizer):
    with pytest.raises(UserError, match="rows have 2 to .* add padding=True"):
        tokenizer([FIRST, ""])
    assert tokenizer(["", ""])["input_ids"].shape == (2, 2)
