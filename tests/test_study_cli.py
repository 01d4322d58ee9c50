"""``albert-jax study`` as a command: trained, killed, gone on with, as an array."""

import contextlib
import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import small_run
import small_study
import small_task
from rich.console import Console
from small_study import STEPS

from albert_jax.cli import main
from albert_jax.cli.standings import Standings
from albert_jax.study.plan import plan
from albert_jax.study.standing import Standing
from albert_jax.train.metrics import read_metrics

TESTS = Path(__file__).parent
FILE = "experiments/cost.py"
ARMS = ("shared", "own", "large", "lost")
TIMES = ("tokens_per_second", "data_wait", "mfu")
LONG = 3000
OPTIONS = ["--processes", "1"]

EXPERIMENT = '''"""Small: a study of seconds."""
import sys
sys.path.insert(0, {tests!r})
from dataclasses import replace
from pathlib import Path
import small_task
from albert_jax.config import OptimizerConfig
from albert_jax.config.finetuning import FinetuningExperiment
from small_study import study
whole = study(Path())
tuning = FinetuningExperiment(
    name="tuning",
    task=replace(small_task.TASK, folder="examples"),
    optimizer=OptimizerConfig(name="adamw", learning_rate=0.01, warmup_steps=2),
    batch_size=8,
    steps=10,
)
LONG = {long}
lab = whole.arms["shared"]
def some(*arms):
    return replace(whole, arms={{arm: whole.arms[arm] for arm in arms}})
STUDIES = {{
    "lab": some("shared", "lost"),
    "pair": replace(some("shared", "large"), tasks=(tuning,)),
    "long": replace(whole, arms={{"shared": replace(lab, steps=LONG)}}),
    "chain": replace(some("shared", "large"), starts={{"large": "shared"}}),
}}
EXPERIMENTS = whole.arms
'''


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """A working directory with a study and its corpus."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "experiments").mkdir()
    (folder / FILE).write_text(EXPERIMENT.format(tests=str(TESTS), long=LONG))
    small_run.write_corpus(folder / "corpus.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # Of this process; those that it starts keep programs in the folder.
        patch.setattr("albert_jax.programs.keep_programs", lambda report: None)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield folder


def study(*arguments: str) -> tuple[int, str, str]:
    """The exit code, and what was said on either stream."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["study", *arguments])
    return code, out.getvalue(), err.getvalue()


def fails(*arguments: str) -> str:
    """The one line that a mistaken command says."""
    code, _, err = study(*arguments)
    assert code == 2 and err.startswith("albert-jax: ") and err.count("\n") == 1, err
    return err


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen]:
    """The command in a process group of its own, which is killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "albert_jax", "study", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(run: Path, step: int, process: subprocess.Popen) -> None:
    """Until a checkpoint of that step, or a later one, is there."""
    until = time.monotonic() + 200
    while saved(run) < step:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.01)


def log(run: Path) -> list[dict]:
    entries = read_metrics(run / "metrics.jsonl")
    return [{n: v for n, v in entry.items() if n not in TIMES} for entry in entries]


def saved(run: Path) -> int:
    """The step of the newest checkpoint; 0 where there is none."""
    whole = run.glob("checkpoints/*/manifest.json")
    return max((int(path.parent.name) for path in whole), default=0)


@pytest.fixture(scope="module")
def whole(home):
    """A study that nothing disturbed, and what was said."""
    code, out, err = study(FILE, "--workdir", "whole", *OPTIONS)
    return home / "whole", code, out, err


def test_a_failed_arm_is_named_and_the_rest_trained(whole):
    folder, code, out, err = whole
    assert code == 1
    assert err.splitlines()[-1] == "albert-jax: 1 of 2 runs did not finish"
    assert "lost, seeds 0-1 failed: " in err and " at step 1;" in err
    assert " at step 1;" in (folder / "lost/seeds-0-1/failed.json").read_text()
    assert log(folder / "shared/seeds-0-1")[-1]["step"] == STEPS
    assert f"shared, seeds 0-1: finished, step {STEPS} of {STEPS}" in out
    record = json.loads((folder / "study.json").read_text())
    assert record["steps"] == {"shared": STEPS, "lost": STEPS}
    assert record["together"] == 2 and record["scale"] == "lab"
    assert (folder / "report" / "report.md").exists() and "report.md" in out


def test_the_small_files_are_all_that_a_finished_run_needs(whole):
    run = whole[0] / "shared/seeds-0-1"
    shutil.rmtree(run / "checkpoints")
    before = (run / "metrics.jsonl").stat()
    code, out, err = study(FILE, "--workdir", "whole", "--arms", "shared", *OPTIONS)
    assert code == 0 and not err and "running" not in out
    assert (run / "metrics.jsonl").stat() == before
    assert not (run / "checkpoints").exists()


def test_an_array_trains_a_run_a_task(home):
    options = ["--workdir", "array", "--together", "1", *OPTIONS]
    assert "--prepare, with the same options, first" in fails(
        FILE, *options, "--array-task", "0"
    )
    code, out, _ = study(FILE, *options, "--prepare")
    last = out.splitlines()[-1]
    assert code == 0 and last.startswith("4 runs: sbatch --array=0-3 experiments/")
    assert last.endswith(f"slurm_study.sh {FILE} {' '.join(options)}")
    assert "   1  shared, seed 1: 30 steps" in out.splitlines()
    assert study(FILE, *options, "--array-task", "1")[0] == 0
    run = home / "array/shared/seed-1"
    assert log(run)[-1]["step"] == STEPS and not (home / "array/shared/seed-0").exists()
    before = (run / "metrics.jsonl").stat()
    assert study(FILE, *options, "--array-task", "1")[0] == 0
    assert (run / "metrics.jsonl").stat() == before
    assert "array_task is 4, but it must be 0 to 3" in fails(
        FILE, *options, "--array-task", "4"
    )
    # A changed study needs its record anew, which no task writes.
    options += ["--scale", "chain", "--accept-changes"]
    said = fails(FILE, *options, "--array-task", "3")
    assert "arms: " in said and "--prepare --accept-changes, with the same" in said
    assert study(FILE, *options, "--prepare")[0] == 0
    assert study(FILE, *options, "--array-task", "0")[0] == 0


def test_a_task_of_an_array_waits_for_what_it_starts_from(home):
    options = [FILE, "--scale", "chain", "--workdir", "chain", *OPTIONS]
    assert study(*options, "--prepare")[0] == 0
    code, _, err = study(*options, "--array-task", "1")
    assert code == os.EX_TEMPFAIL and "large, seeds 0-1 starts from shared" in err
    start = home / "chain/shared/seeds-0-1"
    start.mkdir(parents=True)
    (start / "failed.json").write_text('{"error": "it is lost"}')
    assert "it is lost" in fails(*options, "--array-task", "1")


def test_a_table_on_a_terminal_and_lines_elsewhere(home, monkeypatch):
    runs = plan(small_study.study(home), home, dict.fromkeys(ARMS, STEPS), together=2)
    states = ("finished", "running", "failed", "waiting")
    standings = [
        Standing(run, state, step=step)
        for run, state, step in zip(runs, states, (STEPS, 10, 3, 0), strict=True)
    ]
    standings[1] = replace(standings[1], loss=5.125, seconds_left=3723.4)
    standings[2] = replace(standings[2], error="it is lost")

    def shown(**options):
        console = Console(file=io.StringIO(), width=100, **options)
        with Standings(console) as table:
            for _ in range(2):
                table.observe(standings)
        return console.file.getvalue()

    table = shown(force_terminal=True, height=20, color_system=None)
    rows = [[cell.strip() for cell in row.split("│")] for row in table.splitlines()]
    assert ["", "own", "0-1", f"10 of {STEPS}", "5.125", "1:02:03", ""] in rows
    assert ["", "shared", "0-1", f"{STEPS} of {STEPS}", "", "finished", ""] in rows
    assert "1 finished, 1 running, 1 waiting, 1 failed; about" in table
    # Where there is no room for all, those that something happens to.
    small = shown(force_terminal=True, height=8, color_system=None)
    assert " own " in small and " shared " not in small and "1 finished" in small
    assert shown().splitlines() == [
        f"shared, seeds 0-1: finished, step {STEPS} of {STEPS}",
        f"own, seeds 0-1: running, step 10 of {STEPS}, masked-LM loss 5.125, "
        "1:02:03 left",
        f"large, seeds 0-1: failed, step 3 of {STEPS}, it is lost",
    ]
    monkeypatch.setattr("albert_jax.cli.standings._PAUSE_SECONDS", 0.0)
    assert shown().count("own, seeds 0-1: running") == 2


MISTAKES = {
    "no file": (["experiments/costs.py"], "did you mean 'experiments/cost.py'"),
    "no such scale": ([FILE, "--scale", "chian"], "did you mean 'chain'"),
    "no such arm": ([FILE, "--arms", "shard"], "did you mean 'shared'"),
    "no seeds": ([FILE, "--seeds", "0"], "seeds is 0, but it must be above 0"),
    "none together": ([FILE, "--together", "0"], "together is 0, but it must be"),
    "too many at once": ([FILE, "--jobs", "9999"], "jobs is 9999, but it must be 1 to"),
    "no corpus": ([FILE, "--sources", "nowhere.txt"], "nowhere.txt"),
    "no study's folder": ([FILE, "--workdir", "experiments"], "holds no study.json"),
    "an unknown option": ([FILE, "--job", "2"], "did you mean --jobs"),
}


@pytest.mark.parametrize(("arguments", "cure"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_gets_one_line_and_writes_nothing(home, arguments, cure):
    before = sorted(home.iterdir())
    assert cure in fails(*arguments)
    assert sorted(home.iterdir()) == before


def test_other_settings_are_refused_before_anything_is_trained(home, whole):
    line = fails(FILE, "--workdir", "whole", "--seeds", "3", *OPTIONS)
    assert "seeds: 2 -> 3" in line and "--accept-changes" in line
    line = fails(FILE, "--workdir", "whole", "--together", "1", *OPTIONS)
    assert "together: 2 -> 1" in line


@pytest.mark.slow
def test_a_killed_study_ends_as_one_that_was_not(home):
    (home / "examples").mkdir()
    small_task.write_examples(home / "examples")
    options = [FILE, "--scale", "pair", *OPTIONS]
    whole, killed = home / "undisturbed", home / "killed"
    assert study(*options, "--workdir", whole.name)[0] == 0
    run = killed / "shared/seeds-0-1"
    with started(*options, "--workdir", killed.name) as process:
        wait_for(run, 10, process)
    assert max(line["step"] for line in log(run)) < STEPS
    assert study(*options, "--workdir", killed.name)[0] == 0
    assert "resuming" in (killed / "shared/seeds-0-1.log").read_text()
    for name in ("shared/seeds-0-1", "large/seeds-0-1", "shared/mine", "large/mine"):
        assert log(killed / name) == log(whole / name)
        assert not any((one / name / "failed.json").exists() for one in (whole, killed))
    scores = json.loads((whole / "shared/mine/results-dev.json").read_text())
    assert scores["seeds"] == [0, 1]
    ours, theirs = (
        {path.name: path.read_bytes() for path in (one / "report").iterdir()}
        for one in (killed, whole)
    )
    assert ours == theirs


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_lets_every_run_save(home, number, code):
    options = [FILE, "--scale", "long", "--workdir", number, *OPTIONS]
    run = home / number / "shared/seeds-0-1"
    with started(*options) as process:
        wait_for(run, 5, process)
        process.send_signal(getattr(signal, number))
        said, _ = process.communicate(timeout=200)
    assert process.returncode == code and f"stopped and saved in {number}" in said
    assert not list((home / number).rglob("failed.json"))
    assert log(run)[-1]["step"] <= saved(run) < LONG


@pytest.mark.slow
def test_runs_save_and_end_with_their_runner(home):
    options = [FILE, "--scale", "long", "--workdir", "orphans", *OPTIONS]
    run = home / "orphans/shared/seeds-0-1"
    with started(*options) as process:
        wait_for(run, 5, process)
        process.kill()
        process.wait()
        folder, until = os.open(run, os.O_RDONLY), time.monotonic() + 200
        while time.monotonic() < until:
            # Held by the process that trains.
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.1)
        os.close(folder)
    assert log(run)[-1]["step"] <= saved(run) < LONG
