"""The benchmarks' arithmetic and table, a small case for real, errors that teach."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import small_corpus

from albert_jax.data.prepare import prepare
from albert_jax.data.shards import PreparedCorpus

ROOT = Path(__file__).parents[1]
COMPARE = ROOT / "benchmarks" / "compare.py"


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


def compare(folder, *arguments, **environment):
    return subprocess.run(
        [sys.executable, COMPARE, *arguments, "--results", folder],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )


def contender(title, seconds, **facts):
    return {
        "title": title,
        "seconds": seconds,
        "work": [0] * len(seconds),
        "peak_mib": [100.0] * len(seconds),
        "first_seconds": 2.0,
        "versions": {"python": "3.11"},
    } | facts


def run_of(case, machine="a machine, 2 cores", **contenders):
    return {
        "case": case,
        "predictions": 19,
        "sentences": 128,
        "dtype": "float32",
        "rounds": 3,
        "threads": 2,
        "machine": machine,
        "load": [0.1, 2.0],
        "date": "2026-11-26",
        "commit": "abc",
        "command": "python benchmarks/compare.py",
        "contenders": contenders,
    }


def test_a_slow_round_changes_no_ratio():
    from spread import ratios

    # The second round took ten times as long, for both.
    assert ratios([3.0, 30.0, 3.0], [2.0, 20.0, 2.0]) == (1.5, 1.5, 1.5)


def test_quartiles_hold_the_middle_half():
    from spread import spread

    assert spread([5.0, 1.0, 2.0, 4.0, 3.0]) == (3.0, 2.0, 4.0)
    assert f"{spread([1.0]):.1f}" == "1.0 [1.0, 1.0]"


def test_the_share_of_the_limit_is_a_ratio_of_rates():
    from spread import shares

    ours = {"flops": 8.0, "seconds": [4.0, 8.0]}  # 2 and 1 a second
    limit = {"flops": 10.0, "seconds": [2.0, 2.0]}  # 5 a second
    assert shares(ours, limit) == pytest.approx((0.3, 0.25, 0.35))


def test_a_row_is_a_ratio_within_one_run():
    from table import render

    ours = contender("albert_jax", [2.0, 2.0, 2.0], flops=8e9)
    runs = [
        run_of(
            "step/base/8x128",
            ours=ours,
            **{"pytorch-sdpa": contender("SDPA", [3.0, 3.4, 3.8])},
        ),
        run_of(
            "step/base/8x128",
            ours=contender("albert_jax", [1.0, 1.0, 1.0], flops=8e9),
            flax=contender("Flax", [4.0, 4.0, 4.0]),
            limit=contender("matrix products", [1.0, 1.0, 1.0], flops=16e9),
        ),
    ]
    lines = render(runs, "Not run.").splitlines()
    (sdpa,) = (line for line in lines if "| SDPA |" in line)
    assert "| 3.40 s | 1.70 [1.60, 1.80] |" in sdpa  # Against the 2 s of its own run.
    (flax,) = (line for line in lines if "| Flax |" in line)
    assert "| 4.00 [4.00, 4.00] |" in flax
    (newest,) = (line for line in lines if "| albert_jax | 1.00 s |" in line)
    assert "0.50 [0.50, 0.50]" in newest
    assert "| 16 [16, 16] GFLOP/s |" in "".join(lines)


def test_every_kind_has_its_section():
    from cases import KINDS
    from table import SECTIONS

    assert KINDS.keys() == SECTIONS.keys()


def test_what_was_not_run_says_so():
    from table import render

    (gpu,) = (
        p
        for p in render([], "A budget.").split("## ")
        if p.startswith("Training step on a")
    )
    assert gpu.strip().endswith("Not run.")


def test_a_run_replaces_those_that_it_covers(tmp_path):
    from results import add, read

    for contenders in ({"ours", "flax"}, {"ours", "keras"}, {"ours", "keras", "limit"}):
        add(tmp_path, run_of("step/base/8x128", **dict.fromkeys(contenders, {})))
    assert [set(run["contenders"]) for run in read(tmp_path)] == [
        {"ours", "flax"},
        {"ours", "keras", "limit"},
    ]


def test_machines_stand_side_by_side(tmp_path):
    from results import add, read
    from table import render

    for machine, seconds in (("one", 1.0), ("two", 2.0), ("one", 3.0)):
        ours = contender("albert_jax", [seconds], temporary_mib=1.0)
        add(tmp_path, run_of("scan/base/8x128", machine, ours=ours))
    text = render(read(tmp_path), "Not run.")
    assert "- A: one\n- B: two\n" in text
    rows = [line for line in text.splitlines() if "| albert_jax |" in line]
    assert [row.split(" | ")[1:4] for row in rows] == [
        ["A", "albert_jax", "3.00 s"],
        ["B", "albert_jax", "2.00 s"],
    ]


def test_a_budget_a_machine(tmp_path):
    from results import read_budget, write_budget

    assert read_budget(tmp_path) == "Not run."
    for machine, tables in (("two", "b"), ("one", "a"), ("two", "c")):
        write_budget(tmp_path, machine, tables)
    assert read_budget(tmp_path) == "### On one\n\na\n\n### On two\n\nc"


def test_every_default_case_can_be_parsed():
    from cases import DEFAULT, ON_GPU, Case

    for name in (*DEFAULT, *ON_GPU):
        assert str(Case.parse(name)) in (name, name.replace("-12", ""))


def test_a_case_is_measured_and_drawn_up(tmp_path):
    done = compare(
        tmp_path,
        *("step/demo/2x16", "--rounds", "2"),
        *("--contenders", "ours", "ours-all"),
    )
    assert done.returncode == 0, done.stderr
    (run,) = json.loads((tmp_path / "step.demo.2x16.json").read_text())
    ours, every = run["contenders"]["ours"], run["contenders"]["ours-all"]
    assert len(ours["seconds"]) == 2 and min(ours["seconds"]) > 0
    # Both compute the same loss, the second with more products.
    assert every["check"] == pytest.approx(ours["check"], rel=1e-5)
    assert every["flops"] > ours["flops"]
    assert "| demo, 2 x 16, 2 predicted | A | albert_jax |" in done.stdout


def test_the_gpu_cases_run_on_a_cpu_when_they_are_small(tmp_path):
    done = compare(
        tmp_path,
        *("gpu/demo/2x16", "--rounds", "1"),
        *("--contenders", "ours"),
    )
    assert done.returncode == 0, done.stderr
    assert "| demo, 2 x 16, 2 predicted | A | albert_jax |" in done.stdout
    (run,) = json.loads((tmp_path / "gpu.demo.2x16.json").read_text())
    assert run["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stop/demo/2x16"], "'stop' is none of 'step'"),
        (["step/demo"], "it must look like step/base/8x128"),
        (["step/demo/2x16", "--contenders", "flux"], "there is no contender 'flux'"),
        (["stream/demo/2x16", "--contenders", "ours"], "give --text FILE"),
        (
            ["step/demo/2x16", "--contenders", "ours", "--before", "no-such"],
            "git knows no such commit",
        ),
        (["step/demo/2x16", "--contenders", "ours", "flax"], "make peer-flax installs"),
    ],
)
def test_a_mistake_gets_one_line(tmp_path, arguments, said):
    done = compare(tmp_path, *arguments, BENCHMARK_PEERS=str(tmp_path))
    assert done.returncode == 1
    assert said in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_a_corpus_ten_times_over_has_the_documents_of_the_first(tmp_path):
    from stream import repeat_shards

    config = small_corpus.config(tmp_path, megabytes=1.5)
    once = prepare(config, 300, processes=1)
    tokens = repeat_shards(Path(config.prepared), tmp_path / "tenfold", 10)
    assert tokens == 10 * once["splits"]["train"]["tokens"]
    small = PreparedCorpus.open(config.prepared)
    large = PreparedCorpus.open(tmp_path / "tenfold")
    assert len(once["shards"]) > 1 and len(large) == 10 * len(small)
    for document in (0, len(small) - 1, len(small) + 7, len(large) - 1):
        ids = small.tokens(document % len(small))
        assert large.tokens(document).tolist() == ids.tolist()
    assert int(large.sentence_ends[-1]) == tokens
