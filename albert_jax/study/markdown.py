"""A study's report for readers: its document as Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from albert_jax.study.metrics import Metric
from albert_jax.study.table import paper_columns

_Document = Mapping[str, Any]

_NONE = "–"
_BUDGETS = {
    "tokens": "Each arm is trained for the steps of its own experiment.",
    "flops": "All arms get the FLOPs of the baseline, by formula.",
    "time": (
        "All arms get the time of the baseline, by the seconds that a step of each was "
        "measured to take."
    ),
}
_SIGNS = {"above": "> 0", "below": "< 0"}
_CAPTIONS = {
    "curves": (
        "Learning curves on held-out documents: means over seeds, bands their 95 % "
        "intervals."
    ),
    "costs": "What an arm costs against what it comes to, with 95 % intervals.",
    "differences": (
        "Differences to the baseline, paired by seed: means with 95 % intervals; small "
        "dots are seeds."
    ),
}


def markdown(document: _Document) -> str:
    """The question, the table beside the paper's numbers, what is missing, the claims
    with their verdicts, the figures."""
    metrics = {name: Metric(**one) for name, one in document["metrics"].items()}
    parts = [
        [f"# {document['study']}", "", document["question"]],
        _setting(document),
        ["## Results", "", *_table(_result_rows(document, metrics))],
        _notes(document, metrics),
        _missing(document),
        _claims(document, metrics),
        _figures(document),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _setting(document: _Document) -> list[str]:
    arms, seeds = len(document["arms"]), document["seeds"]
    many = f"{seeds} seeds" if seeds > 1 else "one seed"
    return [
        f"Scale: {document['scale']}; {arms} arms, {many} each; the baseline is "
        f"{document['baseline']}. {_BUDGETS[document['budget']]}"
    ]


def _result_rows(document: _Document, metrics: Mapping[str, Metric]) -> list[list[str]]:
    """Header and a row an arm."""
    arms, columns = document["arms"], document["columns"]
    printed = paper_columns(document)
    at_paper_scale = any(
        row["parameters_at_paper_scale"] not in (None, row["parameters"])
        for row in arms.values()
    )
    header = ["arm", "seeds", "parameters", "FLOPs, 10^15", "tokens, 10^6"]
    for name in columns:
        metric = metrics[name]
        unit = f", {metric.difference_unit}" if metric.difference_unit else ""
        header += [metric.heading, f"Δ {metric.label}{unit}"]
    if at_paper_scale:
        header.append("parameters at the paper's scale")
    named = [metrics[c].heading if c in metrics else c for c in printed]
    rows = [[*header, *(f"paper: {column}" for column in named)]]
    for arm, row in arms.items():
        cells = [
            arm,
            _seeds(row, document["seeds"]),
            f"{row['parameters']:,}",
            f"{row['flops'] / 1e15:,.4g}",
            f"{row['tokens'] / 1e6:,.1f}",
        ]
        for name in columns:
            seeds = document["seeds"]
            cells.append(_level(row["scores"][name], metrics[name], seeds))
            difference = row["differences"].get(name)
            cells.append(
                "baseline"
                if difference is None
                else _difference(difference, metrics[name], seeds)
            )
        if at_paper_scale:
            count = row["parameters_at_paper_scale"]
            cells.append(_NONE if count is None else f"{count:,}")
        rows.append([*cells, *(row["paper"].get(column, _NONE) for column in printed)])
    return rows


def _seeds(row: Mapping[str, Any], wanted: int) -> str:
    states = [one["state"] for one in row["progress"].values()]
    done = states.count("finished")
    if done == wanted:
        return str(done)
    why = next(s for s in ("failed", "unfinished", "not started") if s in states)
    return f"{done} of {wanted} ({why})"


def _level(estimate: Mapping[str, Any], metric: Metric, seeds: int) -> str:
    if estimate["mean"] is None:
        return _without(estimate)
    reach = _reach(estimate, metric)
    return metric.format(estimate["mean"]) + reach + _fewer(estimate, seeds)


def _difference(estimate: Mapping[str, Any], metric: Metric, seeds: int) -> str:
    """In bold where its interval excludes 0."""
    if estimate["mean"] is None:
        return _without(estimate)
    said = metric.format_signed(estimate["mean"]) + _reach(estimate, metric)
    mark = "**" if estimate["excludes_zero"] else ""
    return f"{mark}{said}{mark}{_fewer(estimate, seeds)}"


def _without(estimate: Mapping[str, Any]) -> str:
    return "not a number" if estimate["not_finite"] else _NONE


def _reach(estimate: Mapping[str, Any], metric: Metric) -> str:
    """Half of the interval, which is symmetric."""
    if estimate["interval"] is None:
        return ""
    low, high = estimate["interval"]
    return f" ± {metric.format((high - low) / 2)}"


def _fewer(estimate: Mapping[str, Any], wanted: int) -> str:
    """Says so where not all seeds are in it."""
    there, diverged = len(estimate["seeds"]), len(estimate["not_finite"])
    if there == wanted:
        return ""
    said = f"{there} of {wanted} seeds"
    return f" ({said}, {diverged} not a number)" if diverged else f" ({said})"


def _notes(document: _Document, metrics: Mapping[str, Metric]) -> list[str]:
    lines = [
        "- parameters: of `AlbertModel` (embeddings, encoder, pooler), exact; without "
        "heads, as the paper counts them.",
        "- FLOPs: of all training steps by formula, matrix products only, three times "
        "the forward pass. Tokens: positions of all rows, padding included.",
        "- metrics: mean ± half of the 95 % interval (Student's t) over seeds, at the "
        "last step. It covers what a seed changes (initial weights, dropout, order and "
        "masks of the training data); the held-out rows are the same for every seed.",
        f"- Δ: to {document['baseline']}, paired: of each seed the difference, of "
        "these mean and interval; bold where the interval excludes 0. Every interval "
        "stands alone: of twenty arms that do not differ, one is bold by chance.",
    ]
    for arm, row in document["arms"].items():
        if row["starts_from"]:
            lines.append(
                f"- {arm} goes on from {row['starts_from']}, whose steps, FLOPs and "
                "tokens are not counted again."
            )
    if any(row["paper"] for row in document["arms"].values()):
        where = document["table"] or "the paper"
        lines.append(f'- "paper": as printed in {where}, at the paper\'s scale.')
    if baselines := _baselines(document, metrics):
        lines.append(baselines)
    return lines


def _baselines(document: _Document, metrics: Mapping[str, Metric]) -> str:
    """What can be had for nothing."""
    said = []
    rows = document["arms"].values()
    known = sorted(u for row in rows if (u := row["unigram_accuracy"]) is not None)
    masked = metrics.get("eval/masked_lm_accuracy")
    if known and masked:
        ends = dict.fromkeys([masked.format(known[0]), masked.format(known[-1])])
        said.append(
            "always answering the commonest piece comes to a masked-LM accuracy of "
            f"{' to '.join(ends)} %"
        )
    for metric in metrics.values():
        if metric.chance is not None:
            said.append(f"guessing to a {metric.label} of {metric.format(0.5)} %")
    return f"- for comparison: {', '.join(said)}." if said else ""


def _missing(document: _Document) -> list[str]:
    """Every arm that is not finished, and why."""
    lines = []
    for arm, row in document["arms"].items():
        told = [(_told(one, row), seed) for seed, one in row["progress"].items()]
        for what, group in groupby(told, lambda pair: pair[0]):
            if what:
                seeds = [seed for _, seed in group]
                lines.append(f"- {arm}, {_seed_range(seeds)}: {what}")
        for task, error in row["failed_tasks"].items():
            lines.append(f"- {arm}, {task}: failed: {error}")
    return ["## Not complete", "", *lines] if lines else []


def _told(progress: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """Of a seed that is not finished."""
    where = f"at step {progress['step']:,} of {row['steps']:,}"
    return {
        "finished": "",
        "failed": f"failed {where}: {progress['error']}",
        "unfinished": f"unfinished, {where}",
        "not started": "not started",
    }[progress["state"]]


def _seed_range(seeds: Sequence[str]) -> str:
    first, last = seeds[0], seeds[-1]
    return f"seed {first}" if first == last else f"seeds {first} to {last}"


def _claims(document: _Document, metrics: Mapping[str, Metric]) -> list[str]:
    if not document["claims"]:
        return []
    header = ["claim", "where", "contrast", "expected", "mean", "95 % interval"]
    rows = [[*header, "seeds", "verdict"]]
    for claim in document["claims"]:
        metric, estimate = metrics[claim["metric"]], claim["estimate"]
        mean, interval = estimate["mean"], estimate["interval"]
        verdict = f"**{claim['verdict']}**"
        if claim["reason"]:
            verdict += f": {claim['reason']}"
        rows.append(
            [
                claim["text"],
                claim["source"],
                f"{_sum(claim['contrast'])}; {metric.label}",
                _expected(claim, metric),
                _NONE if mean is None else metric.format_signed(mean),
                _NONE
                if interval is None
                else " to ".join(map(metric.format_signed, interval)),
                str(len(estimate["seeds"])),
                verdict,
            ]
        )
    return [
        "## The paper's claims",
        "",
        *_table(rows),
        "",
        "Reproduced: all of the interval is as expected; not reproduced: none of it; "
        "else undecided.",
    ]


def _sum(contrast: Mapping[str, float]) -> str:
    """Weights and arms: "none − all", "a − b − c + d", "0.5 a + 0.5 b − c"."""
    said = ""
    for arm, weight in contrast.items():
        sign = "−" if weight < 0 else "+" if said else ""
        size = "" if abs(weight) == 1 else f"{abs(weight):g} "
        said += f" {sign} {size}{arm}" if said else f"{sign}{size}{arm}"
    return said


def _expected(claim: Mapping[str, Any], metric: Metric) -> str:
    unit = f" {metric.difference_unit}".rstrip()
    if claim["expected"] == "about":
        return f"within ± {metric.format(claim['margin'])}{unit}"
    return _SIGNS[claim["expected"]] + unit


def _figures(document: _Document) -> list[str]:
    lines = []
    for name in document["figures"]:
        lines += ["", f"![{_CAPTIONS[name]}]({name}.png)", "", _CAPTIONS[name]]
    return ["## Figures", *lines] if lines else []


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Header and rows as Markdown; numbers to the right."""
    header, *body = rows
    yield _line(header)
    yield _line(
        "---:" if all(_is_number(row[i]) for row in body) else "---"
        for i in range(len(header))
    )
    yield from map(_line, body)


def _is_number(cell: str) -> bool:
    return cell.strip("*")[:1] in "0123456789+−–" or cell == "baseline"


def _line(cells: Any) -> str:
    return f"| {' | '.join(map(_escape, cells))} |"


def _escape(text: str) -> str:
    """A cell of one line; bars would end it."""
    return " ".join(text.split()).replace("|", "\\|")
