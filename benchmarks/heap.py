"""What it gives that a process keeps what it has freed (``albert_jax.heap``).

    python benchmarks/heap.py [CASE ...] [--threads 1] [--contenders ours pytorch-sdpa]
        [--rounds 9] [--preload LIBRARY]

Each contender of a case (``compare.py`` says what those are) works twice: with glibc's
own way of allocating, as everywhere in ``docs/benchmarks.md``, and with the settings
that our commands make for so many cores; with ``--preload`` a third time, with another
allocator instead, such as libtcmalloc_minimal.so.4. Shown are medians and quartiles.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from cases import KINDS, Case
from machine import machine
from rounds import ContenderError, Worker, interleave, keep_cores
from spread import ratios, spread

from albert_jax.heap import settings


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--contenders", nargs="+", default=["ours"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--preload", metavar="LIBRARY")
    args = parser.parse_args()

    keep_cores(args.threads)
    kept = {name: str(value) for name, value in settings(args.threads).items()}
    ways = {"returned": {}, "kept": kept}
    if args.preload:
        ways[Path(args.preload).name] = {"LD_PRELOAD": args.preload}
    print(f"{machine()}, threads: {args.threads}; {args.rounds} rounds")
    try:
        for case in map(Case.parse, args.cases or ["step/demo/64x32"]):
            print(case)
            with tempfile.TemporaryDirectory() as scratch:
                shared = {"threads": args.threads, "scratch": scratch}
                compare(case, args.contenders, shared, ways, args.rounds)
    except (ContenderError, ValueError) as error:
        sys.exit(f"benchmark: {error}")


def compare(
    case: Case,
    names: list[str],
    shared: dict,
    ways: dict[str, dict[str, str]],
    rounds: int,
) -> None:
    export = case.job | shared | {"kind": "export", "for": case.kind}
    Worker("export", "ours", export).close()
    workers: list[Worker] = []
    try:
        for name in names:
            contender = KINDS[case.kind][name]
            for way, environment in ways.items():
                job = case.job_of(contender) | shared | {"environment": environment}
                workers.append(Worker(f"{name}, {way}", contender.program, job))
        timed = interleave(workers, rounds)
    finally:
        for worker in workers:
            worker.close()
    for worker in workers:
        seconds, peak = timed[worker.name]["seconds"], timed[worker.name]["peak_mib"]
        returned = timed[f"{worker.name.partition(', ')[0]}, returned"]["seconds"]
        print(
            f"  {worker.name:32} {spread([1000 * s for s in seconds]):7.1f} ms, "
            f"returned / this {ratios(returned, seconds):.2f}, peak {peak[-1]:,.0f} MiB"
        )


if __name__ == "__main__":
    main()
