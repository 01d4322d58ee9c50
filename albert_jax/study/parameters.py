"""Parameters by model, exact, beside the paper's rounded column."""

from collections.abc import Mapping
from dataclasses import dataclass

from albert_jax.config import AlbertConfig
from albert_jax.config.study import Study
from albert_jax.study.costs import encoder_parameters

PAPER_COLUMN = "parameters"
"""What ``Study.paper`` calls the paper's own count."""


@dataclass(frozen=True)
class ParameterRow:
    """A model's exact count beside the one that is printed for it."""

    name: str
    exact: int
    printed: str
    """As the paper prints it, such as "12M"; empty where it prints none."""

    @property
    def rounded(self) -> str:
        """The exact count in the paper's unit: whole millions."""
        return f"{self.exact / 1e6:.0f}M"


def parameter_rows(
    models: Mapping[str, AlbertConfig], printed: Mapping[str, str]
) -> list[ParameterRow]:
    """A row a model, in their order; ``printed`` may lack some."""
    return [
        ParameterRow(name, encoder_parameters(config), str(printed.get(name, "")))
        for name, config in models.items()
    ]


def study_parameters(study: Study) -> list[ParameterRow]:
    """The rows of a study's arms, beside the paper's column of parameters."""
    models = {name: arm.model for name, arm in study.arms.items()}
    columns = study.paper.items()
    printed = {n: row[PAPER_COLUMN] for n, row in columns if PAPER_COLUMN in row}
    return parameter_rows(models, printed)


def counterparts(study: Study, paper: Study) -> dict[str, str]:
    """Arm -> the arm at the paper's scale that it stands for.

    That is the one with the same row of the paper's table; their names differ, and one
    name may mean two things. Arms that the paper has no row of have none.
    """
    return {
        arm: next(name for name in paper.arms if paper.paper.get(name) == row)
        for arm, row in study.paper.items()
        if row and row in paper.paper.values()
    }


def paper_parameters(study: Study, paper: Study) -> dict[str, int]:
    """Arm -> exact parameters of its counterpart, counted as the paper does."""
    return {
        arm: encoder_parameters(paper.arms[name].model)
        for arm, name in counterparts(study, paper).items()
    }


def parameter_lines(title: str, rows: list[ParameterRow]) -> list[str]:
    """A Markdown table: the exact count, rounded, and what the paper prints.

    What the paper prints otherwise than the exact count rounds is in bold.
    """
    lines = [f"| {title} | parameters | rounded | paper |", "|---|---:|---:|---:|"]
    for row in rows:
        differs = row.printed not in ("", row.rounded)
        printed = f"**{row.printed}**" if differs else row.printed or "–"
        lines.append(f"| {row.name} | {row.exact:,} | {row.rounded} | {printed} |")
    return lines
