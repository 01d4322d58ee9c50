"""A study's table for programs: a row an arm, nothing rounded."""

import csv
import io
from collections.abc import Mapping
from typing import Any


def table_csv(document: Mapping[str, Any]) -> str:
    """A row an arm; values as they are logged, not rounded, and empty where there is
    none. The paper's columns begin with "paper: "."""
    printed = paper_columns(document)
    costs = ("parameters", "parameters_at_paper_scale", "flops", "tokens", "steps")
    parts = ("mean", "low", "high", "seeds")
    header = ["arm", "seeds_finished", *costs]
    for name in document["columns"]:
        header += [f"{name} {part}" for part in parts]
        header += [f"{name} difference {part}" for part in parts]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*header, *(f"paper: {column}" for column in printed)])
    for arm, row in document["arms"].items():
        states = [one["state"] for one in row["progress"].values()]
        cells = [arm, states.count("finished"), *(row[cost] for cost in costs)]
        for name in document["columns"]:
            cells += _estimate_cells(row["scores"][name])
            cells += _estimate_cells(row["differences"].get(name))
        writer.writerow([*cells, *(row["paper"].get(column, "") for column in printed)])
    return file.getvalue()


def paper_columns(document: Mapping[str, Any]) -> list[str]:
    """The columns of the paper's table, in its order."""
    rows = [row["paper"] for row in document["arms"].values()]
    return list(dict.fromkeys(column for row in rows for column in row))


def _estimate_cells(estimate: Mapping[str, Any] | None) -> list[Any]:
    if estimate is None:
        return [None] * 4
    low, high = estimate["interval"] or (None, None)
    return [estimate["mean"], low, high, len(estimate["seeds"])]
