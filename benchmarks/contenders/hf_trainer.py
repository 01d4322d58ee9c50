"""Hugging Face's Trainer on real text as a contender, fed the usual way."""

import json
import queue
import tempfile
import threading
from pathlib import Path

import accelerate
import hf_pytorch
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


def pretrain(job: dict):
    """``Trainer.train`` with dynamic padding and the logits of every position.

    A repetition is some steps, from one step's beginning to another's, with the batches
    that are fetched in between; it returns their tokens that are not padding.
    """
    model = hf_pytorch.load(job)
    rows = json.loads((Path(job["scratch"]) / "pairs.json").read_text())
    tokenizer = AlbertTokenizerFast(
        vocab_file=str(Path(job["prepared"]) / "tokenizer.model")
    )
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
        data_collator=counting,
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
        {"pretrain": pretrain},
        hf_pytorch.VERSIONS | {"accelerate": accelerate.__version__},
    )
