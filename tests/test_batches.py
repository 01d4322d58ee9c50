"""Training batches by length: everything once an epoch, whoever is trained beside."""

import numpy as np
import pytest

from albert_jax.tasks.batches import TrainingBatches
from albert_jax.tasks.rows import Row

PAD = 7


def units_of(lengths, choices=1):
    """Units that can be told by their label and their first piece."""
    return [
        tuple(
            Row(
                number,
                {
                    "input_ids": np.full(length - j, 100 + number),
                    "token_type_ids": np.ones(length - j, int),
                },
                {"labels": number},
            )
            for j in range(choices)
        )
        for number, length in enumerate(lengths)
    ]


def batches(lengths, seeds=(0,), batch_size=4, **options):
    return TrainingBatches(
        units_of(lengths, **options),
        batch_size=batch_size,
        seeds=seeds,
        longest=40,
        pad_id=PAD,
    )


LENGTHS = [3, 12, 33, 17, 24, 16, 5, 9, 40, 18, 31, 20, 6, 7]


def seen(stream, epoch, seed=0):
    """The labels and the width of every batch of an epoch."""
    for step in range(epoch * stream.per_epoch, (epoch + 1) * stream.per_epoch):
        batch = {name: value[seed] for name, value in stream[step].items()}
        labels = batch["labels"][batch["example_weights"] > 0]
        yield labels.tolist(), batch["input_ids"].shape[-1]


def test_every_unit_comes_once_an_epoch_in_an_order_of_its_own():
    stream = batches(LENGTHS, seeds=(0, 3))
    assert stream.per_epoch == 4
    orders = [
        [label for labels, _ in seen(stream, epoch, seed) for label in labels]
        for epoch in (0, 1)
        for seed in (0, 1)
    ]
    assert all(sorted(order) == list(range(14)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


def test_lengths_belong_together_and_padding_is_marked():
    stream = batches(LENGTHS)
    # Two rows of no weight and two of up to 16 pieces, four of these, one with three of
    # up to 24, and one with the three longest.
    widths = sorted(width for _, width in seen(stream, 0))
    assert widths == [16, 16, 24, 40]
    for step in range(4):
        batch = {name: value[0] for name, value in stream[step].items()}
        for i, label in enumerate(batch["labels"]):
            real = batch["attention_mask"][i]
            if batch["example_weights"][i]:
                assert real.sum() == LENGTHS[label]
                assert (batch["input_ids"][i][real] == 100 + label).all()
            assert (batch["input_ids"][i][~real] == PAD).all() and real.any()
            assert not batch["token_type_ids"][i][~real].any()


def test_a_seed_sees_the_same_alone_and_beside_others():
    alone, beside = batches(LENGTHS, seeds=(3,)), batches(LENGTHS, seeds=(0, 3, 5))
    for step in range(9):
        for name, values in alone[step].items():
            np.testing.assert_array_equal(values[0], beside[step][name][1])


def test_choices_are_rows_of_one_example():
    batch = batches([8, 30], choices=3, batch_size=2)[0]
    assert batch["input_ids"].shape == (1, 2, 3, 32)
    assert batch["labels"].shape == (1, 2)
    lengths = batch["attention_mask"][0].sum(-1)
    assert sorted(lengths.tolist()) == [[8, 7, 6], [30, 29, 28]]


@pytest.mark.parametrize("value", [2, 2.5, np.ones(5, np.int32)])
def test_targets_are_numbers_or_belong_to_positions(value):
    inputs = {"input_ids": np.ones(5, int), "token_type_ids": np.zeros(5, int)}
    stream = TrainingBatches(
        [(Row(0, inputs, {"labels": value}),)],
        batch_size=2,
        seeds=(0,),
        longest=8,
        pad_id=0,
    )
    labels = stream[0]["labels"][0]
    assert labels.dtype == (np.float32 if isinstance(value, float) else np.int32)
    # The first row is of no weight.
    expected = [[0] * 8, [1] * 5 + [0] * 3] if np.ndim(value) else [0, value]
    np.testing.assert_array_equal(labels, expected)
