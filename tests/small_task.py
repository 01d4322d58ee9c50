"""A task that a tiny model learns in seconds, and something to start from."""

import json
import random
from dataclasses import replace
from pathlib import Path

import jax
import small_corpus
import tiny

import albert_jax
from albert_jax.config import CheckpointConfig, OptimizerConfig
from albert_jax.config.finetuning import FinetuningExperiment
from albert_jax.config.tasks import Split, Task
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.interop.pretrained import save_pretrained
from albert_jax.model.albert import init_params

TASK = Task(
    name="mine",
    kind="classification",
    train=Split(path="train.jsonl"),
    dev=Split(path="dev.jsonl"),
    test=Split(path="test.jsonl"),
    labels=("no", "yes"),
    max_length=32,
)


def write_examples(folder: Path) -> Task:
    """Sentences of 1 to 5 words, "yes" where they begin with "river"."""
    rng = random.Random(0)
    for split, count in (("train", 90), ("dev", 30), ("test", 5)):
        lines = []
        for number in range(count):
            first, label = (("river", "yes"), ("mountain", "no"))[number % 2]
            words = [first, *rng.choices("the of and a in to is".split(), k=number % 5)]
            row = {"text": " ".join(words), "label": label}
            if split == "test":
                del row["label"]
            lines.append(json.dumps(row) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return replace(TASK, folder=str(folder))


def write_source(folder: Path, head: str = "AlbertForPreTraining", **options) -> str:
    """A model with random weights and a vocabulary, as transformers would save it."""
    config = tiny.config(
        vocab_size=300, max_position_embeddings=32, num_hidden_layers=1
    )
    model = getattr(albert_jax, head)(config, **options)
    params = init_params(model, jax.random.key(5))
    tokenizer = Tokenizer.load(small_corpus.vocabulary())
    save_pretrained(folder, model, {"params": params}, tokenizer)
    return str(folder)


def experiment(folder: Path) -> FinetuningExperiment:
    """Forty steps of eight examples; writes what they need into ``folder``."""
    return FinetuningExperiment(
        name="mine",
        task=write_examples(folder),
        init=write_source(folder / "source"),
        dropout=0.1,
        optimizer=OptimizerConfig(name="adamw", learning_rate=0.004, warmup_steps=5),
        batch_size=8,
        steps=40,
        checkpoint=CheckpointConfig(every=15),
        evaluate_every=10,
        log_every=5,
    )
