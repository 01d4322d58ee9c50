"""What happens to a run when things go wrong, tried many times: ``make torture``.

Every run that was disturbed must end as the undisturbed one: every bit of parameters
and moments, every line of the log but for what the clock says. Writes a table of what
happened, and how many steps it cost.

    python tests/torture.py --kills 100 --report docs/faults.md
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import small_corpus
import small_run

from albert_jax.config import CheckpointConfig, CorpusConfig, EvaluationConfig

STEPS, SAVED, EVALUATED = 120, 5, 6
PHASES = ("start", "train", "save", "evaluate")
TIMES = ("tokens_per_second", "data_wait", "mfu")

# The command line, telling in a file what it is about to do: "train 17".
CHILD = """
import os, sys
from albert_jax import cli
from albert_jax.train import checkpoint, evaluation, loop, manifest

tell, *arguments = sys.argv[1:]
file = os.open(tell, os.O_WRONLY | os.O_CREAT)
step = 0

def telling(phase, function):
    def told(*given, **named):
        global step
        if phase == "train":
            step = given[1]
        os.pwrite(file, f"{phase} {step}".ljust(24).encode(), 0)
        return function(*given, **named)
    return told

loop.Recorder.dispatched = telling("train", loop.Recorder.dispatched)
evaluation.HeldOut.__call__ = telling("evaluate", evaluation.HeldOut.__call__)
checkpoint.arrays.save_async = telling("save", checkpoint.arrays.save_async)
manifest.write = telling("save", manifest.write)
sys.exit(cli.main(arguments))
"""

EXPERIMENT = '''"""What is tortured."""
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torture
EXPERIMENTS = {{"tortured": torture.experiment(Path({folder!r}))}}
'''


def experiment(folder: Path):
    """A run of some seconds that saves and evaluates all the time."""
    small = small_run.experiment(folder / "prepared", folder / "corpus.txt")
    return replace(
        small,
        steps=STEPS,
        checkpoint=CheckpointConfig(every=SAVED, keep=3),
        evaluation=EvaluationConfig(every=EVALUATED, rows=16, batch_size=8),
    )


@dataclass
class Fault:
    """A kind of fault, and what came of it."""

    name: str
    happened: str
    times: int = 0
    lost: list[int] = field(default_factory=list)
    """Steps that had to be taken again, each time."""

    def row(self) -> str:
        most, mean = max(self.lost, default=0), np.mean(self.lost or [0])
        return f"| {self.name} | {self.times} | {self.happened} | {most} | {mean:.1f} |"


class Torture:
    """Runs of the command line in one folder, undisturbed and disturbed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.spec = folder / "tortured.py"
        tests = str(Path(__file__).parent)
        self.spec.write_text(EXPERIMENT.format(tests=tests, folder=str(folder)))
        small_run.write_corpus(folder / "corpus.txt")
        self.environment = os.environ | {
            "PYTHONPATH": ":".join([tests, *sys.path]),
            "JAX_PLATFORMS": "cpu",
            "MPLBACKEND": "Agg",
            # What the first run has compiled the others find.
            "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        self.whole = folder / "whole"
        self.seconds = self.undisturbed(self.whole)

    def start(self, run: Path, *arguments: str) -> subprocess.Popen:
        self.told = self.folder / f"{run.name}.told"
        self.told.write_text("start 0")
        command = [sys.executable, "-c", CHILD, str(self.told), "pretrain"]
        command += [str(self.spec), "--workdir", str(run), "--processes", "1"]
        return subprocess.Popen(
            [*command, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def undisturbed(self, run: Path) -> float:
        begun = time.monotonic()
        process = self.start(run)
        out, error = process.communicate()
        assert process.returncode == 0, error
        self.said = out + error
        return time.monotonic() - begun

    def doing(self) -> tuple[str, int]:
        phase, step = self.told.read_text().split()
        return phase, int(step)

    def disturb(self, run: Path, number: int, phase: str) -> int | None:
        """Sends a signal at a random moment of a phase; returns the step that was
        reached, or None if the run was at its end before."""
        process = self.start(run)
        until = time.monotonic() + 300
        after = self.random.randrange(1, 40) if phase != "start" else 0
        times, last = 0, None
        while times < after and process.poll() is None and time.monotonic() < until:
            if (now := self.doing()) != last:
                times, last = times + (now[0] == phase), now
            time.sleep(0.0005)
        longest = 0.8 * self.seconds if phase == "start" else 0.05
        time.sleep(self.random.uniform(0, longest))
        process.send_signal(number)
        out, error = process.communicate()
        self.said = out + error
        if process.returncode == 0:
            return None
        wanted = 143 if number == signal.SIGTERM else -number
        assert process.returncode == wanted, error
        return self.doing()[1]

    def resumed_at(self) -> int:
        found = re.search(r"resuming .* at step ([\d,]+)", self.said)
        return int(found[1].replace(",", "")) if found else 0

    def compare(self, run: Path, *, whole_log: bool = True) -> None:
        """Raises an ``AssertionError`` unless a run ended as the undisturbed one."""
        ours, theirs = log(run), log(self.whole)
        if not whole_log:  # Where it was stopped, a window of the log began anew.
            ours, theirs = ([n for n in x if "eval" in str(n)] for x in (ours, theirs))
        assert ours == theirs, f"{run} and {self.whole} have other logs"
        assert state(run, self) == state(self.whole, self), f"{run} ended elsewhere"


def log(run: Path) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    return [{n: v for n, v in entry.items() if n not in TIMES} for entry in entries]


def state(run: Path, torture: Torture) -> dict[str, bytes]:
    """Every array of the last checkpoint: parameters, moments, step and key."""
    code = (
        "import hashlib, jax, json, sys, torture; from pathlib import Path\n"
        "from albert_jax.train.checkpoint import Checkpoints\n"
        "from albert_jax.train.pretrain import compile_programs\n"
        "from albert_jax.train.sharding import make_mesh\n"
        "run, folder = map(Path, sys.argv[1:])\n"
        "experiment = torture.experiment(folder)\n"
        "mesh = make_mesh(experiment.mesh)\n"
        "identity = json.loads((run / 'experiment.json').read_text())['identity']\n"
        "saved = Checkpoints(run / 'checkpoints', keep=9, identity=identity,\n"
        "                    report=print)\n"
        "found = saved.restore(compile_programs(experiment, mesh).shapes)\n"
        "leaves = jax.tree.leaves(found.state.replace(\n"
        "    key=jax.random.key_data(found.state.key)))\n"
        "bits = b''.join(jax.device_get(leaf).tobytes() for leaf in leaves)\n"
        "print(found.step, found.position, hashlib.sha256(bits).hexdigest())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run), str(torture.folder)],
        env=torture.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-3:]


def kills(torture: Torture, count: int) -> list[Fault]:
    """SIGKILL at random moments; a run that reaches its end is followed by another."""
    named = {
        "start": "SIGKILL while it starts, restores or compiles",
        "train": "SIGKILL during a step",
        "save": "SIGKILL during a save",
        "evaluate": "SIGKILL during an evaluation",
    }
    faults = {
        phase: Fault(name, "resumes by itself; final state and log bit for bit")
        for phase, name in named.items()
    }
    done = runs = 0
    while done < count:
        run, reached, disturbed = torture.folder / f"killed-{runs}", None, None
        runs += 1
        while done < count:
            phase = torture.random.choice(PHASES)
            now = torture.disturb(run, signal.SIGKILL, phase)
            if reached is not None and torture.doing()[0] != "start":
                disturbed.lost.append(max(0, reached - torture.resumed_at()))
                reached = None
            if now is None:
                break
            done += 1
            faults[phase].times += 1
            if reached is None or now > reached:
                reached, disturbed = now, faults[phase]
            print(f"kill {done} of {count}: {phase}, at step {now}", flush=True)
        torture.undisturbed(run)
        torture.compare(run)
        shutil.rmtree(run)
    return list(faults.values())


def preparation(torture: Torture, count: int) -> Fault:
    """SIGKILL while the corpus is prepared: vocabulary, shards and index."""
    source = torture.folder / "much.txt"
    some = small_corpus.text(seed=1, megabytes=0.6) + "\n"
    source.write_text(some * 10)
    vocabulary = small_corpus.vocabulary()

    def prepare(folder: Path) -> subprocess.Popen:
        config = CorpusConfig(
            sources=(str(source),),
            vocabulary=vocabulary,
            prepared=str(folder),
            shard_megabytes=1,
        )
        code = (
            "from albert_jax.config import CorpusConfig\n"
            "from albert_jax.data.prepare import prepare\n"
            f"if __name__ == '__main__': prepare({config!r}, 300, processes=1)"
        )
        return subprocess.Popen(
            [sys.executable, "-c", code], env=torture.environment, text=True
        )

    begun = time.monotonic()
    assert prepare(torture.folder / "undisturbed").wait() == 0
    seconds = time.monotonic() - begun
    wanted = small_corpus.content(torture.folder / "undisturbed")
    fault = Fault("SIGKILL during `prepare`", "goes on; every shard byte for byte")
    while fault.times < count:
        folder = torture.folder / "disturbed"
        shutil.rmtree(folder, ignore_errors=True)
        while fault.times < count:
            process = prepare(folder)
            time.sleep(torture.random.uniform(0.2, 1) * seconds)
            process.kill()
            if process.wait() == 0:
                break
            fault.times += 1
        assert prepare(folder).wait() == 0
        assert small_corpus.content(folder) == wanted
    return fault


def terminations(torture: Torture, count: int) -> Fault:
    fault = Fault("SIGTERM", "saves, exits with 143; final state bit for bit")
    run = torture.folder / "terminated"
    while fault.times < count:
        reached = torture.disturb(run, signal.SIGTERM, "train")
        if reached is None:
            break
        stopped = re.search(r"saved at step ([\d,]+)", torture.said)
        fault.times += 1
        fault.lost.append(reached - int(stopped[1].replace(",", "")))
    torture.undisturbed(run)
    torture.compare(run, whole_log=False)
    return fault


def damages(torture: Torture) -> list[Fault]:
    """What happens to the newest checkpoint on the disk."""

    def truncated(checkpoint: Path) -> None:
        victim = max(checkpoint.rglob("*"), key=lambda p: p.stat().st_size)
        os.truncate(victim, victim.stat().st_size // 2)

    def flipped(checkpoint: Path) -> None:
        victim = max(checkpoint.rglob("*"), key=lambda p: p.stat().st_size)
        data = bytearray(victim.read_bytes())
        data[len(data) // 2] ^= 4
        victim.write_bytes(data)

    def half_deleted(checkpoint: Path) -> None:
        for path in sorted(p for p in checkpoint.rglob("*") if p.is_file())[::2]:
            path.unlink()

    faults = []
    for damage in (truncated, flipped, half_deleted):
        name = damage.__name__.replace("_", " ")
        happened = "the one before is used, which is said; bit for bit"
        fault = Fault(f"newest checkpoint {name}", happened, 1)
        run = torture.folder / damage.__name__
        shutil.copytree(torture.whole, run)
        damage(run / "checkpoints" / str(STEPS))
        torture.undisturbed(run)
        assert f"step {STEPS} is skipped" in torture.said
        fault.lost.append(STEPS - torture.resumed_at())
        torture.compare(run)
        faults.append(fault)
    return faults


def full_disk(torture: Torture) -> list[Fault]:
    """Fills a small disk while the run saves."""
    disk = torture.folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount).returncode != 0:
        return [Fault("disk full, then freed", "not tried: only root can mount one")]
    try:
        run, filler = disk / "run", disk / "filler"
        process = torture.start(run)
        while torture.doing()[1] < STEPS // 3 and process.poll() is None:
            time.sleep(0.001)
        try:
            with filler.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
        except OSError:
            pass
        out, error = process.communicate()
        assert process.returncode == 2 and error.count("\n") == 1, error
        assert "full" in error or "No space left" in error, error
        reached = torture.doing()[1]
        filler.unlink()
        torture.undisturbed(run)
        fault = Fault("disk full, then freed", "one line, code 2; bit for bit", 1)
        fault.lost.append(reached - torture.resumed_at())
        torture.compare(run)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    return [fault]


def one_of_two(torture: Torture, count: int) -> list[Fault]:
    """SIGKILL of one of two processes: the other one ends too, and both resume."""
    faults = []
    for victim in (0, 1):
        fault = Fault(
            f"SIGKILL of process {victim} of two",
            "the other ends with an error; both go on, to 1e-5 as one",
        )
        for _ in range(count):
            run, reached = torture.folder / f"pair-{victim}-{fault.times}", 0
            pair = _pair(torture, run)
            told = torture.folder / f"{run.name}.told"
            while reached < STEPS // 3 and pair[victim].poll() is None:
                reached = int(told.read_text().split()[1])
                time.sleep(0.001)
            pair[victim].kill()
            begun = time.monotonic()
            outputs = [process.communicate(timeout=200) for process in pair]
            seconds = time.monotonic() - begun
            assert pair[1 - victim].returncode not in (0, None), outputs
            print(f"process {1 - victim} ended after {seconds:.1f} s", flush=True)
            reached = int(told.read_text().split()[1])
            pair = _pair(torture, run)
            outputs = [process.communicate(timeout=200) for process in pair]
            assert [process.returncode for process in pair] == [0, 0], outputs
            torture.said = outputs[0][0]
            fault.lost.append(reached - torture.resumed_at())
            fault.times += 1
            for a, b in zip(log(run), log(torture.whole), strict=True):
                assert a.keys() == b.keys()
                np.testing.assert_allclose([*a.values()], [*b.values()], rtol=1e-5)
        faults.append(fault)
    return faults


def _pair(torture: Torture, run: Path) -> list[subprocess.Popen]:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port = found.getsockname()[1]
    address = ["--coordinator-address", f"localhost:{port}", "--num-processes", "2"]
    return [torture.start(run, *address, "--process-id", str(n)) for n in (0, 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    few = max(1, options.kills // 20)
    with tempfile.TemporaryDirectory(prefix="albert_jax_torture_") as folder:
        torture = Torture(Path(folder), options.seed)
        faults: list[Fault] = []
        for found in (
            lambda: damages(torture),
            lambda: full_disk(torture),
            lambda: [terminations(torture, few)],
            lambda: one_of_two(torture, few),
            lambda: [preparation(torture, max(1, options.kills // 5))],
            lambda: kills(torture, options.kills),
        ):
            faults += (new := found())
            print(*[fault.row() for fault in new], sep="\n", flush=True)
    table = "\n".join(
        [
            "| fault | times | what happened | steps lost, at most | on average |",
            "|---|---|---|---|---|",
            *[fault.row() for fault in faults],
        ]
    )
    print(table)
    if options.report:
        options.report.write_text(
            f"# Faults\n\nRuns of {STEPS} steps that save every {SAVED} and evaluate "
            f"every {EVALUATED}, as `make torture` last found them here.\n\n{table}\n"
        )


if __name__ == "__main__":
    main()
