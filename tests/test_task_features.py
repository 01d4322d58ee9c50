"""Features: rows of ids as the official code builds them, put together by hand here."""

import numpy as np
import pytest
import small_corpus

from albert_jax.config import UserError
from albert_jax.config.tasks import TASKS, Task
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.tasks.examples import (
    Answer,
    ChoiceExample,
    QuestionExample,
    TextExample,
    WordsExample,
)
from albert_jax.tasks.features import features_of, joined
from albert_jax.tasks.rows import refuse_too_long
from albert_jax.tasks.spans import most_context, span_of, text_of, windows

FIRST = "The river was governed, and in 2010, the mountain was not."
SECOND = "Twelve presidents had their attention on one river."


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(small_corpus.vocabulary())


def row(tokenizer, first, second=None):
    """[CLS] first [SEP] second [SEP], and the types of its pieces."""
    ids = [tokenizer.cls_id, *first, tokenizer.sep_id]
    types = [0] * len(ids)
    if second is not None:
        ids += [*second, tokenizer.sep_id]
        types += [1] * (len(second) + 1)
    return {"input_ids": ids, "token_type_ids": types}


def lists(inputs):
    assert all(array.dtype == np.int32 for array in inputs.values())
    return {name: array.tolist() for name, array in inputs.items()}


def test_a_text_is_a_row_of_its_own_length(tokenizer):
    task = Task(name="mine", kind="classification", labels=("0", "1"))
    examples = [TextExample("0", FIRST, label=1), TextExample("1", "")]
    first, second = features_of(task, examples, tokenizer)
    assert lists(first.inputs) == row(tokenizer, tokenizer.encode(FIRST))
    assert (first.example, first.targets) == (0, {"labels": 1})
    assert lists(second.inputs) == row(tokenizer, [])
    assert (second.example, second.targets) == (1, {})


def test_a_pair_is_cut_at_its_longer_side(tokenizer):
    task = Task(name="mine", kind="regression", text_pair="b", max_length=12)
    a, b = tokenizer.encode(FIRST), tokenizer.encode(SECOND)
    (one,) = features_of(task, [TextExample("0", FIRST, SECOND, 2.5)], tokenizer)
    # Nine pieces stay: of two texts as long the second loses first.
    assert lists(one.inputs) == row(tokenizer, a[:5], b[:4])
    assert one.targets == {"labels": 2.5}


def test_many_texts_are_as_each_alone(tokenizer):
    task = Task(name="mine", kind="classification", labels=("0", "1"), max_length=30)
    texts = [FIRST[: i % 50] for i in range(2100)]
    examples = [TextExample(str(i), text, label=0) for i, text in enumerate(texts)]
    rows = features_of(task, examples, tokenizer)
    assert [r.example for r in rows] == list(range(2100))
    for i in (0, 1023, 1024, 2099):
        expected = row(tokenizer, tokenizer.encode(texts[i])[:28])
        assert lists(rows[i].inputs) == expected


def test_a_word_has_its_label_at_its_first_piece(tokenizer):
    task = Task(name="mine", kind="tokens", labels=("O", "LOC"), max_length=12)
    words = ("bewildered", "\u0301", "mountain", "countenance", "presidents")
    example = WordsExample("0", words, (1, 0, 1, 0, 1))
    (one,) = features_of(task, [example], tokenizer)
    parts = [tokenizer.encode(word) for word in words]
    parts[1] = [tokenizer.unk_id]  # It normalises to nothing.
    pieces = sum(parts, [])
    assert len(pieces) > 10
    assert lists(one.inputs) == row(tokenizer, pieces[:10])
    starts = [1 + len(sum(parts[:i], [])) for i in range(len(words))]
    seen = [start for start in starts if start <= 10]
    assert one.columns.tolist() == seen
    labels, weights = [0] * 12, [0] * 12
    for start, label in zip(seen, example.labels, strict=False):
        labels[start], weights[start] = label, 1
    assert one.targets["labels"].tolist() == labels
    assert one.targets["label_weights"].tolist() == weights


def choice(question, *choices, passage=FIRST, label=None):
    return ChoiceExample("0", passage, question, choices, label)


def test_a_choice_takes_the_place_of_every_blank(tokenizer):
    assert joined(choice("It  is _ .", " A  b ", "c"), tokenizer) == [
        "it is a b .",
        "it is c .",
    ]
    # A full-width low line is a blank too: text is normalised first.
    assert joined(choice("_ or \uff3f?", "a", "b"), tokenizer) == ["a or a?", "b or b?"]
    assert joined(choice("Why?", "a", "_"), tokenizer) == ["why? a", "why? _"]


def test_a_choice_keeps_its_last_pieces_and_the_passage_its_first(tokenizer):
    task = Task(
        name="race",
        kind="choice",
        format="race",
        labels=("A", "B"),
        max_length=16,
        choice_length=6,
    )
    example = choice(SECOND, "river", "mountain", label=1)
    rows = features_of(task, [example, choice("_", "a", "b")], tokenizer)
    assert [r.example for r in rows] == [0, 0, 1, 1]
    assert [r.targets for r in rows] == [{"labels": 1}] * 2 + [{}] * 2
    passage = tokenizer.encode(FIRST)
    for one, text in zip(rows[:2], ("river", "mountain"), strict=True):
        pieces = tokenizer.encode(f"{SECOND} {text}")[-6:]
        assert lists(one.inputs) == row(tokenizer, passage[:7], pieces)
    short = tokenizer.encode("a")
    assert lists(rows[2].inputs) == row(tokenizer, passage[: 13 - len(short)], short)


def test_windows_step_by_the_stride_to_the_last_piece():
    assert list(windows(10, 4, 3)) == [(0, 4), (3, 7), (6, 10)]
    assert list(windows(10, 4, 9)) == [(0, 4), (4, 8), (8, 10)]
    assert list(windows(4, 4, 1)) == [(0, 4)]
    assert list(windows(0, 4, 1)) == [(0, 0)]


@pytest.mark.parametrize("seed", range(5))
def test_a_piece_belongs_to_the_part_that_shows_most_around_it(seed):
    rng = np.random.default_rng(seed)
    room = int(rng.integers(2, 12))
    parts = list(windows(int(rng.integers(1, 60)), room, int(rng.integers(1, 14))))
    found = most_context(parts)
    for place in range(parts[-1][1]):
        best, best_score = None, None
        for number, (begin, end) in enumerate(parts):
            if begin <= place < end:
                score = min(place - begin, end - 1 - place) + 0.01 * (end - begin)
                if best_score is None or score > best_score:
                    best, best_score = number, score
        assert found[place] == best


QUESTION = QuestionExample("q", SECOND, FIRST, (Answer("2010", 31),))


def span_task(**fields):
    defaults = dict(format="squad", max_length=20, question_length=5, stride=4)
    return Task(name="mine", kind="span", **(defaults | fields))


@pytest.mark.parametrize("unanswerable", [False, True])
def test_a_question_is_a_chunk_for_every_part_of_its_context(tokenizer, unanswerable):
    task = span_task(unanswerable=unanswerable)
    chunks = features_of(task, [QUESTION], tokenizer)
    asked = tokenizer.encode(SECOND)[:5]
    ids, offsets = tokenizer.encode_with_offsets(FIRST)
    parts = list(windows(len(ids), 20 - 3 - 5, 4))
    assert len(chunks) == len(parts) > 2
    found = 0
    for chunk, (begin, end) in zip(chunks, parts, strict=True):
        inputs = lists(chunk.inputs)
        mask = inputs.pop("answer_mask", None)
        assert inputs == row(tokenizer, asked, ids[begin:end].tolist())
        assert chunk.first == 7
        assert (chunk.offsets == offsets[begin:end]).all()
        assert (mask is not None) == unanswerable
        if unanswerable:
            assert mask == [1] + [0] * 6 + [1] * (end - begin) + [0]
        start, stop = (chunk.targets[f"{n}_positions"] for n in ("start", "end"))
        impossible = chunk.targets.get("is_impossible")
        assert impossible == (int(start == 0) if unanswerable else None)
        if start:
            found += 1
            span = start - chunk.first, stop - chunk.first
            assert text_of(FIRST, chunk.offsets, *span) == "2010"
        else:
            assert stop == 0
    assert 0 < found < len(chunks)
    owners = np.concatenate(
        [
            np.flatnonzero(c.most_context) + b
            for c, (b, _) in zip(chunks, parts, strict=True)
        ]
    )
    assert sorted(owners.tolist()) == list(range(len(ids)))


def test_a_question_without_answers_points_at_the_first_piece(tokenizer):
    example = QuestionExample("q", SECOND, FIRST, ())
    for chunk in features_of(span_task(unanswerable=True), [example], tokenizer):
        assert chunk.targets == {
            "start_positions": 0,
            "end_positions": 0,
            "is_impossible": 1,
        }
    unknown = QuestionExample("q", SECOND, FIRST, None)
    assert not features_of(span_task(), [unknown], tokenizer)[0].targets


def test_an_answer_is_aligned_by_its_characters(tokenizer):
    context = "  Café\u00a0 ﬁnale, in ½ an hour: naïve  rivers."
    ids, offsets = tokenizer.encode_with_offsets(context)
    for text in ("Café", "ﬁnale", "½", "naïve  rivers", "in", ":"):
        start = context.index(text)
        span = span_of(offsets, Answer(text, start))
        held = text_of(context, offsets, *span)
        assert text in held
        # Fewer pieces do not hold it, but for those of one character, which share it.
        first, last = span
        if first < last and text not in ("ﬁnale", "½"):
            assert text not in text_of(context, offsets, first + 1, last)
            assert text not in text_of(context, offsets, first, last - 1)
    accent = "e\u0301 \u0301a"
    _, offsets = tokenizer.encode_with_offsets(accent)
    assert span_of(offsets, Answer("e\u0301", 0)) is not None


def test_rows_longer_than_the_model_are_refused(tokenizer):
    task = Task(name="mine", kind="classification", labels=("0", "1"))
    rows = features_of(task, [TextExample("0", FIRST)], tokenizer)
    most = len(rows[0].inputs["input_ids"])
    refuse_too_long(rows, most)
    with pytest.raises(UserError, match=f"has {most} pieces, but the model has 4"):
        refuse_too_long(rows, 4)


def test_the_published_tasks_have_the_official_lengths():
    squad, race = TASKS["squad1"], TASKS["race"]
    assert (squad.max_length, TASKS["squad2"].max_length) == (384, 512)
    assert (squad.question_length, squad.stride, squad.answer_length) == (64, 128, 30)
    assert (race.max_length, race.choice_length) == (512, 128)
