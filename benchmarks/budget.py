"""Where the time of a training step on a CPU goes, in milliseconds.

    python benchmarks/budget.py [step/base/8x128 ...]

Writes ``benchmarks/results/budget.MACHINE.md``, which ``compare.py`` puts into its
table.

One step under JAX's profiler, after two that warm up. While a matrix product runs, the
time is its own, whatever runs beside it; the rest belongs to what is active then. The
limit is measured in the same process, before and after: products of 2048 x 2048.
"""

import os
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_cpu_enable_xprof_traceme=true"
sys.path.insert(0, str(Path(__file__).parent / "contenders"))

import jax
import ours
from cases import Case
from jax.profiler import ProfileData
from machine import machine
from results import RESULTS, write_budget

PRODUCTS = "matrix products of the layers"
KEEPING = "keeping values for the backward pass"
REST = "clipping and LAMB"

# The first that is found in an instruction's scope and shape names what it is for.
PARTS = (
    (r"predictions|sop_classifier|pooler|masked", "heads and losses"),
    (r"embedding", "embeddings"),
    (r"_repeat/(while/body/)?(jit\(dynamic|dynamic|broadcast)", KEEPING),
    (r"LayerNorm", "LayerNorm and residual"),
    (r"(dense|intermediate|output|attention_\d)/(dot_general|transpose)", PRODUCTS),
    (r"attention_\d/(dense|.*Dropout)", "biases and dropout"),
    (r"attention_\d", "attention: softmax, products of [t, t], heads"),
    (r"ffn_\d/(intermediate|output)", "biases and dropout"),
    (r"ffn_\d", "GELU"),
    (r"encoder|while/body", "adding gradients up, layer after layer"),
)

Event = tuple[float, float, str]


def parts(program: str) -> dict[str, str]:
    """Instruction of an optimised program -> what it is for."""
    named = {}
    for line in program.splitlines():
        found = re.match(r"\s*(?:ROOT )?%([\w.-]+) = ", line)
        if not found or found[1] in named:
            continue
        scope = re.search(r'op_name="([^"]*)"', line)
        if scope:
            fits = (part for pattern, part in PARTS if re.search(pattern, scope[1]))
            named[found[1]] = next(fits, REST)
        elif re.match(r"(wrapped_)?(copy|broadcast)", found[1]):
            named[found[1]] = KEEPING  # Zeros and copies for the scan.
    return named


def timed(trace: Path) -> list[Event]:
    """(start, end, instruction) of everything that the program ran, in milliseconds."""
    file = next(trace.rglob("*.xplane.pb"))
    outer = ("ThunkExecutor", "end:", "Slinky", "Threadpool", "while")
    return sorted(
        (event.start_ns / 1e6, (event.start_ns + event.duration_ns) / 1e6, event.name)
        for plane in ProfileData.from_file(str(file)).planes
        for line in plane.lines
        if re.search("XLAEigen|PjRt", line.name)
        for event in line.events
        if not event.name.startswith(outer)
    )


def divide(events: Iterable[Event], part_of: dict[str, str]) -> Counter:
    """Milliseconds by part. Time without any event is a product's: of products that
    run beside others the trace shows the start alone."""
    edges = sorted({edge for start, end, _ in events for edge in (start, end)})
    waiting, active, spent = sorted(events, reverse=True), [], Counter()
    for begin, end in zip(edges, edges[1:], strict=False):
        while waiting and waiting[-1][0] <= begin:
            active.append(waiting.pop())
        active = [event for event in active if event[1] > begin]
        now = {part_of.get(name, REST) for _, _, name in active} or {PRODUCTS}
        now = {PRODUCTS} if PRODUCTS in now else now
        for part in now:
            spent[part] += (end - begin) / len(now)
    return spent


def limit() -> float:
    """FLOP/s of large products."""
    repeat, facts = ours.limit({"size": 2048, "dtype": "float32"})
    seconds = []
    for _ in range(8):
        start = time.perf_counter()
        repeat()
        seconds.append(time.perf_counter() - start)
    return facts["flops"] / statistics.median(seconds[1:])


def budget(case: Case) -> str:
    """The table of one case."""
    program, state, batch, facts = ours.training(case.job)

    def repeat() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(program(state, batch))

    for _ in range(2):
        repeat()
    before = limit()
    options = jax.profiler.ProfileOptions()
    options.host_tracer_level, options.python_tracer_level = 3, 0
    with tempfile.TemporaryDirectory() as folder:
        jax.profiler.start_trace(folder, profiler_options=options)
        repeat()
        jax.profiler.stop_trace()
        events = timed(Path(folder))
    reached = (before + limit()) / 2
    spent = divide(events, parts(program.as_text()))
    whole = sum(spent.values())
    ideal = 1e3 * facts["flops"] / reached
    lines = [
        f"{case}: {whole:,.0f} ms; at the limit of {reached / 1e9:.0f} GFLOP/s its "
        f"products would take {ideal:,.0f} ms, {ideal / whole:.2f} of that.",
        "",
        "| part | ms | share |",
        "| --- | --- | --- |",
    ]
    for part, ms in spent.most_common():
        lines.append(f"| {part} | {ms:,.0f} | {ms / whole:.1%} |")
    return "\n".join(lines)


if __name__ == "__main__":
    cases = sys.argv[1:] or ("step/base/8x128", "step/base/2x512")
    tables = "\n\n".join(budget(Case.parse(name)) for name in cases)
    write_budget(RESULTS, machine(), tables)
    print(tables)
