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
        embedding_size=64,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=32,
        initializer_range=0.035,
    ),
    corpus=CorpusConfig(sources=("text",), prepared="prepared/small"),
    data=DataConfig(sequence_length=32, batch_size=64, max_pairs=4),
    optimizer=OptimizerConfig(learning_rate=0.005, warmup_steps=500),
    steps=9500,
    checkpoint=CheckpointConfig(every=500),
    evaluation=EvaluationConfig(every=500, rows=2048),
    log_every=50,
)

EXPERIMENTS = {"small": SMALL}
