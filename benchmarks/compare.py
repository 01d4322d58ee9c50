"""Speed beside peers and beside the limit: one command, one table.

    python benchmarks/compare.py [CASE ...] [--contenders ours pytorch-sdpa]
        [--rounds 7] [--threads 2] [--text FILE ... --vocabulary FILE]
        [--before COMMIT] [--gpu] [--table] [--results FOLDER]

A case is ``kind/size/ROWSxLENGTH`` (``step/base/8x128``); without any, all of
``cases.DEFAULT`` are run, or with ``--gpu`` those for a GPU. Every contender works in a
process and an environment of its own (``make benchmark`` installs them), from the same
weights on the same batch; the repetitions interleave round by round, so that a noisy
machine disturbs all alike. ``--before`` adds ourselves as we were.

Every case adds its run to ``benchmarks/results/``, from which ``docs/benchmarks.md`` is
written anew, so that many short invocations make one table (``--table`` only writes it,
without measuring). ``--results FOLDER`` keeps them elsewhere and only prints it.
"""

import argparse
import dataclasses
import datetime
import math
import os
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

from cases import DEFAULT, HEADS, KINDS, ON_GPU, Case, Contender
from machine import machine
from results import RESULTS, add, read, read_budget
from rounds import (
    ROOT,
    ContenderError,
    FreshWorkers,
    Worker,
    interleave,
    interpreter,
    keep_cores,
)
from table import render

DOCUMENT = ROOT / "docs" / "benchmarks.md"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--contenders", nargs="+")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--before", metavar="COMMIT", help="ours at this commit too")
    parser.add_argument("--gpu", action="store_true", help="the cases for a GPU")
    parser.add_argument("--table", action="store_true", help="only draw up the table")
    parser.add_argument("--text", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--vocabulary", type=Path, metavar="FILE")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()

    keep_cores(args.threads)
    try:
        for case in map(Case.parse, args.cases or default(args)):
            with tempfile.TemporaryDirectory() as scratch:
                add(args.results, run(case, args, Path(scratch)))
    except (ContenderError, ValueError) as error:
        sys.exit(f"benchmark: {error}")
    document = render(read(args.results), read_budget(args.results))
    if args.results == RESULTS:
        DOCUMENT.write_text(document)
    print(document)


def run(case: Case, args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Runs one case; returns what ``results`` keeps of it."""
    chosen = contenders(case, args.contenders)
    if args.before:
        source = str(checkout(args.before, scratch / "before"))
        chosen["before"] = dataclasses.replace(
            chosen["ours"],
            title=f"albert_jax at {args.before}",
            job=chosen["ours"].job | {"source": source},
        )
    shared = {"threads": args.threads, "scratch": str(scratch)}
    if case.kind in HEADS:
        shared |= text_of(case, args)
    flops = {}
    if any(contender.program != "ours" for contender in chosen.values()):
        job = case.job | shared | {"kind": "export", "for": case.kind}
        flops = ask("export", "ours", job)["flops"]
    if case.kind in HEADS:
        ask("text", "ours_text", case.job | shared | {"kind": "text"})

    load = os.getloadavg()[0]
    jobs = {name: case.job_of(c) | shared for name, c in chosen.items()}
    measure = one_after_another if case.kind == "gpu" else side_by_side
    measured = measure(case, chosen, jobs, args.rounds)
    return {
        "case": str(case),
        "predictions": case.job["predictions"],
        "sentences": case.job["sentences"],
        "dtype": case.job["dtype"],
        "rounds": args.rounds,
        "threads": args.threads,
        "machine": machine(),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "command": command(),
        "contenders": {
            name: {"title": c.title, "flops": flops.get(c.positions)} | measured[name]
            for name, c in chosen.items()
        },
    }


def ask(name: str, program: str, job: dict[str, Any]) -> dict[str, Any]:
    """The facts of a job that is not timed."""
    worker = Worker(name, program, job)
    worker.close()
    return worker.facts


Measured = dict[str, dict[str, Any]]


def side_by_side(
    case: Case, chosen: dict[str, Contender], jobs: dict[str, dict], rounds: int
) -> Measured:
    """All contenders at once, their repetitions interleaved."""
    workers = []
    try:
        for name, contender in chosen.items():
            note(f"{case}: {contender.title}")
            kind = FreshWorkers if case.kind == "import" else Worker
            workers.append(kind(name, contender.program, jobs[name]))
        agree({worker.name: worker.facts for worker in workers})
        timed = interleave(workers, rounds, lambda text: note(f"{case}: {text}"))
    finally:
        for worker in workers:
            worker.close()
    return {worker.name: worker.facts | timed[worker.name] for worker in workers}


def one_after_another(
    case: Case, chosen: dict[str, Contender], jobs: dict[str, dict], rounds: int
) -> Measured:
    """Each contender alone with the device; one that fails, fails for itself."""
    measured = {}
    for name, contender in chosen.items():
        note(f"{case}: {contender.title}")
        try:
            worker = Worker(name, contender.program, jobs[name])
            timed = interleave([worker], rounds)[name]
            worker.close()
        except ContenderError as error:
            note(str(error))
            measured[name] = {"error": str(error)}
        else:
            measured[name] = worker.facts | timed
    return measured


def default(args: argparse.Namespace) -> list[str]:
    """All cases; without a text, those that need none."""
    if args.table:
        return []
    if args.gpu:
        return list(ON_GPU)
    return [name for name in DEFAULT if args.text or name.split("/")[0] not in HEADS]


def text_of(case: Case, args: argparse.Namespace) -> dict[str, Any]:
    """What a case that reads text is told of it: files, and where they are prepared."""
    if not args.text:
        raise ValueError(f"{case} reads text: give --text FILE, one or more of them")
    text = [str(path.resolve()) for path in args.text]
    vocabulary = args.vocabulary and str(args.vocabulary.resolve())
    told = repr((text, vocabulary, case.job["vocab_size"]))
    folder = f"benchmark-{zlib.crc32(told.encode()):08x}"
    return {
        "text": text,
        "vocabulary": vocabulary,
        "prepared": str(ROOT / "prepared" / folder),
    }


def agree(facts: Measured) -> None:
    """Refuses a comparison of different mathematics: first results must be the same."""
    checks = {name: f["check"] for name, f in facts.items() if "check" in f}
    for name, check in checks.items():
        if not math.isclose(check, checks["ours"], rel_tol=1e-3):
            raise ContenderError(
                f"{name}: its first result is {check:.5g}, ours is {checks['ours']:.5g}"
            )


def contenders(case: Case, names: list[str] | None) -> dict[str, Contender]:
    """The case's contenders, or ours and those that were asked for."""
    known = KINDS[case.kind]
    for name in names or ():
        if name not in known:
            raise ValueError(
                f"{case}: there is no contender {name!r}; there are {', '.join(known)}"
            )
    chosen = {
        name: contender
        for name, contender in known.items()
        if not names or name in names or name == "ours"
    }
    for contender in chosen.values():
        interpreter(contender.program)  # Before anything is measured.
    return chosen


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


def commit() -> str:
    """The commit of the package, "-dirty" where it was changed since."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "albert_jax")
    return git("rev-parse", "--short", "HEAD") + "-dirty" * bool(changed)


def command() -> str:
    """The command, without the folders of this machine."""
    words = [Path(word).name if word[:1] == "/" else word for word in sys.argv[1:]]
    return " ".join(["python benchmarks/compare.py", *words])


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
