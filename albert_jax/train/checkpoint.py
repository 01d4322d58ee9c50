"""Checkpoints that survive a killed process, a full disk and a flipped bit.

A checkpoint is one folder a step: what Orbax writes, and ``manifest.json``, written
last, which holds the checksum of every file. Orbax loads damaged data without
complaint, so a step counts only if its manifest is there and every file matches it.

Several processes share the folder: each writes the arrays that it holds, the first one
the manifest, once all have. It alone verifies and deletes.

Loads Orbax: import it late.
"""

import contextlib
import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PyTree

from albert_jax.config import UserError
from albert_jax.identity import differences, digest
from albert_jax.train import arrays, manifest
from albert_jax.train.processes import agreed, alone, first, meet

_DELETED = ".deleted"  # ending of a checkpoint's folder while it is being deleted
_NONE, _UNUSABLE = -1, -2  # instead of a step to restore


@dataclass(frozen=True)
class Restored:
    """A checkpoint that was read back: where the run stood, and its arrays."""

    step: int
    state: PyTree
    position: int
    """Examples drawn from the data so far, over all processes."""
    unlogged: dict[str, Any]
    """What the run's log does not say yet, as it was saved."""


class Checkpoints:
    """The checkpoints of one run; a context manager that finishes the running save.

    Every process of a run has one, and calls the same methods in the same order.

    Args:
      folder: Holds one folder a step; made by the first save.
      keep: Newest complete checkpoints to keep.
      identity: The flat settings that a resumed run must share (JSON values).
      report: Takes one line for whatever the user should hear of.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int,
        identity: dict[str, Any],
        report: Callable[[str], None],
    ) -> None:
        self._folder = Path(folder).absolute()  # Orbax takes no other
        self._keep = keep
        self._identity = json.loads(json.dumps(identity))
        self._report = report
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self._noise = arrays.Noise()
        self._intact: set[int] = set()  # steps written or verified by this process

    def __enter__(self) -> "Checkpoints":
        self._noise.hush()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if error is not None and not isinstance(error, UserError) and not alone():
            # Another process may be gone, and with it what a save would wait for.
            self._writer.shutdown(wait=False)
            return
        try:
            self.wait()
        except UserError as failure:
            if error is None:
                raise
            self._report(str(failure))  # the error under way matters more
        finally:
            self._writer.shutdown()
            self._noise.unhush()

    def save(
        self,
        step: int,
        state: PyTree,
        position: int,
        unlogged: Mapping[str, Any] | None = None,
    ) -> None:
        """Start to write a checkpoint; returns once ``state`` may be donated.

        A step that this object has saved or restored is left alone: it is the same.

        Args:
          position: Examples drawn from the data so far, over all processes.
          unlogged: What the run's log does not say yet (JSON values).

        Raises:
          UserError: the previous save failed, on a full disk for example; its folder
            is removed and older checkpoints are intact.
        """
        self.wait()
        if step in self._intact:
            return
        header = {
            "step": step,
            "position": position,
            "unlogged": dict(unlogged or {}),
            "identity": digest(self._identity),
            "identity_fields": self._identity,
            "arrays": _signature(state),
        }
        try:
            if first():
                self._remove(step)
            meet(f"step {step} may be written")
            written = arrays.save_async(self._path(step), state)
        except Exception as error:
            raise self._failure(step, error) from error
        self._pending = self._writer.submit(self._finish, written, header)

    def wait(self) -> None:
        """Wait for the running save, if any; raises as ``save`` does."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def restore(
        self,
        abstract_state: PyTree,
        *,
        accept_changes: bool = False,
        partial: bool = False,
    ) -> Restored | None:
        """The newest checkpoint that is complete and undamaged; none in a new run.

        Newer ones that do not count are reported, one line each, and skipped.

        Args:
          abstract_state: ``jax.ShapeDtypeStruct`` with a sharding for every array; the
            shardings may differ from those that were saved.
          accept_changes: Restore under other settings than the checkpoint's.
          partial: ``abstract_state`` is a dictionary of some branches of the saved tree
            ("params" alone, to use a model), not the whole.

        Raises:
          UserError: there are steps but none counts, the settings differ, or the
            arrays do.
        """
        self.wait()
        step = agreed(self._newest() if first() else _NONE)
        if step == _NONE:
            return None
        if step == _UNUSABLE:
            raise UserError(
                f"{self._folder} holds {len(self._steps())} checkpoints, but none is "
                "usable; bring one back from a copy, or delete the folder to start "
                "afresh"
            )
        found = manifest.read(self._path(step))
        self._compare(found, abstract_state, accept_changes, partial)
        state = arrays.load(self._path(step), abstract_state, partial)
        self._intact.add(step)
        return Restored(step, state, found["position"], found.get("unlogged", {}))

    def _newest(self) -> int:
        """The newest step that counts, whose every file has been read."""
        steps = self._steps()
        for step in steps:
            try:
                manifest.verify(self._path(step))
                return step
            except manifest.Damaged as reason:
                self._report(f"the checkpoint of step {step} is skipped: {reason}")
        # A run that was killed in its very first save has nothing to lose.
        if not steps or (len(steps) == 1 and not self._has_manifest(steps[0])):
            return _NONE
        return _UNUSABLE

    def _compare(
        self,
        found: dict[str, Any],
        abstract_state: PyTree,
        accept_changes: bool,
        partial: bool,
    ) -> None:
        where = f"the checkpoint of step {found['step']} in {self._folder}"
        changed = differences(found["identity_fields"], self._identity)
        if changed and not accept_changes:
            raise UserError(
                f"{where} was written with other settings ({'; '.join(changed)}); "
                "set them back, start another run, or accept the changes "
                "(accept_changes)"
            )
        if changed:
            self._report(f"{where} had other settings: {'; '.join(changed)}")
        saved, wanted = found["arrays"], _signature(abstract_state)
        if partial:
            saved = {name: saved[name] for name in saved.keys() & wanted.keys()}
        if unlike := differences(saved, wanted):
            more = f"; and {len(unlike) - 3} more" if len(unlike) > 3 else ""
            raise UserError(
                f"{where} holds other arrays than this run "
                f"({'; '.join(unlike[:3])}{more}); start another run"
            )

    def _finish(self, written: Callable[[], None], header: dict[str, Any]) -> None:
        """Wait for the arrays to be written, then make the checkpoint count."""
        step = header["step"]
        try:
            written()
            if first():
                manifest.write(self._path(step), header)
        except Exception as error:
            raise self._failure(step, error) from error
        self._intact.add(step)
        if not first():
            return
        for old in self._complete(step)[self._keep :]:
            self._remove(old)
        for leftover in self._folder.glob(f"*{_DELETED}"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _remove(self, step: int) -> None:
        """Delete every trace of a step; a kill meanwhile leaves no damaged step."""
        for folder in self._traces(step):
            target = folder
            if not folder.name.endswith(_DELETED):
                target = folder.with_name(folder.name + _DELETED)
                shutil.rmtree(target, ignore_errors=True)
                folder.rename(target)
            shutil.rmtree(target, ignore_errors=True)
        self._intact.discard(step)

    def _remove_for_good(self, step: int) -> None:
        """Remove a step whose save failed until it stays away.

        Orbax reports the first error at once; its other threads write on for a moment
        and make the folder anew.
        """
        quiet = 0
        for _ in range(100):
            quiet = 0 if self._traces(step) else quiet + 1
            if quiet == 5:
                break
            with contextlib.suppress(OSError):
                self._remove(step)
            time.sleep(0.05)

    def _failure(self, step: int, error: Exception) -> Exception:
        """Clears a failed save of ``step`` away; returns what it raises."""
        if first():
            self._remove_for_good(step)
        self._noise.failed = True
        code = arrays.system_error(error)
        if code is None:
            return error
        intact = next(iter(self._complete(step)), None)
        full = code in (errno.ENOSPC, errno.EDQUOT)
        return UserError(
            ("the disk is full: " if full else "")
            + f"writing the checkpoint of step {step} to {self._folder} failed "
            f"({os.strerror(code)}); "
            + (
                "there is no earlier checkpoint"
                if intact is None
                else f"the checkpoint of step {intact} is intact"
            )
        )

    def _path(self, step: int) -> Path:
        return self._folder / str(step)

    def _has_manifest(self, step: int) -> bool:
        return (self._path(step) / manifest.NAME).exists()

    def _complete(self, last: int) -> list[int]:
        """Complete steps up to ``last``, the newest first; a later one, if there is
        any, was found damaged and waits to be replaced."""
        return [s for s in self._steps() if s <= last and self._has_manifest(s)]

    def _traces(self, step: int) -> list[Path]:
        """A step's folder, and what Orbax or we call it while it comes or goes."""
        return [p for p in self._folder.glob(f"{step}*") if _step_of(p) == step]

    def _steps(self) -> list[int]:
        """Steps that have a folder, complete or not, the newest first."""
        if not self._folder.is_dir():
            return []
        found = (p for p in self._folder.iterdir() if not p.name.endswith(_DELETED))
        return sorted({_step_of(p) for p in found} - {None}, reverse=True)


def _step_of(path: Path) -> int | None:
    name = path.name.split(".")[0]
    return int(name) if name.isdecimal() and path.is_dir() else None


def _signature(tree: PyTree) -> dict[str, str]:
    """Path -> type and shape of every array, e.g. "params/kernel" -> "float32[8,4]"."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): (
            f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
        )
        for path, leaf in leaves
    }
