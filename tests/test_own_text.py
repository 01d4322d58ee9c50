"""Texts of one's own: the same answers one by one, from files and standard input."""

import io
import json
from dataclasses import replace

import jax
import numpy as np
import pytest
import small_corpus
import tiny

from albert_jax.cli import main
from albert_jax.config import UserError
from albert_jax.config.tasks import Task
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.interop.pretrained import from_pretrained, save_pretrained
from albert_jax.interop.task import task_of
from albert_jax.model.albert import init_params
from albert_jax.model.table import make_head
from albert_jax.tasks.embed import Embedder
from albert_jax.tasks.task_model import TaskModel

CONFIG = tiny.config(vocab_size=300, max_position_embeddings=64, num_hidden_layers=1)
TASK = Task(name="mine", kind="classification", labels=("no", "yes"), max_length=64)
TASKS = {
    "classification": TASK,
    "pair": replace(TASK, text_pair="second"),
    "regression": replace(TASK, kind="regression", labels=(), metrics=()),
    "tokens": replace(TASK, kind="tokens", metrics=()),
    "span": replace(TASK, kind="span", format="squad", metrics=(), question_length=8),
    "choice": replace(
        TASK,
        kind="choice",
        text="question",
        text_pair="passage",
        choices=("one", "two"),
        metrics=(),
        choice_length=16,
    ),
}
RIVER = "The river was governed, and in 2010, the mountain was not."


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.load(small_corpus.vocabulary())


def made(head, labels=2):
    model = make_head(head, CONFIG, num_labels=labels)
    return model, {"params": init_params(model, jax.random.key(3))}


def task_model(kind, tokenizer):
    task = TASKS[kind]
    labels = 1 if kind == "regression" else 2
    return TaskModel(*made(task.head, labels), tokenizer, task)


@pytest.mark.parametrize("kind", ["classification", "pair", "regression"])
def test_what_is_said_of_a_text_is_the_models_output(kind, tokenizer):
    say = task_model(kind, tokenizer)
    texts = (RIVER, "it was")[: 1 + (kind == "pair")]
    said = say(*texts)
    batch = tokenizer(*[[text] for text in texts])
    model, variables = made(say.task.head, 1 if kind == "regression" else 2)
    logits = jax.jit(model.apply)(variables, **batch).logits[0]
    if kind == "regression":
        assert said == pytest.approx(float(logits[0]), abs=1e-6)
        return
    expected = np.asarray(jax.nn.softmax(logits))
    assert list(said.probabilities) == ["no", "yes"]
    np.testing.assert_allclose([*said.probabilities.values()], expected, atol=1e-6)
    assert said.label == ("no", "yes")[expected.argmax()]


def test_words_choices_and_answers(tokenizer):
    labels = task_model("tokens", tokenizer)("the river was")
    assert len(labels) == 3 and set(labels) <= {"no", "yes"}
    said = task_model("choice", tokenizer)("What was?", RIVER, "the river", "it")
    assert sum(said.probabilities.values()) == pytest.approx(1)
    answered = task_model("span", tokenizer)("What was governed?", RIVER)
    assert answered.text in RIVER
    assert sum(answered.probabilities) == pytest.approx(1)
    assert answered.probabilities == sorted(answered.probabilities, reverse=True)


def test_what_does_not_fit(tokenizer):
    say = task_model("pair", tokenizer)
    with pytest.raises(
        UserError,
        match=r"mine: there must be 2 texts \(text, second; .* but there are 1",
    ):
        say(RIVER)
    model, variables = made("AlbertForTokenClassification")
    with pytest.raises(UserError, match="AlbertForTokenClassification does not do"):
        TaskModel(model, variables, tokenizer, TASK)
    with pytest.raises(UserError, match="without a vocabulary"):
        TaskModel(*made(TASK.head), None, TASK)
    with pytest.raises(UserError, match="without a vocabulary"):
        Embedder(*made(TASK.head), None)


@pytest.mark.parametrize("head", ["AlbertModel", "AlbertForQuestionAnswering"])
def test_vectors_are_those_of_the_encoder_and_padding_is_not_in_the_mean(
    head, tokenizer
):
    model, variables = made(head)
    texts = [RIVER, "it", "river of rivers, " * 30]
    said = []
    found = Embedder(model, variables, tokenizer)(texts, report=said.append)
    assert said == ["1 texts are longer than 62 pieces and were cut there"]
    params = variables["params"].get("albert", variables["params"])
    encoder = make_head("AlbertModel", CONFIG)
    apply = jax.jit(encoder.clone(add_pooling_layer="pooler" in params).apply)
    for i, text in enumerate(texts):
        batch = tokenizer([text], truncation=True, max_length=64)
        output = apply({"params": params}, **batch)
        mean = output.last_hidden_state[0].mean(axis=0)
        np.testing.assert_allclose(found.mean[i], mean, atol=1e-5)
        if head == "AlbertModel":
            np.testing.assert_allclose(
                found.pooled[i], output.pooler_output[0], atol=1e-5
            )
        else:
            assert found.pooled is None


def test_a_folder_says_what_it_is_for(tmp_path, tokenizer):
    def saved(head, labels=(), outputs=2):
        folder = tmp_path / f"{head}{outputs}{len(labels)}"
        save_pretrained(folder, *made(head, outputs), tokenizer, labels=labels)
        model, _, _ = from_pretrained(folder, report=pytest.fail)
        return folder, task_of(folder, model), model

    folder, task, model = saved(TASK.head, ("no", "yes"))
    assert (task.kind, task.labels, task.max_length) == (TASK.kind, ("no", "yes"), 64)
    assert task_of(folder, model, pairs=True).text_pair == "text_pair"
    _, task, _ = saved(TASK.head)
    assert task.labels == ("LABEL_0", "LABEL_1")
    assert saved(TASK.head, outputs=1)[1].kind == "regression"
    assert saved("AlbertForTokenClassification")[1].kind == "tokens"
    assert saved("AlbertForMultipleChoice")[1].labels == ("A", "B", "C", "D")
    assert not saved("AlbertForQuestionAnswering")[1].unanswerable
    with pytest.raises(UserError, match="has no head of a task yet: fine-tune"):
        saved("AlbertForMaskedLM")
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {"0": "no", "2": "yes"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="must name 2 outputs, from '0' to '1'"):
        task_of(folder, model)
    with pytest.raises(UserError, match="labels names 1 labels, but the model has 2"):
        save_pretrained(tmp_path / "no", *made(TASK.head), labels=["one"])


@pytest.fixture
def home(tmp_path, monkeypatch, tokenizer):
    """A working directory with a model for every kind of task."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("albert_jax.programs.keep_programs", lambda report: None)
    save_pretrained("sort", *made(TASK.head), tokenizer, labels=("no", "yes"))
    save_pretrained("words", *made(TASKS["tokens"].head), tokenizer)
    save_pretrained("ask", *made(TASKS["span"].head), tokenizer)
    return tmp_path


def lines(capsys, *arguments):
    assert main(list(arguments)) == 0
    return capsys.readouterr().out.splitlines()


def test_arguments_standard_input_and_files_get_the_same_answers(
    home, capsys, monkeypatch
):
    texts = [RIVER, "it was", "the river"]
    expected = lines(capsys, "classify", "sort", *texts)
    assert expected[::2] == texts and all("%" in line for line in expected[1::2])
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(texts[1:])))
    assert lines(capsys, "classify", "sort", RIVER, "-") == expected
    (home / "t.txt").write_text("\n".join(texts[1:]) + "\n")
    assert lines(capsys, "classify", "sort", RIVER, "--file", "t.txt") == expected
    rows = [json.dumps({"text": text, "label": "?"}) for text in texts]
    (home / "t.jsonl").write_text("\n".join(rows))
    assert lines(capsys, "classify", "sort", "--file", "t.jsonl") == expected
    (home / "t.tsv").write_text("text\n" + "\n".join(texts))
    said = lines(capsys, "classify", "sort", "--file", "t.tsv", "--json")
    said = [json.loads(line) for line in said]
    assert [one["text"] for one in said] == texts
    assert [one["id"] for one in said] == ["0", "1", "2"]
    assert all(one["label"] in one["probabilities"] for one in said)
    pairs = lines(capsys, "classify", "sort", "--pairs", f"{RIVER}\tit")
    assert pairs[0] == f"{RIVER} | it"
    (words,) = lines(capsys, "classify", "words", "--json", "the river was")
    assert len(json.loads(words)["labels"]) == 3


def test_questions_are_answered_out_of_their_contexts(home, capsys, monkeypatch):
    asked = ["--question", "What?", "--context", RIVER]
    question, answer = lines(capsys, "answer", "ask", *asked)
    assert question == "What?" and answer.strip().rpartition(" ")[0] in RIVER
    monkeypatch.setattr("sys.stdin", io.StringIO(f"What?\t{RIVER}\n"))
    assert lines(capsys, "answer", "ask", "-") == [question, answer]
    (home / "q.csv").write_text(f'question,context\nWhat?,"{RIVER}"\n')
    said = lines(capsys, "answer", "ask", "--file", "q.csv", "--json", "--top", "3")
    (document,) = map(json.loads, said)
    assert document["answer"] == document["answers"][0]["text"]
    assert len(document["answers"]) == 3 and "context" not in document


def test_vectors_as_lines_and_as_arrays(home, capsys):
    printed = [json.loads(x) for x in lines(capsys, "embed", "sort", RIVER, "it")]
    (home / "t.tsv").write_text(f"body\n{RIVER}\nit\n")
    arguments = ["--file", "t.tsv", "--column", "body", "--output", "v.npz"]
    (said,) = lines(capsys, "embed", "sort", *arguments)
    assert said == "v.npz: mean [2, 16], pooled [2, 16]"
    arrays = np.load("v.npz")
    for name in ("mean", "pooled"):
        np.testing.assert_allclose(arrays[name], [x[name] for x in printed], atol=1e-6)


MISTAKES = {
    "no text": (["classify", "sort"], "there is no text"),
    "no text to embed": (["embed", "sort"], "there is no text"),
    "half a question": (["answer", "ask", "--question", "What?"], "belong together"),
    "a question alone": (["answer", "ask"], "there is no text"),
    "no questions": (["answer", "sort", "a\tb"], "answers no questions"),
    "questions": (["classify", "ask", "a\tb"], "answers questions: albert-jax answer"),
    "no tab": (["answer", "ask", "What?"], "must be 2 texts (question, context;"),
    "no file": (["classify", "sort", "--file", "x.csv"], "x.csv cannot be read"),
    "no column": (["classify", "sort", "--file", "t.csv"], "has no 'text', only 'te'"),
}


@pytest.mark.parametrize(("arguments", "cure"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_gets_one_line(home, capsys, arguments, cure):
    (home / "t.csv").write_text("te\nit\n")
    assert main(arguments) == 2
    assert cure in capsys.readouterr().err.splitlines()[-1]
