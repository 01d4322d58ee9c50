"""A study's report: what is read, compared, decided, and shown of it."""

import csv
import io
import json
import math
import re
import shutil
from pathlib import Path

import made_study
import matplotlib
import numpy as np
import pytest
from made_study import MASKED, ORDER, by_seed, claim, write_six_arms
from scipy.stats import ttest_1samp

from albert_jax.catalogue import load_study
from albert_jax.cli import main
from albert_jax.config import UserError
from albert_jax.config.finetuning import FinetuningExperiment
from albert_jax.config.tasks import published
from albert_jax.model.costs import RowShape, training_flops
from albert_jax.study import figures
from albert_jax.study.costs import encoder_parameters
from albert_jax.study.markdown import markdown
from albert_jax.study.parameters import (
    counterparts,
    paper_parameters,
)
from albert_jax.study.report import describe_study, write_report
from albert_jax.study.results import read_study


@pytest.fixture
def folder(tmp_path) -> Path:
    """The made study, to be changed."""
    return write_six_arms(tmp_path)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """The report of the made study as it is."""
    place = tmp_path_factory.mktemp("report")
    return write_report(write_six_arms(place), place / "report").parent


def test_a_folder_is_read_whole(folder):
    arms = read_study(folder).arms
    told = {
        name: [(one.state, one.step) for one in arm.progress.values()]
        for name, arm in arms.items()
    }
    assert told == {
        "none": [("finished", 40)] * 3,
        "all": [("finished", 40)] * 3,
        "half": [("failed", 20)] * 3,
        "begun": [("unfinished", 10), ("not started", 0), ("not started", 0)],
        "wide": [("finished", 40)] * 3,
        "later": [("not started", 0)] * 3,
    }
    assert arms["none"].scores[MASKED] == by_seed([0.31, 0.34, 0.37])
    assert arms["all"].scores[MASKED] == pytest.approx({0: 0.21, 1: 0.23, 2: 0.25})
    assert math.isnan(arms["wide"].scores[MASKED][2])
    assert arms["half"].scores[MASKED] == arms["begun"].scores[MASKED] == {}
    assert arms["half"].curves[MASKED][2] == {0: 0.0, 10: 0.0925, 20: 0.185}
    assert arms["half"].progress[0].error == "no room in half"
    assert arms["all"].scores["sst2/accuracy"] == {2: 0.7}
    assert arms["wide"].failed_tasks == {"sst2": "no file"}
    assert arms["none"].unigram == 0.0625


def test_the_last_line_of_a_step_holds(folder):
    log = folder / "none" / "seeds-0-2" / "metrics.jsonl"
    again = {"step": 40, f"{MASKED}/seed-1": 0.9}
    log.write_text(log.read_text() + json.dumps(again) + '\n{"step": 40, "ev')
    assert read_study(folder).arms["none"].scores[MASKED][1] == 0.9


def test_a_finished_run_counts_beside_an_unfinished_one(folder):
    study = read_study(folder).study
    metrics = {MASKED: by_seed([0.4, 0.4])}
    made_study.write_run(folder / "begun", study.arms["begun"], metrics)
    assert read_study(folder).arms["begun"].scores[MASKED] == by_seed([0.4, 0.4])
    made_study.write_run(folder / "all", study.arms["all"], {MASKED: {1: 0.5}})
    with pytest.raises(UserError, match="seed-1 has seed 1, which another run of all"):
        read_study(folder)


def test_what_is_no_study_is_one_line(folder, tmp_path):
    with pytest.raises(UserError, match="is not a study: it has no study.json"):
        read_study(tmp_path)
    study = read_study(folder).study
    made_study.write_run(folder / "all", study.arms["all"], {MASKED: {7: 0.5}})
    with pytest.raises(UserError, match="seed 7, but the study's are 0 to 2"):
        read_study(folder)
    (folder / "study.json").write_text('{"study"')
    with pytest.raises(UserError, match="study.json cannot be read"):
        read_study(folder)
    (folder / "study.json").write_text('{"scale": "lab"}')
    with pytest.raises(UserError, match="study.json is damaged: no 'study'"):
        read_study(folder)


# The report.


def written(folder: Path) -> str:
    """The Markdown, without figures."""
    return markdown(describe_study(read_study(folder)))


def tables(text: str) -> list[list[dict[str, str]]]:
    """Every Markdown table of a text: a row is header -> cell."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        header, rule, *rows = [
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in block.splitlines()
        ]
        assert all(re.fullmatch("---:?", cell) for cell in rule)
        found.append([dict(zip(header, row, strict=True)) for row in rows])
    return found


def test_the_table_has_every_arm_beside_the_papers_numbers(report):
    text = (report / "report.md").read_text()
    rows = {row["arm"]: row for row in tables(text)[0]}
    assert list(rows) == ["none", "all", "half", "begun", "wide", "later"]
    masked, delta = "masked-LM accuracy, %", "Δ masked-LM accuracy, points"
    told = {name: (row["seeds"], row[masked], row[delta]) for name, row in rows.items()}
    # Of -0.1, -0.11, -0.12 and 0.31, 0.34, 0.37: t(2) * 0.01 / sqrt(3), and thrice it.
    assert told == {
        "none": ("3", "34.00 ± 7.45", "baseline"),
        "all": ("3", "23.00 ± 4.97", "**−11.00 ± 2.48**"),
        "half": ("0 of 3 (failed)", "–", "–"),
        "begun": ("0 of 3 (unfinished)", "–", "–"),
        "wide": (
            "3",
            "20.00 ± 0.00 (2 of 3 seeds, 1 not a number)",
            "−12.50 ± 19.06 (2 of 3 seeds, 1 not a number)",
        ),
        "later": ("0 of 3 (not started)", "–", "–"),
    }
    assert rows["none"]["sst2 accuracy, %"] == "82.00 ± 4.97"
    assert rows["all"]["sst2 accuracy, %"] == "70.00 (1 of 3 seeds)"
    assert rows["all"]["Δ sst2 accuracy, points"] == "−14.00 (1 of 3 seeds)"
    assert [rows["none"][f"paper: {c}"] for c in ("parameters", "Avg", "S1")] == [
        "108M",
        "82.3",
        "–",
    ]
    assert rows["all"]["paper: Avg"] == "80.0"
    assert rows["all"]["paper: masked-LM accuracy, %"] == "54.5"
    assert rows["none"]["parameters at the paper's scale"] == "109,081,344"
    assert rows["all"]["parameters at the paper's scale"] == "–"
    config = made_study.experiment(share="none").model
    assert rows["none"]["parameters"] == f"{encoder_parameters(config):,}"
    assert "later goes on from none" in text


def test_costs_are_those_of_the_formulas(report):
    document = json.loads((report / "report.json").read_text())
    arm, experiment = document["arms"]["all"], made_study.experiment()
    row = RowShape(16, experiment.data.predictions, experiment.data.pairs)
    assert arm["flops"] == 40 * 8 * training_flops(experiment.model, row)
    assert arm["tokens"] == 40 * 8 * 16
    # Embeddings 68 x 12 and their norm; projection; a block; pooler.
    block = 4 * (16 * 16 + 16) + 2 * 16 * 24 + 24 + 16 + 4 * 16
    expected = 68 * 12 + 24 + 12 * 16 + 16 + block + 16 * 16 + 16
    assert arm["parameters"] == expected
    assert arm["parameters_with_heads"] > expected


def test_steps_after_the_budget_count_and_not_the_arms(folder):
    study = read_study(folder).study
    steps = dict.fromkeys(study.arms, 40) | {"all": 20}
    made_study.write_study(folder, study, steps=steps)
    arms = describe_study(read_study(folder))["arms"]
    assert arms["all"]["tokens"] == 20 * 8 * 16
    # Half of the last values, as they were logged at step 20.
    assert arms["all"]["scores"][MASKED]["mean"] == pytest.approx(0.115)


def test_what_is_missing_is_named(report):
    text = (report / "report.md").read_text()
    part = text.partition("## Not complete\n\n")[2].partition("\n\n")[0]
    assert part.splitlines() == [
        "- half, seeds 0 to 2: failed at step 20 of 40: no room in half",
        "- begun, seed 0: unfinished, at step 10 of 40",
        "- begun, seeds 1 to 2: not started",
        "- wide, sst2: failed: no file",
        "- later, seeds 0 to 2: not started",
    ]


def test_every_claim_has_its_verdict(report):
    text = (report / "report.md").read_text()
    rows = tables(text)[1]
    assert [row["verdict"] for row in rows] == [
        "**reproduced**",
        f"**undecided**: no {MASKED} of half",
        "**undecided**: not a number for seed 2",
    ]
    assert rows[0] | {"claim": ""} == {
        "claim": "",
        "where": "Table 4",
        "contrast": "all − none; masked-LM accuracy",
        "expected": "< 0 points",
        "mean": "−11.00",
        "95 % interval": "−13.48 to −8.52",
        "seeds": "3",
        "verdict": "**reproduced**",
    }


def test_the_csv_has_unrounded_numbers(folder, tmp_path):
    write_report(folder, tmp_path / "report")
    rows = list(
        csv.DictReader(io.StringIO((tmp_path / "report/table.csv").read_text()))
    )
    (row,) = (row for row in rows if row["arm"] == "all")
    interval = [float(row[f"{MASKED} difference {end}"]) for end in ("low", "high")]
    differences = np.array([0.21, 0.23, 0.25]) - [0.31, 0.34, 0.37]
    expected = ttest_1samp(differences, 0).confidence_interval(0.95)
    assert interval == pytest.approx(expected, rel=1e-9)
    assert (row["seeds_finished"], row[f"{MASKED} difference seeds"]) == ("3", "3")
    assert (row["paper: S1"], rows[2][f"{MASKED} mean"]) == ("88.6/81.5", "")
    assert [row["arm"] for row in rows[2:]] == ["half", "begun", "wide", "later"]


def test_one_seed_has_no_interval(tmp_path):
    study = made_study.study(seeds=1, claims=(claim(),))
    made_study.write_study(tmp_path, study)
    for arm, value in (("all", 0.3), ("none", 0.35)):
        made_study.write_run(tmp_path / arm, study.arms[arm], {MASKED: {0: value}})
    text = written(tmp_path)
    (_, row), (decided,) = tables(text)
    assert row["masked-LM accuracy, %"] == "35.00"
    assert row["Δ masked-LM accuracy, points"] == "+5.00"
    assert decided["verdict"] == "**undecided**: one seed has no interval"


def test_squads_scores_are_percent_already(tmp_path):
    task = FinetuningExperiment(name="tuned", task=published("squad1"))
    study = made_study.study(tasks=(task,), seeds=2, metrics=("eval/masked_lm_loss",))
    made_study.write_study(tmp_path, study)
    name = task.task.name
    scores = [{"f1": 88.0, "exact": 80.0}, {"f1": 90.0, "exact": 80.0}]
    made_study.write_task(tmp_path / "all" / name, (0, 1), scores)
    losses = {"eval/masked_lm_loss": {0: 5.4321, 1: 5.4321}}
    made_study.write_run(tmp_path / "all", study.arms["all"], losses)
    text = written(tmp_path)
    row, _ = tables(text)[0]
    assert row[f"{name} f1, %"] == "89.00 ± 12.71"
    assert row["masked-LM loss, nats"] == "5.4321 ± 0.0000"


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_killed_and_gone_on_with_it_is_the_same_to_the_byte(folder, report, tmp_path):
    again = tmp_path / "report"
    shutil.copytree(report, again)
    (again / "costs.png").write_bytes(b"an earlier one")
    study = read_study(folder).study
    whole = {MASKED: by_seed([0.3, 0.31, 0.32]), ORDER: by_seed([0.6, 0.7, 0.6])}
    other = tmp_path / "elsewhere" / "made"
    for place in (folder, other):
        if place == other:
            shutil.copytree(folder, other)
        for arm in ("half", "begun", "later"):
            shutil.rmtree(place / arm, ignore_errors=True)
            made_study.write_run(place / arm, study.arms[arm], whole)
    write_report(folder, again)
    write_report(other, tmp_path / "afresh")
    assert files_of(again) == files_of(tmp_path / "afresh")
    assert set(files_of(again)) == {
        "report.md",
        "report.json",
        "table.csv",
        *(f"{n}.{end}" for n in figures.FIGURES for end in ("png", "svg")),
    }


def test_no_file_tells_when_where_or_by_what_it_was_made(report):
    for name, content in files_of(report).items():
        for said in (
            str(report.parent),
            matplotlib.__version__,
            "Matplotlib v",
            "T00:",
        ):
            assert said.encode() not in content, (name, said)
        assert not re.search(rb"20[2-9]\d-\d\d-\d\d", content), name
        assert b"tEXt" not in content, name


def test_what_cannot_be_drawn_any_more_is_removed(folder, report, tmp_path):
    again = tmp_path / "report"
    shutil.copytree(report, again)
    for arm in ("none", "all", "half", "begun", "wide"):
        shutil.rmtree(folder / arm)
    text = write_report(folder, again).read_text()
    assert sorted(files_of(again)) == ["report.json", "report.md", "table.csv"]
    assert "Figures" not in text and len(tables(text)[0]) == 6


def test_counterparts_have_the_same_row_of_the_paper_and_not_the_same_name():
    def study(*sizes, rows):
        arms = {f"e{e}": made_study.experiment(embedding_size=e) for e in sizes}
        return made_study.study(arms, paper=rows)

    narrow, wide = {"parameters": "10M"}, {"parameters": "31M"}
    lab = study(8, 12, 16, rows={"e8": narrow, "e12": wide})
    paper = study(12, 16, rows={"e12": narrow, "e16": wide})
    assert counterparts(lab, paper) == {"e8": "e12", "e12": "e16"}
    assert paper_parameters(lab, paper) == {
        "e8": encoder_parameters(made_study.experiment(embedding_size=12).model),
        "e12": encoder_parameters(made_study.experiment(embedding_size=16).model),
    }


def test_the_labs_arms_stand_for_the_papers_of_the_same_question():
    folder = Path(__file__).parents[1] / "experiments" / "ablations"
    scales = ("lab", "paper")
    lab, paper = (load_study(str(folder / "factorization.py"), s) for s in scales)
    stands = counterparts(lab, paper)
    assert len(stands) == len(lab.paper) > 4
    widest = [max(s.arms.values(), key=_embedding).model for s in (lab, paper)]
    for arm, name in stands.items():
        ours, theirs = lab.arms[arm].model, paper.arms[name].model
        assert ours.share == theirs.share
        assert (ours.embedding_size == widest[0].embedding_size) == (
            theirs.embedding_size == widest[1].embedding_size
        )


def _embedding(experiment):
    return experiment.model.embedding_size


# The command.


def test_the_command_writes_and_tells(folder, capsys, monkeypatch):
    monkeypatch.setattr(figures, "FIGURES", {})
    assert main(["report", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "made: 9 of 18 seeds of 6 arms are finished"
    assert lines[1] == "  reproduced: one is better (Table 4)"
    assert lines[-1] == f"the report is {folder / 'report' / 'report.md'}"
    assert main(["report", str(folder), "--json", "--output", f"{folder}/other"]) == 0
    printed = capsys.readouterr().out
    assert printed == (folder / "other" / "report.json").read_text()
    assert json.loads(printed)["claims"][0]["verdict"] == "reproduced"
    assert files_of(folder / "report") == files_of(folder / "other")


def test_the_command_says_what_is_wrong_in_one_line(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("albert-jax: ") and said.count("\n") == 1
    assert "study.json" in said
    (tmp_path / "file").write_text("")
    made_study.write_study(tmp_path / "made", made_study.study())
    output = str(tmp_path / "file" / "report")
    assert main(["report", str(tmp_path / "made"), "--output", output]) == 2
    assert "cannot write" in capsys.readouterr().err
