"""A pretraining run from within, layer by layer, on documents that were held out."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flax import linen as nn
from jaxtyping import PyTree

from albert_jax.config import AlbertConfig, PretrainingExperiment, UserError
from albert_jax.data.pipeline import Example, PretrainingData
from albert_jax.data.shards import PreparedCorpus
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.identity import from_dict
from albert_jax.study.passes import KINDS, PassGradients, pass_gradients
from albert_jax.study.profile import DepthProfile, depth_profile
from albert_jax.train.metrics import read_metrics
from albert_jax.train.run import METRICS, load_run, read_experiment

Series = tuple[np.ndarray, np.ndarray]  # steps, values

_RATIO = "train/trust_ratio/"
# Rows that go through the model at once.
_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Depth:
    """What happens from layer to layer of a run's model."""

    name: str
    """The run's folder, as it was given."""
    config: AlbertConfig
    rows: int
    profile: DepthProfile
    gradients: PassGradients
    trust_ratios: dict[str, Series]
    """LAMB's, by matrix, over training; none where the run did not log them."""

    @property
    def blocks(self) -> list[str]:
        """What to call each: "1", "2", or of several blocks a layer "1.1", "1.2"."""
        layers, inner = self.config.num_hidden_layers, self.config.inner_group_num
        return [
            str(layer) if inner == 1 else f"{layer}.{block}"
            for layer in range(1, layers + 1)
            for block in range(1, inner + 1)
        ]

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON values."""
        profile, gradients = self.profile, self.gradients
        norms = {kind: gradients.norms(kind) for kind in KINDS}
        return {
            "run": self.name,
            "rows": self.rows,
            "tokens": profile.tokens,
            "share": self.config.share,
            "num_hidden_groups": self.config.num_hidden_groups,
            "uniform_entropy_nats": profile.uniform_entropy,
            "layers": [
                {
                    "layer": name,
                    "distance": float(profile.distance[i]),
                    "angle_degrees": float(profile.angle[i]),
                    "attention_entropy_nats": profile.entropy[i].tolist(),
                    "gradient_norm": {k: float(norms[k][i]) for k in KINDS},
                }
                for i, name in enumerate(self.blocks)
            ],
            "gradient_cosines": [
                [None if math.isnan(x) else x for x in row]
                for row in gradients.cosines().tolist()
            ],
            "gradient_agreement": {
                kind: {f"{kind}_{n}": x for n, x in gradients.agreement(kind).items()}
                for kind in KINDS
            },
            "trust_ratio": {
                name: {"step": steps.astype(int).tolist(), "value": values.tolist()}
                for name, (steps, values) in self.trust_ratios.items()
            },
        }


def depth_of_runs(
    folders: Sequence[str | Path],
    rows: int = 64,
    *,
    seed: int | None = None,
    report: Callable[[str], None] = warnings.warn,
) -> list[Depth]:
    """Looks into pretraining runs, all on the first one's held-out rows.

    Args:
      folders: one run or more, trained on the same prepared corpus.
      rows: of the first run's held-out documents, always the same, made as it makes
        those that it trains on; fewer if the documents make fewer.
      seed: which of a run's seeds; its first by default.
      report: hears which seed it is, and of damaged checkpoints.

    Raises:
      UserError: not a pretraining run, or one without a checkpoint or such a seed; the
        prepared corpus is gone or another; or a run cannot read the first one's rows.
    """
    if rows < 1:
        raise UserError(f"rows is {rows}, but it must be 1 or more")
    runs = [_Run.open(Path(folder), seed, report) for folder in folders]
    data = runs[0].held_out()
    for run in runs[1:]:
        run.refuse_rows_of(runs[0])
    rows = min(rows, data.rows_per_epoch)
    batches = list(_batches(data, rows))
    return [
        Depth(
            name=str(run.folder),
            config=run.model.config,
            rows=rows,
            profile=depth_profile(run.model, run.variables, batches),
            gradients=pass_gradients(run.model, run.variables, batches),
            trust_ratios=read_trust_ratios(run.folder / METRICS),
        )
        for run in runs
    ]


def read_trust_ratios(log: Path) -> dict[str, Series]:
    """The trust ratios of a run's metrics log: matrix -> (steps, values); none where
    none were logged, or nothing was."""
    found: dict[str, dict[int, float]] = {}
    for entry in read_metrics(log) if log.is_file() else ():
        for name, value in entry.items():
            if name.startswith(_RATIO) and value is not None:
                series = found.setdefault(name.removeprefix(_RATIO), {})
                series[entry["step"]] = value
    return {
        name: (np.array([*series]), np.array([*series.values()]))
        for name, series in found.items()
    }


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A pretraining run, its model at the newest checkpoint."""

    folder: Path
    experiment: PretrainingExperiment
    corpus: str
    """The fingerprint of the prepared corpus that it was trained on."""
    model: nn.Module
    variables: PyTree
    tokenizer: Tokenizer

    @classmethod
    def open(
        cls, folder: Path, seed: int | None, report: Callable[[str], None]
    ) -> "_Run":
        record = read_experiment(folder)
        if "model" in record:
            raise UserError(
                f"{folder} is a run of fine-tuning; depth looks into pretraining runs, "
                "at the gradient of their loss"
            )
        model, variables, tokenizer = load_run(folder, report, seed=seed)
        return cls(
            folder=folder,
            experiment=from_dict(PretrainingExperiment, record["experiment"]),
            corpus=record["identity"]["prepared"],
            model=model,
            variables=variables,
            tokenizer=tokenizer,
        )

    def held_out(self) -> PretrainingData:
        """Rows of the documents that it does not train on."""
        prepared = self.experiment.corpus.prepared
        corpus = PreparedCorpus.open(prepared, "heldout")
        if corpus.fingerprint != self.corpus:
            raise UserError(
                f"{prepared} is not the corpus that {self.folder} was trained on: "
                "what it holds out, the run may have seen"
            )
        return PretrainingData(corpus, self.tokenizer, self.experiment.data, seed=0)

    def refuse_rows_of(self, other: "_Run") -> None:
        """Raises UserError where this run's model has no use for the other's rows."""
        if self.corpus != other.corpus:
            raise UserError(
                f"{self.folder} and {other.folder} were trained on different prepared "
                "corpora, so no rows are held out from both"
            )
        length = other.experiment.data.sequence_length
        if length > (positions := self.model.config.max_position_embeddings):
            raise UserError(
                f"{other.folder} has rows of {length} tokens, but {self.folder} has "
                f"{positions} positions; name them the other way round"
            )


def _batches(data: PretrainingData, rows: int) -> Iterator[Example]:
    """The first rows, some at once; the last batch filled with rows without tokens."""
    size = min(rows, _AT_ONCE)
    for start in range(0, rows, size):
        part = data.rows(start, min(start + size, rows))
        missing = size - len(part["input_ids"])
        yield {
            name: np.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1))
            for name, x in part.items()
        }
