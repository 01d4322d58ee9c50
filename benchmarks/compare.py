"""Speed beside peers and beside the limit: one command, one table.

    python benchmarks/compare.py [CASE ...] [--contenders ours pytorch-sdpa]
        [--rounds 7] [--threads 2] [--before COMMIT] [--text FILE --vocabulary FILE]

A case is ``kind/size/ROWSxLENGTH`` (``step/base/8x128``); without any, all of
``cases.DEFAULT`` are run. Every contender works in a process and an environment of its
own (``make benchmark`` installs them), from the same weights on the same batch; the
repetitions interleave round by round, so that a noisy machine disturbs all alike.
Results are added to ``benchmarks/results/``, from which ``docs/benchmarks.md`` is
written anew; ``--results FOLDER`` keeps them elsewhere, and prints the table only.
"""

import argparse
import datetime
import math
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from cases import DEFAULT, KINDS, Case, Contender
from results import RESULTS, add, read
from rounds import (
    ROOT,
    ContenderError,
    FreshWorkers,
    Worker,
    interleave,
    keep_cores,
)
from table import render

DOCUMENT = ROOT / "docs" / "benchmarks.md"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", default=DEFAULT)
    parser.add_argument("--contenders", nargs="+")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--before", metavar="COMMIT", help="ours at this commit too")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()

    keep_cores(args.threads)
    try:
        for case in map(Case.parse, args.cases):
            with tempfile.TemporaryDirectory() as scratch:
                add(args.results, run(case, args, Path(scratch)))
    except (ContenderError, ValueError) as error:
        sys.exit(f"benchmark: {error}")
    document = render(read(args.results))
    if args.results == RESULTS:
        DOCUMENT.write_text(document)
    print(document)


def run(case: Case, args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Runs one case; returns what ``results`` keeps of it."""
    chosen = contenders(case, args.contenders)
    if args.before:
        title = f"albert_jax at {args.before}"
        source = str(checkout(args.before, scratch / "before"))
        chosen["before"] = Contender(title, "ours", {"source": source})
    shared = {"threads": args.threads, "weights": str(scratch / "weights")}
    if any(contender.program != "ours" for contender in chosen.values()):
        Worker("export", "ours", case.job | shared | {"kind": "export"}).close()

    workers = []
    try:
        for name, contender in chosen.items():
            note(f"{case}: {contender.title}")
            job = case.job_of(contender) | shared
            kind = FreshWorkers if case.kind == "import" else Worker
            workers.append(kind(name, contender.program, job))
        agree(workers)
        timed = interleave(workers, args.rounds, lambda text: note(f"{case}: {text}"))
    finally:
        for worker in workers:
            worker.close()
    return {
        "case": str(case),
        "predictions": case.job["predictions"],
        "dtype": case.job["dtype"],
        "threads": args.threads,
        "machine": machine(),
        "date": datetime.date.today().isoformat(),
        "commit": git("describe", "--always", "--dirty"),
        "command": command(),
        "contenders": {
            worker.name: worker.facts
            | {"title": chosen[worker.name].title}
            | timed[worker.name]
            for worker in workers
        },
    }


def agree(workers: list[Worker | FreshWorkers]) -> None:
    """Refuses a comparison of different mathematics: first losses must be the same."""
    losses = {w.name: w.facts["loss"] for w in workers if "loss" in w.facts}
    for name, loss in losses.items():
        if not math.isclose(loss, losses["ours"], rel_tol=1e-3):
            raise ContenderError(
                f"{name}: its first loss is {loss:.4f}, ours is {losses['ours']:.4f}"
            )


def contenders(case: Case, names: list[str] | None) -> dict[str, Contender]:
    """The case's contenders, or those that were asked for, ours always first."""
    known = KINDS[case.kind]
    for name in names or ():
        if name not in known:
            raise ValueError(
                f"{case}: there is no contender {name!r}; there are {', '.join(known)}"
            )
    return {name: c for name, c in known.items() if not names or name in names}


def checkout(commit: str, folder: Path) -> Path:
    """The package as it was at a commit, for a comparison with ourselves."""
    archive = subprocess.run(
        ["git", "archive", commit, "albert_jax"], cwd=ROOT, stdout=subprocess.PIPE
    )
    if archive.returncode:
        raise ValueError(f"--before {commit}: git knows no such commit")
    folder.mkdir()
    subprocess.run(["tar", "-x"], input=archive.stdout, cwd=folder, check=True)
    return folder


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def command() -> str:
    """The command, without the folders of this machine."""
    words = [Path(word).name if word[:1] == "/" else word for word in sys.argv[1:]]
    return " ".join(["python benchmarks/compare.py", *words])


def machine() -> str:
    """The processor's name and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return f"{name}, {os.cpu_count()} cores"


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
