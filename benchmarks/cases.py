"""What is compared: a case is ``kind/size/ROWSxLENGTH``, and a kind has contenders."""

import re
from dataclasses import dataclass
from typing import Any

# Fields of AlbertConfig, by the name of a size.
SIZES: dict[str, dict[str, Any]] = {
    "demo": dict(
        vocab_size=8000,
        embedding_size=64,
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=256,
    ),
    "small": dict(
        embedding_size=64,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
    ),
    "base": dict(
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
    ),
    "large": dict(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
    ),
    "xlarge": dict(
        hidden_size=2048,
        num_hidden_layers=24,
        num_attention_heads=32,
        intermediate_size=8192,
    ),
    "xxlarge": dict(
        hidden_size=4096,
        num_hidden_layers=12,
        num_attention_heads=64,
        intermediate_size=16384,
    ),
}


@dataclass(frozen=True)
class Contender:
    """A file of ``contenders/`` and what it is asked to do otherwise than the case."""

    title: str
    program: str
    job: dict[str, Any]

    @property
    def positions(self) -> str:
        """Which positions' logits are computed: ``masked`` or ``all``."""
        every = self.program.startswith("hf_") or "all_positions" in self.job
        return "all" if every else "masked"


def _of(title: str, program: str, **job: Any) -> Contender:
    return Contender(title, program, job)


OURS = {"ours": _of("albert_jax", "ours")}
ALL_POSITIONS = {
    "ours-all": _of("albert_jax, logits of all positions", "ours", all_positions=True)
}
LIMIT = {
    "limit": _of("matrix products, XLA", "ours", kind="limit", size=2048),
    "limit-pytorch": _of(
        "matrix products, PyTorch", "hf_pytorch", kind="limit", size=2048
    ),
}
PYTORCH = {
    "pytorch-sdpa": _of("transformers, PyTorch SDPA", "hf_pytorch"),
    "pytorch-eager": _of(
        "transformers, PyTorch eager", "hf_pytorch", attention="eager"
    ),
    "pytorch-compile": _of("transformers, torch.compile", "hf_pytorch", compile=True),
}
JAX_PEERS = {
    "flax": _of("transformers, Flax", "hf_flax"),
    "keras": _of("KerasHub on JAX", "kerashub"),
}
LOOP = {
    "loop": _of(
        "unrolled loop, nothing recomputed",
        "ours",
        model=dict(scan_layers=False, remat="nothing"),
    ),
    "loop-remat": _of(
        "unrolled loop, same remat", "ours", model=dict(scan_layers=False)
    ),
}
SENTENCES = {
    "ours": _of("albert_jax", "ours_text"),
    "pytorch-sdpa": PYTORCH["pytorch-sdpa"],
    "pytorch-compile": PYTORCH["pytorch-compile"],
    "onnx": _of("ONNX Runtime", "onnx_runtime"),
}

# On a GPU, in bfloat16, one contender after another: each has the memory for itself.
GPU = {
    "limit": _of("matrix products, XLA", "ours", kind="limit", size=8192),
    **OURS,
    **{
        f"remat-{remat}": _of(
            f"albert_jax, remat {remat}", "ours", model={"remat": remat}
        )
        for remat in ("nothing", "matmuls", "layer")
    },
    "pytorch-compile": PYTORCH["pytorch-compile"],
}

KINDS: dict[str, dict[str, Contender]] = {
    "step": OURS | ALL_POSITIONS | PYTORCH | JAX_PEERS | LIMIT,
    "forward": OURS | ALL_POSITIONS | PYTORCH | JAX_PEERS | LIMIT,
    "optimizer": OURS | {"pytorch": _of("PyTorch AdamW, fused", "hf_pytorch")},
    "scan": OURS | LOOP,
    "compile": OURS
    | {
        "deep": _of("48 layers instead", "ours", model=dict(num_hidden_layers=48)),
        "loop": LOOP["loop"],
        "flax": JAX_PEERS["flax"],
        "pytorch-compile": PYTORCH["pytorch-compile"],
    },
    "pretrain": {
        "ours": _of("albert_jax, packed rows", "ours_text"),
        "trainer": _of("transformers, Trainer", "hf_trainer"),
    },
    "stream": {
        "ours": _of("albert_jax, packed rows", "ours_text"),
        "collator": _of("transformers, collator", "hf_trainer"),
    },
    "prepare": {
        "ours": _of("albert_jax prepare", "ours_text"),
        "tokenizers": _of("tokenizers, encoding alone", "hf_trainer"),
    },
    "classify": SENTENCES,
    "fill-mask": SENTENCES,
    "gpu": GPU,
    "import": OURS
    | {"pytorch": _of("transformers, PyTorch", "hf_pytorch")}
    | JAX_PEERS,
}

# Kinds that read text, and the head that each needs; the others pretrain.
HEADS = {
    "pretrain": "AlbertForPreTraining",
    "stream": "AlbertForPreTraining",
    "prepare": "AlbertForPreTraining",
    "classify": "AlbertForSequenceClassification",
    "fill-mask": "AlbertForMaskedLM",
}

# Steps of pretraining from text in one repetition: some seconds of them.
STEPS = {"demo": 32, "small": 4}

# What `make benchmark` measures; those of HEADS where it is given a text.
DEFAULT = (
    "step/demo/64x32",
    "step/small/64x64",
    "step/base/8x64",
    "step/base/8x128",
    "step/base/2x512",
    "step/large/4x128",
    "forward/demo/64x32",
    "forward/small/64x64",
    "forward/base/8x128",
    "forward/base/2x512",
    "forward/large/4x128",
    "optimizer/base/8x128",
    "scan/base-12/8x128",
    "scan/base-24/8x128",
    "scan/base-48/8x128",
    "compile/base-12/8x128",
    "import/base/1x128",
    "pretrain/small/64x128",
    "pretrain/base/8x128",
    "stream/base/8x512",
    "prepare/base/1x512",
    "classify/base/1x128",
    "classify/base/32x128",
    "fill-mask/base/1x128",
    "fill-mask/base/32x128",
)

# What `--gpu` measures, on a card of about 80 GB.
ON_GPU = (
    "gpu/base/64x512",
    "gpu/large/32x512",
    "gpu/xlarge/16x512",
    "gpu/xxlarge/8x512",
)


@dataclass(frozen=True)
class Case:
    """One comparison: the kind of work, the model, the shape of a batch."""

    kind: str
    size: str
    layers: int
    rows: int
    length: int

    @classmethod
    def parse(cls, name: str) -> "Case":
        """``step/base/8x128``; ``scan/base-24/8x128`` has 24 layers instead of 12."""
        found = re.fullmatch(r"([\w-]+)/([a-z]+)(?:-(\d+))?/(\d+)x(\d+)", name)
        if not found:
            raise ValueError(f"{name!r} is no case; it must look like step/base/8x128")
        kind, size, layers, rows, length = found.groups()
        for value, known in ((kind, KINDS), (size, SIZES)):
            if value not in known:
                raise ValueError(
                    f"{name!r}: {value!r} is none of {', '.join(map(repr, known))}"
                )
        depth = int(layers or SIZES[size]["num_hidden_layers"])
        return cls(kind, size, depth, int(rows), int(length))

    def __str__(self) -> str:
        deep = self.layers != SIZES[self.size]["num_hidden_layers"]
        return (
            f"{self.kind}/{self.size}{f'-{self.layers}' if deep else ''}/"
            f"{self.rows}x{self.length}"
        )

    @property
    def job(self) -> dict[str, Any]:
        """What every contender is asked to do; 15 % of the positions are predicted."""
        model = SIZES[self.size] | {
            "num_hidden_layers": self.layers,
            "max_position_embeddings": max(512, self.length),
        }
        return {
            "kind": self.kind,
            "model": model,
            "vocab_size": model.get("vocab_size", 30_000),
            "head": HEADS.get(self.kind, "AlbertForPreTraining"),
            "rows": self.rows,
            "length": self.length,
            "predictions": round(0.15 * self.length),
            "dtype": "bfloat16" if self.kind == "gpu" else "float32",
            "steps": STEPS.get(self.size, 2),
            "batches": max(1, 65_536 // (self.rows * self.length)),
            "sentences": 64,
        }

    def job_of(self, contender: Contender) -> dict[str, Any]:
        """The case's job, changed as this contender asks."""
        job = self.job
        model = job["model"] | contender.job.get("model", {})
        return job | contender.job | {"model": model}
