"""Tasks as values, and the readers of their files: what comes out, what is refused."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

import albert_jax
from albert_jax.config import UserError
from albert_jax.config.tasks import TASKS, Split, Task, published
from albert_jax.tasks.examples import (
    Answer,
    ChoiceExample,
    QuestionExample,
    TextExample,
    WordsExample,
)
from albert_jax.tasks.reader import read_examples


def task_of(tmp_path, kind, name, content, **fields):
    """A task whose every split is one file of this content."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8", newline="")
    given = fields.pop("source", {})
    source = Split(path=name, **given)
    splits = {"train": source, "dev": source, "test": source}
    return Task(name="mine", kind=kind, folder=str(tmp_path), **(splits | fields))


def read(*args, split="dev", **fields):
    return read_examples(task_of(*args, **fields), split)


def refused(*args, **fields):
    with pytest.raises(UserError) as raised:
        read(*args, **fields)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_every_published_task_names_a_head_and_its_metrics():
    assert set(TASKS) >= {"cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte"}
    assert set(TASKS) >= {"mnli-mismatched", "wnli", "ax", "squad1", "squad2", "race"}
    for name, task in TASKS.items():
        assert task.name == name
        assert hasattr(albert_jax, task.head)
    assert TASKS["squad1"].head == "AlbertForQuestionAnswering"
    assert TASKS["squad2"].head == "AlbertForQuestionAnsweringWithBeam"
    assert TASKS["cola"].metrics[0] == "matthews"
    with pytest.raises(UserError, match="did you mean 'mrpc'"):
        published("mprc")


def test_the_labels_stand_in_the_official_order():
    assert TASKS["mnli"].labels == ("contradiction", "entailment", "neutral")
    for name in ("rte", "qnli"):
        assert TASKS[name].labels == ("entailment", "not_entailment")
    for name in ("cola", "sst2", "mrpc", "qqp", "wnli"):
        assert TASKS[name].labels == ("0", "1")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "regression", "metrics": ("accuracy",)}, "metrics is 'accuracy'"),
        ({"kind": "tokens", "max_length": 0}, "max_length is 0"),
        ({"kind": "span"}, "text_pair is None"),
        ({"kind": "span", "text_pair": "context", "max_length": 64}, "leave no room"),
        ({"kind": "choice", "text_pair": "p", "choices": ("a",)}, "two choices"),
        ({"kind": "classification", "labels": ("a", "a")}, "one label twice"),
        ({"kind": "classification", "metrics": ("f1",)}, "f1_macro"),
    ],
)
def test_what_contradicts_itself_is_refused(fields, message):
    with pytest.raises(UserError, match=message):
        Task(name="mine", **fields)


PAIR = {"text": "a", "text_pair": "b", "labels": ("no", "yes")}


def test_a_published_table_keeps_its_quotes_and_loses_its_mark(tmp_path):
    text = '\ufeffa\tb\tlabel\r\n"left open\tsays "so"\tyes\r\n\tx\u2028y\tno\n'
    assert read(tmp_path, "classification", "a.tsv", text, **PAIR) == [
        TextExample("0", '"left open', 'says "so"', 1),
        TextExample("1", "", "x\u2028y", 0),
    ]


def test_a_table_may_lack_the_names_of_its_columns(tmp_path):
    split = {"columns": ("where", "label", "a"), "first_row": "example"}
    (example,) = read(
        tmp_path,
        "classification",
        "a.tsv",
        "x\tyes\ttext\n",
        source=split,
        **PAIR | {"text_pair": None},
    )
    assert example == TextExample("0", "text", None, 1)
    split |= {"columns": ("label", "id", "a"), "first_row": "names", "id": "id"}
    (example,) = read(
        tmp_path,
        "classification",
        "a.tsv",
        "p\tq\tr\nyes\t7\ttext\n",
        source=split,
        **PAIR | {"text_pair": None},
    )
    assert example == TextExample("7", "text", None, 1)


def test_csv_and_json_lines_give_the_same(tmp_path):
    csv = 'id,a,b,label\n7,"one, ""two""","three\nlines",yes\n'
    record = {"id": 7, "a": 'one, "two"', "b": "three\nlines", "label": "yes"}
    expected = [TextExample("7", 'one, "two"', "three\nlines", 1)]
    split = {"id": "id"}
    kind = "classification"
    assert read(tmp_path, kind, "a.csv", csv, source=split, **PAIR) == expected
    lines = f"{json.dumps(record)}\n\n"
    assert read(tmp_path, kind, "a.jsonl", lines, source=split, **PAIR) == expected


def test_numbers_words_questions_and_choices(tmp_path):
    number = {"text": "a", "label": "score"}
    (example,) = read(tmp_path, "regression", "a.tsv", "a\tscore\nx\t4.25\n", **number)
    assert example == TextExample("0", "x", None, 4.25)

    words = {"text": "words", "label": "tags", "labels": ("O", "LOC")}
    expected = WordsExample("0", ("New", "York"), (1, 0))
    table = "words\ttags\nNew York\tLOC O\n"
    assert read(tmp_path, "tokens", "a.tsv", table, **words) == [expected]
    line = json.dumps({"words": ["New", "York"], "tags": ["LOC", "O"]})
    assert read(tmp_path, "tokens", "a.jsonl", line, **words) == [expected]

    span = {"text": "q", "text_pair": "c", "label": "answer"}
    (example,) = read(
        tmp_path, "span", "a.csv", "q,c,answer\nWho?,It was me,me\n", **span
    )
    assert example == QuestionExample("0", "Who?", "It was me", (Answer("me", 7),))
    table = "q,c,answer,at\nWho?,me or me,me,6\nWho?,no one,,\n"
    span |= {"answer_start": "at", "unanswerable": True}
    first, second = read(tmp_path, "span", "a.csv", table, **span)
    assert first.answers == (Answer("me", 6),)
    assert second.answers == ()

    choice = {"text": "q", "text_pair": "p", "choices": ("one", "two")}
    choice |= {"labels": ("1", "2")}
    table = "p,q,one,two,label\nText,Which?,this,that,2\n"
    (example,) = read(tmp_path, "choice", "a.csv", table, **choice)
    assert example == ChoiceExample("0", "Text", "Which?", ("this", "that"), 1)


def test_a_test_split_needs_no_labels(tmp_path):
    table = "a\tb\nx\ty\n"
    task = task_of(tmp_path, "classification", "a.tsv", table, **PAIR)
    assert read_examples(task, "test") == [TextExample("0", "x", "y", None)]
    with pytest.raises(UserError, match="line 2 has no 'label', only 'a', 'b'"):
        read_examples(task, "dev")


BUILDER = """
import numpy as np
import tensorflow_datasets as tfds


class SmallPairs(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        classes = tfds.features.ClassLabel(names=["no", "yes"])
        text = tfds.features.Text()
        words = tfds.features.Sequence(text)
        tags = tfds.features.Sequence(classes)
        columns = {"a": text, "b": text, "label": classes, "words": words, "tags": tags}
        columns["score"] = np.float32
        features = tfds.features.FeaturesDict(columns)
        return self.dataset_info_from_configs(features=features)

    def _split_generators(self, dl_manager):
        labels = {"train": 1, "validation": -1}
        return {name: self._generate_examples(label) for name, label in labels.items()}

    def _generate_examples(self, label):
        words = {"words": ["Zwei", "é"], "tags": ["no", "yes"], "score": 1.5}
        yield 0, {"a": "Zwei é.", "b": "x", "label": label, **words}
"""

READ = """
import sys
from albert_jax.config.tasks import Split, Task
from albert_jax.tasks.reader import read_examples
train, dev = (Split(path=f"tfds:{sys.argv[1]}#{s}") for s in ("train", "validation"))
pair = dict(text="a", text_pair="b", labels=("no", "yes"))
task = Task(name="m", kind="classification", train=train, dev=dev, test=dev, **pair)
(example,) = read_examples(task, "train")
assert (example.text, example.text_pair, example.label) == ("Zwei é.", "x", 1), example
(example,) = read_examples(task, "test")
assert example.label is None
task = Task(name="m", kind="regression", train=train, text="a", label="score")
assert read_examples(task, "train")[0].label == 1.5
words = dict(text="words", label="tags", labels=("no", "yes"))
task = Task(name="m", kind="tokens", dev=dev, **words)
(example,) = read_examples(task, "dev")
assert (example.words, example.labels) == (("Zwei", "é"), (0, 1))
assert "tensorflow" not in sys.modules
task = Task(name="m", kind="classification", dev=dev, **pair)
read_examples(task, "dev")
"""


def test_tfds_without_tensorflow(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    (tmp_path / "my_sets").mkdir()
    (tmp_path / "my_sets" / "small_pairs.py").write_text(BUILDER)
    data = {"TFDS_DATA_DIR": str(tmp_path / "data")}
    data["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", READ, "my_sets.small_pairs"],
        env=os.environ | data,
        capture_output=True,
        text=True,
    )
    said = done.stderr.splitlines()[-1]
    name = "tfds:my_sets.small_pairs#validation"
    assert said.endswith(f"UserError: {name}, example 0 has no label in label"), said


def test_tfds_needs_the_name_of_a_split():
    task = Task(name="mine", kind="regression", dev=Split(path="tfds:glue/stsb"))
    with pytest.raises(UserError, match="glue/stsb names no split; write .*#train"):
        read_examples(task, "dev")


def squad(*questions, context="In 1999 it was 1999.", **fields):
    paragraph = {"context": context, "qas": list(questions)} | fields
    return json.dumps({"version": "1.1", "data": [{"paragraphs": [paragraph]}]})


def question(*answers, id="q1", **fields):
    listed = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": id, "question": "When?", "answers": listed} | fields


def test_squad_of_both_versions(tmp_path):
    text = squad(question(("1999", 15), ("it", 8)), question(id="q2"))
    options = {"format": "squad", "unanswerable": True}
    first, second = read(tmp_path, "span", "a.json", text, **options)
    context = "In 1999 it was 1999."
    answers = (Answer("1999", 15), Answer("it", 8))
    assert first == QuestionExample("q1", "When?", context, answers)
    assert second == QuestionExample("q2", "When?", context, ())
    task = task_of(tmp_path, "span", "a.json", text.replace("answers", "x"), **options)
    assert [example.answers for example in read_examples(task, "test")] == [None, None]


def passage(**fields):
    whole = {
        "id": "high1.txt",
        "article": "A text.",
        "questions": ["It is _ .", "Why?"],
        "options": [["a", "b", "c", "d"], ["e", "f", "g", "h"]],
        "answers": ["B", "D"],
    }
    return json.dumps(whole | fields)


def test_race_by_level(tmp_path):
    options = {"format": "race", "labels": ("A", "B", "C", "D")}
    task = task_of(tmp_path, "choice", "dev/high/1.txt", passage(), **options)
    task = replace(task, dev=Split(path="dev"))
    assert read_examples(task, "dev") == [
        ChoiceExample(
            "high1.txt-0", "A text.", "It is _ .", ("a", "b", "c", "d"), 1, "high"
        ),
        ChoiceExample(
            "high1.txt-1", "A text.", "Why?", ("e", "f", "g", "h"), 3, "high"
        ),
    ]
    both = f"{passage()}\n{passage(id='high2.txt')}"
    (tmp_path / "dev/high/1.txt").write_text(both)
    assert len(read_examples(task, "dev")) == 4


BAD_TABLES = [
    ("a.tsv", "", {}, "a.tsv is empty"),
    ("a.tsv", "a\tb\tlabel\n", {}, "a.tsv has a first row alone"),
    ("a.xls", "a", {}, "its name must end in .tsv, .csv, .jsonl"),
    ("a.tsv", "a\tb\tlabel\nx\ty\n", {}, "line 2 has 2 columns, but there are 3"),
    ("a.tsv", "a\ta\nx\ty\n", {}, "names a column twice"),
    ("a.tsv", "aa\tb\tlabel\nx\ty\tno\n", {}, "has no 'a', only 'aa', 'b', 'label'"),
    (
        "a.tsv",
        "a\tb\tlabel\nx\ty\tyes\nx\ty\tyess\n",
        {},
        "a.tsv, line 3: label is 'yess', but labels is 'no', 'yes'; did you mean 'yes'",
    ),
    ("a.jsonl", "{", {}, "a.jsonl, line 1 is not JSON"),
    ("a.jsonl", "[1]", {}, "a.jsonl, line 1 is [1], but it must be an object"),
    ("a.jsonl", '{"a": 1, "b": "", "label": "no"}', {}, "a is 1, but it must be text"),
    (
        "a.csv",
        "id,a,b,label\n7,x,y,no\n8,x,y,no\n7,x,y,no\n",
        {"source": {"id": "id"}},
        "a.csv, line 4 has the id '7', as {folder}/a.csv, line 2 has",
    ),
]


@pytest.mark.parametrize(("name", "text", "fields", "message"), BAD_TABLES)
def test_a_bad_table_is_refused_by_file_and_row(tmp_path, name, text, fields, message):
    said = refused(tmp_path, "classification", name, text, **PAIR, **fields)
    assert message.format(folder=tmp_path) in said
    assert name in said


def test_a_bad_value_is_refused_by_file_and_row(tmp_path):
    number = {"text": "a", "label": "b"}
    for value in ("x", "nan", ""):
        said = refused(
            tmp_path, "regression", "a.csv", f"a,b\n.,1\n.,{value}\n", **number
        )
        assert "a.csv, line 3: b is" in said and "must be a number" in said
    words = {"text": "a", "label": "b", "labels": ("O",)}
    said = refused(tmp_path, "tokens", "a.csv", "a,b\none two,O\n", **words)
    assert "a.csv, line 2 has 2 words in a, but 1 labels in b" in said
    span = {"text": "q", "text_pair": "c", "label": "a"}
    said = refused(tmp_path, "span", "a.csv", "q,c,a\nWho?,me or me,me\n", **span)
    assert "a.csv, line 2: the answer 'me' occurs 2 times" in said
    said = refused(tmp_path, "span", "a.csv", "q,c,a\nWho?,me or me,you\n", **span)
    assert "a.csv, line 2: the answer 'you' is not at character -1" in said
    span |= {"answer_start": "at"}
    said = refused(tmp_path, "span", "a.csv", "q,c,a,at\nWho?,me,me,0.5\n", **span)
    assert "a.csv, line 2: at is '0.5', but it must be a whole number" in said
    choice = {
        "text": "q",
        "text_pair": "p",
        "choices": ("x", "y"),
        "labels": ("1", "2"),
    }
    said = refused(tmp_path, "choice", "a.csv", "p,q,x,y,label\n.,.,.,.,3\n", **choice)
    assert "a.csv, line 2: label is '3', but labels is '1', '2'" in said


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    task = task_of(tmp_path, "classification", "a.tsv", "x", **PAIR)
    (tmp_path / "a.tsv").write_bytes(b"a\tb\tlabel\n\xff")
    with pytest.raises(UserError, match="a.tsv is not UTF-8 at byte offset 10"):
        read_examples(task, "dev")
    (tmp_path / "a.tsv").unlink()
    with pytest.raises(UserError, match="a.tsv cannot be read: No such file"):
        read_examples(task, "dev")
    with pytest.raises(UserError, match="mine has no test split; set test.path"):
        read_examples(replace(task, test=Split()), "test")
    with pytest.raises(UserError, match="split is 'devel'.*did you mean 'dev'"):
        read_examples(task, "devel")


def test_broken_rows_are_left_out_aloud_and_only_if_asked(tmp_path):
    table = "a\tb\tlabel\nx\nx\ty\tyes\nx\ty\n"
    task = task_of(
        tmp_path, "classification", "a.tsv", table, skip_broken_rows=True, **PAIR
    )
    with pytest.warns(UserWarning, match="a.tsv: 2 rows .* the first in line 2"):
        assert len(read_examples(task, "dev")) == 1
    said = []
    read_examples(task, "dev", said.append)
    assert len(said) == 1


def test_labels_that_are_not_named_are_listed(tmp_path):
    table = "a\tb\tlabel\nx\ty\tyes\nx\ty\tno\nx\ty\tyes\n"
    said = refused(tmp_path, "classification", "a.tsv", table, **PAIR | {"labels": ()})
    assert said.endswith("must name every label; a.tsv has no yes")
    words = "text,label\none two,O LOC\n"
    assert "a.csv has LOC O" in refused(tmp_path, "tokens", "a.csv", words)


BAD_SQUAD = [
    ("[]", "a.json is [], but it must be an object"),
    ("{", "a.json is not JSON"),
    ('{"date": []}', "has no 'data', only 'date'; did you mean 'date'?"),
    ('{"data": []}', "a.json has no example in it"),
    (
        squad(question(("1999", 4))),
        "a.json, question q1: the answer '1999' is not at character 4 of its context, "
        "where '999 ' stands; it is at 3",
    ),
    (squad(question(("2000", -1))), "stands; it is nowhere in it"),
    (squad(question(("", 0))), "a.json, question q1 has an empty answer"),
    (
        squad(question()),
        "a.json, question q1 has no answer; if questions may have none",
    ),
    (
        squad(question(("1999", 3), is_impossible=True)),
        "question q1 says is_impossible is True, but it has 1 answers",
    ),
    (squad(question(("1999", 3)), context=" "), "paragraph 0 has an empty context"),
    (squad(question(("1999", "3"))), "q1: answer_start is '3', but it must be a whole"),
    (squad("x"), "paragraph 0 is 'x', but it must be an object"),
    ('{"data": {}}', "data is {}, but it must be a list"),
    (
        squad(question(("1999", 3)), question(("1999", 15))),
        "question q1 has the id 'q1', as ",
    ),
]


@pytest.mark.parametrize(("text", "message"), BAD_SQUAD)
def test_bad_squad_is_refused_by_file_and_question(tmp_path, text, message):
    said = refused(tmp_path, "span", "a.json", text, format="squad")
    assert message in said


def test_ids_of_train_need_not_differ(tmp_path):
    text = squad(question(("1999", 3)), question(("1999", 15)))
    task = task_of(tmp_path, "span", "a.json", text, format="squad")
    assert len(read_examples(task, "train")) == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"answers": ["B", "E"]}, "1.txt, question 1: label is 'E', but labels is 'A'"),
        ({"answers": ["B"]}, "2 questions, 2 lists of options and 1 answers"),
        (
            {"options": [["a"], ["b"]]},
            "with the options ..a.., but it must be text with 4",
        ),
    ],
)
def test_bad_race_is_refused_by_file_and_question(tmp_path, fields, message):
    options = {"format": "race", "labels": ("A", "B", "C", "D")}
    text = passage(**fields)
    task = task_of(tmp_path, "choice", "dev/high/1.txt", text, **options)
    with pytest.raises(UserError, match=message):
        read_examples(replace(task, dev=Split(path="dev")), "dev")
    with pytest.raises(UserError, match="none has no .txt files"):
        read_examples(replace(task, dev=Split(path="none")), "dev")
