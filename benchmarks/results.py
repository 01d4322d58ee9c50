"""Results in a folder: one file a case, in it one run a line-up of contenders and a
machine; and a budget a machine."""

import json
import re
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def add(folder: Path, run: dict[str, Any]) -> None:
    """Adds a run; earlier ones of its case and machine that it covers are dropped."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run['case'].replace('/', '.')}.json"
    runs = json.loads(path.read_text()) if path.exists() else []
    kept = [
        old
        for old in runs
        if old["machine"] != run["machine"]
        or not old["contenders"].keys() <= run["contenders"].keys()
    ]
    path.write_text(json.dumps([*kept, run], indent=1) + "\n")


def read(folder: Path) -> list[dict[str, Any]]:
    """Every run, by case and in the order in which they were added."""
    files = sorted(folder.glob("*.json"))
    return [run for path in files for run in json.loads(path.read_text())]


def write_budget(folder: Path, machine: str, tables: str) -> None:
    """Keeps the tables of ``budget.py`` in the place of this machine's older ones."""
    slug = re.sub(r"[^a-z0-9]+", "-", machine.lower()).strip("-")
    text = f"### On {machine}\n\n{tables}\n"
    (folder / f"budget.{slug}.md").write_text(text)


def read_budget(folder: Path) -> str:
    """The tables that ``budget.py`` wrote."""
    files = sorted(folder.glob("budget.*.md"))
    return "\n\n".join(path.read_text().rstrip() for path in files) or "Not run."
