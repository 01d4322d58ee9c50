"""Time and memory of a pretraining step under each remat policy, beside the loop.

    python benchmarks/remat.py [--batch 8] [--length 128] [--size base] [--repeats 9]

The variants are timed in turn, round after round, so that a noisy machine disturbs all
alike; the table gives medians and the ratio to the Python loop without remat.
"""

import argparse
import dataclasses
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp

from albert_jax.config import AlbertConfig
from albert_jax.model.heads import AlbertForPreTraining
from albert_jax.train.optimizer import lamb
from albert_jax.train.pretrain import train_step
from albert_jax.train.state import init_state

VARIANTS = {
    f"{'scan' if scan else 'loop'}, remat {remat}": dict(scan_layers=scan, remat=remat)
    for scan in (False, True)
    for remat in ("nothing", "matmuls", "layer")
}


def make_batch(rows: int, length: int, vocab_size: int) -> dict[str, jax.Array]:
    """Random tokens with 15 % predictions, one pair a row."""
    tokens = jax.random.randint(jax.random.key(1), (rows, length), 5, vocab_size)
    predictions = round(0.15 * length)
    positions = jnp.arange(predictions) * (length // predictions)
    return {
        "input_ids": tokens,
        "masked_positions": jnp.broadcast_to(positions, (rows, predictions)),
        "masked_labels": tokens[:, positions],
        "masked_weights": jnp.ones((rows, predictions)),
        "sentence_order_label": jnp.arange(rows) % 2,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--size", default="base")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()

    config = AlbertConfig.released(args.size)
    batch = make_batch(args.batch, args.length, config.vocab_size)
    optimizer = lamb(1e-3)
    steps, memory, seconds = {}, {}, {name: [] for name in VARIANTS}
    for name, fields in VARIANTS.items():
        model = AlbertForPreTraining(dataclasses.replace(config, **fields))
        state = init_state(jax.random.key(0), model, optimizer)
        step = jax.jit(partial(train_step, model, optimizer)).lower(state, batch)
        steps[name] = step.compile()
        memory[name] = steps[name].memory_analysis().temp_size_in_bytes / 2**20
        jax.block_until_ready(steps[name](state, batch))
    for _ in range(args.repeats):
        for name, step in steps.items():
            start = time.perf_counter()
            jax.block_until_ready(step(state, batch))
            seconds[name].append(time.perf_counter() - start)

    reference = statistics.median(seconds["loop, remat nothing"])
    print(f"{args.size}, {args.batch} x {args.length}, jax {jax.__version__}, ", end="")
    print(f"{jax.devices()[0].device_kind}; {args.repeats} rounds")
    print(f"{'variant':22} {'s/step':>7} {'ratio':>6} {'temporary MiB':>14}")
    for name in VARIANTS:
        median = statistics.median(seconds[name])
        ratio = median / reference
        print(f"{name:22} {median:7.3f} {ratio:6.2f} {memory[name]:14,.0f}")


if __name__ == "__main__":
    main()
