"""The training loop. Its order is a contract; tasks give it a step and a stream."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import jax
import optax
from jaxtyping import Array

from albert_jax.config import UserError
from albert_jax.model.losses import Sums
from albert_jax.train.metrics import MetricsLog, add, means
from albert_jax.train.progress import Progress
from albert_jax.train.seeds import over_seeds
from albert_jax.train.state import TrainState
from albert_jax.train.utilization import Utilization

Batch = dict[str, Array]


class NonFiniteLossError(UserError):
    """A loss stopped being a number; says at which step."""


@dataclass(frozen=True, kw_only=True)
class Cadence:
    """When things happen, in steps."""

    steps: int
    log_every: int
    evaluate_every: int
    save_every: int

    def evaluates(self, step: int) -> bool:
        return step % self.evaluate_every == 0 or step == self.steps

    def saves(self, step: int) -> bool:
        return step > 0 and (step % self.save_every == 0 or step == self.steps)

    def logs(self, step: int) -> bool:
        # A window of the log ends with every checkpoint, so that a resumed run writes
        # the same lines as one that was never interrupted.
        return step % self.log_every == 0 or self.saves(step)


def run_loop(
    state: TrainState,
    step: int,
    batches: Iterator[Batch],
    train_step: Callable[[TrainState, Batch], tuple[TrainState, Sums]],
    evaluate: Callable[[int, TrainState], None],
    save: Callable[[int, TrainState], None],
    recorder: "Recorder",
    cadence: Cadence,
    stopping: Callable[[], bool],
) -> tuple[TrainState, int]:
    """Trains from a restored state on; returns the last state and its step.

    Evaluate, save, next batch, dispatch the step, log the previous one: the host waits
    for step n only once step n + 1 is under way. A state is evaluated or saved only
    after its losses were seen to be finite.
    """
    while True:
        stop = stopping()
        if stop or cadence.evaluates(step) or cadence.saves(step):
            recorder.settle()
        if cadence.evaluates(step) and not stop:
            evaluate(step, state)
        if cadence.saves(step) or (stop and step > 0):
            save(step, state)
        if stop or step >= cadence.steps:
            return state, step
        with recorder.waiting():
            batch = next(batches)
        state, sums = train_step(state, batch)
        step += 1
        recorder.settle()
        recorder.dispatched(step, sums)


@dataclass
class _Window:
    """What one line of the log is about: the steps since the line before it."""

    sums: Sums = field(default_factory=dict)
    steps: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "_Window":
        """A window from its JSON values, in which pairs are lists."""
        sums = {name: tuple(pair) for name, pair in values["sums"].items()}
        return cls(**{**values, "sums": sums})


class Recorder:
    """Turns the losses of steps into lines of the log and movements of the bar.

    Args:
      schedule: the learning rate of a step, logged beside the losses.
      tokens: real tokens that earlier attempts at this run have logged.
      unlogged: what ``unlogged`` was when the run stopped that this one goes on from.
      utilization: what MFU is computed by; without it, none is logged.

    A line of the log has, all of it about all seeds, beside the means of losses under
    "train/",
      tokens: real tokens seen so far, padding left out;
      tokens_per_second: real tokens, by the time between steps, evaluation and saving
        left out;
      real_token_share: of all positions, those that are not padding;
      data_wait: the share of the time in which the device had no step to compute
        because its batch was not there yet;
      mfu: see ``train/utilization.py``.
    """

    def __init__(
        self,
        log: MetricsLog,
        progress: Progress,
        cadence: Cadence,
        schedule: optax.Schedule,
        tokens: int = 0,
        utilization: Utilization | None = None,
        unlogged: Mapping[str, Any] | None = None,
    ) -> None:
        self._log = log
        self._progress = progress
        self._cadence = cadence
        self._schedule = schedule
        self._tokens = tokens
        self._utilization = utilization
        self._pending: tuple[int, Sums] | None = None
        self._clock = time.perf_counter()
        self._window = _Window.of(unlogged) if unlogged else _Window()

    @property
    def unlogged(self) -> dict[str, Any]:
        """The steps since the last line of the log, as JSON values: a run that is
        stopped between two lines and goes on has them in its next one."""
        return asdict(self._window)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts what it encloses as time in which the device waits for data, unless
        it is still busy with the step under way at its end. Before the first step and
        after evaluation or saving no step is, and ``settle`` leaves that time out."""
        start = time.perf_counter()
        yield
        if self._pending and _is_done(self._pending[1]):
            self._window.waited += time.perf_counter() - start

    def dispatched(self, step: int, sums: Sums) -> None:
        """A step is under way; the next ``settle`` reads its losses."""
        self._pending = (step, sums)

    def settle(self) -> None:
        """Waits for the step under way, if any, and records it.

        Raises:
          NonFiniteLossError: one of its losses is not a number.
        """
        since, pending = self._clock, self._pending
        sums = jax.device_get(pending[1]) if pending else None
        self._clock, self._pending = time.perf_counter(), None
        if pending is None:
            # Evaluation or saving came between: that time is nobody's training time.
            return
        step = pending[0]
        self._window.seconds += self._clock - since
        for name, value in means(sums).items():
            if not math.isfinite(value):
                raise NonFiniteLossError(
                    f"{name} is {value} at step {step}; nothing was saved since the "
                    "last checkpoint. A lower learning rate or a longer warm-up "
                    "usually helps"
                )
        of_all = {
            name: (float(total), float(weight))
            for name, (total, weight) in over_seeds(sums).items()
        }
        self._window.sums = add(self._window.sums, of_all)
        self._window.steps += 1
        values = self._values(step)
        self._progress.update(step, values)
        if self._cadence.logs(step):
            self._tokens = values["tokens"]
            self._log.write(step, values)
            self._window = _Window()

    def _values(self, step: int) -> dict[str, float]:
        """The window's means so far, and its rates."""
        window = self._window
        losses = means(window.sums)
        share = losses.pop("real_tokens")
        real, _ = window.sums["real_tokens"]
        mfu = self._utilization and self._utilization.mfu(window.steps, window.seconds)
        return {
            **{f"train/{name}": losses[name] for name in losses},
            "learning_rate": float(self._schedule(step - 1)),
            "tokens": self._tokens + int(real),
            "tokens_per_second": real / window.seconds,
            "real_token_share": share,
            "data_wait": window.waited / window.seconds,
            **({} if mfu is None else {"mfu": mfu}),
        }


def _is_done(sums: Sums) -> bool:
    return all(leaf.is_ready() for leaf in jax.tree.leaves(sums))
