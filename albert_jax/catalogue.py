"""Experiment files: Python values, loaded by path.

A file defines ``EXPERIMENTS``, a dictionary from arm to experiment, and a docstring
whose first line says what it is. ``FILE:ARM`` names one; ``:ARM`` may be left out where
there is only one. The file of a study defines ``STUDIES`` beside it, a dictionary from
scale to study.
"""

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from albert_jax.config import PretrainingExperiment, UserError, nearest
from albert_jax.config.finetuning import FinetuningExperiment
from albert_jax.config.study import Study

Experiment = PretrainingExperiment | FinetuningExperiment


@dataclass(frozen=True)
class Entry:
    """One experiment of a file."""

    spec: str
    experiment: Experiment
    summary: str


def load_experiment(spec: str) -> Experiment:
    """The experiment that ``FILE`` or ``FILE:ARM`` names.

    Raises:
      UserError: no such file or arm, or the file does not define experiments.
    """
    name, _, arm = spec.partition(":")
    arms = _experiments(_load(Path(name)), name)
    if not arm and len(arms) == 1:
        return next(iter(arms.values()))
    if arm not in arms:
        listed = ", ".join(arms)
        wanted = f"no arm {arm!r}" if arm else f"{len(arms)} arms: say {name}:ARM"
        raise UserError(f"{name} has {wanted}; it has {listed}" + nearest(arm, arms))
    return arms[arm]


def load_study(path: str, scale: str) -> Study:
    """The study of a file at a scale.

    Raises:
      UserError: no such file or scale, or the file does not define studies.
    """
    scales = getattr(_load(Path(path)), "STUDIES", None)
    if not isinstance(scales, dict) or not scales:
        raise UserError(f"{path} defines no STUDIES, a dictionary from scale to study")
    if scale not in scales:
        listed = ", ".join(scales)
        raise UserError(
            f"{path} has no scale {scale!r}; it has {listed}" + nearest(scale, scales)
        )
    return scales[scale]


def find_experiments(
    root: Path, broken: Callable[[str], None] | None = None
) -> Iterator[Entry]:
    """Every experiment in ``root/experiments``, file by file.

    Args:
      broken: told what is wrong with a file, which is then passed over.

    Raises:
      UserError: a file is broken, and nobody is to be told.
    """
    for path in sorted((root / "experiments").rglob("*.py")):
        try:
            module = _load(path)
            if not hasattr(module, "EXPERIMENTS"):
                continue
            arms = _experiments(module, str(path))
        except UserError as error:
            if broken is None:
                raise
            broken(str(error))
            continue
        summary = (module.__doc__ or "").strip().partition("\n")[0]
        shown = path.relative_to(root)
        for arm, experiment in arms.items():
            spec = str(shown) if len(arms) == 1 else f"{shown}:{arm}"
            yield Entry(spec, experiment, summary)


def _load(path: Path) -> ModuleType:
    if not path.is_file():
        folder = path.parent
        known = [str(p) for p in folder.glob("*.py")] if folder.is_dir() else []
        raise UserError(
            f"there is no experiment file {path}" + nearest(str(path), known)
        )
    # "from experiments.base import BASE" works from wherever the command is run.
    path = path.resolve()
    roots = [p.parent for p in path.parents if p.name == "experiments"]
    root = str(roots[0] if roots else path.parent)
    if root not in sys.path:
        sys.path.insert(0, root)
    spec = importlib.util.spec_from_file_location(f"_experiment_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}: {error.msg}") from None
    except Exception as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == str(path)
        ]
        where = f"{path}, line {lines[-1]}" if lines else str(path)
        raise UserError(f"{where}: {type(error).__name__}: {error}") from error
    return module


def _experiments(module: ModuleType, name: str) -> dict[str, Experiment]:
    arms = getattr(module, "EXPERIMENTS", None)
    if not isinstance(arms, dict) or not arms:
        raise UserError(
            f"{name} defines no EXPERIMENTS, a dictionary from arm to experiment"
        )
    return arms
