"""The tokenizer against the official rules, written out here anew, and golden ids."""

import pickle
import random

import numpy as np
import pytest
import sentencepiece as spm
import small_corpus
from official_tokenizer import GOLDEN, official_ids, official_pieces, shared_spans
from test_normalization import random_texts

from albert_jax.config import UserError
from albert_jax.data.normalization import normalize
from albert_jax.data.sentencepiece import SentencePieceTokenizer, starts_word
from albert_jax.data.tokenizer import Tokenizer

OFFICIAL = small_corpus.DATA / "30k-clean.model"


@pytest.fixture(scope="module")
def small() -> Tokenizer:
    return Tokenizer.load(small_corpus.vocabulary())


@pytest.fixture(scope="module")
def official() -> Tokenizer:
    if not OFFICIAL.exists():
        pytest.skip(f"{OFFICIAL} is not there; ALBERT_JAX_DATA names another folder")
    return Tokenizer.load(OFFICIAL)


@pytest.fixture(params=["small", "official"])
def tokenizer(request) -> Tokenizer:
    return request.getfixturevalue(request.param)


def numeric_texts(count: int) -> list[str]:
    rng = random.Random(3)
    return [
        "".join(
            rng.choices(["1", "0", "9", "2010", ",", ", ", " ", "a", "é", "."], k=9)
        )
        for _ in range(count)
    ]


def test_golden_ids(official):
    for text, ids in GOLDEN.items():
        assert official.encode(text) == ids
        batch = official(text)
        assert batch["input_ids"].tolist() == [[2, *ids, 3]]
    assert official.vocab_size == 30_000
    assert official.fingerprint.startswith("fefb02b6")


def test_resplits_pieces_that_end_in_digit_and_comma(tokenizer):
    texts = [*numeric_texts(300), "In 2010, 1,000,000, and 12,5,"]
    model = spm.SentencePieceProcessor(model_file=tokenizer.path)
    for text in texts:
        assert tokenizer.encode(text) == official_ids(model, text)
    # The rule is at work: left alone, SentencePiece says something else.
    assert any(tokenizer.encode(t) != model.encode(normalize(t)) for t in texts)


def test_batch_is_one_after_another(tokenizer):
    texts = [*numeric_texts(50), "", "  ", "a", "One layer.", "Twelve times, in 2010,"]
    for threads in (1, -1):
        batch = tokenizer.encode_batch(texts, threads=threads)
        assert [ids.tolist() for ids in batch] == [tokenizer.encode(t) for t in texts]
        assert all(ids.dtype == np.int32 for ids in batch)
    assert tokenizer.encode_batch([]) == []
    assert tokenizer.encode("") == []


def test_any_text_is_encoded_as_by_the_official_code(tokenizer):
    model = spm.SentencePieceProcessor(model_file=tokenizer.path)
    for text in random_texts(1000):
        assert tokenizer.encode(text) == official_ids(model, text), text


def test_the_slice_at_a_piece_is_the_piece(tokenizer):
    model = spm.SentencePieceProcessor(model_file=tokenizer.path)
    texts = [*random_texts(1000), *numeric_texts(100), "", " ", "\u0301", "x\u0301 "]
    for text in texts:
        ids, offsets = tokenizer.encode_with_offsets(text)
        assert ids.tolist() == tokenizer.encode(text)
        assert ids.dtype == offsets.dtype == np.int32
        assert offsets.shape == (len(ids), 2)
        shared_spans(model, text, official_pieces(model, text), offsets)


@pytest.mark.parametrize("lower_case", [True, False])
@pytest.mark.parametrize("keep_accents", [True, False])
def test_case_and_accents_are_options(tokenizer, lower_case, keep_accents):
    options = {"lower_case": lower_case, "keep_accents": keep_accents}
    loaded = Tokenizer.load(tokenizer.path, **options)
    model = spm.SentencePieceProcessor(model_file=tokenizer.path)
    texts = [*random_texts(300), *numeric_texts(100), "Ça Va, 2010, İ E\u0301", ""]
    batch = loaded.encode_batch(texts)
    for text, encoded in zip(texts, batch, strict=True):
        pieces = official_pieces(model, text, **options)
        ids, offsets = loaded.encode_with_offsets(text)
        assert encoded.tolist() == ids.tolist() == model.piece_to_id(pieces)
        shared_spans(model, text, pieces, offsets, **options)
    assert pickle.loads(pickle.dumps(loaded)).encode(texts[-2]) == batch[-2].tolist()


def test_offsets_by_hand(official):
    text = "  Na\u00efve  cafe\u0301s, in\t2010, \ufb01ne \u00bd ."
    ids, offsets = official.encode_with_offsets(text)
    pieces = [official.pieces[i] for i in ids]
    slices = [text[start:end] for start, end in offsets]
    # fmt: off
    assert list(zip(pieces, slices, strict=True)) == [
        ("▁naive", "Na\u00efve"), ("▁cafe", "cafe\u0301"), ("s", "s"), (",", ","),
        ("▁in", "in"), ("▁2010", "2010"), (",", ","), ("▁fine", "\ufb01ne"),
        ("▁1", "\u00bd"), ("<unk>", "\u00bd"), ("2", "\u00bd"), ("▁", ""), (".", "."),
    ]
    # fmt: on
    # The space alone stands where its word begins.
    assert offsets[-2].tolist() == [text.index("."), text.index(".")]


def test_pieces_of_a_character_that_sentencepiece_expands(tmp_path):
    """Its own rules, not ours, make "ss" of "ß" and nothing of "°", which
    stays with the character before it, as a dropped mark does."""
    rules = tmp_path / "rules.tsv"
    rules.write_text("DF\t73 73\nB0\t\n")
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(["es as oss ma ba"] * 9),
        model_prefix=str(tmp_path / "expanding"),
        normalization_rule_tsv=str(rules),
        model_type="char",
        vocab_size=14,
        pad_id=0, unk_id=1, bos_id=-1, eos_id=-1, pad_piece="<pad>",
        control_symbols=list(SentencePieceTokenizer.SPECIALS[2:]),
        minloglevel=3,
    )  # fmt: skip
    tokenizer = Tokenizer.load(tmp_path / "expanding.model")
    text = "Maß ßa\u0308°b s\u0327e"
    ids, offsets = tokenizer.encode_with_offsets(text)
    assert ids.tolist() == tokenizer.encode(text)
    names = [tokenizer.pieces[i] for i in ids]
    # fmt: off
    assert list(zip(names, offsets.tolist(), strict=True)) == [
        ("▁", [0, 0]), ("m", [0, 1]), ("a", [1, 2]), ("s", [2, 3]), ("s", [2, 3]),
        ("▁", [4, 4]), ("s", [4, 5]), ("s", [4, 5]), ("a", [5, 8]), ("b", [8, 9]),
        ("▁", [10, 10]), ("s", [10, 12]), ("e", [12, 13]),
    ]
    # fmt: on


def test_latex_quotes_are_an_option(official):
    text = "``One'' isn't 'two'."
    straight = Tokenizer.load(official.path, straight_quotes=True)
    assert straight.encode(text) == official.encode("\"One\" isn't 'two'.")
    assert official.encode(text) != straight.encode(text)
    ids, offsets = straight.encode_with_offsets(text)
    quotes = [text[a:b] for i, (a, b) in zip(ids, offsets, strict=True) if i == 7]
    assert quotes == ["``", "''"] and straight.pieces[7] == '"'
    again = pickle.loads(pickle.dumps(straight))
    assert again.encode(text) == straight.encode(text)


def test_decodes_what_it_encodes(small):
    text = small_corpus.sentence(random.Random(5))
    assert small.decode(small.encode(text)) == normalize(text)
    (row,) = small(text, padding="max_length", max_length=len(small.encode(text)) + 11)[
        "input_ids"
    ]
    assert small.decode(row, skip_special_tokens=True) == normalize(text)
    shown = small.decode([*row[:3], small.mask_id, small.unk_id, *row[3:]])
    assert shown.startswith("[CLS] ") and shown.endswith("? [SEP]" + 9 * " <pad>")
    assert " [MASK] <unk> " in shown
    rows = [row, row[::-1]]
    assert small.decode_batch(rows) == [small.decode(row) for row in rows]
    assert small.decode([]) == ""


def test_ids_of_a_trained_vocabulary_are_the_official_ones(tokenizer):
    special = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    assert tokenizer.pieces[:13] == [*special, *'()"-.–£€']
    ids = tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id
    assert (*ids, tokenizer.sep_id, tokenizer.mask_id) == (0, 1, 2, 3, 4)
    assert len(tokenizer.pieces) == tokenizer.vocab_size
    np.testing.assert_array_equal(
        tokenizer.ordinary_ids, np.arange(5, tokenizer.vocab_size)
    )


def test_special_pieces_are_not_read_out_of_text(small):
    assert not {0, 2, 3, 4} & set(small.encode("[CLS] [SEP] [MASK] <pad>"))


def test_special_pieces_are_read_out_of_text_on_request(small):
    reader = Tokenizer.load(small.path, special_tokens_in_text=True)
    text = "[CLS]The river\u0301 [MASK]  was.[SEP]<pad>[mask]"
    ids, offsets = reader.encode_with_offsets(text)
    assert ids.tolist() == reader.encode(text) == [
        *[small.cls_id, *small.encode("The river"), small.mask_id],
        *[*small.encode("was."), small.sep_id, small.pad_id, *small.encode("[mask]")],
    ]  # fmt: skip
    assert ids.dtype == offsets.dtype == np.int32
    slices = {i: text[a:b] for i, (a, b) in zip(ids, offsets, strict=True) if i < 5}
    del slices[small.unk_id]
    assert slices == {0: "<pad>", 2: "[CLS]", 3: "[SEP]", 4: "[MASK]"}
    texts = [text, "", "The river was.", "[MASK]"]
    batch = reader.encode_batch(texts)
    assert [ids.tolist() for ids in batch] == [reader.encode(text) for text in texts]
    assert all(ids.dtype == np.int32 for ids in batch)
    for text in texts[1:3]:
        assert reader.encode(text) == small.encode(text)


# ``_is_start_piece_sp``: a word goes on with a piece of two or more letters and marks,
# or with one letter. All else starts one.
STARTS = "▁ ▁the ▁1 ▁, _ , . - ' \" ( ) ? ! / # ~ £ € < <unk> <a = > 1 2010 a1 1a s' 's"
STARTS += " don't n't é ß ñ naïve a\u0301 α д 中 a中 한 – — … “ ” · ° = a=b → 😀"
GOES_ON = "a s S the THE ing s, a. -a (a) -- ... .) _a a_ __ a-b [CLS] [MASK] a_b@c.d"


@pytest.mark.parametrize(
    ("pieces", "starts"), [(STARTS, True), (GOES_ON, False)], ids=["starts", "goes on"]
)
def test_word_starts_one_by_one(pieces, starts):
    assert [p for p in pieces.split() if starts_word(p) != starts] == []


def test_word_starts(official):
    """``_is_start_piece_sp``, said another way: a word goes on with a piece of two or
    more letters and marks, or with one letter."""
    letters, marks = (
        set("abcdefghijklmnopqrstuvwxyz"),
        set('!"#$%&()*+,-./:;?@[\\]^_`{|}~'),
    )
    for piece, starts in zip(official.pieces, official.word_starts, strict=True):
        goes_on = set(piece.lower()) <= letters | marks and piece not in marks
        assert starts == (not goes_on), piece
    piece_starts = dict(zip(official.pieces, official.word_starts, strict=True))
    assert piece_starts["▁the"] and piece_starts[","] and piece_starts["▁"]
    assert piece_starts["'"] and piece_starts["£"] and piece_starts["<unk>"]
    assert not piece_starts["s"] and not piece_starts["ing"]
    # Made of letters and brackets, so these special pieces start no word.
    assert not piece_starts["[CLS]"] and not piece_starts["[MASK]"]


def test_training_is_deterministic(tmp_path, capfd):
    lines = small_corpus.text(seed=2).splitlines()
    first, second = (
        Tokenizer.train(lines, tmp_path / name, 150) for name in ("a.model", "b.model")
    )
    assert first.fingerprint == second.fingerprint
    assert (tmp_path / "a.model").read_bytes() == (tmp_path / "b.model").read_bytes()
    assert first.encode("The river") == Tokenizer.load(first.path).encode("The river")
    assert capfd.readouterr() == ("", "")


def test_a_size_beyond_the_corpus_names_the_largest(tmp_path, capfd):
    lines = small_corpus.text(seed=2, megabytes=0.005).splitlines()
    with pytest.raises(UserError, match="fills at most") as caught:
        Tokenizer.train(lines, tmp_path / "a.model", 30_000)
    largest = int(str(caught.value).split("at most ")[1].split(";")[0])
    assert Tokenizer.train(lines, tmp_path / "a.model", largest).vocab_size == largest
    with pytest.raises(UserError, match="at most"):
        Tokenizer.train(lines, tmp_path / "b.model", largest + 1)
    assert not (tmp_path / "b.model").exists()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("lines", "says"), [(["hello there"], "characters alone"), ([], "no text")]
)
def test_other_vocabularies_that_cannot_be(tmp_path, lines, says):
    with pytest.raises(UserError, match=says):
        Tokenizer.train(lines, tmp_path / "a.model", 15)
    assert not (tmp_path / "a.model").exists()


def test_a_model_without_the_special_pieces_is_refused(tmp_path):
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(small_corpus.text(seed=2).splitlines()),
        model_prefix=str(tmp_path / "plain"),
        vocab_size=100,
        control_symbols=["[CLS]"],
        minloglevel=3,
    )
    with pytest.raises(UserError, match=r"has no piece <pad>, \[SEP\], \[MASK\],"):
        Tokenizer.load(tmp_path / "plain.model")


def test_files_that_are_no_models_are_refused(tmp_path, capfd):
    with pytest.raises(UserError, match="cannot be read: No such file"):
        Tokenizer.load(tmp_path / "none.model")
    for content in (b"", b"garbage" * 100):
        (tmp_path / "bad.model").write_bytes(content)
        with pytest.raises(UserError, match="not a SentencePiece model"):
            Tokenizer.load(tmp_path / "bad.model")
    assert capfd.readouterr() == ("", "")


def test_can_be_pickled(small, tmp_path):
    path = tmp_path / "gone.model"
    path.write_bytes(small_corpus.Path(small.path).read_bytes())
    pickled = pickle.dumps(Tokenizer.load(path))
    path.unlink()
    again = pickle.loads(pickled)
    assert again.encode("In 2010, the river") == small.encode("In 2010, the river")
    assert again.fingerprint == small.fingerprint
