"""From results to Markdown: a section a kind, a row for every contender of a case."""

import statistics
from collections.abc import Callable, Iterable, Mapping
from string import ascii_uppercase
from typing import Any, NamedTuple

from cases import DEFAULT, KINDS
from spread import ratios, shares, spread

HEAD = """\
# Speed beside peers and beside the limit

Written by `benchmarks/compare.py` from `benchmarks/results/`; `make benchmark` installs
the peers, each into an environment of its own, and measures all of it anew.

Every contender is a process of its own, from the same weights, on the same batch, in
the same type, with as many threads, and memory as the C library gives it by itself
([what keeping it gives](results.md#memory-that-is-kept)). Repetitions interleave round
by round; only one contender computes at a time. A time is the median over rounds.
*Against ours* is the contender's time over ours in the same round, median and
quartiles: above 1 we are faster. *Of the limit* are the model's matrix products
(`albert_jax.model.costs`; three times the forward pass for a training step) over what
products of 2048 x 2048 matrices reach through the same XLA in the same round. *Peak* is
the most memory that the process held; *first* is the first call, with what it compiles.
*On* is the machine:"""

BUDGET = """\
`python benchmarks/budget.py [CASE ...]`: one step under JAX's profiler. Products of the
layers are those with a weight matrix, forward, by the input and by the weights. What is
kept for the backward pass is written into arrays of all layers, read from them, and
first filled with zeros."""

RUNS = """\
*Load* is the system's average of a minute, before a run and at its end: on a machine
that does nothing else it goes from 0 to about the number of threads."""

Contender = dict[str, Any]


def median_time(these: Contender, run: dict[str, Any]) -> str:
    return duration(statistics.median(these["seconds"]))


def against_ours(these: Contender, run: dict[str, Any]) -> str:
    ours = run["contenders"]["ours"]
    if these is ours or these["title"].startswith("matrix products"):
        return ""
    return f"{ratios(these['seconds'], ours['seconds']):.2f}"


def of_the_limit(these: Contender, run: dict[str, Any]) -> str:
    limit = run["contenders"].get("limit", {"error": "not asked for"})
    if these["title"].startswith("matrix products"):
        measured = spread([these["flops"] / 1e9 / t for t in these["seconds"]])
        return f"{measured:.0f} GFLOP/s"
    known = these.get("flops") and "error" not in limit
    return f"{shares(these, limit):.2f}" if known else ""


def peak(these: Contender, run: dict[str, Any]) -> str:
    return f"{max(these['peak_mib']):,.0f} MiB"


def first_call(these: Contender, run: dict[str, Any]) -> str:
    return duration(these.get("compile_seconds", these["first_seconds"]))


def scan_over_loop(these: Contender, run: dict[str, Any]) -> str:
    ours = run["contenders"]["ours"]
    return "" if these is ours else f"{ratios(ours['seconds'], these['seconds']):.3f}"


def temporary(these: Contender, run: dict[str, Any]) -> str:
    return f"{these['temporary_mib']:,.0f} MiB"


def temporary_over_loop(these: Contender, run: dict[str, Any]) -> str:
    ours = run["contenders"]["ours"]
    share = ours["temporary_mib"] / these["temporary_mib"]
    return "" if these is ours else f"{share:.2f}"


def tokens_a_second(these: Contender, run: dict[str, Any]) -> str:
    return f"{statistics.median(rates(these)):,.0f}"


def megabytes_a_second(these: Contender, run: dict[str, Any]) -> str:
    return f"{statistics.median(rates(these)):.1f}"


def ours_against(these: Contender, run: dict[str, Any]) -> str:
    ours = run["contenders"]["ours"]
    return "" if these is ours else f"{ratios(rates(ours), rates(these)):.2f}"


def rates(these: Contender) -> list[float]:
    pairs = zip(these["work"], these["seconds"], strict=True)
    return [work / seconds for work, seconds in pairs]


def a_sentence(these: Contender, run: dict[str, Any]) -> str:
    return duration(statistics.median(these["seconds"]) / run["sentences"])


class Section(NamedTuple):
    """One kind of case: its heading, what is compared, and a cell for each column."""

    title: str
    note: str
    columns: dict[str, Callable[[Contender, dict[str, Any]], str]]


_TIMED = {"time": median_time, "against ours": against_ours}
_RATES = {"ours against it": ours_against, "peak": peak}
_SENTENCES = {"a sentence": a_sentence, "against ours": against_ours, "peak": peak}
_LIMITED = {"of the limit": of_the_limit, "peak": peak, "first": first_call}

SECTIONS = {
    "step": Section(
        "Training step",
        "Forward and backward pass, clipping of the gradient's global norm, and the "
        "optimizer: LAMB for albert_jax, AdamW for the peers. albert_jax and KerasHub "
        "multiply with the vocabulary at predicted positions only; transformers and "
        "*logits of all positions* do so at every position.",
        _TIMED | _LIMITED,
    ),
    "forward": Section(
        "Forward pass",
        "Logits of both pretraining heads, without gradient, at the same positions as "
        "in the training step.",
        _TIMED | _LIMITED,
    ),
    "optimizer": Section(
        "The optimizer alone",
        "Clipping and update for gradients that are there: LAMB for albert_jax, AdamW "
        "for PyTorch.",
        _TIMED,
    ),
    "scan": Section(
        "Scan against the unrolled loop",
        "The training step of a model whose layers share all weights. *Scan over loop* "
        "is our default's time over the loop's, so at most 1 is as fast; temporary "
        "memory is XLA's own account, and its ratio too is ours over the loop's.",
        {
            "time": median_time,
            "scan over loop": scan_over_loop,
            "temporary": temporary,
            "of the loop's": temporary_over_loop,
            "compiling": first_call,
        },
    ),
    "compile": Section(
        "Compiling the training step",
        "Tracing and compiling, from nothing each time; with `torch.compile` until the "
        "first gradients are there.",
        _TIMED,
    ),
    "import": Section(
        "Import",
        "From the start of the interpreter to everything that a training step needs; a "
        "fresh process each time.",
        _TIMED,
    ),
    "pretrain": Section(
        "Pretraining on real text",
        "Stream and step from prepared text, packed rows, against Trainer with "
        "`DataCollatorForLanguageModeling`: one pair a row, padded to the longest of "
        "the batch, logits of all positions. Both read the same text, already "
        "tokenised, and predict 15 % of it. Only tokens that are not padding count; "
        "above 1 we read more of them.",
        {"tokens/s": tokens_a_second} | _RATES,
    ),
    "stream": Section(
        "The pretraining stream",
        "Batches alone: segments, masks and packed rows from prepared text, against "
        "the collator and the rows that Trainer reads. One thread each.",
        {"tokens/s": tokens_a_second} | _RATES,
    ),
    "prepare": Section(
        "Preparing text",
        "Text to tokenised shards in one process (reading, normalising, cutting into "
        "sentences, tokenising, writing), against Hugging Face's fast tokenizer, which "
        "only tokenises lines that are in memory.",
        {"MB/s": megabytes_a_second} | _RATES,
    ),
    "classify": Section(
        "Classifying real sentences",
        "Sentences of the text, sorted by length, so many at a time; albert_jax goes "
        "through its `Buckets`, the others pad to the longest of a batch.",
        _SENTENCES,
    ),
    "fill-mask": Section(
        "Filling masks in real sentences",
        "The same sentences, a word of each masked. albert_jax multiplies with the "
        "vocabulary at [MASK] only, the others at every position.",
        _SENTENCES,
    ),
    "gpu": Section(
        "Training step on a GPU",
        "`python benchmarks/compare.py --gpu`: computation in bfloat16, parameters and "
        "losses in float32. Contenders run one after another, each with the device's "
        "memory for itself, which *peak* counts. The limit are products of 8192 x 8192 "
        "matrices in bfloat16, so that *of the limit* is the MFU.",
        {"time": median_time} | _LIMITED,
    ),
}


def render(runs: Iterable[dict[str, Any]], budget: str) -> str:
    """The whole document, with the tables that ``budget.py`` wrote."""
    runs = list(runs)
    letters = machines(runs)
    parts = [HEAD, "\n".join(f"- {x}: {name}" for name, x in letters.items())]
    for kind, section in SECTIONS.items():
        of_kind = [run for run in runs if run["case"].split("/")[0] == kind]
        table = comparison(kind, of_kind, letters) if of_kind else "Not run."
        parts += [f"## {section.title}", section.note, table]
    parts += ["## Where a step's time goes", BUDGET, budget]
    return "\n\n".join([*parts, "## Runs", RUNS, listing(runs)]) + "\n"


def machines(runs: Iterable[dict[str, Any]]) -> dict[str, str]:
    """A letter for every machine that measured something."""
    names = sorted({run["machine"] for run in runs})
    return dict(zip(names, ascii_uppercase, strict=False))


def comparison(
    kind: str, runs: list[dict[str, Any]], letters: Mapping[str, str]
) -> str:
    """Every contender of every case on every machine, out of the newest run with it."""
    rows, columns = [], SECTIONS[kind].columns
    newest: dict[tuple[str, str], dict[str, dict]] = {}
    for run in runs:
        of_case = newest.setdefault((run["case"], letters[run["machine"]]), {})
        of_case |= dict.fromkeys(run["contenders"], run)
    for case, on in sorted(newest, key=lambda key: (position(key[0]), key[1])):
        held = newest[case, on]
        for name in sorted(held, key=[*KINDS[kind], "before"].index):
            run = held[name]
            these = run["contenders"][name]
            if "error" in these:
                cells = [these["error"], *[""] * (len(columns) - 1)]
            else:
                cells = [cell(these, run) for cell in columns.values()]
            rows.append([shape(run), on, these["title"], *cells])
    return markdown(["case", "on", "contender", *columns], rows)


def shape(run: dict[str, Any]) -> str:
    """The case without its kind, and how many positions of a row are predicted."""
    kind, size, batch = run["case"].split("/")
    described = f"{size}, {batch.replace('x', ' x ')}"
    predicting = kind in ("step", "forward", "scan", "compile", "pretrain", "gpu")
    return described + f", {run['predictions']} predicted" * predicting


def position(case: str) -> tuple[int, str]:
    """Cases in the order of ``cases.DEFAULT``, others after them."""
    return (DEFAULT.index(case) if case in DEFAULT else len(DEFAULT), case)


def listing(runs: list[dict[str, Any]]) -> str:
    """Where, when and how each run was made."""
    plain = ["case", "rounds", "date", "commit"]
    rows = []
    for run in sorted(runs, key=lambda run: position(run["case"])):
        versions = {}
        for contender in run["contenders"].values():
            versions |= contender.get("versions", {})
        named = ", ".join(f"{name} {version}" for name, version in versions.items())
        machine = f"{run['machine']}, {run['threads']} threads, {run['dtype']}"
        command = f"`{run['command']}`"
        load = " to ".join(map(str, run["load"]))
        cells = [str(run[name]) for name in plain]
        rows.append([*cells, load, machine, command, named])
    return markdown([*plain, "load", "machine", "command", "versions"], rows)


def duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def markdown(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
