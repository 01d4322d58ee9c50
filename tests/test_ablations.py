"""The studies of ./experiments/ablations: their arms differ in what they ask, and have
the sizes that the paper prints."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from albert_jax.catalogue import find_experiments, load_study
from albert_jax.config import AlbertConfig, EvaluationConfig, PretrainingExperiment
from albert_jax.config.study import Study
from albert_jax.identity import differences, flatten, from_dict, to_dict
from albert_jax.inspection import inspect
from albert_jax.model.costs import parameter_table

ROOT = Path(__file__).parents[1]
FILES = {
    path.stem: path
    for path in sorted((ROOT / "experiments" / "ablations").glob("*.py"))
    if path.stem != "scales"
}
STUDIES = {
    (stem, scale): load_study(str(path), scale)
    for stem, path in FILES.items()
    for scale in ("paper", "lab")
}
EVERY = pytest.mark.parametrize(
    "study", STUDIES.values(), ids=[f"{s}-{scale}" for s, scale in STUDIES]
)

# What the arms of a study may differ in, and nothing else.
ASKED = {
    "factorization": {"model.share", "model.embedding_size"},
    "sharing": {"model.share", "model.embedding_size"},
    "groups": {"model.num_hidden_groups"},
    "sentence_objective": {"data.objective"},
    "depth": {"model.num_hidden_layers"},
    "width": {
        "model.hidden_size",
        "model.intermediate_size",
        "model.num_attention_heads",
    },
    "ngram": {"data.max_ngram"},
    "masked_share": {"data.max_predictions"},
    "dropout": {"model.hidden_dropout_prob", "model.attention_probs_dropout_prob"},
    "optimizer": {
        "optimizer.name",
        "optimizer.learning_rate",
        "optimizer.bias_correction",
        "optimizer.adapt_all",
    },
    "strict_order": {"data.official_segments"},
}


@cache
def encoder_and_pooler(config: AlbertConfig) -> int:
    """What the paper counts: all but the heads of pretraining."""
    table = parameter_table(config)
    return sum(n for part, n in table.items() if not part.endswith("head"))


# Table -> the arm's exact count beside the paper's, in millions.
PRINTED = {
    "factorization": {
        "none-e64": (87_648_000, 87),
        "none-e128": (89_650_176, 89),
        "none-e256": (93_654_528, 93),
        "none-e768": (109_081_344, 108),
        "all-e64": (9_681_408, 10),
        "all-e128": (11_683_584, 12),
        "all-e256": (15_687_936, 16),
        "all-e768": (31_114_752, 31),
    },
    "sharing": {
        "all-e768": (31_114_752, 31),
        "attention-e768": (83_078_400, 83),
        "ffn-e768": (57_117_696, 57),
        "none-e768": (109_081_344, 108),
        "all-e128": (11_683_584, 12),
        "attention-e128": (63_647_232, 64),
        "ffn-e128": (37_686_528, 38),
        "none-e128": (89_650_176, 89),
    },
    "depth": {
        name: (17_683_968, 18)
        for layers in (1, 3, 6, 12, 24, 48)
        for name in (f"layers-{layers}", f"layers-{layers}-warm")
    },
    "width": {
        "hidden-1024": (17_683_968, 18),
        "hidden-2048": (58_724_864, 60),
        "hidden-4096": (222_595_584, 225),
        "hidden-6144": (495_518_208, 499),
    },
}

# Where the paper prints another number than its configuration has, to the nearest
# million. Unshared arms of narrow embeddings are cut, not rounded; where the others
# come from is not known.
OTHERWISE = {
    "none-e64": (88, 87),
    "none-e128": (90, 89),
    "none-e256": (94, 93),
    "none-e768": (109, 108),
    "hidden-2048": (59, 60),
    "hidden-4096": (223, 225),
    "hidden-6144": (496, 499),
}

TABLE_1 = {
    "experiments/base.py": (11_683_584, 12),
    "experiments/large.py": (17_683_968, 18),
    "experiments/xlarge.py": (58_724_864, 60),
    "experiments/xxlarge.py": (222_595_584, 235),
}
TABLE_1_OTHERWISE = {
    "experiments/xlarge.py": (59, 60),
    "experiments/xxlarge.py": (223, 235),
}


@pytest.fixture(scope="module")
def listed():
    return {entry.spec: entry.experiment for entry in find_experiments(ROOT)}


@pytest.mark.parametrize("stem", PRINTED)
def test_arms_have_the_parameters_that_the_paper_prints(stem):
    study = STUDIES[stem, "paper"]
    assert PRINTED[stem].keys() == study.arms.keys()
    for arm, (exact, printed) in PRINTED[stem].items():
        assert encoder_and_pooler(study.arms[arm].model) == exact, arm
        if arm in study.paper:
            assert study.paper[arm]["parameters"] == f"{printed}M"
        nearest = round(exact / 1e6)
        assert (nearest, printed) == OTHERWISE.get(arm, (printed, printed)), arm


def test_sizes_have_the_parameters_of_table_1(listed):
    for spec, (exact, printed) in TABLE_1.items():
        assert encoder_and_pooler(listed[spec].model) == exact
        nearest = round(exact / 1e6)
        assert (nearest, printed) == TABLE_1_OTHERWISE.get(spec, (printed, printed))


@pytest.mark.parametrize("stem", FILES)
def test_arms_differ_in_what_the_study_asks_and_in_nothing_else(stem):
    for scale in ("paper", "lab"):
        study = STUDIES[stem, scale]
        baseline = flatten(to_dict(study.arms[study.baseline]))
        found = set()
        for experiment in study.arms.values():
            changed = differences(baseline, flatten(to_dict(experiment)))
            found |= {line.split(":")[0] for line in changed}
        assert found == ASKED[stem], scale


@EVERY
def test_no_two_arms_are_the_same(study):
    # But where one starts from another arm, and the other does not.
    arms = {(study.starts.get(arm), e) for arm, e in study.arms.items()}
    assert len(arms) == len(study.arms)


@cache
def costs(arm: PretrainingExperiment) -> dict:
    return inspect(arm)


def assert_says_what_it_costs(arm: PretrainingExperiment) -> None:
    document = costs(replace(arm, evaluation=EvaluationConfig()))
    assert document["parameters"]["total"] > 0
    assert document["flops_per_step"]["total"] > 0


@EVERY
def test_the_baseline_says_what_it_costs(study):
    assert_says_what_it_costs(study.arms[study.baseline])


@pytest.mark.slow
@EVERY
def test_every_arm_says_what_it_costs(study):
    for arm in study.arms.values():
        assert_says_what_it_costs(arm)


@EVERY
def test_all_arms_are_measured_on_the_same_rows(study):
    assert len({experiment.heldout for experiment in study.arms.values()}) == 1


def test_both_scales_ask_the_same():
    for stem in FILES:
        paper, lab = STUDIES[stem, "paper"], STUDIES[stem, "lab"]
        assert (paper.name, paper.question) == (lab.name, lab.question)
        assert paper.metrics == lab.metrics and paper.table == lab.table
        texts = [claim.text for claim in paper.claims]
        assert {claim.text for claim in lab.claims} <= set(texts) or stem == "groups"
        # What the paper printed stands beside the arm that stands for it.
        printed = list(paper.paper.values())
        assert [*lab.paper.values()] == printed[: len(lab.paper)]
        assert lab.seeds >= 5


def test_papers_numbers_average_to_its_averages():
    for (stem, scale), study in STUDIES.items():
        for arm, numbers in study.paper.items():
            squad = [
                sum(map(float, numbers[f"SQuAD {version}"].split("/"))) / 2
                for version in ("1.1", "2.0")
            ]
            tasks = [*squad, *(numbers[name] for name in ("MNLI", "SST-2", "RACE"))]
            mean = sum(tasks) / len(tasks)
            assert mean == pytest.approx(numbers["Avg"], abs=0.051), (stem, scale, arm)


@EVERY
def test_a_study_survives_json_but_for_its_mappings(study):
    for experiment in study.arms.values():
        assert from_dict(type(experiment), to_dict(experiment)) == experiment
    assert replace(study) == study and isinstance(study, Study)


def test_list_shows_every_arm_of_both_scales(listed):
    for (stem, scale), study in STUDIES.items():
        mark = "" if scale == "paper" else "lab-"
        for arm, experiment in study.arms.items():
            shown = listed[f"experiments/ablations/{stem}.py:{mark}{arm}"]
            assert replace(shown, name=experiment.name, init=None) == experiment
            start = study.starts.get(arm)
            went_on_from = start and f"runs/{study.name}-{mark}{start}"
            assert shown.init == went_on_from
    names = [e.name for spec, e in listed.items() if "/ablations/" in spec]
    assert len(set(names)) == len(names)
