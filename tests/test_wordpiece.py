"""WordPiece behind the tokenizer's interface, on a vocabulary made up here."""

import pickle

import numpy as np
import pytest

from albert_jax.config import UserError
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.data.wordpiece import WordPieceTokenizer

# As in the released vocab_chinese.txt: [PAD], 99 unused pieces, then the special ones.
SPECIAL = ["[PAD]", *(f"[unused{i}]" for i in range(1, 100))]
SPECIAL += ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    "深",
    "圳",
    "，",
    "。",
    "[",
    "]",
    "mask",
    "al",
    "##bert",
    "##s",
    "the",
    "2010",
    ",",
    "The",
    "é",
    "É",
    "e",
]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("zh") / "vocab_chinese.txt"
    path.write_text("\n".join(SPECIAL + WORDS) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tokenizer(path) -> Tokenizer:
    return Tokenizer.load(path)


def pieces(tokenizer, text):
    return [tokenizer.pieces[i] for i in tokenizer.encode(text)]


def test_special_ids_are_the_released_ones(tokenizer):
    assert isinstance(tokenizer, WordPieceTokenizer)
    ids = tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id
    assert (*ids, tokenizer.sep_id, tokenizer.mask_id) == (0, 100, 101, 102, 103)
    assert tokenizer.vocab_size == len(tokenizer.pieces) == 104 + len(WORDS)
    assert tokenizer.ordinary_ids.tolist() == list(range(104, 104 + len(WORDS)))


def test_longest_pieces_from_the_left(tokenizer):
    assert pieces(tokenizer, "深圳，The ÁLBERTS。") == [
        *["深", "圳", "，", "the", "al", "##bert", "##s", "。"]
    ]
    assert pieces(tokenizer, "albertx the") == ["[UNK]", "the"]
    # Special pieces are not read out of text; no digit-comma rule; at most 200 letters.
    assert pieces(tokenizer, "[MASK]") == ["[", "mask", "]"]
    reader = Tokenizer.load(tokenizer.path, special_tokens_in_text=True)
    assert pieces(reader, "the [MASK]深") == ["the", "[MASK]", "深"]
    assert pieces(tokenizer, "2010,") == ["2010", ","]
    assert pieces(tokenizer, "al" + "s" * 198) == ["al", *["##s"] * 198]
    assert pieces(tokenizer, "al" + "s" * 199) == ["[UNK]"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["the", "e", "e"]),
        ({"keep_accents": True}, ["the", "é", "é"]),
        # Accents go with case only, as in the official code.
        ({"lower_case": False}, ["The", "É", "é"]),
        ({"lower_case": False, "keep_accents": True}, ["The", "É", "é"]),
    ],
)
def test_case_and_accents_are_options(path, options, expected):
    tokenizer = Tokenizer.load(path, **options)
    assert pieces(tokenizer, "The É é") == expected
    ids, offsets = tokenizer.encode_with_offsets("The É é")
    assert offsets.tolist() == [[0, 3], [4, 5], [6, 7]]
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.encode("The É é") == ids.tolist()


def test_words_start_where_no_hashes_are(tokenizer):
    starts = dict(zip(tokenizer.pieces, tokenizer.word_starts, strict=True))
    assert starts["深"] and starts["al"] and not starts["##bert"] and not starts["##s"]


def test_offsets_lie_in_the_text_given(tokenizer):
    text = " 深圳,\tÁlberts e\u0301 the"  # The library leaves a lone mark outside.
    ids, offsets = tokenizer.encode_with_offsets(text)
    assert ids.tolist() == tokenizer.encode(text)
    assert [text[a:b] for a, b in offsets] == [
        *["深", "圳", ",", "Ál", "bert", "s", "e", "the"]
    ]
    assert ids.dtype == offsets.dtype == np.int32
    assert tokenizer.encode_with_offsets("")[1].shape == (0, 2)


def test_rows_and_back(tokenizer):
    batch = tokenizer(["深圳", "the alberts"], ["", "2010"], padding=True, offsets=True)
    the, al, bert, s, year = tokenizer.encode("the alberts 2010")
    assert batch["input_ids"].tolist() == [
        [101, *tokenizer.encode("深圳"), 102, 102, 0, 0, 0],
        [101, the, al, bert, s, 102, year, 102],
    ]
    assert batch["offsets"][1, -2].tolist() == [0, 4]
    decoded = tokenizer.decode_batch(batch["input_ids"], skip_special_tokens=True)
    assert decoded == ["深 圳", "the alberts 2010"]
    shown = tokenizer.decode(batch["input_ids"][1])
    assert shown == "[CLS] the alberts [SEP] 2010 [SEP]"


def test_batch_is_one_after_another(tokenizer):
    texts = ["深圳", "", "the alberts", "2010,"]
    for threads in (1, -1):
        batch = tokenizer.encode_batch(texts, threads=threads)
        assert [ids.tolist() for ids in batch] == [tokenizer.encode(t) for t in texts]
        assert all(ids.dtype == np.int32 for ids in batch)


def test_the_file_is_told_by_its_lines_and_needed_once(path, tmp_path):
    copy = tmp_path / "tokenizer.model"
    copy.write_bytes(path.read_bytes())
    loaded = Tokenizer.load(copy)
    copy.unlink()
    again = pickle.loads(pickle.dumps(loaded))
    assert again.encode("深圳 the") == Tokenizer.load(path).encode("深圳 the")
    assert again.fingerprint == loaded.fingerprint == Tokenizer.load(path).fingerprint


def test_files_that_are_no_vocabularies_are_refused(path, tmp_path):
    bad = tmp_path / "vocab.txt"
    bad.write_text("[PAD]\n[CLS]\nthe\n")
    with pytest.raises(UserError, match=r"has no piece \[UNK\], \[SEP\], \[MASK\],"):
        Tokenizer.load(bad)
    bad.write_bytes(b"\xff\xfe[CLS]\n")
    with pytest.raises(UserError, match="not a WordPiece vocabulary"):
        Tokenizer.load(bad)
    with pytest.raises(UserError, match="straight_quotes is True, but .* WordPiece"):
        Tokenizer.load(path, straight_quotes=True)
