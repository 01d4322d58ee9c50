"""Models by their name on the Hugging Face hub; the only file that imports its library.

The library keeps what it fetched, in ``HF_HOME`` or ``HF_HUB_CACHE``, and with
``HF_HUB_OFFLINE=1`` asks nobody else.
"""

import re
from pathlib import Path

from albert_jax.config import UserError, nearest
from albert_jax.config.files import RELEASED
from albert_jax.interop.tensors import SAFETENSORS, TORCH

# Whose the released models are; the hub knows them without an owner too.
_OWNER = "albert"
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")

_SMALL = ("config.json", "tokenizer_config.json", "spiece.model", "vocab.txt")


def is_name(source: str) -> bool:
    """Whether it could be a model's name: ``name`` or ``owner/name``."""
    return _NAME.fullmatch(source) is not None


def fetch(name: str, revision: str | None = None) -> Path:
    """The folder that holds a model of the hub, out of the cache or fetched now.

    Raises:
      UserError: the library is missing; there is no such model or revision; the hub
        cannot be reached and the cache has it not.
    """
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError:
        raise UserError(
            f"{name!r} is no folder here, and as a name on the Hugging Face hub it "
            "needs a library: pip install 'albert_jax[hub]'"
        ) from None
    repository = f"{_OWNER}/{name}" if name in RELEASED else name

    def download(*patterns: str) -> Path:
        return Path(
            snapshot_download(repository, revision=revision, allow_patterns=patterns)
        )

    try:
        folder = download(*_SMALL, SAFETENSORS)
        if not any(folder.glob(SAFETENSORS)):
            folder = download(*_SMALL, TORCH)
        return folder
    except errors.LocalEntryNotFoundError:
        raise UserError(
            f"{name!r} is no folder here, and the hub cannot be reached, nor does its "
            "cache hold that model. Where there is a network, load it once; then "
            "HF_HUB_OFFLINE=1 loads it without one, or name the folder of a copy"
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(
            f"revision is {revision!r}, but {name} has no such branch, tag or commit"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"{name!r} is neither a folder here nor a model on the hub that you may "
            f"read{nearest(name, RELEASED)}"
        ) from None
    except (errors.HfHubHTTPError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{name} could not be fetched: {reason}") from error
