"""SLURM's launch scripts under a real SLURM, on this machine alone: ``make slurm``.

Submits ``experiments/launch/slurm.sh``: 50 steps over two tasks. The job is told to
stop once, as a preemption does it, and later one of its tasks is killed: both times it
must queue again by itself, and end with the log of one undisturbed process, to 1e-5.
Another one is cancelled, which must not queue again.

Submits ``experiments/launch/slurm_study.sh``: the array of a study. A task whose run
starts from another queues again until that one is finished, so does one that is told to
stop, one whose losses are no numbers fails, and the report is that of the same study
without SLURM, byte for byte.

Needs slurmctld, slurmd and munged (Debian: ``apt install slurm-wlm``), which it starts
and ends itself, in a temporary folder and on ports of their own.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import small_run
import small_study

from albert_jax.config import CheckpointConfig, EvaluationConfig
from albert_jax.config.study import Study
from albert_jax.train.metrics import read_metrics

STEPS = 50
STUDY_STEPS = 600
PATIENCE = 600  # seconds, for what takes some on a machine with nothing else to do
SCRIPTS = Path(__file__).parents[1] / "experiments" / "launch"
TIMES = ("tokens_per_second", "data_wait", "mfu")
DAEMONS = ("munged", "slurmctld", "slurmd")

# What a node must offer for the script as it is: eight CPUs a task, eight GPUs.
CONFIGURATION = """\
ClusterName=albert
SlurmctldHost=localhost
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=localhost CPUs=16 Gres=gpu:8
PartitionName=all Nodes=localhost Default=YES State=UP
"""

EXPERIMENT = '''"""Fifty steps, and a study of 600 an arm."""
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import slurm
EXPERIMENTS = {{"fifty": slurm.experiment(Path({folder!r}))}}
STUDIES = {{"lab": slurm.study(Path({folder!r}))}}
'''


def experiment(folder: Path):
    return replace(
        small_run.experiment(folder / "prepared", folder / "corpus.txt"),
        name="fifty",
        steps=STEPS,
        checkpoint=CheckpointConfig(every=5, keep=2),
        evaluation=EvaluationConfig(every=10, rows=16, batch_size=8),
    )


def study(folder: Path) -> Study:
    """Two seeds an arm: one that another starts from, one to stop, one that is lost."""
    known = small_study.study(folder).arms
    shared = replace(
        known["shared"],
        steps=STUDY_STEPS,
        checkpoint=CheckpointConfig(every=50, keep=2),
        evaluation=EvaluationConfig(every=100, rows=16, batch_size=8),
    )

    def arm(**fields):
        return replace(shared, model=replace(shared.model, **fields))

    arms = {
        "shared": shared,
        "deeper": arm(num_hidden_layers=2),
        "own": arm(num_hidden_layers=2, share="none"),
        "lost": arm(initializer_range=1e38),
    }
    return small_study.study(folder, arms=arms, starts={"deeper": "shared"})


@contextmanager
def cluster(folder: Path) -> Iterator[None]:
    """A SLURM of one node."""
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    user = subprocess.check_output(["id", "-un"], text=True).strip()
    settings = CONFIGURATION.format(folder=folder, user=user, ports=free_ports(2))
    (folder / "slurm.conf").write_text(settings)
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-7]\n")
    for name in ("state", "spool", *(f"gpu{n}" for n in range(8))):
        (folder / name).mkdir()
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    munge = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "seed")]
    munge += [f"--log-file={folder}/munge.log", f"--socket={folder}/munge.socket"]
    commands = [["munged", "-F", "-f", *munge], ["slurmctld", "-D"], ["slurmd", "-D"]]
    started = []
    try:
        for command in commands:
            with (folder / f"{command[0]}.out").open("w") as out:
                started.append(subprocess.Popen(command, stdout=out, stderr=out))
            time.sleep(1)
        wait_until(lambda: "idle" in said("sinfo", "--noheader"))
        yield
    finally:
        subprocess.run(["scancel", "--user", user], capture_output=True)
        time.sleep(1)
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait()


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("localhost", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_until(true: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.1)


def log(run: Path) -> list[dict]:
    entries = read_metrics(run / "metrics.jsonl")
    return [{n: v for n, v in entry.items() if n not in TIMES} for entry in entries]


class Job:
    """A submitted job, or a task of an array."""

    def __init__(self, number: str, run: Path) -> None:
        self.number = number
        self.run = run

    @property
    def state(self) -> str:
        return self.field("JobState")

    def field(self, name: str) -> str:
        shown = said("scontrol", "show", "job", self.number)
        return re.search(rf"\b{name}=(\S+)", shown)[1]

    def reaches(self, step: int) -> None:
        """Waits until the log has that step."""
        wait_until(lambda: self.reached >= step or self.failed)
        assert self.reached >= step, self.state

    @property
    def failed(self) -> bool:
        return self.state in ("FAILED", "NODE_FAIL", "CANCELLED")

    @property
    def reached(self) -> int:
        """The last step of the log."""
        written = (self.run / "metrics.jsonl").exists()
        return (
            max((line["step"] for line in log(self.run)), default=-1) if written else -1
        )

    def tasks(self) -> list[int]:
        """Process ids of its tasks, in order."""
        listed = said("scontrol", "listpids", f"{self.number}.0").splitlines()[1:]
        return [int(line.split()[0]) for line in listed]

    def stop(self) -> None:
        """Told to stop, and its processes alone, as by a preemption or the end of the
        time limit."""
        said("scancel", "--signal=TERM", self.number)

    def comes_back(self, times: int) -> None:
        """Waits until it is in the queue again, and starts it before SLURM's two
        minutes are over, but not within the second, when its node still refuses it."""
        wait_until(lambda: self.field("Restarts") == str(times))
        print(f"job {self.number} queues again, for the {times}. time", flush=True)
        time.sleep(5)
        said("scontrol", "update", f"JobId={self.number}", "StartTime=now")

    def ends(self, state: str = "COMPLETED") -> None:
        """Waits until it has."""
        wait_until(lambda: self.state == state)
        print(f"job {self.number} is {state.lower()}", flush=True)


def submit(folder: Path, options: list[str], script: str, *arguments: str) -> str:
    """The number of the job."""
    options = ["--chdir", str(folder), *options]
    number = said("sbatch", "--parsable", *options, str(SCRIPTS / script), *arguments)
    print(f"job {number.strip()} is submitted", flush=True)
    return number.strip()


def main() -> None:
    if missing := [name for name in DAEMONS if not shutil.which(name)]:
        sys.exit(f"no {', '.join(missing)} here: apt install slurm-wlm")
    tests = Path(__file__).parent
    os.environ |= {
        "PYTHONPATH": ":".join([str(tests), *sys.path]),
        "JAX_PLATFORMS": "cpu",
        "MPLBACKEND": "Agg",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",  # More is compiled than run.
    }
    with tempfile.TemporaryDirectory(prefix="albert_jax_slurm_") as name:
        folder = Path(name)
        spec = folder / "fifty.py"
        small_run.write_corpus(folder / "corpus.txt")
        spec.write_text(EXPERIMENT.format(tests=str(tests), folder=name))
        (folder / ".venv").symlink_to(sys.prefix)
        run_here(folder, "pretrain", str(spec), "--workdir", "one")
        # Exits with 1, as some of its runs are lost.
        local = ["--together", "1", "--workdir", "here"]
        run_here(folder, "study", str(spec), *local, code=1)
        with cluster(folder):
            print(said("sinfo", "--version"), end="")
            for name, life in (("two", lives), ("three", is_cancelled)):
                job = ["slurm.sh", str(spec), "--workdir", str(folder / name)]
                with output(folder):
                    number = submit(folder, ["--ntasks-per-node", "2"], *job)
                    life(Job(number, folder / name))
            with output(folder):
                array(folder, spec)
        compare(folder / "two", folder / "one")
        print("the log of two tasks is that of one, to 1e-5")
        for report in ("report.md", "report.json", "table.csv"):
            ours, theirs = (
                folder / run / "report" / report for run in ("array", "here")
            )
            assert ours.read_bytes() == theirs.read_bytes(), report
        print("the report of the array is that of a study without SLURM")


def run_here(folder: Path, *arguments: str, code: int = 0) -> str:
    """What ``albert-jax`` says, without SLURM."""
    command = [".venv/bin/albert-jax", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@contextmanager
def output(folder: Path) -> Iterator[None]:
    """Shows, at the end, what jobs said meanwhile."""
    before = {*folder.glob("slurm-*.out")}
    try:
        yield
    finally:
        for path in sorted({*folder.glob("slurm-*.out")} - before):
            print(path.read_text())


def lives(job: Job) -> None:
    """Told to stop at a fifth of the way, killed at three fifths, finished."""
    job.reaches(STEPS // 5)
    job.stop()
    job.comes_back(1)
    job.reaches(3 * STEPS // 5)
    os.kill(job.tasks()[1], signal.SIGKILL)
    job.comes_back(2)
    job.ends()


def is_cancelled(job: Job) -> None:
    """By its owner, after which it must not queue again."""
    job.reaches(STEPS // 5)
    said("scancel", job.number)
    job.ends("CANCELLED")
    wait_until(lambda: "idle" in said("sinfo", "--noheader"))
    assert job.field("Restarts") == "0" and job.state == "CANCELLED"


def array(folder: Path, spec: Path) -> None:
    """All tasks of the study at once: what waits comes back, what is lost does not."""
    options = [str(spec), "--together", "1", "--workdir", str(folder / "array")]
    listed = run_here(folder, "study", *options, "--prepare")
    tasks = re.search(r"--array=0-(\d+)", listed)
    assert tasks and tasks[1] == "7", listed
    resources = ["--array=0-7", "--cpus-per-task", "2"]
    number = submit(folder, resources, "slurm_study.sh", *options)

    def jobs(arm: str) -> list[Job]:
        first = 2 * [*study(folder).arms].index(arm)
        return [
            Job(f"{number}_{first + seed}", folder / "array" / arm / f"seed-{seed}")
            for seed in range(2)
        ]

    own = jobs("own")[0]
    own.reaches(100)
    own.stop()
    own.comes_back(1)
    for job in (*jobs("shared"), *jobs("own"), *jobs("deeper")):
        job.ends()
    for job in jobs("deeper"):
        # They found nothing to start from.
        assert int(job.field("Restarts")) >= 1
    for job in jobs("lost"):
        job.ends("FAILED")
        assert job.field("Restarts") == "0"
    run_here(folder, "report", str(folder / "array"))


def compare(ours: Path, theirs: Path) -> None:
    """The evaluations of both; a window of the log begins anew where it is stopped."""
    ours, theirs = ([x for x in log(r) if "eval" in str(x)] for r in (ours, theirs))
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose([*a.values()], [*b.values()], rtol=1e-5)


if __name__ == "__main__":
    main()
