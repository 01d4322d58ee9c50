"""A corpus small enough for tests: made-up documents, and a vocabulary of them."""

import functools
import itertools
import json
import math
import os
import random
import tempfile
from pathlib import Path

from albert_jax.config import CorpusConfig

_WORDS = (
    "the of and a in to is was he for it with as his on be at by had not are but from "
    "or have an they which one you were her all she there would their we him been has "
    "when who will more no if out so said what up its about into than them can only "
    "river mountain presidents governed embedding attention layers twelve café naïve"
).split()
_SYLLABLES = "ka lo mi ren stu va tor pel ing ed un er con dis"
_WORDS += ["".join(p) for p in itertools.product(_SYLLABLES.split(), repeat=2)]
_WORDS += [f"{word}," for word in _WORDS[::10]]
_WORDS += ["1", "12", "2010,", "2015,", "a3,", "b3,"] * 5

DATA = Path(
    os.environ.get("ALBERT_JAX_DATA", Path(__file__).parents[2] / "shared" / "data")
)


def sentence(rng: random.Random) -> str:
    """A sentence of 3 to 20 words, numbers and commas among them."""
    words = " ".join(rng.choices(_WORDS, k=rng.randint(3, 20)))
    return words.capitalize() + rng.choice(".?!")


def document(rng: random.Random, lines: int = 3) -> str:
    """A document of some lines, each of 1 to 5 sentences."""
    return "\n".join(
        " ".join(sentence(rng) for _ in range(rng.randint(1, 5))) for _ in range(lines)
    )


def text(seed: int, megabytes: float = 0.05) -> str:
    """Documents with a blank line between."""
    rng = random.Random(seed)
    parts, size = [], 0
    while size < megabytes * 1e6:
        parts.append(document(rng, rng.randint(1, 8)))
        size += len(parts[-1].encode()) + 2
    return "\n\n".join(parts) + "\n"


@functools.cache
def vocabulary(vocab_size: int = 300) -> str:
    """Path of a vocabulary that is trained once a test run."""
    from albert_jax.data.tokenizer import Tokenizer

    path = Path(tempfile.mkdtemp(prefix="albert_jax_"), "small.model")
    return Tokenizer.train(text(seed=7).splitlines(), path, vocab_size).path


def config(folder: Path, megabytes: float = 0.05, **fields) -> CorpusConfig:
    """A configuration of one text file in ``folder``, prepared beside it."""
    source = folder / "corpus.txt"
    if not source.exists():
        # To make up much text takes long; the same again does for much.
        some = text(seed=1, megabytes=min(megabytes, 0.6)) + "\n"
        source.write_text(some * math.ceil(megabytes * 1e6 / len(some)))
    return CorpusConfig(
        **{
            "sources": (str(source),),
            "vocabulary": vocabulary(),
            "heldout_fraction": 0.1,
            "shard_megabytes": 1,
            "prepared": str(folder / "prepared"),
            **fields,
        }
    )


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a prepared folder, but for times, memory and when files changed."""
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    manifest = json.loads(files["manifest.json"])
    del manifest["preparation"], files["sources.json"]
    return files | {"manifest.json": json.dumps(manifest).encode()}
