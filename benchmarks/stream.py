"""Text to shards to batches: throughput of a core, and memory over ten times the text.

    python benchmarks/stream.py 30k-clean.model TEXT [--megabytes 35] [--rounds 5]

TEXT is a file of plain text, blank lines between documents; a short one is repeated.
Every measurement is a process of its own, all in turn, round after round, so that a
noisy machine disturbs all alike. Seconds are of processor time, all threads together;
the table gives medians and the spread of the rounds. ``prepare`` (sentences, tokens,
shards, one process) stands beside the tokenizer alone and Hugging Face's fast one
(``tokenizers``, if transformers 4 is installed); the stream is what a training step is
fed, Grain included, of rows of 32, 128 and 512 tokens, packed and not. Memory is the
peak of the process, at the given size and at ten times as much (for the stream: the
same shards ten times over); of the stream also that of a Grain worker, where one builds
the batches. ``--before`` another checkout, say of ``git worktree add``, the stream is
measured with its code too, in the same rounds.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

LENGTHS = (32, 128, 512)
POSITIONS = 4096  # of a batch
READ = 12_000_000  # positions of an epoch that are read, at most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--megabytes", type=float, default=35)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("prepare", "stream"))
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--packed", action="store_true", help="packed rows alone")
    parser.add_argument("--before", type=Path, help="a checkout to measure beside")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        name, *given = json.loads(args.measure)
        print(json.dumps(MEASUREMENTS[name](args.model, args.text, *given)))
        return

    with tempfile.TemporaryDirectory() as folder:
        small, large = (Path(folder, f"{n}.txt") for n in ("small", "large"))
        _write_text(args.text, small, args.megabytes)
        print(f"{small.stat().st_size / 1e6:.1f} MB; {args.rounds} rounds; one core")
        if args.only != "stream":
            _prepare_table(args, small, large)
        if args.only != "prepare":
            _stream_table(args, small, large)


def _prepare_table(args: argparse.Namespace, small: Path, large: Path) -> None:
    _write_text(args.text, large, 10 * args.megabytes)
    names = ("prepare", "tokenizer", "hugging_face")
    rounds = {name: [] for name in names}
    for _ in range(args.rounds):
        for name in names:
            rounds[name].append(_measure(args.model, small, name))
    _print_head("text to shards", "MB/s")
    for name in names:
        if rounds[name][0] is None:
            print(f"{name:24} not run: transformers is not installed")
            continue
        peak = statistics.median(x["peak"] for x in rounds[name]) / 1e6
        more = _measure(args.model, large, name)["peak"] / 1e6
        _print_row(name, [x["rate"] / 1e6 for x in rounds[name]], peak, more, 2)


def _stream_table(args: argparse.Namespace, small: Path, large: Path) -> None:
    if not Path(_prepared(small)).exists():
        _measure(args.model, small, "prepare")
    shutil.rmtree(_prepared(large), ignore_errors=True)
    tokens = repeat_shards(Path(_prepared(small)), Path(_prepared(large)), 10)
    print(f"\n{tokens / 1e7:.1f} million tokens to train on, and ten times as many")
    variants = [
        (length, packing, checkout)
        for packing in (True, False)[: 1 if args.packed else 2]
        for length in args.lengths
        for checkout in (None, args.before)[: 2 if args.before else 1]
    ]
    names = {
        (length, packing, checkout): f"{length}, {'packed' if packing else 'one pair'}"
        + (", before" if checkout else "")
        for length, packing, checkout in variants
    }
    rounds = {variant: [] for variant in variants}

    def measured(text: Path, what: str, variant: tuple) -> dict[str, float]:
        *options, checkout = variant
        return _measure(args.model, text, what, *options, checkout=checkout)

    for _ in range(args.rounds):
        for variant in variants:
            rounds[variant].append(measured(small, "stream", variant))
    _print_head("rows", "tokens/s")
    for variant in variants:
        found = rounds[variant]
        peak = statistics.median(x["peak"] for x in found) / 1e6
        more = measured(large, "stream", variant)["peak"] / 1e6
        _print_row(names[variant], [x["rate"] for x in found], peak, more, 0)
    columns = ("rows, by a worker", "peak MB", "x10", "worker", "x10")
    print("\n{:24} {:>8} {:>6} {:>8} {:>6}".format(*columns))
    for variant in variants:
        ends = [measured(text, "worker", variant) for text in (small, large)]
        peaks = [end[name] / 1e6 for name in ("peak", "worker") for end in ends]
        print("{:24} {:8.0f} {:6.0f} {:8.0f} {:6.0f}".format(names[variant], *peaks))


def _print_head(what: str, unit: str) -> None:
    print(f"\n{what:24} {unit:>9} {'spread':>20} {'peak MB':>8} {'x10':>6}")


def _print_row(
    name: str, rates: list[float], peak: float, more: float, digits: int
) -> None:
    low, high = (f"{f(rates):,.{digits}f}" for f in (min, max))
    median = f"{statistics.median(rates):,.{digits}f}"
    print(f"{name:24} {median:>9} {low + '-' + high:>20} {peak:8.0f} {more:6.0f}")


def _write_text(source: Path, path: Path, megabytes: float) -> None:
    """Whole documents of the source, so many megabytes, repeated if it is shorter."""
    with source.open("rb") as file:
        text = file.read(size := int(megabytes * 1e6))
    text = (text * math.ceil(size / len(text)))[:size]
    path.write_bytes(text[: text.rindex(b"\n\n")])


def repeat_shards(prepared: Path, folder: Path, times: int) -> int:
    """A prepared corpus so many times over, in a new folder, where its shards are
    links; returns the tokens to train on."""
    from albert_jax.data.index import write_index
    from albert_jax.data.manifest import write_json
    from albert_jax.data.sentences import sidecar
    from albert_jax.data.shards import (
        MANIFEST,
        SPLITS,
        TOKENIZER,
        read_manifest,
        shard_name,
    )

    manifest = read_manifest(prepared)
    shards = manifest["shards"] * times
    (folder / "shards").mkdir(parents=True)
    for number in range(len(shards)):
        first = number % len(manifest["shards"])
        os.link(sidecar(prepared, first), sidecar(folder, number))
        for split in SPLITS:
            name = shard_name(split, first)
            os.link(prepared / name, folder / shard_name(split, number))
    shutil.copyfile(prepared / TOKENIZER, folder / TOKENIZER)
    splits = write_index(folder, shards, manifest["vocabulary"]["size"])
    write_json(folder / MANIFEST, manifest | {"splits": splits, "shards": shards})
    return splits["train"]["tokens"]


def _measure(
    model: Path, text: Path, *what: object, checkout: Path | None = None
) -> dict[str, float] | None:
    command = [sys.executable, __file__, str(model), str(text)]
    environment = os.environ | {"RAYON_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
    if checkout:
        environment["PYTHONPATH"] = str(checkout)
    done = subprocess.run(
        [*command, "--measure", json.dumps(what)],
        stdout=subprocess.PIPE,
        env=environment,
        check=True,
    )
    return json.loads(done.stdout)


def _timed(work: Callable[[], float]) -> dict[str, float]:
    from albert_jax.data.workers import peak_memory

    start = time.process_time()
    amount = work()
    rate = amount / (time.process_time() - start)
    return {"rate": rate, "peak": peak_memory()}


def measure_prepare(model: Path, text: Path) -> dict[str, float]:
    """Bytes of text a second, all of ``prepare`` in this process."""
    from albert_jax.config import CorpusConfig
    from albert_jax.data.prepare import prepare

    folder = _prepared(text)
    shutil.rmtree(folder, ignore_errors=True)
    config = CorpusConfig(sources=(str(text),), vocabulary=str(model), prepared=folder)
    return _timed(lambda: prepare(config, 30_000, processes=1) and _size(text))


def measure_tokenizer(model: Path, text: Path) -> dict[str, float]:
    """The same, of our tokenizer alone, lines in, ids out."""
    from albert_jax.data.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(model)
    return _timed(
        lambda: _by_lines(text, lambda x: tokenizer.encode_batch(x, threads=1))
    )


def measure_hugging_face(model: Path, text: Path) -> dict[str, float] | None:
    """The same, of Hugging Face's fast tokenizer."""
    try:
        from transformers import AlbertTokenizerFast
    except ImportError:
        return None
    tokenizer = AlbertTokenizerFast(str(model)).backend_tokenizer
    encode = tokenizer.encode_batch_fast
    return _timed(
        lambda: _by_lines(text, lambda x: encode(x, add_special_tokens=False))
    )


def measure_stream(
    model: Path, text: Path, length: int, packing: bool
) -> dict[str, float]:
    """Real tokens a second of the batches of an epoch, planning included, out of what
    ``prepare`` left."""
    # Grain is imported with the first batch.
    next(_batches(text, length, packing, seed=1))
    return _timed(
        lambda: sum(
            int(batch["attention_mask"].sum())
            for batch in _batches(text, length, packing)
        )
    )


def measure_worker(
    model: Path, text: Path, length: int, packing: bool
) -> dict[str, float]:
    """Most bytes of RAM of this process and of the one worker that builds an epoch."""
    from albert_jax.data.workers import peak_memory

    batches, worker = _batches(text, length, packing, workers=1), 0
    for _ in batches:
        # A child is listed under the thread that started it.
        for task in Path("/proc/self/task").glob("*/children"):
            worker = max([worker, *map(_peak_of, task.read_text().split())])
    return {"peak": peak_memory(), "worker": worker}


def _batches(
    text: Path, length: int, packing: bool, seed: int = 0, workers: int = 0
) -> Iterator[dict]:
    """The batches of an epoch, as far as they are read."""
    from albert_jax.config import DataConfig
    from albert_jax.data.pipeline import PretrainingData
    from albert_jax.data.shards import PreparedCorpus
    from albert_jax.data.tokenizer import Tokenizer

    corpus = PreparedCorpus.open(_prepared(text))
    config = DataConfig(
        sequence_length=length,
        packing=packing,
        batch_size=POSITIONS // length,
        workers=workers,
    )
    tokenizer = Tokenizer.load(corpus.tokenizer_path)
    data = PretrainingData(corpus, tokenizer, config, seed)
    batches = min(data.rows_per_epoch, READ // length) // config.batch_size
    return data.batches(0, batches * config.batch_size)


def _peak_of(process: str) -> int:
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if "VmHWM" in line)


def _prepared(text: Path) -> str:
    return str(text.with_suffix(".prepared"))


def _by_lines(text: Path, encode: Callable[[list[str]], object]) -> int:
    with text.open(encoding="utf-8") as file:
        lines = filter(None, (line.rstrip("\n") for line in file))
        while batch := list(islice(lines, 1000)):
            encode(batch)
    return _size(text)


def _size(text: Path) -> int:
    return text.stat().st_size


MEASUREMENTS = {
    "prepare": measure_prepare,
    "tokenizer": measure_tokenizer,
    "hugging_face": measure_hugging_face,
    "stream": measure_stream,
    "worker": measure_worker,
}


if __name__ == "__main__":
    main()
