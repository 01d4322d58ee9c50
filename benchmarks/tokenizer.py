"""Throughput of the tokenizer beside Hugging Face's fast one (``tokenizers``).

    python benchmarks/tokenizer.py 30k-clean.model TEXT [--lines 20000] [--rounds 7]

TEXT is a file of plain text. Every variant encodes the same lines on one thread, in
turn, round after round, so that a noisy machine disturbs all alike; the table gives
medians. Hugging Face's is ``AlbertTokenizerFast`` of transformers 4 and needs that
(``pip install 'transformers<5' protobuf``); how many lines it encodes otherwise than
the official tokenizer is counted too, its own way with LaTeX quotes left aside.
"""

import argparse
import os
import statistics
import time
from itertools import islice
from pathlib import Path

os.environ["RAYON_NUM_THREADS"] = "1"  # Read once, when tokenizers first encodes.

import sentencepiece
import tokenizers
import transformers

from albert_jax.data.tokenizer import Tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()

    with args.text.open(encoding="utf-8") as file:
        stripped = (line.rstrip("\n") for line in file)
        lines = list(islice(filter(None, stripped), args.lines))
    megabytes = sum(len(line.encode()) for line in lines) / 1e6
    ours = Tokenizer.load(args.model)
    slow = transformers.AlbertTokenizer(str(args.model))
    fast = transformers.AlbertTokenizerFast(str(args.model)).backend_tokenizer
    raw = sentencepiece.SentencePieceProcessor(model_file=str(args.model))

    variants = {
        "encode_batch": lambda: ours.encode_batch(lines, threads=1),
        "with offsets": lambda: list(map(ours.encode_with_offsets, lines)),
        "sentencepiece alone": lambda: raw.encode(lines, num_threads=1),
        "tokenizers": lambda: [
            encoding.ids
            for encoding in fast.encode_batch_fast(lines, add_special_tokens=False)
        ],
        "tokenizers, offsets": lambda: [
            (encoding.ids, encoding.offsets)
            for encoding in fast.encode_batch(lines, add_special_tokens=False)
        ],
        "transformers, slow": lambda: [
            slow.convert_tokens_to_ids(slow.tokenize(line)) for line in lines
        ],
    }
    seconds = {name: [] for name in variants}
    for _ in range(args.rounds):
        for name, encode in variants.items():
            start = time.perf_counter()
            encode()
            seconds[name].append(time.perf_counter() - start)

    print(
        f"{len(lines):,} lines, {megabytes:.1f} MB, one thread; {args.rounds} rounds; "
        f"sentencepiece {sentencepiece.__version__}, tokenizers "
        f"{tokenizers.__version__}, transformers {transformers.__version__}"
    )
    reference = statistics.median(seconds["tokenizers"])
    print(f"{'':20} {'lines/s':>9} {'MB/s':>6} {'x tokenizers':>12}")
    for name in variants:
        median = statistics.median(seconds[name])
        print(
            f"{name:20} {len(lines) / median:9,.0f} {megabytes / median:6.1f} "
            f"{reference / median:12.2f}"
        )
    straight = Tokenizer.load(args.model, straight_quotes=True)
    pairs = zip(straight.encode_batch(lines), variants["tokenizers"](), strict=True)
    wrong = sum(ids.tolist() != theirs for ids, theirs in pairs)
    print(f"tokenizers encodes {wrong:,} lines otherwise than the official tokenizer")


if __name__ == "__main__":
    main()
