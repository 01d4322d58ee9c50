"""Results in a folder: one file a case, in it one run a line-up of contenders."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
BUDGET = RESULTS / "budget.md"


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


def read_budget(folder: Path) -> str:
    """The tables that ``budget.py`` wrote."""
    path = folder / BUDGET.name
    return path.read_text().rstrip() if path.exists() else "Not run."
