"""Logits over chunks to answers, against the official rules written out as loops."""

from types import SimpleNamespace

import numpy as np
import pytest
import small_corpus

from albert_jax.config.tasks import Task
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.tasks.answers import Answered, Candidate, answers_to
from albert_jax.tasks.evaluation import NOT_SEEN, evaluate, predict
from albert_jax.tasks.examples import (
    Answer,
    ChoiceExample,
    QuestionExample,
    TextExample,
    WordsExample,
)
from albert_jax.tasks.features import features_of

CONTEXT = "The river was governed, and in 2010, the mountain was not. " * 2
EXAMPLES = [
    QuestionExample("q1", "Who had their attention?", CONTEXT, (Answer("river", 4),)),
    QuestionExample("q2", "When?", CONTEXT + CONTEXT, (Answer("2010", 31),)),
    QuestionExample("q3", "Where?", "Not here.", ()),
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(small_corpus.vocabulary())


def span_task(**fields):
    defaults = dict(max_length=30, question_length=5, stride=9, answer_length=4)
    return Task(name="mine", kind="span", format="squad", **(defaults | fields))


def span_logits(rng, rows, padding=0):
    """A span head's output for each row; with rows that are padded, more logits."""
    return [
        SimpleNamespace(
            start_logits=rng.normal(size=len(r.inputs["input_ids"]) + padding),
            end_logits=rng.normal(size=len(r.inputs["input_ids"]) + padding),
        )
        for r in rows
    ]


def beams(rng, rows, starts=5, ends=5):
    """What SQuAD 2.0's head returns: indices of any pieces, question and [SEP] too."""

    def one(row):
        length = len(row.inputs["input_ids"])
        tops = [rng.permutation(length)[:ends] for _ in range(starts)]
        return SimpleNamespace(
            start_top_index=rng.permutation(length)[:starts],
            start_top_log_probs=np.sort(rng.normal(size=starts))[::-1],
            end_top_index=np.concatenate(tops),
            end_top_log_probs=rng.normal(size=starts * ends),
            cls_logits=rng.normal(),
        )

    return [one(row) for row in rows]


def official_spans(task, row, output):
    """(start score, end score, start, end) of every span that is allowed
    (``accumulate_predictions_v1``, ``_v2``)."""
    if task.unanswerable:
        k = len(output.start_top_index)
        m = len(output.end_top_index) // k
        pairs = [
            (
                output.start_top_log_probs[i],
                output.end_top_log_probs[i * m + j],
                output.start_top_index[i],
                output.end_top_index[i * m + j],
            )
            for i in range(k)
            for j in range(m)
        ]
    else:
        length = len(row.inputs["input_ids"])

        def best(logits):
            ranked = sorted(
                enumerate(logits[:length]), key=lambda x: x[1], reverse=True
            )
            return [index for index, _ in ranked[:20]]

        pairs = [
            (output.start_logits[s], output.end_logits[e], s, e)
            for s in best(output.start_logits)
            for e in best(output.end_logits)
        ]
    for start_score, end_score, start, end in pairs:
        start, end = int(start) - row.first, int(end) - row.first
        if start < 0 or start >= len(row.offsets) or end >= len(row.offsets):
            continue
        if not row.most_context[start] or end < start:
            continue
        if end - start + 1 > task.answer_length:
            continue
        yield float(start_score), float(end_score), start, end


def official_answers(task, examples, rows, outputs):
    for number, example in enumerate(examples):
        spans = []
        for row, output in zip(rows, outputs, strict=True):
            if row.example == number:
                for s, e, start, end in official_spans(task, row, output):
                    begin, stop = row.offsets[start, 0], row.offsets[end, 1]
                    spans.append((s, e, example.context[begin:stop].strip()))
        spans.sort(key=lambda span: span[0] + span[1], reverse=True)
        texts, best = set(), []
        for s, e, text in spans:
            if text not in texts and len(best) < 20:
                texts.add(text)
                best.append(Candidate(text, s, e))
        yield tuple(best)


@pytest.mark.parametrize("unanswerable", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_answers_are_those_of_the_official_rules(tokenizer, seed, unanswerable):
    task, rng = span_task(unanswerable=unanswerable), np.random.default_rng(seed)
    rows = features_of(task, EXAMPLES, tokenizer)
    assert len(rows) > 6
    outputs = (beams if unanswerable else span_logits)(rng, rows)
    answered = answers_to(task, EXAMPLES, rows, outputs)
    expected = list(official_answers(task, EXAMPLES, rows, outputs))
    assert [one.candidates for one in answered] == expected
    assert any(len(best) > 1 for best in expected)
    for number, one in enumerate(answered):
        odds = (
            [
                o.cls_logits
                for r, o in zip(rows, outputs, strict=True)
                if r.example == number
            ]
            if unanswerable
            else None
        )
        assert one.null_odds == (min(odds) if unanswerable else None)


def test_padding_changes_no_answer(tokenizer):
    task = span_task()
    rows = features_of(task, EXAMPLES, tokenizer)
    plain = span_logits(np.random.default_rng(0), rows)
    padded = [
        SimpleNamespace(
            start_logits=np.append(o.start_logits, np.full(9, 99.0)),
            end_logits=np.append(o.end_logits, np.full(9, 99.0)),
        )
        for o in plain
    ]
    assert answers_to(task, EXAMPLES, rows, padded) == answers_to(
        task, EXAMPLES, rows, plain
    )


def test_an_answer_comes_from_the_best_chunk(tokenizer):
    task = span_task()
    rows = features_of(task, EXAMPLES, tokenizer)
    outputs = span_logits(np.random.default_rng(0), rows)
    for row, output in zip(rows, outputs, strict=True):
        start, end = row.targets["start_positions"], row.targets["end_positions"]
        if start and row.most_context[start - row.first]:
            output.start_logits[start] = output.end_logits[end] = 50.0
    first, second, _ = answers_to(task, EXAMPLES, rows, outputs)
    assert (first.text, second.text) == ("river", "2010")


def test_null_odds_decide_at_the_threshold():
    one = Answered((Candidate("it", 0.0, 0.0),), 0.5)
    assert [one.given(t) for t in (0.4, 0.5, 0.6)] == ["", "", "it"]
    assert Answered(one.candidates).given(-9.0) == "it"
    assert Answered(()).given(0.0) == ""


def logits(*rows):
    return [SimpleNamespace(logits=np.array(row)) for row in rows]


def test_labels_numbers_words_and_choices(tokenizer):
    task = Task(name="mine", kind="classification", labels=("a", "b"))
    texts = [TextExample("0", "The river.", label=1), TextExample("1", "It.", label=1)]
    rows = features_of(task, texts, tokenizer)
    predictions = predict(task, texts, rows, logits([0.0, 1.0], [2.0, 1.0]))
    assert predictions == [1, 0]
    assert evaluate(task, texts, predictions) == {"accuracy": 0.5}

    task = Task(name="mine", kind="regression", metrics=("mean_squared_error",))
    predictions = predict(task, texts, rows, logits([1.5], [-2.0]))
    assert predictions == [1.5, -2.0]
    assert evaluate(task, texts, predictions) == {"mean_squared_error": 4.625}

    task = Task(name="mine", kind="tokens", labels=("O", "X"), max_length=5)
    words = [WordsExample("0", ("river", "mountain", "river", "was"), (0, 1, 0, 0))]
    rows = features_of(task, words, tokenizer)
    columns = rows[0].columns.tolist()
    scores = np.zeros((8, 2))
    scores[columns[0], 0] = scores[columns[1], 1] = 1.0
    predictions = predict(task, words, rows, logits(scores))
    assert predictions == [(0, 1, 0, NOT_SEEN)]
    assert evaluate(task, words, predictions) == {"accuracy": 0.75}

    task = Task(name="r", kind="choice", format="race", labels=("A", "B", "C"))
    choices = ("river", "it", "was")
    questions = [
        ChoiceExample(str(i), CONTEXT, "_", choices, label, level)
        for i, (label, level) in enumerate([(2, "high"), (0, "middle"), (1, "high")])
    ]
    rows = features_of(task, questions, tokenizer)
    outputs = logits(0.0, 1.0, 5.0, 9.0, 2.0, 1.0, 3.0, 2.0, 0.0)
    predictions = predict(task, questions, rows, outputs)
    assert predictions == [2, 0, 0]
    assert evaluate(task, questions, predictions) == {
        "accuracy": pytest.approx(2 / 3),
        "accuracy_high": 0.5,
        "accuracy_middle": 1.0,
    }
