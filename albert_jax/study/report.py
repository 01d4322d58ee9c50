"""A study's report: one JSON document, and what is rendered of it for readers.

Nothing in it depends on when, where or in how many attempts the study was run.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from albert_jax.config import UserError
from albert_jax.data.shards import replacing
from albert_jax.study.claims import decide
from albert_jax.study.contrasts import contrast
from albert_jax.study.costs import (
    all_parameters,
    encoder_parameters,
    step_flops,
    step_tokens,
)
from albert_jax.study.metrics import metric_of, shown_metrics
from albert_jax.study.results import Arm, StudyResults, read_study
from albert_jax.study.table import table_csv

MARKDOWN = "report.md"
JSON = "report.json"
TABLE = "table.csv"


def write_report(folder: str | Path, report: str | Path) -> Path:
    """Writes a study's report into the folder ``report``, and returns its Markdown.

    It receives ``report.md``, ``report.json`` (every number, by seed), ``table.csv``
    (a row an arm) and the figures as PNG and SVG. What an earlier report left there
    under these names is replaced or, where there is nothing to draw any more, removed.

    Raises:
      UserError: not a study's folder, a damaged file in it, or no room.
    """
    from albert_jax.study.figures import FIGURES, draw_figures
    from albert_jax.study.markdown import markdown

    folder, report = Path(folder), Path(report)
    results = read_study(folder)
    document = describe_study(results)
    files = draw_figures(results)
    document["figures"] = [f for f in FIGURES if f"{f}.png" in files]
    files |= {
        JSON: (json.dumps(document, indent=1, allow_nan=False) + "\n").encode(),
        TABLE: table_csv(document).encode(),
        MARKDOWN: markdown(document).encode(),
    }
    try:
        report.mkdir(parents=True, exist_ok=True)
        for figure in FIGURES:
            for ending in (".png", ".svg"):
                if figure + ending not in files:
                    (report / (figure + ending)).unlink(missing_ok=True)
        for name, content in files.items():
            with replacing(report / name) as temporary:
                temporary.write_bytes(content)
    except OSError as error:
        raise UserError(f"cannot write {report}: {error.strerror}") from error
    return report / MARKDOWN


def describe_study(results: StudyResults) -> dict[str, Any]:
    """All of the report but its figures, as JSON values."""
    study = results.study
    metrics = shown_metrics(study)
    decisions = [decide(claim, results) for claim in study.claims]
    claimed = {c.metric: metric_of(c.metric, study) for c in study.claims}
    document = {
        "study": study.name,
        "question": study.question,
        "scale": results.scale,
        "budget": study.budget,
        "baseline": study.baseline,
        "seeds": study.seeds,
        "table": study.table,
        "metrics": {m.name: asdict(m) for m in (*metrics, *claimed.values())},
        "columns": [m.name for m in metrics],
        "arms": {
            name: _describe_arm(results, arm) for name, arm in results.arms.items()
        },
        "figures": [],
        "claims": [
            asdict(decision.claim)
            | {
                "estimate": decision.contrast.as_dict(),
                "verdict": decision.verdict,
                "reason": decision.reason,
            }
            for decision in decisions
        ],
    }
    return json.loads(json.dumps(document, allow_nan=False))


def _describe_arm(results: StudyResults, arm: Arm) -> dict[str, Any]:
    study, experiment = results.study, arm.experiment
    columns = [metric.name for metric in shown_metrics(study)]
    against = {arm.name: 1.0, study.baseline: -1.0}
    return {
        "parameters": encoder_parameters(experiment.model),
        "parameters_with_heads": all_parameters(experiment.model),
        "parameters_at_paper_scale": results.paper_parameters.get(arm.name),
        "steps": arm.steps,
        "flops": arm.steps * step_flops(experiment),
        "tokens": arm.steps * step_tokens(experiment),
        "starts_from": study.starts.get(arm.name),
        "progress": {
            str(seed): asdict(reached) for seed, reached in arm.progress.items()
        },
        "failed_tasks": dict(arm.failed_tasks),
        "unigram_accuracy": arm.unigram,
        "scores": {
            name: contrast(results, {arm.name: 1.0}, name).as_dict() for name in columns
        },
        "differences": {
            name: contrast(results, against, name).as_dict()
            for name in columns
            if arm.name != study.baseline
        },
        "paper": {
            column: str(value)
            for column, value in study.paper.get(arm.name, {}).items()
        },
    }
