"""Commands for texts of one's own: fill-mask, classify, answer, embed."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from albert_jax.cli.parsing import note, parse
from albert_jax.config import UserError

# Texts that are answered at once.
_BLOCK = 256
# What of an example is not shown again: long, or what is asked for.
_UNSHOWN = ("label", "labels", "answers", "context", "passage", "level")


@dataclass(frozen=True)
class _OwnText:
    source: tyro.conf.Positional[str]
    """A run, a folder, an official checkpoint's prefix, or a name on the hub."""
    text: tyro.conf.Positional[tuple[str, ...]] = field(default=())
    """Texts, or - to read them from standard input, one a line."""


@dataclass(frozen=True)
class _FillMask(_OwnText):
    """Fills [MASK] in sentences; without any, in held-out sentences of a run's corpus,
    each with one word masked."""

    top: int = 5
    """Predictions to show for each [MASK]."""
    sentences: int = 8
    """Held-out sentences to show."""


@dataclass(frozen=True)
class _Asked(_OwnText):
    """What classify and answer have in common; what a text is, the task says."""

    file: Path | None = None
    """More texts: a .txt with one a line, or a .tsv, .csv or .jsonl with the columns
    that the task was trained on. Where a text has several parts, tabs separate them in
    a line: a pair, a question and its context, a question, passage and choices."""
    json: bool = False
    """Print a JSON object for each text, one a line, and nothing else."""


@dataclass(frozen=True)
class _Classify(_Asked):
    """Labels texts, pairs or words, scores them, or chooses among answers, as the
    model was fine-tuned to."""

    pairs: bool = False
    """Texts are pairs; only where no run says so."""


@dataclass(frozen=True)
class _Answer(_Asked):
    """Finds the answer to a question in a context."""

    question: str | None = None
    """What is asked about ``context``."""
    context: str | None = None
    """The text that holds the answer, if there is one."""
    top: int = 1
    """Answers to show, the likeliest first."""


@dataclass(frozen=True)
class _Embed(_OwnText):
    """Prints vectors of texts: the mean of their pieces, and the pooler's output."""

    file: Path | None = None
    """More texts: a .txt with one a line, or a .tsv, .csv or .jsonl with a column."""
    column: str = "text"
    """The column of the text in a .tsv, .csv or .jsonl."""
    output: Path | None = None
    """Write arrays ``mean`` and ``pooled`` to this .npz instead."""


def fill_mask(arguments: Sequence[str]) -> None:
    """The command fill-mask."""
    options = parse(_FillMask, arguments, "fill-mask")
    from albert_jax.data.shards import PreparedCorpus
    from albert_jax.tasks.fill_mask import FillMask, masked_sentences, spell
    from albert_jax.train.run import read_experiment

    model, variables, tokenizer = _load(options.source)
    fill = FillMask(model, variables, tokenizer)

    def show(texts: Sequence[str], rows: Sequence[Any], truths: Sequence[str]) -> None:
        answers = fill.predict(rows, options.top)
        for text, answer, truth in zip(texts, answers, truths, strict=True):
            print(text)
            for predictions in answer:
                print("  " + _shown(predictions))
            if truth:
                print(f"  was: {truth}")

    if options.text:
        for texts in _blocks(options.text):
            show(texts, [fill.encode(text) for text in texts], [""] * len(texts))
        return
    folder = read_experiment(Path(options.source))["experiment"]["corpus"]["prepared"]
    corpus = PreparedCorpus.open(folder, "heldout")
    longest = min(48, model.config.max_position_embeddings)
    examples = list(
        islice(masked_sentences(corpus, tokenizer, longest), options.sentences)
    )
    show(
        [spell(tokenizer, ids[1:-1]) for ids, _ in examples],
        [ids for ids, _ in examples],
        [spell(tokenizer, truth) for _, truth in examples],
    )


def classify(arguments: Sequence[str]) -> None:
    """The command classify."""
    options = parse(_Classify, arguments, "classify")
    _refuse_nothing(options)
    model = _task_model(options.source, options.pairs)
    if model.task.kind == "span":
        raise UserError(f"{options.source} answers questions: albert-jax answer")
    _say_all(options, model, _examples(options, model.task), _classified)


def answer(arguments: Sequence[str]) -> None:
    """The command answer."""
    options = parse(_Answer, arguments, "answer")
    if (options.question is None) != (options.context is None):
        raise UserError("question and context belong together; give both or neither")
    if options.question is None:
        _refuse_nothing(options)
    model = _task_model(options.source)
    if model.task.kind != "span":
        raise UserError(f"{options.source} answers no questions: albert-jax classify")

    examples = _examples(options, model.task)
    if options.question is not None:
        from albert_jax.tasks.own_text import example_of

        asked = example_of(
            (options.question, options.context), model.task, "the question", "0"
        )
        examples = chain([[asked]], examples)
    threshold = model.task.null_threshold
    _say_all(options, model, examples, partial(_answered, threshold, options.top))


def embed(arguments: Sequence[str]) -> None:
    """The command embed."""
    options = parse(_Embed, arguments, "embed")
    _refuse_nothing(options)
    from albert_jax.tasks.embed import Embedder

    embedder = Embedder(*_load(options.source))
    parts: list[dict[str, np.ndarray]] = []
    for texts in _texts(options):
        vectors = vars(embedder(texts, report=note))
        found = {name: v for name, v in vectors.items() if v is not None}
        if options.output:
            parts.append(found)
            continue
        for i, text in enumerate(texts):
            values = {name: vectors[i].tolist() for name, vectors in found.items()}
            print(json.dumps({"text": text} | values))
    if options.output:
        _write_vectors(options.output, parts)


def _load(source: str) -> tuple[Any, Any, Any]:
    from albert_jax.interop.pretrained import from_pretrained
    from albert_jax.programs import keep_programs

    keep_programs(report=note)
    return from_pretrained(source, report=note)


def _task_model(source: str, pairs: bool = False) -> Any:
    from albert_jax.interop.task import task_of
    from albert_jax.tasks.task_model import TaskModel

    loaded = _load(source)
    return TaskModel(*loaded, task_of(source, loaded[0], pairs=pairs))


def _refuse_nothing(options: Any) -> None:
    if not (options.text or options.file):
        raise UserError("there is no text: give some, or - for standard input, or file")


def _examples(options: _Asked, task: Any) -> Iterator[list[Any]]:
    """The examples of arguments, standard input and file, block by block."""
    from albert_jax.tasks.own_text import examples_of_file, examples_of_lines

    number = 0
    for lines in _blocks(options.text):
        where = "standard input" if "-" in options.text else "the text"
        yield examples_of_lines(lines, task, where, number)
        number += len(lines)
    if options.file:
        examples = iter(examples_of_file(options.file, task, note))
        while block := list(islice(examples, _BLOCK)):
            yield block


def _texts(options: _Embed) -> Iterator[list[str]]:
    """The same for texts without a task."""
    from albert_jax.config.tasks import Task
    from albert_jax.tasks.own_text import examples_of_file

    yield from _blocks(options.text)
    if options.file:
        columns = Task(name="embed", kind="regression", text=options.column)
        texts = (e.text for e in examples_of_file(options.file, columns, note))
        while block := list(islice(texts, _BLOCK)):
            yield block


def _say_all(
    options: _Asked,
    model: Any,
    blocks: Iterator[list[Any]],
    shown: Callable[[Any], dict[str, Any]],
) -> None:
    for examples in blocks:
        for example, said in zip(examples, model.predict(examples), strict=True):
            given = {
                name: value
                for name, value in asdict(example).items()
                if name not in _UNSHOWN and value is not None
            }
            if options.json:
                print(json.dumps(given | shown(said), ensure_ascii=False))
                continue
            del given["id"]
            texts = [v if isinstance(v, str) else " ".join(v) for v in given.values()]
            print(" | ".join(texts))
            print("  " + _in_words(shown(said)))
        sys.stdout.flush()


def _classified(said: Any) -> dict[str, Any]:
    match said:
        case float():
            return {"score": said}
        case tuple():
            return {"labels": said}
    return asdict(said)


def _answered(threshold: float, top: int, said: Any) -> dict[str, Any]:
    shares = zip(said.candidates, said.probabilities, strict=True)
    answers = [{"text": c.text, "probability": p} for c, p in islice(shares, top)]
    odds = {} if said.null_odds is None else {"null_odds": said.null_odds}
    return {"answer": said.given(threshold), "answers": answers} | odds


def _in_words(found: dict[str, Any]) -> str:
    match found:
        case {"score": score}:
            return f"{score:.3f}"
        case {"labels": labels}:
            return " ".join(label or "?" for label in labels)
        case {"probabilities": probabilities}:
            first = sorted(probabilities.items(), key=lambda one: -one[1])
            return ", ".join(f"{label} {share:.0%}" for label, share in first)
    answers = ", ".join(f"{a['text']} {a['probability']:.0%}" for a in found["answers"])
    return answers if found["answer"] else f"no answer (else {answers})"


def _write_vectors(path: Path, parts: list[dict[str, np.ndarray]]) -> None:
    if not parts:
        raise UserError("standard input is empty, so there are no vectors to write")
    from albert_jax.data.shards import replacing

    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)
    shapes = ", ".join(f"{name} {list(v.shape)}" for name, v in arrays.items())
    print(f"{path}: {shapes}")


def _blocks(given: Sequence[str]) -> Iterator[list[str]]:
    """Texts to answer at once; "-" stands for the lines of standard input, which a
    terminal gets answered one by one."""
    if "-" not in given:
        yield from [list(given)] if given else []
        return
    typed = (line.rstrip("\n") for line in sys.stdin if line.strip())
    texts = chain.from_iterable(typed if text == "-" else [text] for text in given)
    size = 1 if sys.stdin.isatty() else _BLOCK
    while block := list(islice(texts, size)):
        yield block
        sys.stdout.flush()


def _shown(predictions: Sequence[Any]) -> str:
    return ", ".join(f"{p.piece} {p.probability:.0%}" for p in predictions)
