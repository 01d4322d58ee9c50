"""Several processes are one run: the same losses, one log, one checkpoint, one end."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import small_run

from albert_jax.config import UserError
from albert_jax.train import processes
from albert_jax.train.pretrain import pretrain

TESTS = Path(__file__).parent
TIMES = ("tokens_per_second", "data_wait", "mfu")

# One of the processes of a run, by the command line. The last argument is what happens
# to it: nothing, SIGKILL at step 10 of 12, or SIGTERM at step 2; from then on its steps
# take long enough for all to hear of it.
PROCESS = """
import os, signal, sys, time
import small_run
from albert_jax import cli
from albert_jax.train import loop

*arguments, fate = sys.argv[1:]
saves = loop.Cadence.saves

def meets_its_fate(self, step):
    if step == 10 and fate == "SIGKILL" or step == 2 and fate == "SIGTERM":
        os.kill(os.getpid(), getattr(signal, fate))
    if fate == "SIGTERM":
        time.sleep(0.2)
    return saves(self, step)

loop.Cadence.saves = meets_its_fate
sys.exit(cli.main(arguments))
"""

EXPERIMENT = '''"""Small."""
from pathlib import Path
import small_run
EXPERIMENTS = {{"small": small_run.experiment(Path({prepared!r}), Path({source!r}))}}
'''


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return small_run.make(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def one(experiment, tmp_path_factory):
    """An uninterrupted run of a single process."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    pretrain(experiment, folder)
    return folder


@pytest.fixture
def spec(experiment, tmp_path):
    path = tmp_path / "small.py"
    corpus = experiment.corpus
    path.write_text(
        EXPERIMENT.format(prepared=corpus.prepared, source=corpus.sources[0])
    )
    return str(path)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def together(spec, workdir, fates, *arguments):
    """Runs as many processes as there are fates; their exit codes and what they say."""
    port = free_port()
    started = [
        subprocess.Popen(
            [
                *[sys.executable, "-c", PROCESS, "pretrain", spec],
                *["--workdir", str(workdir), "--processes", "1", *arguments],
                *["--coordinator-address", f"localhost:{port}"],
                *["--num-processes", str(len(fates)), "--process-id", str(number)],
                fate,
            ],
            env=os.environ
            | {
                "PYTHONPATH": ":".join([str(TESTS), *sys.path]),
                # More is compiled than computed.
                "XLA_FLAGS": os.environ["XLA_FLAGS"]
                + " --xla_backend_optimization_level=0",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, fate in enumerate(fates)
    ]
    said = [process.communicate(timeout=250) for process in started]
    spoken = [("".join(_ours(out)), error) for out, error in said]
    return [process.returncode for process in started], spoken


def _ours(said):
    return (line for line in said.splitlines(True) if not line.startswith("[Gloo]"))


def log(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if name not in TIMES}
        for line in lines
    ]


def assert_same_log(ours, theirs):
    ours, theirs = log(ours), log(theirs)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert a == pytest.approx(b, rel=1e-5)


def test_one_of_two_is_killed_and_one_process_goes_on(experiment, one, spec, tmp_path):
    run = tmp_path / "run"
    codes, said = together(spec, run, ["none", "SIGKILL"])
    assert codes[0] not in (0, None) and codes[1] == -signal.SIGKILL
    assert "start all of them again" in said[0][1]
    assert max(line["step"] for line in log(run)) >= 8
    assert said[1][0] == ""
    complete = {path.parent.name for path in run.glob("checkpoints/*/manifest.json")}
    assert "4" in complete and "12" not in complete
    pretrain(experiment, run)
    assert_same_log(run, one)


def test_two_processes_find_a_finished_run_and_the_first_alone_says_so(
    one, spec, tmp_path
):
    run = shutil.copytree(one, tmp_path / "run")
    codes, said = together(spec, run, ["none", "none"])
    assert codes == [0, 0], said
    assert "held-out masked-LM accuracy" in said[0][0]
    assert said[1][0] == ""
    assert log(run) == log(one)


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting", ["--mesh.fsdp=2", "--mesh.tensor=2", "--data.workers=2"]
)
def test_two_processes_train_as_one(one, spec, tmp_path, setting):
    codes, said = together(spec, tmp_path / "run", ["none", "none"], setting)
    assert codes == [0, 0], said
    assert said[1][0] == ""
    assert_same_log(tmp_path / "run", one)


@pytest.fixture(scope="module")
def twenty(experiment, tmp_path_factory):
    """Twenty steps of a single process."""
    folder = tmp_path_factory.mktemp("runs") / "twenty"
    pretrain(replace(experiment, steps=20), folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 4])
def test_twenty_steps_of_many_are_those_of_one(twenty, spec, tmp_path, number):
    fates = ["none"] * number
    codes, said = together(spec, tmp_path / "run", fates, "--steps", "20")
    assert codes == [0] * number, said
    assert_same_log(tmp_path / "run", twenty)


@pytest.mark.slow
def test_four_processes_train_as_one_and_two_go_on(experiment, one, spec, tmp_path):
    run = tmp_path / "run"
    codes, said = together(spec, run, ["none", "none", "none", "SIGTERM"])
    assert codes == [143] * 4, said
    assert "stopped and saved at step" in said[0][0]
    codes, said = together(spec, run, ["none", "none"])
    assert codes == [0, 0], said
    # Where it was stopped the log has one line more.
    steps = {line["step"] for line in log(one)}
    lines = [json.dumps(line) for line in log(run) if line["step"] in steps]
    (run / "metrics.jsonl").write_text("\n".join(lines))
    last, wanted = log(run)[-1], log(one)[-1]
    assert last == pytest.approx(wanted, rel=1e-5)


@pytest.mark.slow
def test_a_mistake_of_all_or_of_one_ends_all(spec, tmp_path):
    run = tmp_path / "run"
    codes, said = together(spec, run, ["none", "none"], "--mesh.fsdp", "3")
    assert codes == [2, 2] and "does not make the 2 devices" in said[0][1]
    assert not run.exists()


GIVEN = {
    "one is missing": (("localhost:1", 2, None), "process_id must be given too"),
    "no port": (("localhost", 2, 0), "HOST:PORT"),
    "out of range": (("localhost:1", 2, 2), "0 to num_processes - 1 = 1"),
}


@pytest.mark.parametrize(("given", "cure"), GIVEN.values(), ids=GIVEN.keys())
def test_what_is_given_must_fit(given, cure):
    with pytest.raises(UserError, match=cure):
        processes.join(*given)


def test_a_launcher_that_jax_does_not_know_is_no_single_process(monkeypatch):
    def initialize(**settings):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr("jax.distributed.initialize", initialize)
    processes.join()
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    with pytest.raises(UserError, match="give --coordinator-address"):
        processes.join()
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "1")
    processes.join()
