"""``study.json``: what a study's folder was begun with, and must go on with."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from albert_jax.config import UserError
from albert_jax.data.shards import replacing
from albert_jax.identity import differences, lasting

STUDY = "study.json"


@dataclass(frozen=True, kw_only=True)
class Record:
    """A study, and what was decided before its first run."""

    study: dict[str, Any]
    """As ``to_dict`` gives it."""
    scale: str
    together: int
    """Seeds that are trained in one program."""
    steps: dict[str, int] = field(default_factory=dict)
    """Of every arm, after the budget; empty before it is seen to."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Of a step of every arm, measured where the budget is time."""
    paper_parameters: dict[str, int] = field(default_factory=dict)
    """Arm -> parameters of its counterpart at the paper's scale."""

    def settings(self) -> dict[str, Any]:
        """What a study that goes on must share with its runs, flat. What only the
        report reads, its question, numbers and claims, may change."""
        study = self.study
        names = ("seeds", "budget", "baseline")
        flat = {"scale": self.scale, "together": self.together}
        flat |= {name: study[name] for name in names}
        flat["arms"] = sorted(study["arms"])
        flat["starts"] = sorted(map(list, study["starts"].items()))
        for arm, experiment in study["arms"].items():
            flat |= _prefixed(f"arms.{arm}", experiment)
        for task in study["tasks"]:
            flat |= _prefixed(f"tasks.{task['task']['name']}", task)
        return flat

    def changes(self, wanted: "Record") -> list[str]:
        """Lines "field: old -> new"; of arms that only one of both has, one alone."""
        old, new = self.settings(), wanted.settings()
        lone = self.study["arms"].keys() ^ wanted.study["arms"].keys()
        own = tuple(f"arms.{arm}." for arm in lone)
        old, new = (
            {name: value for name, value in each.items() if not name.startswith(own)}
            for each in (old, new)
        )
        return differences(old, new)

    def unchanged(self, wanted: "Record") -> list[str]:
        """The arms whose steps hold in ``wanted`` too."""
        changed = {line.partition(": ")[0] for line in self.changes(wanted)}
        baseline = f"arms.{wanted.study['baseline']}."
        if changed & {"scale", "budget", "baseline"} or any(
            name.startswith(baseline) for name in changed
        ):
            return []
        return [
            arm
            for arm in wanted.study["arms"]
            if arm in self.steps
            and not any(name.startswith(f"arms.{arm}.") for name in changed)
        ]

    def write(self, folder: Path) -> None:
        """Into a study's folder, whole or not at all.

        Raises:
          UserError: it cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / STUDY) as temporary:
                temporary.write_text(json.dumps(asdict(self), indent=1) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {folder}: {error.strerror}") from error


def read_record(folder: Path) -> Record | None:
    """That of a study's folder; None where none was begun.

    Raises:
      UserError: the folder holds something else, or the record is damaged.
    """
    path = folder / STUDY
    if not path.exists():
        if folder.exists() and any(folder.iterdir()):
            raise UserError(
                f"{folder} is not empty and holds no {STUDY}: it is not a study's "
                "folder; choose another --workdir"
            )
        return None
    try:
        return Record(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def refuse_changes(
    folder: Path,
    old: Record,
    wanted: Record,
    *,
    accept_changes: bool,
    way: str = "--accept-changes",
) -> None:
    """Raises a ``UserError`` if a study would go on under other settings.

    Args:
      way: how a user accepts them.
    """
    changed = old.changes(wanted)
    if changed and not accept_changes:
        raise UserError(
            f"{folder} holds a study with other settings ({'; '.join(changed)}); "
            "choose another --workdir, set them back, or go on under the new ones with "
            f"{way}"
        )


def _prefixed(prefix: str, experiment: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{name}": value for name, value in lasting(experiment).items()}
