"""What happens to a run when things go wrong, tried many times: ``make torture``.

Every run that was disturbed must end as the undisturbed one: every bit of parameters
and moments, every line of the log but for what the clock says. Writes a table of what
happened, and how many steps it cost.

    python tests/torture.py --kills 100 --report docs/faults.md

Stopped itself, it goes on where it was: ``--folder`` holds what was found so far, and
is removed at the end.
"""

import argparse
import functools
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import small_corpus
import small_run

from albert_jax.config import CheckpointConfig, CorpusConfig, EvaluationConfig

STEPS, SAVED, EVALUATED = 120, 5, 6
# A save goes on while the next steps are taken; the next one waits for it.
MOST_LOST = 2 * SAVED
PHASES = {"start": 0, "train": 15, "save": 8, "evaluate": 5}
"""Where a run is killed -> after how many beginnings of it, at most."""
TIMES = ("tokens_per_second", "data_wait", "mfu")

# The command line, telling in a file, line by line, what it is about to do: "train 17".
CHILD = """
import os, sys
from albert_jax import cli
from albert_jax.train import checkpoint, evaluation, loop, manifest

tell, *arguments = sys.argv[1:]
file = os.open(tell, os.O_WRONLY | os.O_APPEND)
step = 0

def telling(phase, function):
    def told(*given, **named):
        global step
        if phase == "train":
            step = given[1]
        os.write(file, f"{phase} {step}\\n".encode())
        return function(*given, **named)
    return told

restore = checkpoint.Checkpoints.restore

def restored(*given, **named):
    found = restore(*given, **named)
    os.write(file, f"restored {found.step if found else 0}\\n".encode())
    return found

checkpoint.Checkpoints.restore = restored
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

PREPARE = """
from albert_jax.config import CorpusConfig
from albert_jax.data.prepare import prepare
if __name__ == "__main__":
    prepare({config!r}, 300, processes=2)
"""


def experiment(folder: Path):
    """A run of some seconds that saves and evaluates all the time."""
    small = small_run.experiment(folder / "prepared", folder / "corpus.txt")
    return replace(
        small,
        steps=STEPS,
        checkpoint=CheckpointConfig(every=SAVED, keep=3),
        evaluation=EvaluationConfig(every=EVALUATED, rows=16, batch_size=8),
    )


@dataclass(frozen=True)
class Fault:
    """A kind of fault, and what must come of it."""

    name: str
    happened: str


_WHOLE = "resumes by itself; final state and log bit for bit"
_BEFORE = "the one before is used, which is said; bit for bit"
_PAIR = "the other ends with an error; both go on, to 1e-5 as one"
FAULTS = {
    "start": Fault("SIGKILL while it starts, restores or compiles", _WHOLE),
    "train": Fault("SIGKILL during a step", _WHOLE),
    "save": Fault("SIGKILL during a save", _WHOLE),
    "evaluate": Fault("SIGKILL during an evaluation", _WHOLE),
    "prepare": Fault("SIGKILL during `prepare`", "goes on; all files byte for byte"),
    "terminate": Fault("SIGTERM", "saves, exits with 143; final state bit for bit"),
    "first": Fault("SIGKILL of the first process of two", _PAIR),
    "second": Fault("SIGKILL of the second process of two", _PAIR),
    "truncated": Fault("newest checkpoint truncated", _BEFORE),
    "flipped": Fault("newest checkpoint with a bit flipped", _BEFORE),
    "half_deleted": Fault("newest checkpoint half deleted", _BEFORE),
    "full": Fault("disk full during a save, then freed", f"one line, code 2; {_WHOLE}"),
}


class Attempt:
    """A process that trains, and what it told of it."""

    def __init__(self, told: Path, command: list[str], environment: dict) -> None:
        self.told = told
        told.write_bytes(b"")
        self.process = subprocess.Popen(
            command,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> int:
        out, error = self.process.communicate(timeout=250)
        self.said = out + error
        return self.process.returncode

    @property
    def events(self) -> list[tuple[str, int]]:
        lines = self.told.read_text().splitlines()
        return [(phase, int(step)) for phase, step in map(str.split, lines)]

    @property
    def reached(self) -> int | None:
        """The last step that it began."""
        steps = [step for phase, step in self.events if phase == "train"]
        return max(steps, default=None)

    @property
    def resumed(self) -> int | None:
        """The step that it went on from, once it did."""
        return next((step for phase, step in self.events if phase == "restored"), None)

    def count(self, phase: str) -> int:
        """How often it began that."""
        return sum(event[0] == phase for event in self.events)

    def wait_for(self, enough: Callable[[], object]) -> None:
        """Returns once that is true, or it has ended."""
        while self.process.poll() is None and not enough():
            time.sleep(0.001)


class Torture:
    """Runs of the command line in one folder, and what was found about them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.found = folder, folder / "found.jsonl"
        self.random = random.Random(f"{seed} {len(self.read())}")
        tests = str(Path(__file__).parent)
        os.environ |= {
            "PYTHONPATH": ":".join([tests, *sys.path]),
            "JAX_PLATFORMS": "cpu",
            "MPLBACKEND": "Agg",
        }
        self.spec = folder / "tortured.py"
        self.whole = folder / "whole"
        if not self.whole.exists():
            small_run.write_corpus(folder / "corpus.txt")
            self.spec.write_text(EXPERIMENT.format(tests=tests, folder=str(folder)))
            run = fresh(folder / "undisturbed")
            self.finish(run)
            run.rename(self.whole)

    @functools.cached_property
    def wanted(self) -> str:
        """The state that the undisturbed run ended in."""
        return self.state(self.whole)

    def read(self) -> list[dict]:
        """What was found so far, one {"fault": ..., "lost": ...} each."""
        if not self.found.exists():
            return []
        return [json.loads(line) for line in self.found.read_text().splitlines()]

    def add(self, found: Iterable[tuple[str, int]]) -> None:
        """Notes (fault, steps lost) each, of a run that was compared."""
        lines = [{"fault": fault, "lost": lost} for fault, lost in found]
        assert all(0 <= line["lost"] <= MOST_LOST for line in lines), lines
        with self.found.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        for line in lines:
            print(
                f"{FAULTS[line['fault']].name}: {line['lost']} steps lost", flush=True
            )

    def missing(self, times: int, *faults: str) -> int:
        """How many of so many times are left to try."""
        return times - sum(line["fault"] in faults for line in self.read())

    def start(self, run: Path, *arguments: str, compiled: bool = True) -> Attempt:
        kept = {
            "JAX_COMPILATION_CACHE_DIR": str(self.folder / "programs"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        told = self.folder / f"{run.name}{arguments[-1] if arguments else ''}.told"
        command = [sys.executable, "-c", CHILD, str(told), "pretrain"]
        command += [str(self.spec), "--workdir", str(run), "--processes", "1"]
        return Attempt(told, [*command, *arguments], kept if compiled else {})

    def finish(self, run: Path) -> Attempt:
        """Trains to the end."""
        attempt = self.start(run)
        assert attempt.finish() == 0, attempt.said
        return attempt

    def state(self, run: Path) -> str:
        """Digest of the last checkpoint: parameters, moments, step, key, position."""
        import jax

        from albert_jax.train.checkpoint import Checkpoints
        from albert_jax.train.pretrain import compile_programs
        from albert_jax.train.sharding import make_mesh

        tortured = experiment(self.folder)
        shapes = compile_programs(tortured, make_mesh(tortured.mesh)).shapes
        identity = json.loads((run / "experiment.json").read_text())["identity"]
        folder = run / "checkpoints"
        with Checkpoints(folder, keep=9, identity=identity, report=print) as saved:
            found = saved.restore(shapes)
        key = jax.random.key_data(found.state.key)
        leaves = jax.tree.leaves(jax.device_get(found.state.replace(key=key)))
        digest = hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves))
        return f"{found.step} {found.position} {digest.hexdigest()}"

    def compare(self, run: Path, *, whole_log: bool = True) -> None:
        """Raises an ``AssertionError`` unless a run ended as the undisturbed one."""
        assert self.state(run) == self.wanted, f"{run} ended elsewhere"
        ours, theirs = log(run), log(self.whole)
        if not whole_log:  # Where it was stopped, a window of the log began anew.
            ours, theirs = ([n for n in x if "eval" in str(n)] for x in (ours, theirs))
        assert ours == theirs, f"{run} and {self.whole} have other logs"


def log(run: Path) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    return [{n: v for n, v in entry.items() if n not in TIMES} for entry in entries]


def fresh(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    return path


def kill(torture: Torture, run: Path) -> tuple[Attempt, str]:
    """Kills a run at a random moment of a random phase, unless it ends before."""
    phase = torture.random.choice(list(PHASES))
    attempt = torture.start(run, compiled=phase != "start")
    if phase == "start":
        until = time.monotonic() + torture.random.uniform(0, 8)
        attempt.wait_for(lambda: time.monotonic() > until or attempt.reached)
        phase = "train" if attempt.reached else phase
    else:
        times = torture.random.randint(1, PHASES[phase])
        attempt.wait_for(lambda: attempt.count(phase) >= times)
        time.sleep(torture.random.uniform(0, 0.05))
    attempt.process.kill()
    assert attempt.finish() in (0, -signal.SIGKILL), attempt.said
    return attempt, phase


def kills(torture: Torture, count: int) -> None:
    """SIGKILL, again and again, until the run comes to its end."""
    while (left := torture.missing(count, *PHASES)) > 0:
        run = fresh(torture.folder / "killed")
        lost: list[tuple[str, int]] = []
        before: tuple[str, int] | None = None  # The phase and step of the last kill.
        ended = False
        while not ended:
            if len(lost) < left:
                attempt, phase = kill(torture, run)
            else:
                attempt = torture.finish(run)
            ended = attempt.process.returncode == 0
            if before and attempt.resumed is not None:
                lost.append((before[0], before[1] - attempt.resumed))
                before = None
            if not ended and attempt.reached:
                before = phase, attempt.reached
            elif not ended:
                lost.append((phase, 0))
        torture.compare(run)
        torture.add(lost)


def terminations(torture: Torture, count: int) -> None:
    while torture.missing(count, "terminate") > 0:
        run = fresh(torture.folder / "terminated")
        attempt, times = torture.start(run), torture.random.randint(1, STEPS // 2)
        attempt.wait_for(lambda a=attempt, times=times: a.count("train") >= times)
        attempt.process.terminate()
        assert attempt.finish() == 143, attempt.said
        lost = attempt.reached - torture.finish(run).resumed
        torture.compare(run, whole_log=False)
        torture.add([("terminate", lost)])


def pairs(torture: Torture, count: int) -> None:
    """SIGKILL of one of two processes: the other one ends too, and both resume."""
    for victim, fault in enumerate(("first", "second")):
        while torture.missing(count, fault) > 0:
            run = fresh(torture.folder / "pair")
            times = torture.random.randint(1, STEPS // 2)
            pair = start_pair(torture, run)
            killed, other = pair[victim], pair[1 - victim]
            killed.wait_for(lambda a=killed, times=times: a.count("train") >= times)
            killed.process.kill()
            begun = time.monotonic()
            assert killed.finish() == -signal.SIGKILL
            assert (code := other.finish()) not in (0, -signal.SIGKILL), other.said
            seconds = time.monotonic() - begun
            print(f"the other ended with {code} after {seconds:.0f} s", flush=True)
            reached = max(attempt.reached for attempt in pair)
            pair = start_pair(torture, run)
            assert [attempt.finish() for attempt in pair] == [0, 0], pair[0].said
            for a, b in zip(log(run), log(torture.whole), strict=True):
                assert a.keys() == b.keys()
                np.testing.assert_allclose([*a.values()], [*b.values()], rtol=1e-5)
            torture.add([(fault, reached - pair[0].resumed)])


def start_pair(torture: Torture, run: Path) -> list[Attempt]:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port = found.getsockname()[1]
    address = ["--coordinator-address", f"localhost:{port}", "--num-processes", "2"]
    return [torture.start(run, *address, "--process-id", str(n)) for n in (0, 1)]


def preparation(torture: Torture, count: int) -> None:
    """SIGKILL while the corpus is prepared: vocabulary, shards and index."""
    source, whole = torture.folder / "much.txt", torture.folder / "prepared-whole"
    if not source.exists():
        source.write_text(f"{small_corpus.text(seed=1, megabytes=0.6)}\n" * 10)

    def prepare(folder: Path) -> subprocess.Popen:
        config = CorpusConfig(
            sources=(str(source),), prepared=str(folder), shard_megabytes=1
        )
        script = torture.folder / "prepare.py"  # Workers import what started them.
        script.write_text(PREPARE.format(config=config))
        # What the helpers of a killed process say of its semaphores is no matter.
        with (torture.folder / "prepare.err").open("w") as said:
            return subprocess.Popen([sys.executable, script], stderr=said)

    begun = time.monotonic()
    assert prepare(fresh(whole)).wait() == 0
    seconds = time.monotonic() - begun
    while torture.missing(count, "prepare") > 0:
        folder = fresh(torture.folder / "prepared-killed")
        lost = []
        while len(lost) < torture.missing(count, "prepare"):
            process = prepare(folder)
            time.sleep(torture.random.uniform(0.2, 1) * seconds)
            process.kill()
            if process.wait() == 0:
                break
            lost.append(("prepare", 0))
        assert prepare(folder).wait() == 0
        assert small_corpus.content(folder) == small_corpus.content(whole)
        torture.add(lost)


def truncated(checkpoint: Path) -> None:
    os.truncate(largest(checkpoint), largest(checkpoint).stat().st_size // 2)


def flipped(checkpoint: Path) -> None:
    data = bytearray(largest(checkpoint).read_bytes())
    data[len(data) // 2] ^= 4
    largest(checkpoint).write_bytes(data)


def half_deleted(checkpoint: Path) -> None:
    for path in sorted(p for p in checkpoint.rglob("*") if p.is_file())[::2]:
        path.unlink()


def largest(folder: Path) -> Path:
    return max(folder.rglob("*"), key=lambda path: path.stat().st_size)


def damages(torture: Torture) -> None:
    """What happens to the newest checkpoint on the disk."""
    for damage in (truncated, flipped, half_deleted):
        if torture.missing(1, damage.__name__) > 0:
            run = fresh(torture.folder / damage.__name__)
            shutil.copytree(torture.whole, run)
            damage(run / "checkpoints" / str(STEPS))
            attempt = torture.finish(run)
            assert f"step {STEPS} is skipped" in attempt.said
            torture.compare(run)
            torture.add([(damage.__name__, STEPS - attempt.resumed)])


def full_disk(torture: Torture) -> None:
    """Fills a small disk while the run saves. Only root can mount one."""
    if os.geteuid() != 0:
        print("disk full: not tried, since only root can mount a small one")
    elif torture.missing(1, "full") > 0:
        with small_disk(torture.folder / "disk") as disk:
            run, filler = disk / "run", disk / "filler"
            attempt = torture.start(run)
            attempt.wait_for(lambda: attempt.count("train") > STEPS // 3)
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
            assert attempt.finish() == 2 and attempt.said.count("albert-jax:") == 1
            assert "full" in attempt.said or "No space left" in attempt.said
            filler.unlink()
            lost = attempt.reached - torture.finish(run).resumed
            torture.compare(run)
        torture.add([("full", lost)])


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def table(torture: Torture) -> str:
    lines = [
        "| fault | times | what happened | steps lost, at most | on average |",
        "|---|---|---|---|---|",
    ]
    for name, fault in FAULTS.items():
        lost = [line["lost"] for line in torture.read() if line["fault"] == name]
        if lost:
            lines.append(
                f"| {fault.name} | {len(lost)} | {fault.happened} | {max(lost)} | "
                f"{np.mean(lost):.1f} |"
            )
    return "\n".join(lines)


REPORT = """# Faults

What `make torture` last found: runs of {steps} steps that save every {saved} and
evaluate every {evaluated}, each disturbed in one way at random moments (a killed one
again and again, up to its end), and then compared with an undisturbed one: every bit
of parameters and moments, every line of the log but for what the clock says. A save
goes on while the next steps are taken, so that a kill can cost two intervals between
saves, {most} steps here.

{table}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/torture"))
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    torture = Torture(folder, options.seed)
    damages(torture)
    full_disk(torture)
    terminations(torture, max(1, options.kills // 20))
    preparation(torture, max(1, options.kills // 5))
    kills(torture, options.kills)
    pairs(torture, max(1, options.kills // 50))
    found = table(torture)
    print(found)
    if options.report:
        options.report.write_text(
            REPORT.format(
                steps=STEPS,
                saved=SAVED,
                evaluated=EVALUATED,
                most=MOST_LOST,
                table=found,
            )
        )
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
