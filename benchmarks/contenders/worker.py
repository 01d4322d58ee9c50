"""The worker's side: one contender in its own interpreter, one repetition a request.

A worker reads a job, a line of JSON; prepares it; and answers every further line with
one timed repetition. Only the standard library here: every interpreter can import it.
"""

import json
import math
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

# A repetition that is shorter is done as often as it takes, and its mean counts.
LEAST_SECONDS = 0.4

# What a repetition leaves: nothing, or a quantity of work (real tokens, say).
Repeat = Callable[[], float | None]
Prepare = Callable[[dict], tuple[Repeat, dict]]


def serve(
    kinds: dict[str, Prepare],
    versions: dict[str, str],
    device_mib: Callable[[], float | None] = lambda: None,
) -> None:
    """Answers the harness until it closes the pipe.

    Called last in a contender's file: what passed since the process was started is the
    time that its imports took.

    Args:
      kinds: kind of job -> what makes of a job a repetition and facts about it.
      versions: package -> version.
      device_mib: the most memory used on an accelerator, None where there is none.
    """
    imported = time.time() - float(os.environ["BENCHMARK_STARTED"])
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # What libraries print is no answer.

    def answer(**values: Any) -> None:
        channel.write(json.dumps(values) + "\n")

    job = json.loads(sys.stdin.readline())
    try:
        start = time.perf_counter()
        repeat, facts = kinds[job["kind"]](job)
        prepared = time.perf_counter()
        # A repetition that builds anew what it times ("compile") needs no warming.
        warm = facts.pop("warm", True)
        if warm:
            repeat()
        done = time.perf_counter()
        times = 1
        if warm:
            repeat()
            again = time.perf_counter() - done
            times = min(1000, math.ceil(LEAST_SECONDS / again))
        facts |= {
            "import_seconds": imported,
            "prepare_seconds": prepared - start,
            "first_seconds": done - prepared,
            "peak_mib": peak_mib(),
            "versions": {"python": sys.version.split()[0]} | versions,
        }
        answer(facts=facts)
        for _ in sys.stdin:
            start = time.perf_counter()
            work = sum(repeat() or 0 for _ in range(times)) / times
            seconds = (time.perf_counter() - start) / times
            answer(seconds=seconds, work=work, peak_mib=device_mib() or peak_mib())
    except Exception as error:
        answer(error="".join(traceback.format_exception_only(error)).strip())
        raise


def nothing(job: dict) -> tuple[Repeat, dict]:
    """For the time of the imports alone."""
    return lambda: None, {"warm": False}


def peak_mib() -> float:
    """The most memory that this process has held, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
