"""The command convert: any ALBERT as files that others load."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from albert_jax.cli.parsing import note, parse


@dataclass(frozen=True)
class _Convert:
    """Writes any ALBERT as a new folder, for transformers or for the official code."""

    source: tyro.conf.Positional[str]
    """A run, a folder, an official checkpoint's prefix, or a name on the hub."""
    destination: tyro.conf.Positional[Path]
    """Folder to write; there must be none."""
    form: Literal["hugging-face", "official"] = "hugging-face"
    """For transformers, or a TensorFlow checkpoint for the official code."""
    head: str | None = None
    """Class of the model, such as AlbertForMaskedLM; as the source says by default."""
    vocabulary: Path | None = None
    """A .model or vocab.txt, where the source has none or another."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""


def convert(arguments: Sequence[str]) -> None:
    options = parse(_Convert, arguments, "convert")
    from albert_jax.interop.pretrained import (
        from_pretrained,
        refuse_occupied,
        save_pretrained,
    )
    from albert_jax.interop.task import task_of
    from albert_jax.model.table import has_labels

    refuse_occupied(options.destination)
    model, variables, tokenizer = from_pretrained(
        options.source,
        options.head,
        vocabulary=options.vocabulary,
        revision=options.revision,
        report=note,
    )
    labels = ()
    if has_labels(type(model).__name__):
        labels = task_of(options.source, model, revision=options.revision).labels
    save_pretrained(
        options.destination,
        model,
        variables,
        tokenizer,
        form=options.form.replace("-", "_"),
        labels=labels,
    )
    print(f"{options.destination}: {type(model).__name__}")
    for file in sorted(options.destination.iterdir()):
        print(f"  {file.name:40} {file.stat().st_size:>14,} bytes")
