"""The model's configuration: every size and choice of the paper's section 3."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from albert_jax.config.checks import (
    UserError,
    require_choice,
    require_positive,
    require_share,
)

ACTIVATIONS = ("gelu", "gelu_erf", "relu", "tanh", "linear")
SHARING = ("all", "attention", "ffn", "none")
REMAT = ("nothing", "matmuls", "layer")

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
        require_positive(
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
        require_share(self, "hidden_dropout_prob", "attention_probs_dropout_prob")
        require_choice("hidden_act", self.hidden_act, ACTIVATIONS)
        require_choice("share", self.share, SHARING)
        require_choice("remat", self.remat, REMAT)
        require_choice("dtype", self.dtype, ("float32", "bfloat16"))
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
        require_choice("size", size, SIZES)
        require_choice("version", version, ("v1", "v2", "zh"))
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
