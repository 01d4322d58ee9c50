"""Hugging Face's Trainer, collator and fast tokenizer on real text as contenders."""

import itertools
import json
import queue
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import accelerate
import hf_pytorch
from torch.utils.data import DataLoader
from transformers import (
    AlbertTokenizerFast,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from worker import serve


class Gate(TrainerCallback):
    """Lets training go on for a number of steps at a time."""

    def __init__(self) -> None:
        self.begin, self.done = queue.Queue(), queue.Queue()
        self._left = 0

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        if self._left == 0:
            self.done.put(state.global_step)
            self._left = self.begin.get()
        self._left -= 1


def tokenizer_of(job: dict) -> AlbertTokenizerFast:
    return AlbertTokenizerFast(
        vocab_file=str(Path(job["prepared"]) / "tokenizer.model")
    )


def fed(job: dict) -> tuple[list[dict], Callable[[list[dict]], dict], list[int]]:
    """Rows, the usual collator, and what it appends each batch's real tokens to."""
    rows = json.loads((Path(job["scratch"]) / "pairs.json").read_text())
    tokenizer = tokenizer_of(job)
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    for row in rows:
        row["special_tokens_mask"] = tokenizer.get_special_tokens_mask(
            row["input_ids"], already_has_special_tokens=True
        )
    real: list[int] = []

    def counting(examples: list[dict]) -> dict:
        batch = collate(examples)
        real.append(int(batch["attention_mask"].sum()))
        return batch

    return rows, counting, real


def tokenize(job: dict):
    """The fast tokenizer alone, in one thread; a repetition returns its megabytes."""
    tokenizer = tokenizer_of(job).backend_tokenizer
    texts = [Path(path).read_text(encoding="utf-8") for path in job["text"]]
    lines = [line for text in texts for line in text.splitlines() if line]
    megabytes = sum(Path(path).stat().st_size for path in job["text"]) / 1e6

    def repeat() -> float:
        for start in range(0, len(lines), 1000):
            chunk = lines[start : start + 1000]
            tokenizer.encode_batch_fast(chunk, add_special_tokens=False)
        return megabytes

    return repeat, {"warm": False}


def stream(job: dict):
    """The collator's batches alone; a repetition returns their real tokens."""
    rows, collate, real = fed(job)
    loader = DataLoader(
        rows, batch_size=job["rows"], shuffle=True, drop_last=True, collate_fn=collate
    )

    def repeat() -> float:
        real.clear()
        for _ in itertools.islice(
            itertools.chain.from_iterable(itertools.repeat(loader)), job["batches"]
        ):
            pass
        return float(sum(real))

    return repeat, {}


def pretrain(job: dict):
    """``Trainer.train`` with dynamic padding and the logits of every position.

    A repetition is some steps, from one step's beginning to another's, with the batches
    that are fetched in between; it returns their tokens that are not padding.
    """
    model = hf_pytorch.load(job)
    rows, collate, real = fed(job)
    gate = Gate()
    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir=tempfile.mkdtemp(),
            per_device_train_batch_size=job["rows"],
            max_steps=10**6,
            learning_rate=1e-3,
            weight_decay=0.01,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            torch_compile=job.get("compile", False),
        ),
        data_collator=collate,
        train_dataset=rows,
        callbacks=[gate],
    )
    threading.Thread(target=trainer.train, daemon=True).start()
    at = gate.done.get()

    def repeat() -> float:
        nonlocal at
        gate.begin.put(job["steps"])
        begun, at = at, gate.done.get()
        return float(sum(real[begun:at]))

    return repeat, {}


if __name__ == "__main__":
    serve(
        {"pretrain": pretrain, "stream": stream, "prepare": tokenize},
        hf_pytorch.VERSIONS | {"accelerate": accelerate.__version__},
    )
