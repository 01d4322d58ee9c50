"""Padding, sorting and batching change no answer, and few programs are compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from albert_jax.config import UserError
from albert_jax.tasks.buckets import POSITIONS, ROWS, WIDTHS, Buckets


def echo(scale, batch):
    """What a row shows, and what it was padded to."""
    real = batch["attention_mask"]
    return {
        "sum": scale * jnp.where(real, batch["input_ids"], 0).sum(1),
        "types": jnp.where(real, batch["token_type_ids"], 0).sum(1),
        "picked": jnp.take_along_axis(
            batch["input_ids"], batch["masked_positions"], axis=1
        ),
        "shape": jnp.broadcast_to(jnp.array(real.shape), (len(real), 2)),
        "padding": jnp.where(real, 9, batch["input_ids"]).min(1),
    }


def rows_of(lengths, seed=0):
    rng = np.random.default_rng(seed)
    for length in lengths:
        yield {
            "input_ids": rng.integers(10, 90, length).astype(np.int32),
            "token_type_ids": rng.integers(0, 2, length),
            "masked_positions": np.flatnonzero(rng.random(length) < 0.1),
        }


def buckets(longest=200, **options):
    return Buckets(echo, 2, longest=longest, pad_id=7, **options)


def test_results_come_in_order_whatever_the_lengths():
    rows = list(rows_of(np.random.default_rng(0).integers(1, 201, 300)))
    results = buckets()(rows)
    assert len(results) == len(rows)
    for row, result in zip(rows, results, strict=True):
        ids, masked = row["input_ids"], row["masked_positions"]
        assert result["sum"] == 2 * ids.sum()
        assert result["types"] == row["token_type_ids"].sum()
        np.testing.assert_array_equal(result["picked"][: len(masked)], ids[masked])
        slots = len(result["picked"])
        assert slots >= len(masked) and slots & (slots - 1) == 0
        count, width = result["shape"]
        assert width in (*WIDTHS, 200) and count in ROWS
        assert width - len(ids) <= max(16, width // 3)
        assert count * width <= POSITIONS
        assert result["padding"] == (7 if width > len(ids) else 9)


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, [1]), (5, [4, 1]), (8, [16]), (70, [64, 4, 4]), (2, [4])]
)
def test_a_batch_is_filled_up_from_half_on(count, sizes):
    shapes = [result["shape"] for result in buckets()(list(rows_of([20] * count)))]
    seen = [size for size in sizes for _ in range(size)]
    assert [int(rows) for rows, _ in shapes] == seen[:count]


def test_nothing_in_is_nothing_out():
    assert buckets()([]) == []


def test_programs_are_few_and_used_again():
    made = buckets()
    for seed in range(12):
        count = int(np.random.default_rng(seed).integers(1, 40))
        lengths = np.random.default_rng(seed).integers(1, 65, count)
        made(list(rows_of(lengths, seed)))
    # 16, 24, 32, 48, 64 long; 1, 4, 16, 64 rows; 1, 2, 4, 8, 16 masked positions.
    compiled = made._function._cache_size()
    assert compiled <= 5 * 4 * 5
    made(list(rows_of(lengths, seed)))
    assert made._function._cache_size() == compiled


def test_a_row_beyond_the_models_positions_is_refused():
    with pytest.raises(UserError, match="201 tokens.*200 positions"):
        buckets()(list(rows_of([3, 201])))
    (result,) = buckets()(list(rows_of([200])))
    assert result["shape"].tolist() == [1, 200]


def test_what_fills_up_a_batch_attends_to_something():
    def attended(_, batch):
        assert set(batch) == {"input_ids", "attention_mask"}
        every = batch["attention_mask"].any(axis=1).all()
        return jnp.broadcast_to(every, (len(batch["input_ids"]),))

    made = Buckets(attended, None, longest=64, pad_id=0)
    results = made([{"input_ids": np.ones(n, np.int32)} for n in (5, 6, 7)])
    assert jax.tree.leaves(results) == [True] * 3
