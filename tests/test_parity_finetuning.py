"""Ten steps of fine-tuning against the same ten in transformers and PyTorch.

Same weights, same examples in the same order, no dropout; their model, their loss and
PyTorch's clipping, and the official AdamW and schedule written out. Needs the
``interop-test`` extra: ``make test-interop``.
"""

from functools import partial

import jax
import numpy as np
import pytest

import albert_jax as albert
from albert_jax.config import AlbertConfig
from albert_jax.config.tasks import Task
from albert_jax.finetuning.step import train_step
from albert_jax.interop.hugging_face import from_hugging_face, hugging_face_config
from albert_jax.tasks.batches import TrainingBatches
from albert_jax.tasks.rows import Row
from albert_jax.train.optimizer import adamw, linear_schedule
from albert_jax.train.state import TrainState

REASON = "no PyTorch here: make test-interop installs it and runs this"
torch = pytest.importorskip("torch", reason=REASON)
transformers = pytest.importorskip("transformers", reason=REASON)

CONFIG = AlbertConfig(
    vocab_size=300,
    embedding_size=32,
    hidden_size=96,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=384,
    max_position_embeddings=32,
    initializer_range=0.05,
)
TASKS = {
    "classification": Task(
        name="mine", kind="classification", labels=("a", "b", "c"), max_length=32
    ),
    "span": Task(
        name="mine", kind="span", format="squad", max_length=32, question_length=8
    ),
}
STEPS, RATE, WARMUP, DECAY, CLIP = 10, 1e-3, 3, 0.01, 1.0


def rows_of(kind, count=40):
    random = np.random.default_rng(0)
    for number in range(count):
        length = int(random.integers(6, 33))
        inputs = {
            "input_ids": random.integers(5, 300, length),
            "token_type_ids": (np.arange(length) > length // 2).astype(int),
        }
        if kind == "span":
            start = int(random.integers(0, length))
            end = int(random.integers(start, length))
            targets = {"start_positions": start, "end_positions": end}
        else:
            targets = {"labels": int(random.integers(3))}
        yield Row(number, inputs, targets)


def their_losses(model, batches):
    """Losses of ten steps, each before it is taken.

    The official AdamW: no correction of bias, epsilon outside of the root, decay of
    weights but not of biases and LayerNorms (``optimization.py``).
    """
    named = list(model.named_parameters())
    moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in named}
    losses = []
    for step, batch in enumerate(batches):
        loss = model(**batch).loss
        losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        rate = RATE * (step / WARMUP if step < WARMUP else 1 - step / STEPS)
        with torch.no_grad():
            for name, parameter in named:
                if parameter.grad is None:
                    continue
                m, v = moments[name]
                m.mul_(0.9).add_(0.1 * parameter.grad)
                v.mul_(0.999).add_(0.001 * parameter.grad**2)
                update = m / (v.sqrt() + 1e-6)
                if not any(w in name for w in ("bias", "LayerNorm", "layer_norm")):
                    update = update + DECAY * parameter
                parameter -= rate * update
    return losses


@pytest.mark.parametrize("kind", TASKS)
def test_ten_steps_are_theirs(kind):
    task = TASKS[kind]
    options = {"num_labels": 3} if kind == "classification" else {}
    fields = hugging_face_config(CONFIG, task.head)
    torch.manual_seed(0)
    theirs = getattr(transformers, task.head)(
        transformers.AlbertConfig(**fields | options, attn_implementation="eager")
    )
    theirs.eval()  # No dropout; gradients are the same.
    # The official code trains the embedding of padding, which spans see, too.
    theirs.albert.embeddings.word_embeddings.padding_idx = None
    state = {name: value.numpy() for name, value in theirs.state_dict().items()}
    params = from_hugging_face(state, CONFIG, task.head)
    stream = TrainingBatches(
        [(row,) for row in rows_of(kind)],
        batch_size=8,
        seeds=(0,),
        longest=32,
        pad_id=0,
    )
    batches = [{n: v[0] for n, v in stream[step].items()} for step in range(STEPS)]

    if kind == "classification":
        options["classifier_dropout_prob"] = 0.0
    model = getattr(albert, task.head)(CONFIG, **options)
    optimizer = adamw(
        linear_schedule(RATE, WARMUP, STEPS), weight_decay=DECAY, clip_norm=CLIP
    )
    state = TrainState(
        step=np.int32(0),
        params=params,
        opt_state=optimizer.init(params),
        key=jax.random.key(0),
    )
    step = jax.jit(partial(train_step, model, task, optimizer))
    ours = []
    for batch in batches:
        state, sums = step(state, batch)
        names = ("start_loss", "end_loss") if kind == "span" else ("label_loss",)
        ours.append(np.mean([float(sums[n][0]) / float(sums[n][1]) for n in names]))
    given = [
        {
            name: torch.tensor(value).long()
            for name, value in batch.items()
            if name != "example_weights"
        }
        for batch in batches
    ]
    expected = their_losses(theirs, given)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)
    assert abs(expected[-1] - expected[0]) > 0.01
