"""Lines of real text: Wikipedia, novels, GLUE sentences, SQuAD contexts."""

import csv
import io
import json
import lzma
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path


def real_lines(folder: Path) -> dict[str, list[str]]:
    """About 140,000 lines by where they come from; the same at every call."""
    return {
        "wikipedia": list(islice(paragraphs(folder / "wiki_en.txt.xz"), 50_000)),
        "novels": list(islice(paragraphs(folder / "books_eltec.txt.xz"), 50_000)),
        "glue": list(glue_sentences(folder / "glue.tar.xz", a_file=3_000)),
        "squad": sorted(set(squad_contexts(folder / "squad.tar.xz"))),
    }


def paragraphs(path: Path) -> Iterator[str]:
    """The lines of a compressed text that are not empty."""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        yield from filter(None, (line.rstrip("\n") for line in file))


def members(path: Path, suffix: str) -> Iterator[str]:
    """The text of each file in an archive whose name ends so."""
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(suffix):
                yield archive.extractfile(member).read().decode("utf-8-sig")


def glue_sentences(path: Path, a_file: int) -> Iterator[str]:
    """The fields that have a space, of the first rows of every file."""
    for text in members(path, ".tsv"):
        rows = csv.reader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
        for row in islice(rows, a_file):
            yield from (field for field in row if " " in field)


def squad_contexts(path: Path) -> Iterator[str]:
    """The context of every paragraph of every set."""
    for text in members(path, ".json"):
        for article in json.loads(text).get("data", ()):
            yield from (paragraph["context"] for paragraph in article["paragraphs"])
