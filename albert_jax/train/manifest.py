"""The manifest of a folder: proof that its files are all there and as written.

Written last and in one stroke, it also makes the folder count: a folder without one was
never finished. Files only; what they hold is not its business.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from albert_jax.identity import digest

FORMAT = 1
NAME = "manifest.json"


class Damaged(Exception):
    """Why a folder does not count: which file, and what is wrong with it."""


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32))
    return found.hexdigest()


def write(folder: Path, header: dict[str, Any]) -> None:
    """Hash and sync all files, then let the manifest appear, whole, under its name.

    It holds the ``header``, each file's size and BLAKE2b, and a checksum of itself.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        _sync(path)
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            files[name] = {"bytes": path.stat().st_size, "blake2b": _checksum(path)}
    _sync(folder)
    _sync(folder.parent)
    manifest = {"format": FORMAT} | header | {"files": files}
    manifest["checksum"] = digest(manifest)
    temporary = folder / (NAME + ".tmp")
    temporary.write_text(json.dumps(manifest, indent=1) + "\n")
    _sync(temporary)
    temporary.rename(folder / NAME)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def verify(folder: Path) -> None:
    """Reads every file of a folder and compares it with the manifest.

    Raises:
      Damaged: it was never finished, or something has happened to it since.
    """
    for name, wanted in read(folder)["files"].items():
        try:
            size = (folder / name).stat().st_size
            if size < wanted["bytes"]:
                raise Damaged(
                    f"{name} is truncated ({size} of {wanted['bytes']} bytes)"
                )
            if size > wanted["bytes"] or _checksum(folder / name) != wanted["blake2b"]:
                raise Damaged(f"{name} has changed since it was written")
        except FileNotFoundError:
            raise Damaged(f"{name} is missing") from None
        except OSError as error:
            raise Damaged(f"{name} cannot be read ({error.strerror})") from None


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a folder, whole; its files may be otherwise by now.

    Raises:
      Damaged: it is not there, or not as it was written.
    """
    try:
        manifest = json.loads((folder / NAME).read_bytes())
        checksum = manifest.pop("checksum")
    except FileNotFoundError:
        raise Damaged(f"{NAME} is missing, so it was never finished") from None
    except OSError as error:
        raise Damaged(f"{NAME} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, AttributeError):
        raise Damaged(f"{NAME} has changed since it was written") from None
    if digest(manifest) != checksum:
        raise Damaged(f"{NAME} has changed since it was written")
    if manifest["format"] != FORMAT:
        raise Damaged(f"its format is {manifest['format']}, not {FORMAT}")
    return manifest
