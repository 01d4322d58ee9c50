"""A study's report: what is read, compared, decided, and shown of it."""

import csv
import io
import json
import math
import re
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import made_study
import matplotlib
import numpy as np
import pytest
from made_study import MASKED, ORDER
from scipy.stats import ttest_1samp, ttest_rel

from albert_jax.catalogue import load_study
from albert_jax.cli import main
from albert_jax.config import UserError
from albert_jax.config.finetuning import FinetuningExperiment
from albert_jax.config.study import Claim
from albert_jax.config.tasks import published
from albert_jax.model.costs import RowShape, training_flops
from albert_jax.study import figures, panels
from albert_jax.study.claims import decide
from albert_jax.study.contrasts import contrast
from albert_jax.study.costs import encoder_parameters
from albert_jax.study.markdown import markdown
from albert_jax.study.parameters import (
    counterparts,
    paper_parameters,
)
from albert_jax.study.report import describe_study, write_report
from albert_jax.study.results import Arm, Progress, StudyResults, read_study


def results(scores: dict[str, dict[int, float]], seeds=3, **fields) -> StudyResults:
    """A finished study of arms with these scores of masked LM."""
    arms = {name: made_study.experiment() for name in scores}
    study = made_study.study(arms, seeds=seeds, **fields)
    done = dict.fromkeys(range(seeds), Progress("finished", 40))
    arms = {
        name: Arm(name, study.arms[name], 40, done, {}, {MASKED: by_seed})
        for name, by_seed in scores.items()
    }
    return StudyResults(study, "lab", arms, {})


def by_seed(values) -> dict[int, float]:
    return dict(enumerate(map(float, values)))


def claim(expected="above", margin=0.0, better="all", worse="none") -> Claim:
    return Claim(
        text="one is better",
        source="Table 4",
        contrast={better: 1.0, worse: -1.0},
        metric=MASKED,
        expected=expected,
        margin=margin,
    )


# Contrasts.


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_a_paired_difference_has_scipys_interval(seeds):
    rng = np.random.default_rng(seeds)
    ours, theirs = rng.normal(0.3, 0.1, (2, seeds))
    made = results({"all": by_seed(ours), "none": by_seed(theirs)}, seeds=seeds)
    found = contrast(made, {"all": 1.0, "none": -1.0}, MASKED)
    expected = ttest_rel(ours, theirs).confidence_interval(0.95)
    assert found.spread.interval == pytest.approx(expected, rel=1e-9)
    assert found.spread.mean == pytest.approx((ours - theirs).mean())
    assert found.excludes_zero == (ttest_rel(ours, theirs).pvalue < 0.05)


def test_a_level_and_a_contrast_of_four_have_students_interval():
    rng = np.random.default_rng(1)
    a, b, c, d = rng.normal(size=(4, 6))
    arms = dict(zip(("all", "attention", "ffn", "none"), (a, b, c, d), strict=True))
    made = results({name: by_seed(x) for name, x in arms.items()}, seeds=6)
    level = contrast(made, {"ffn": 1.0}, MASKED).spread.interval
    expected = ttest_1samp(c, 0).confidence_interval(0.95)
    assert level == pytest.approx(expected, rel=1e-9)
    weights = {"all": 1.0, "attention": -1.0, "ffn": -1.0, "none": 1.0}
    found = contrast(made, weights, MASKED).spread.interval
    expected = ttest_1samp((a - b) - (c - d), 0).confidence_interval(0.95)
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_difference_by_hand():
    made = results({"all": by_seed([5, 7, 9]), "none": by_seed([4, 5, 6])})
    spread = contrast(made, {"all": 1.0, "none": -1.0}, MASKED).spread
    # Differences 1, 2, 3; t of two degrees of freedom is 4.302653.
    assert (spread.mean, spread.std) == (2.0, 1.0)
    reach = 4.302652729911275 / math.sqrt(3)
    assert spread.interval == pytest.approx((2 - reach, 2 + reach))
    back = contrast(made, {"none": 1.0, "all": -1.0}, MASKED).spread
    assert back.mean == -2.0


def test_equal_differences_have_an_interval_of_no_width():
    made = results({"all": by_seed([3, 4, 5]), "none": by_seed([1, 2, 3])})
    found = contrast(made, {"all": 1.0, "none": -1.0}, MASKED)
    assert found.spread.interval == (2.0, 2.0) and found.excludes_zero
    made = results({"all": by_seed([3, 4, 5]), "none": by_seed([3, 4, 5])})
    same = contrast(made, {"all": 1.0, "none": -1.0}, MASKED)
    assert same.spread.interval == (0.0, 0.0) and not same.excludes_zero


def test_seeds_that_only_one_arm_has_are_left_out_of_the_pairs():
    made = results({"all": {0: 0.5, 2: 0.7}, "none": by_seed([0.1, 0.9, 0.2])})
    found = contrast(made, {"all": 1.0, "none": -1.0}, MASKED)
    assert found.values == pytest.approx({0: 0.4, 2: 0.5})
    assert (found.missing, found.not_finite) == ((1,), ())


def test_a_seed_that_diverged_is_told_from_one_that_is_missing():
    made = results({"all": {0: 0.5, 1: math.nan}, "none": by_seed([0.1, 0.9, 0.2])})
    found = contrast(made, {"all": 1.0, "none": -1.0}, MASKED)
    assert (list(found.values), found.missing, found.not_finite) == ([0], (2,), (1,))
    assert found.spread.interval is None and not found.excludes_zero
    assert contrast(made, {"all": 1.0}, "eval/nothing").spread is None


# Claims.

# Differences 1, 2, 3 of an interval from -0.48 to 4.48; 11, 12, 13 of one from 9.52.
_NEAR, _FAR = [1, 2, 3], [11, 12, 13]


@pytest.mark.parametrize(
    ("differences", "expected", "margin", "verdict"),
    [
        (_FAR, "above", 0, "reproduced"),
        (_FAR, "below", 0, "not reproduced"),
        (_NEAR, "above", 0, "undecided"),
        (_NEAR, "below", 0, "undecided"),
        ([-x for x in _FAR], "above", 0, "not reproduced"),
        ([-x for x in _FAR], "below", 0, "reproduced"),
        (_NEAR, "about", 5, "reproduced"),
        (_NEAR, "about", 4, "undecided"),
        ([-x for x in _NEAR], "about", 5, "reproduced"),
        ([-x for x in _NEAR], "about", 4, "undecided"),
        (_FAR, "about", 5, "not reproduced"),
        ([-x for x in _FAR], "about", 5, "not reproduced"),
        # Wider than the margin on both sides.
        ([-9, 0, 9], "about", 1, "undecided"),
        # Without any width: 0 is neither above nor below, and about 0.
        ([0, 0, 0], "above", 0, "not reproduced"),
        ([0, 0, 0], "below", 0, "not reproduced"),
        ([0, 0, 0], "about", 0.1, "reproduced"),
    ],
)
def test_an_interval_decides_a_claim(differences, expected, margin, verdict):
    theirs = np.array([20.0, 50.0, 30.0])
    made = results({"all": by_seed(theirs + differences), "none": by_seed(theirs)})
    decision = decide(claim(expected, float(margin)), made)
    assert decision.verdict == verdict
    edge = "the margin" if expected == "about" else "0"
    told = f"the interval reaches across {edge}" if verdict == "undecided" else ""
    assert decision.reason == told


@pytest.mark.parametrize(
    ("ours", "reason"),
    [
        ({0: 1.0}, "one seed has no interval"),
        ({}, f"no {MASKED} of all"),
        ({0: 9.0, 1: 9.0, 2: math.nan}, "not a number for seed 2"),
    ],
)
def test_what_has_no_interval_is_undecided_and_says_why(ours, reason):
    made = results({"all": ours, "none": by_seed([0, 0, 0])})
    decision = decide(claim(), made)
    assert (decision.verdict, decision.reason) == ("undecided", reason)


def test_arms_without_a_common_seed_are_undecided():
    made = results({"all": {0: 1.0}, "none": {1: 0.0}})
    assert decide(claim(), made).reason == "its arms have no seed in common"


# A study's folder.


def sst2() -> FinetuningExperiment:
    return FinetuningExperiment(name="own-name", task=published("sst2"))


@pytest.fixture
def folder(tmp_path) -> Path:
    """The made study, to be changed."""
    return make(tmp_path)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """The report of the made study as it is."""
    place = tmp_path_factory.mktemp("report")
    return write_report(make(place), place / "report").parent


def make(tmp_path: Path) -> Path:
    """A study of six arms: whole; whole, in two runs; failed; half-way; whole, but for
    a seed that diverged; not begun."""
    study = made_study.study(
        {
            "none": made_study.experiment(share="none"),
            "all": made_study.experiment(),
            "half": made_study.experiment(),
            "begun": made_study.experiment(),
            "wide": made_study.experiment(embedding_size=16),
            "later": made_study.experiment(),
        },
        baseline="none",
        starts={"later": "none"},
        tasks=(sst2(),),
        paper={
            "none": {"parameters": "108M", "Avg": 82.3},
            "all": {"parameters": "31M", "S1": "88.6/81.5", "Avg": 80.0, MASKED: 54.5},
        },
        table="Table 4",
        claims=(
            claim("below"),
            claim("above", better="half"),
            claim("below", better="wide"),
        ),
    )
    made_study.write_study(
        tmp_path / "made", study, paper_parameters={"none": 109_081_344}
    )
    folder, arms = tmp_path / "made", study.arms
    none = by_seed([0.31, 0.34, 0.37])
    made_study.write_run(
        folder / "none", arms["none"], {MASKED: none, ORDER: by_seed([0.6, 0.7, 0.8])}
    )
    for seeds in ((0, 1), (2,)):
        shared = {seed: none[seed] - 0.1 - 0.01 * seed for seed in seeds}
        order = dict.fromkeys(seeds, 0.55)
        metrics = {MASKED: shared, ORDER: order}
        made_study.write_run(folder / "all", arms["all"], metrics)
    half = {MASKED: none, ORDER: by_seed([0.5, 0.5, 0.5])}
    made_study.write_run(folder / "half", arms["half"], half, until=20)
    failed = folder / "half" / "seeds-0-2" / "failed.json"
    failed.write_text(json.dumps({"error": f"no room in {folder}/half"}))
    made_study.write_run(folder / "begun", arms["begun"], {MASKED: {0: 0.3}}, until=10)
    lost = {MASKED: by_seed([0.2, 0.2, math.nan])}
    made_study.write_run(folder / "wide", arms["wide"], lost)
    scores = [{"accuracy": 0.8}, {"accuracy": 0.82}, {"accuracy": 0.84}]
    made_study.write_task(folder / "none" / "sst2", (0, 1, 2), scores)
    made_study.write_task(folder / "all" / "sst2" / "seed-2", (2,), [{"accuracy": 0.7}])
    (folder / "wide" / "sst2").mkdir()
    (folder / "wide" / "sst2" / "failed.json").write_text('{"error": "no file"}')
    return folder


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


# Figures.


def drawn(made: StudyResults, name: str):
    with matplotlib.rc_context(panels.SETTINGS):
        return figures.FIGURES[name](made)


def test_curves_are_means_with_bands(folder):
    figure = drawn(read_study(folder), "curves")
    masked, order = figure.axes
    assert masked.get_title(loc="left") == "masked-LM accuracy"
    assert masked.get_xlabel() == "training tokens (million)"
    lines = {line.get_label(): line for line in masked.get_lines()}
    tokens = np.array([0, 10, 20, 30, 40]) * 8 * 16 / 1e6
    np.testing.assert_allclose(lines["none"].get_xdata(), tokens)
    np.testing.assert_allclose(
        lines["none"].get_ydata(), 34 * np.linspace(0, 1, 5), atol=1e-9
    )
    assert len(lines["half (unfinished)"].get_xdata()) == 3
    assert len(lines["begun (unfinished)"].get_xdata()) == 2
    # The band at the end of the baseline, the first that is drawn.
    (band,) = masked.collections[0].get_paths()
    ends = band.vertices[np.isclose(band.vertices[:, 0], tokens[-1]), 1]
    low, high = ttest_1samp([31, 34, 37], 0).confidence_interval(0.95)
    assert (ends.min(), ends.max()) == pytest.approx((low, high))
    assert {text.get_text() for text in masked.texts} == {"commonest piece"}
    assert {text.get_text() for text in order.texts} == {"chance"}


def test_differences_are_paired_and_named(folder):
    figure = drawn(read_study(folder), "differences")
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        "all",
        "half",
        "begun",
        "wide",
        "later",
    ]
    assert axes.get_xlabel() == "difference to none (points)"
    assert [text.get_text() for text in axes.texts] == [
        "−11.00 ± 2.48",
        "no result",
        "no result",
        "−12.50 ± 19.06",
        "no result",
    ]
    (interval,) = axes.collections[0].get_segments()
    expected = ttest_1samp([-10, -11, -12], 0).confidence_interval(0.95)
    np.testing.assert_allclose(interval[:, 0], expected)


def test_costs_stand_on_the_x_axis(folder):
    made = read_study(folder)
    figure = drawn(made, "costs")
    parameters, flops = figure.axes[:2]
    assert parameters.get_xlabel() == "parameters (without heads)"
    assert flops.get_xlabel() == "training FLOPs"
    assert parameters.get_ylabel() == "masked-LM accuracy (%)"
    labels = parameters.get_legend_handles_labels()[1]
    assert labels == ["none", "all", "wide"]
    points = [
        line.get_xydata()[0]
        for line in parameters.get_lines()
        if len(line.get_xydata())
    ]
    expected = encoder_parameters(made.study.arms["none"].model)
    assert any(point == pytest.approx((expected, 34.0)) for point in points)


def test_where_arms_cost_the_same_there_is_no_figure_of_costs():
    made = results({"all": by_seed([1, 2, 3])})
    assert drawn(made, "costs") is None


def test_pictures_of_twelve_arms_stay_small(tmp_path):
    # Of one size, because counting takes a while; twice the steps for half of them.
    often = replace(made_study.experiment().evaluation, every=2)
    base = replace(made_study.experiment(), evaluation=often)
    arms = {f"arm-{n}": replace(base, steps=40 + 40 * (n % 2)) for n in range(12)}
    study = made_study.study(arms, baseline="arm-3", seeds=5)
    made_study.write_study(tmp_path, study)
    rng = np.random.default_rng(0)
    for number, name in enumerate(arms):
        metrics = {
            MASKED: by_seed(0.2 + 0.01 * number + 0.004 * rng.normal(size=5)),
            ORDER: by_seed(0.6 + 0.01 * number + 0.02 * rng.normal(size=5)),
        }
        made_study.write_run(tmp_path / name, arms[name], metrics)
    write_report(tmp_path, tmp_path / "report")
    for name in figures.FIGURES:
        png = (tmp_path / "report" / f"{name}.png").read_bytes()
        width, _ = struct.unpack(">II", png[16:24])
        assert len(png) <= 150_000 and 1000 <= width <= 1300, (name, len(png), width)
    looks = panels.looks_of(read_study(tmp_path)).values()
    seen = {(look.color, look.marker, str(look.linestyle)) for look in looks}
    assert len(seen) == 12


# Parameters.


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
