"""Rows with targets -> training batches by length, for several seeds at once.

Every seed sees each example once an epoch, in an order of its own. Which lengths a
step's batch is padded to is the same for all seeds, so that they share one program and
none waits for another's long texts; and a seed's batches do not depend on which other
seeds are trained beside it.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import groupby

import numpy as np
from jaxtyping import Int

from albert_jax.config.tasks import Task
from albert_jax.tasks.buckets import WIDTHS, fit
from albert_jax.tasks.rows import Row

# What is trained on at once: the rows of an example's choices, or one row.
Unit = tuple[Row, ...]


def units_of(task: Task, rows: Sequence[Row]) -> list[Unit]:
    """The rows of each example's choices together, in order; any other row alone."""
    if task.kind != "choice":
        return [(row,) for row in rows]
    return [tuple(group) for _, group in groupby(rows, lambda row: row.example)]


class TrainingBatches:
    """Batches of any step, by random access.

    In an epoch, units of one padded length are shuffled among each other, from the seed
    and the epoch; batches are cut out of all of them from the shortest on, and come in
    an order drawn from the epoch alone. Where the batch size does not divide the units,
    the batch of the shortest is filled up with rows of no weight.

    Args:
      units: with targets, all of one kind of task.
      batch_size: units a step, for each seed.
      seeds: of the orders.
      longest: most positions that the model takes.
      pad_id: what ``input_ids`` are padded with.
    """

    def __init__(
        self,
        units: Sequence[Unit],
        *,
        batch_size: int,
        seeds: Sequence[int],
        longest: int,
        pad_id: int,
    ) -> None:
        self._units = units
        self._size = batch_size
        self._seeds = seeds
        self._pad_id = pad_id
        widths = [*(w for w in WIDTHS if w < longest), longest]
        lengths = [max(len(row.inputs["input_ids"]) for row in unit) for unit in units]
        self._widths = np.array([fit(widths, length) for length in lengths])
        self.per_epoch = -(-len(units) // batch_size)
        self._members = lru_cache(maxsize=2)(self._plan)

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        """The batch of a step, from 0 on: arrays [seeds, batch, ...] by name.

        Inputs of the model, among them ``attention_mask`` and, for SQuAD 2.0,
        ``p_mask``; targets as in ``Row``; and ``example_weights``, 0 where there is no
        example. Rows of choices have an axis for the choices before the positions'.
        """
        epoch, place = divmod(step, self.per_epoch)
        members = self._members(epoch)[place]
        width = int(self._widths[members[members >= 0]].max())
        parts = [self._stack(numbers, width) for numbers in members]
        return {name: np.stack([part[name] for part in parts]) for name in parts[0]}

    def _plan(self, epoch: int) -> Int[np.ndarray, "n s b"]:
        """Units of each batch of an epoch, for each seed; -1: nobody."""
        count, orders = len(self._units), []
        missing = [-1] * (self.per_epoch * self._size - count)
        for seed in self._seeds:
            drawn = np.random.default_rng((seed, epoch)).permutation(count)
            by_width = drawn[np.argsort(self._widths[drawn], kind="stable")]
            orders.append(np.concatenate([missing, by_width]).astype(int))
        plan = np.stack(orders).reshape(len(orders), self.per_epoch, self._size)
        shared = np.random.default_rng(epoch).permutation(self.per_epoch)
        return plan.swapaxes(0, 1)[shared]

    def _stack(
        self, numbers: Int[np.ndarray, " b"], width: int
    ) -> dict[str, np.ndarray]:
        """The batch of one seed."""
        units = [self._units[i] if i >= 0 else None for i in numbers]
        like = next(unit for unit in units if unit is not None)
        shape = (len(units), len(like), width)
        batch = {name: np.zeros(shape, np.int32) for name in like[0].inputs}
        batch["input_ids"] += self._pad_id
        batch["attention_mask"] = np.zeros(shape, bool)
        # A row without an example attends to something, so that nothing is NaN.
        batch["attention_mask"][..., 0] = True
        for i, unit in enumerate(units):
            for j, row in enumerate(unit or ()):
                length = len(row.inputs["input_ids"])
                batch["attention_mask"][i, j, :length] = True
                for name, values in row.inputs.items():
                    batch[name][i, j, :length] = values
        if len(like) == 1:
            batch = {name: values[:, 0] for name, values in batch.items()}
        if "answer_mask" in batch:
            batch["p_mask"] = batch.pop("answer_mask") == 0
        weights = np.array([unit is not None for unit in units], np.float32)
        targets = _targets(units, like[0].targets, width)
        return batch | targets | {"example_weights": weights}


def _targets(
    units: Sequence[Unit | None], like: Mapping[str, object], width: int
) -> dict[str, np.ndarray]:
    """Numbers [b], or arrays [b, width] for what belongs to positions."""
    targets = {}
    for name, value in like.items():
        kind = np.asarray(value)
        floating = np.issubdtype(kind.dtype, np.floating)
        shape = (len(units), width) if kind.ndim else (len(units),)
        targets[name] = np.zeros(shape, np.float32 if floating else np.int32)
        for i, unit in enumerate(units):
            if unit is not None:
                given = unit[0].targets[name]
                targets[name][(i, slice(np.size(given))) if kind.ndim else i] = given
    return targets
