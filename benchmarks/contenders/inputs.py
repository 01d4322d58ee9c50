"""What every contender starts from: the same batch, weights and sentences."""

import json
from pathlib import Path
from typing import Any

import numpy as np


def make_batch(job: dict) -> dict[str, Any]:
    """The same random batch for every contender, as NumPy arrays.

    Keys (b rows, t tokens, p predictions): input_ids [b, t]; masked_positions,
    masked_labels [b, p]; labels [b, t], -100 where nothing is predicted;
    sentence_order_label [b]. No padding; token types all 0.
    """
    rows, length, predictions = job["rows"], job["length"], job["predictions"]
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, job["vocab_size"], (rows, length), dtype=np.int32)
    positions = np.arange(predictions, dtype=np.int32) * (length // predictions)
    masked = np.tile(positions, (rows, 1))
    labels = np.full_like(tokens, -100)
    labels[:, positions] = tokens[:, positions]
    return {
        "input_ids": tokens,
        "masked_positions": masked,
        "masked_labels": tokens[:, positions],
        "labels": labels,
        "sentence_order_label": (np.arange(rows) % 2).astype(np.int32),
    }


def load_weights(job: dict) -> tuple[dict, dict]:
    """Hugging Face's ``config.json`` and tensors, as ``ours.py`` exported them."""
    folder = Path(job["scratch"])
    config = json.loads((folder / "config.json").read_text())
    with np.load(folder / "weights.npz") as tensors:
        # Theirs has dropout before the sentence-order head by default.
        return config | {"classifier_dropout_prob": 0.0}, dict(tensors)


def requests(job: dict) -> list[list[dict]]:
    """The text's sentences, sorted by length, as many at a time as the case has rows.

    A sentence is its ``ids``, and where the first [MASK] is: ``masked``.
    """
    sentences = json.loads((Path(job["scratch"]) / "sentences.json").read_text())
    sentences.sort(key=lambda sentence: len(sentence["ids"]))
    return [
        sentences[start : start + job["rows"]]
        for start in range(0, len(sentences), job["rows"])
    ]


def length_batches(job: dict, multiple: int) -> list[tuple[np.ndarray, ...]]:
    """The text's sentences, sorted by length, in batches of the case's rows.

    Args:
      multiple: a batch is padded to its longest sentence, rounded up to this.

    Returns:
      (input_ids [b, t], attention_mask [b, t], position of the first [MASK] [b]).
    """
    batches = []
    for chosen in requests(job):
        length = -(-len(chosen[-1]["ids"]) // multiple) * multiple
        ids, mask = np.zeros((2, len(chosen), length), np.int32)
        for row, sentence in enumerate(chosen):
            real = len(sentence["ids"])
            ids[row, :real], mask[row, :real] = sentence["ids"], 1
        positions = np.array([sentence["masked"] for sentence in chosen], np.int32)
        batches.append((ids, mask, positions))
    return batches
