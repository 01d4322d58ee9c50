"""A run: the folder that explains itself. Other tools read it; its names are fixed."""

import importlib.metadata
import json
import platform
import subprocess
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import PyTree

from albert_jax.config import AlbertConfig, PretrainingExperiment, UserError
from albert_jax.config.finetuning import FinetuningExperiment
from albert_jax.data.blocks import count_blocks
from albert_jax.data.shards import PreparedCorpus
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.identity import differences, from_dict, identity, to_dict
from albert_jax.model.albert import abstract_params
from albert_jax.model.heads import AlbertForPreTraining
from albert_jax.model.table import make_head
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
    blocks = count_blocks(corpus)
    return identity(experiment) | {
        "prepared": corpus.fingerprint,
        # One block needs no word: its rows are as they were before there were blocks.
        "row_order": f"{blocks} blocks" if blocks > 1 else None,
    }


def open_run(
    folder: Path,
    experiment: PretrainingExperiment | FinetuningExperiment,
    shared: dict[str, Any],
    tokenizer: Tokenizer,
    *,
    facts: dict[str, Any] | None = None,
    accept_changes: bool = False,
) -> None:
    """Makes the folder of a run, or checks that it is this experiment's.

    Every process checks, the first one writes.

    Args:
      shared: what a resumed run must share with it.
      tokenizer: its vocabulary is copied.
      facts: what else ``experiment.json`` says, by name.

    Raises:
      UserError: the folder belongs to another experiment, is not a run's, or cannot be
        written.
    """
    path = folder / EXPERIMENT
    ours = json.loads(json.dumps(shared))
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
        **(facts or {}),
        "versions": _versions(),
        "git_commit": _git_commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    temporary = path.with_suffix(".tmp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(record, indent=1) + "\n")
        (folder / vocabulary_file(tokenizer)).write_bytes(tokenizer.vocabulary)
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


def vocabulary_file(tokenizer: Tokenizer) -> str:
    """What a run calls its vocabulary: a SentencePiece model, or WordPiece's list."""
    return TOKENIZER if Path(tokenizer.FILE).suffix == ".model" else tokenizer.FILE


def load_run(
    folder: str | Path,
    report: Callable[[str], None] = warnings.warn,
    *,
    seed: int | None = None,
    **overrides: Any,
) -> tuple[nn.Module, PyTree, Tokenizer]:
    """The model of a run, its variables at the newest checkpoint, and its tokenizer.

    Of a fine-tuning run, the weights that its rule chooses, of the learning rate that
    was chosen.

    Args:
      report: hears which of several seeds it is, and of checkpoints that were skipped
        because they are damaged.
      seed: which of a run's; its first by default.
      **overrides: fields of the model's configuration that hold whatever the run says.

    Raises:
      UserError: not a run, no usable checkpoint, or no such seed.
    """
    folder = Path(folder)
    record = read_experiment(folder)
    seeds = _experiment(record).all_seeds
    if seed is None and len(seeds) > 1:
        listed = ", ".join(map(str, seeds))
        report(f"{folder} has seeds {listed}: these are the weights of {seeds[0]}")
    if seed is not None and seed not in seeds:
        raise UserError(
            f"seed is {seed}, but {folder} has {', '.join(map(str, seeds))}"
        )
    number = 0 if seed is None else seeds.index(seed)
    if "model" in record:
        model, params, _, tokenizer = load_seeds(folder, report, **overrides)
        params = jax.tree.map(lambda leaf: leaf[number], params)
        return model, {"params": params}, tokenizer
    fields = record["experiment"]["model"] | overrides
    model = AlbertForPreTraining(from_dict(AlbertConfig, fields))
    shapes = abstract_params(model)
    if len(seeds) > 1:
        shapes = _each(shapes, len(seeds))
    params = _restore(folder, record, {"params": shapes}, report)["params"]
    if len(seeds) > 1:
        params = jax.tree.map(lambda leaf: leaf[number], params)
    return model, {"params": params}, _tokenizer(folder, record)


def run_seeds(folder: str | Path) -> tuple[int, ...]:
    """The seeds of a run, the first one first; none where there is no run."""
    folder = Path(folder).expanduser()
    if not (folder / EXPERIMENT).is_file():
        return ()
    return _experiment(read_experiment(folder)).all_seeds


def _experiment(record: dict[str, Any]) -> PretrainingExperiment | FinetuningExperiment:
    kind = FinetuningExperiment if "model" in record else PretrainingExperiment
    return from_dict(kind, record["experiment"])


def _each(shapes: PyTree, members: int) -> PyTree:
    """The shapes of so many, along an axis that comes first."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((members, *leaf.shape), leaf.dtype), shapes
    )


def load_seeds(
    folder: Path, report: Callable[[str], None] = warnings.warn, **overrides: Any
) -> tuple[nn.Module, PyTree, list[float], Tokenizer]:
    """The model of a fine-tuning run, the parameters of all its seeds, the held-out
    scores by which they were chosen, and its tokenizer.

    The parameters have an axis of seeds first: those that the rule chooses, of the
    learning rate that was chosen. The scores are those of every rate and seed, more
    being better; of no use where nothing was held out, and then empty.

    Raises:
      UserError: no usable checkpoint.
    """
    record = read_experiment(folder)
    experiment = _experiment(record)
    said = record["model"]
    config = from_dict(AlbertConfig, said["config"] | overrides)
    model = make_head(said["head"], config, **said["options"])
    members = len(experiment.rates) * experiment.seeds
    branch = "best" if experiment.rule == "best" else "params"
    shapes = {branch: _each(abstract_params(model), members)}
    if experiment.holds_out:
        shapes["score"] = jax.ShapeDtypeStruct((members,), jnp.float32)
    state = _restore(folder, record, shapes, report)
    scores = np.asarray(state.get("score", [])).tolist()
    begin = experiment.best_rate(scores) * experiment.seeds if scores else 0
    params = jax.tree.map(
        lambda leaf: leaf[begin : begin + experiment.seeds], state[branch]
    )
    return model, params, scores, _tokenizer(folder, record)


def _restore(
    folder: Path,
    record: dict[str, Any],
    shapes: dict[str, PyTree],
    report: Callable[[str], None],
) -> dict[str, PyTree]:
    """Some branches of the newest checkpoint, on the first device."""
    from albert_jax.train.checkpoint import Checkpoints

    where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    placed = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        shapes,
    )
    with Checkpoints(
        folder / CHECKPOINTS,
        keep=_experiment(record).checkpoint.keep,
        identity=record["identity"],
        report=report,
    ) as checkpoints:
        restored = checkpoints.restore(placed, partial=True)
    if restored is None:
        command = "finetune" if "model" in record else "pretrain"
        raise UserError(f"{folder} has no checkpoint yet: let {command} reach one")
    return restored.state


def _tokenizer(folder: Path, record: dict[str, Any]) -> Tokenizer:
    vocabulary = record.get("tokenizer", {"file": TOKENIZER})
    rules = {name: value for name, value in vocabulary.items() if name != "file"}
    return Tokenizer.load(folder / vocabulary["file"], **rules)


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
