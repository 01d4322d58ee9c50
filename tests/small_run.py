"""A pretraining run of seconds, on a corpus written for it."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from albert_jax.config import (
    AlbertConfig,
    CheckpointConfig,
    CorpusConfig,
    DataConfig,
    EvaluationConfig,
    MeshConfig,
    OptimizerConfig,
    PretrainingExperiment,
)

_WORDS = (
    "river stone winter garden letter quiet northern copper velvet harbour lantern "
    "meadow thunder orchard crimson journey whisper falcon marble timber"
).split()


def write_corpus(path: Path, documents: int = 60) -> Path:
    """Documents of short sentences, in which a word foretells the next."""
    rng = np.random.default_rng(0)
    lines = []
    for _ in range(documents):
        for _ in range(int(rng.integers(3, 9))):
            word = int(rng.integers(len(_WORDS)))
            step = int(rng.integers(1, 4))
            count = int(rng.integers(4, 12))
            said = [_WORDS[(word + step * i) % len(_WORDS)] for i in range(count)]
            lines.append(" ".join(said).capitalize() + ".")
        lines.append("")
    path.write_text("\n".join(lines))
    return path


def experiment(prepared: Path, source: Path | None = None) -> PretrainingExperiment:
    """Two layers of 32, twelve steps of eight rows."""
    return PretrainingExperiment(
        name="small",
        model=AlbertConfig(
            vocab_size=56,
            embedding_size=16,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=32,
            hidden_dropout_prob=0.1,
        ),
        corpus=CorpusConfig(
            sources=(str(source or "unread"),),
            prepared=str(prepared),
            heldout_fraction=0.2,
        ),
        data=DataConfig(sequence_length=32, batch_size=8, max_pairs=4),
        optimizer=OptimizerConfig(learning_rate=0.05, warmup_steps=2),
        steps=12,
        checkpoint=CheckpointConfig(every=4, keep=2),
        evaluation=EvaluationConfig(every=4, rows=16, batch_size=8),
        log_every=2,
    )


def make(folder: Path) -> PretrainingExperiment:
    """Writes and prepares the corpus in ``folder``."""
    from albert_jax.data.prepare import prepare

    made = experiment(folder / "prepared", write_corpus(folder / "corpus.txt"))
    prepare(made.corpus, made.model.vocab_size, processes=1)
    return made


def run(prepared: str, workdir: str, mesh: tuple[int, int, int] = (-1, 1, 1)) -> None:
    """Pretrains on what ``make`` prepared."""
    from albert_jax.train.pretrain import pretrain

    data, fsdp, tensor = mesh
    axes = MeshConfig(data=data, fsdp=fsdp, tensor=tensor)
    pretrain(replace(experiment(Path(prepared)), mesh=axes), workdir)
