"""albert_jax on real text: preparing it, pretraining from it, reading sentences."""

import json
import tempfile
from functools import partial
from itertools import islice
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import ours
from inputs import load_weights, requests
from worker import nothing, serve

from albert_jax import (
    AlbertForMaskedLM,
    AlbertForPreTraining,
    AlbertForSequenceClassification,
    PreparedCorpus,
    PretrainingData,
    Tokenizer,
    lamb,
    prepare,
)
from albert_jax.config import CorpusConfig, DataConfig
from albert_jax.interop.hugging_face import from_hugging_face
from albert_jax.tasks.buckets import Buckets
from albert_jax.tasks.fill_mask import masked_sentences
from albert_jax.train.pretrain import train_step
from albert_jax.train.state import init_state


def write_text(job: dict):
    """Prepares the text, and writes for everybody what each contender reads.

    ``sentences.json``: token ids of sentences with one word masked. ``pairs.json``: two
    segments a row, neither packed nor padded nor masked, which is how a data set for
    Hugging Face's Trainer looks.
    """
    folder = job["prepared"]
    vocabulary = job["vocabulary"]
    prepare(
        CorpusConfig(
            sources=tuple(job["text"]), vocabulary=vocabulary, prepared=folder
        ),
        job["vocab_size"],
    )
    corpus, tokenizer = opened(job)
    scratch = Path(job["scratch"])
    sentences = masked_sentences(corpus, tokenizer, job["length"])
    chosen = [
        {"ids": ids.tolist(), "masked": int((ids == tokenizer.mask_id).argmax())}
        for ids, _ in islice(sentences, job["sentences"])
    ]
    (scratch / "sentences.json").write_text(json.dumps(chosen))

    config = DataConfig(
        sequence_length=job["length"], batch_size=job["rows"], packing=False
    )
    data = PretrainingData(corpus, tokenizer, config, seed=0)
    rows = (unmasked(data[n]) for n in range(min(2048, data.rows_per_epoch)))
    (scratch / "pairs.json").write_text(json.dumps(list(rows)))
    return nothing(job)


def opened(job: dict) -> tuple[PreparedCorpus, Tokenizer]:
    corpus = PreparedCorpus.open(job["prepared"])
    return corpus, Tokenizer.load(corpus.tokenizer_path)


def unmasked(row: dict[str, np.ndarray]) -> dict[str, list[int] | int]:
    """A row as it was before masking, without its padding."""
    real = int(row["attention_mask"].sum())
    ids, predicted = row["input_ids"].copy(), row["masked_weights"] > 0
    ids[row["masked_positions"][predicted]] = row["masked_labels"][predicted]
    return {
        "input_ids": ids[:real].tolist(),
        "token_type_ids": row["token_type_ids"][:real].tolist(),
        "sentence_order_label": int(row["sentence_order_label"][0]),
    }


def prepare_again(job: dict):
    """Text to tokenised shards in one process, with the vocabulary there is.

    A repetition returns its megabytes of text.
    """
    vocabulary = str(opened(job)[0].tokenizer_path)
    sources = tuple(job["text"])
    megabytes = sum(Path(source).stat().st_size for source in sources) / 1e6

    def repeat() -> float:
        with tempfile.TemporaryDirectory(dir=job["scratch"]) as folder:
            config = CorpusConfig(
                sources=sources, vocabulary=vocabulary, prepared=folder
            )
            prepare(config, job["vocab_size"], processes=1)
        return megabytes

    return repeat, {"warm": False}


def stream(job: dict):
    """The batches alone; a repetition returns their real tokens."""
    config = DataConfig(sequence_length=job["length"], batch_size=job["rows"])
    data, row = PretrainingData(*opened(job), config, seed=0), 0

    def repeat() -> float:
        nonlocal row
        begin, row = row, row + job["batches"] * job["rows"]
        return float(
            sum(batch["attention_mask"].sum() for batch in data.batches(begin, row))
        )

    return repeat, {}


def pretrain(job: dict):
    """Stream and step, from prepared shards; a repetition returns its real tokens.

    Each repetition opens the stream anew and uses it up: nothing is built in between.
    """
    config = DataConfig(sequence_length=job["length"], batch_size=job["rows"])
    data = PretrainingData(*opened(job), config, seed=0)
    model, optimizer = AlbertForPreTraining(ours.config_of(job)), lamb(1e-3)
    init = partial(init_state, model=model, optimizer=optimizer)
    state, row = jax.jit(init)(jax.random.key(0)), 0
    program = jax.jit(partial(train_step, model, optimizer), donate_argnums=0)

    def repeat() -> float:
        nonlocal state, row
        end = row + job["steps"] * job["rows"]
        real, pending = 0.0, None
        for batch in data.batches(row, end):
            state, sums = program(state, batch)
            # As in the training loop: wait for a step once the next one is under way.
            real += float(pending["real_tokens"][0]) if pending else 0.0
            pending = sums
        row = end
        return real + float(pending["real_tokens"][0])

    return repeat, {}


def classify(job: dict):
    """Class logits of every sentence, through ``Buckets``."""
    model = AlbertForSequenceClassification(ours.config_of(job), num_labels=2)

    def sizes(variables, batch):
        return jnp.abs(model.apply(variables, **batch).logits).sum(-1)

    rows = [[{"input_ids": s["ids"]} for s in some] for some in requests(job)]
    return reading(job, sizes, rows)


def fill_mask(job: dict):
    """The likeliest piece of every sentence's first [MASK], through ``Buckets``."""
    model = AlbertForMaskedLM(ours.config_of(job))

    def likeliest(variables, batch):
        logits = model.apply(variables, **batch).logits[:, 0]
        return jax.nn.log_softmax(logits).max(-1)

    rows = [
        [{"input_ids": s["ids"], "masked_positions": [s["masked"]]} for s in some]
        for some in requests(job)
    ]
    return reading(job, likeliest, rows)


def reading(job: dict, function, rows: list[list[dict]]):
    """Applies a function of batches to the sentences, request by request."""
    _, tensors = load_weights(job)
    params = from_hugging_face(
        tensors, ours.config_of(job), job["head"], report=lambda text: None
    )
    buckets = Buckets(
        function,
        {"params": jax.tree.map(jnp.asarray, params)},
        longest=job["length"],
        pad_id=opened(job)[1].pad_id,
    )

    def repeat() -> float:
        return float(sum(sum(buckets(some)) for some in rows))

    return repeat, {"check": repeat()}


if __name__ == "__main__":
    serve(
        {
            "text": write_text,
            "prepare": prepare_again,
            "stream": stream,
            "pretrain": pretrain,
            "classify": classify,
            "fill-mask": fill_mask,
        },
        ours.VERSIONS,
    )
