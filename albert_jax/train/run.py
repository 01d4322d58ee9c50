"""A run: the folder that explains itself. Other tools read it; its names are fixed."""

import importlib.metadata
import json
import platform
import shutil
import subprocess
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
from flax import linen as nn
from jaxtyping import PyTree

from albert_jax.config import AlbertConfig, PretrainingExperiment, UserError
from albert_jax.data.shards import PreparedCorpus
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.identity import differences, from_dict, identity, to_dict
from albert_jax.model.albert import abstract_params
from albert_jax.model.heads import AlbertForPreTraining
from albert_jax.train.processes import first, meet

EXPERIMENT = "experiment.json"
METRICS = "metrics.jsonl"
TOKENIZER = "tokenizer.model"
CHECKPOINTS = "checkpoints"
CURVES = "curves.png"

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def run_identity(
    experiment: PretrainingExperiment, corpus: PreparedCorpus
) -> dict[str, Any]:
    """What a resumed run must share with its checkpoints: settings, and the data."""
    return identity(experiment) | {"prepared": corpus.fingerprint}


def open_run(
    folder: Path,
    experiment: PretrainingExperiment,
    corpus: PreparedCorpus,
    *,
    accept_changes: bool = False,
) -> None:
    """Makes the folder of a run, or checks that it is this experiment's.

    Every process checks, the first one writes.

    Raises:
      UserError: the folder belongs to another experiment, is not a run's, or cannot be
        written.
    """
    path = folder / EXPERIMENT
    ours = run_identity(experiment, corpus)
    if path.exists():
        theirs = read_experiment(folder)["identity"]
        if changed := differences(theirs, ours):
            if not accept_changes:
                raise UserError(
                    f"{folder} holds a run with other settings ({'; '.join(changed)}); "
                    "choose another --workdir, set them back, or resume under the new "
                    "ones with --accept-changes"
                )
    elif folder.exists() and any(folder.iterdir()):
        raise UserError(
            f"{folder} is not empty and holds no {EXPERIMENT}: it is not a run's "
            "folder; choose another --workdir"
        )
    writes = not path.exists() or accept_changes
    meet("everybody has looked at the run's folder")
    if not (writes and first()):
        return
    record = {
        "experiment": to_dict(experiment),
        "identity": ours,
        "versions": _versions(),
        "git_commit": _git_commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    temporary = path.with_suffix(".tmp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(record, indent=1) + "\n")
        shutil.copyfile(corpus.tokenizer_path, folder / TOKENIZER)
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}") from error


def read_experiment(folder: Path) -> dict[str, Any]:
    """What ``experiment.json`` of a run holds.

    Raises:
      UserError: there is none, or it is damaged.
    """
    path = folder / EXPERIMENT
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{folder} is not a run: it has no {EXPERIMENT}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def load_run(
    folder: str | Path,
    report: Callable[[str], None] = warnings.warn,
    **overrides: Any,
) -> tuple[nn.Module, PyTree, Tokenizer]:
    """The model of a run, its variables at the newest checkpoint, and its tokenizer.

    Args:
      report: hears of checkpoints that were skipped because they are damaged.
      **overrides: fields of the model's configuration that hold whatever the run says.

    Raises:
      UserError: not a run, or no usable checkpoint.
    """
    from albert_jax.train.checkpoint import Checkpoints

    folder = Path(folder)
    record = read_experiment(folder)
    experiment = from_dict(PretrainingExperiment, record["experiment"])
    config = from_dict(AlbertConfig, to_dict(experiment.model) | overrides)
    model = AlbertForPreTraining(config)
    where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    params = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        abstract_params(model),
    )
    with Checkpoints(
        folder / CHECKPOINTS,
        keep=experiment.checkpoint.keep,
        identity=record["identity"],
        report=report,
    ) as checkpoints:
        restored = checkpoints.restore({"params": params}, partial=True)
    if restored is None:
        raise UserError(f"{folder} has no checkpoint yet: let pretrain reach one")
    tokenizer = Tokenizer.load(folder / TOKENIZER)
    return model, {"params": restored.state["params"]}, tokenizer


def _versions() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version()} | versions


def _git_commit() -> str | None:
    try:
        return subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
