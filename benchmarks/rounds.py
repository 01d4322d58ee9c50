"""Workers behind pipes, timed in turn: only one computes at a time."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CONTENDERS = Path(__file__).parent / "contenders"

# Program of a peer -> its environment, which ``make`` builds from the pins of its name
# in ``constraints/``.
PEERS = {
    "hf_pytorch": "peer-pytorch",
    "hf_trainer": "peer-pytorch",
    "onnx_runtime": "peer-pytorch",
    "hf_flax": "peer-flax",
    "kerashub": "peer-keras",
}


class ContenderError(Exception):
    """A contender cannot run; one line that says what to do."""


class Worker:
    """One contender at work on one job, in a process of its own."""

    def __init__(self, name: str, program: str, job: Mapping[str, Any]) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [interpreter(program), CONTENDERS / f"{program}.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment(job["threads"], job.get("source", str(ROOT)))
            | job.get("environment", {}),
        )
        self.facts = self._ask(job)["facts"]

    def repeat(self) -> dict[str, Any]:
        """Times one repetition: ``seconds``, ``work`` and ``peak_mib``."""
        return self._ask({})

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._log.close()

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line) if line else {}
        if not line or "error" in answer:
            self._log.seek(0)
            sys.stderr.write(self._log.read()[-4000:])
            why = answer.get("error", f"it ended with code {self._process.wait()}")
            raise ContenderError(f"{self.name}: {why}")
        return answer


class FreshWorkers:
    """A new process for every repetition, which takes what its imports take."""

    def __init__(self, name: str, program: str, job: Mapping[str, Any]) -> None:
        self.name = name
        self._what = (name, program, job)
        self.repeat()  # The first reads the disk.

    def repeat(self) -> dict[str, Any]:
        """Starts a worker and ends it; answers as ``Worker.repeat`` does."""
        worker = Worker(*self._what)
        worker.close()
        self.facts = facts = worker.facts
        seconds, peak_mib = facts["import_seconds"], facts["peak_mib"]
        return {"seconds": seconds, "work": None, "peak_mib": peak_mib}

    def close(self) -> None:
        """Nothing is left to close."""


def interpreter(program: str) -> Path:
    """This one for our own code, a peer's from its environment.

    Environments lie in the clone, or in the folder that BENCHMARK_PEERS names.
    """
    if program not in PEERS:
        return Path(sys.executable)
    folder = Path(os.environ.get("BENCHMARK_PEERS", ROOT)) / f".venv-{PEERS[program]}"
    python = folder / "bin" / "python"
    if not python.exists():
        raise ContenderError(
            f"{program} needs the environment {folder.name}: make {PEERS[program]} "
            "installs it"
        )
    return python


def environment(threads: int, source: str) -> dict[str, str]:
    """What a worker inherits: as many threads as the others, and no chatter."""
    libraries = ("OMP", "MKL", "OPENBLAS")
    return {
        **os.environ,
        **{f"{library}_NUM_THREADS": str(threads) for library in libraries},
        "BENCHMARK_STARTED": str(time.time()),
        "PYTHONPATH": source,
        "KERAS_BACKEND": "jax",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TOKENIZERS_PARALLELISM": "false",
    }


def keep_cores(threads: int) -> None:
    """Binds this process, and every worker it starts, to so many cores."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[:threads])


def interleave(
    workers: Sequence[Worker | FreshWorkers],
    rounds: int,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, dict[str, list]]:
    """Times every worker once a round; who begins changes from round to round.

    Returns:
      name -> {"seconds": [...], "work": [...], "peak_mib": [...]}, an entry a round.
    """
    workers = list(workers)
    timed = {w.name: {"seconds": [], "work": [], "peak_mib": []} for w in workers}
    for n in range(rounds):
        first = n % len(workers)
        for worker in workers[first:] + workers[:first]:
            answer = worker.repeat()
            for key, values in timed[worker.name].items():
                values.append(answer[key])
        progress(f"round {n + 1} of {rounds}")
    return timed
