"""Small: an ALBERT of 4 M parameters on real Wikipedia, in half an hour on two cores.

Hardware: two cores.
Expected: no row of the paper; a run to see that real text is learnt from.
Command: albert-jax pretrain experiments/small.py --corpus.sources wiki_en.txt \\
    --corpus.vocabulary 30k-clean.model
Measured: not run yet.
"""

from albert_jax.config import (
    AlbertConfig,
    CheckpointConfig,
    CorpusConfig,
    DataConfig,
    EvaluationConfig,
    OptimizerConfig,
    PretrainingExperiment,
)

SMALL = PretrainingExperiment(
    name="small",
    model=AlbertConfig(
        hidden_size=128,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=128,
    ),
    corpus=CorpusConfig(sources=("tfds:wikipedia",), prepared="prepared/wiki"),
    data=DataConfig(sequence_length=128, batch_size=32, max_pairs=8),
    optimizer=OptimizerConfig(learning_rate=0.01, warmup_steps=150),
    steps=1500,
    checkpoint=CheckpointConfig(every=100),
    evaluation=EvaluationConfig(every=250, rows=512),
    log_every=10,
)

EXPERIMENTS = {"small": SMALL}
