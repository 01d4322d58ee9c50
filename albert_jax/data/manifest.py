"""What a prepared folder says of itself, and whether that still holds.

``settings.json`` is written first, ``sources.json`` and ``manifest.json`` last.
Imported by ``prepare`` only.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from albert_jax.config import CorpusConfig, UserError
from albert_jax.data.corpus import Source, chunks, fingerprint, listing
from albert_jax.data.shards import FORMAT, MANIFEST, SPLITS, replacing, shard_name
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.identity import differences

SETTINGS = "settings.json"
SOURCES = "sources.json"

# Fields of CorpusConfig that say where things are, not what comes out.
_PLACES = ("sources", "vocabulary", "prepared")


def settings_of(config: CorpusConfig, vocab_size: int) -> dict[str, Any]:
    """What shapes the shards, but for the corpus; flat, JSON values.

    Raises:
      UserError: the vocabulary cannot be read or is not of ``vocab_size`` pieces.
    """
    settings: dict[str, Any] = {"format": FORMAT, "vocab_size": vocab_size}
    settings |= {k: v for k, v in asdict(config).items() if k not in _PLACES}
    settings["vocabulary"] = "trained"
    if config.vocabulary is not None:
        del settings["vocabulary_megabytes"]
        tokenizer = Tokenizer.load(config.vocabulary)
        if tokenizer.vocab_size != vocab_size:
            raise UserError(
                f"vocabulary {config.vocabulary!r} has {tokenizer.vocab_size} pieces, "
                f"but the model's vocab_size is {vocab_size}; make them agree"
            )
        settings["vocabulary"] = tokenizer.fingerprint
    return settings


def refuse_other_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Raises UserError if the folder was begun with other settings."""
    path = folder / SETTINGS
    if path.exists() and (changed := differences(read_json(path), settings)):
        raise UserError(
            f"{folder} was prepared with other settings ({'; '.join(changed)}); "
            "restore them, name another folder in prepared, or delete this one"
        )


def finished(
    folder: Path,
    config: CorpusConfig,
    of: Sequence[Source],
    report: Callable[[str], None],
) -> dict[str, Any] | None:
    """The manifest, if everything that it names is there and of this corpus.

    Raises:
      UserError: the corpus has changed.
    """
    if not (folder / MANIFEST).exists():
        return None
    manifest = read_json(folder / MANIFEST)
    was, now = read_json(folder / SOURCES), listing(of)
    _refuse_other_sources(folder, was, now)
    if was != now:
        # Names and sizes agree, but files were written since: their text decides.
        report("files of the corpus have been written since; reading them again")
        digests = [chunk.digest for chunk in chunks(config, of)]
        if fingerprint(digests) != manifest["corpus"]["fingerprint"]:
            raise _changed(folder, ["the text of its files"])
        write_json(folder / SOURCES, now)
    for index, shard in enumerate(manifest["shards"]):
        for split in SPLITS:
            path = folder / shard_name(split, index)
            if not path.exists() or path.stat().st_size != shard[split]["bytes"]:
                report(f"{path} is missing or cut; making it anew")
                return None
    return manifest


def read_json(path: Path) -> Any:
    """A file that ``write_json`` wrote.

    Raises:
      UserError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is missing or damaged; delete {path.parent} and prepare it anew"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Writes a value, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n")


def _refuse_other_sources(folder: Path, was: list[list], now: list[list]) -> None:
    old, new = ({name: size for name, size, _ in files} for files in (was, now))
    if changed := differences(old, new):
        raise _changed(folder, changed)
    if [name for name, *_ in was] != [name for name, *_ in now]:
        raise _changed(folder, ["the order of its files"])


def _changed(folder: Path, what: list[str]) -> UserError:
    shown = "; ".join(what[:5]) + (f"; {len(what) - 5} more" if what[5:] else "")
    return UserError(
        f"the corpus has changed since {folder} was prepared ({shown}); restore it, "
        "name another folder in prepared, or delete this one"
    )
