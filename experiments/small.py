"""Small: an ALBERT of 4.2 M parameters on real text, in an hour on one core.

Hardware: one core.
Expected: no row of the paper; a model that shows what pretraining is good for (see
``small_tasks.py``).
Command: albert-jax pretrain experiments/small.py:short --corpus.sources wiki_en.txt \\
    books_eltec.txt --corpus.vocabulary 30k-clean.model, and then the same of
    experiments/small.py:long
Measured: 2026-11-27, one core of an Intel Xeon (``taskset -c 0``), jax 0.10.2, on
412.8 MB: English Wikipedia (116,645 articles of 2014) and 99 novels of 1840 to 1920,
91.6 M tokens with the official vocabulary, prepared in 32 s of two processes.

short: 14.2 M tokens, a sixth of an epoch, in 53 minutes of training, at 5,500 tokens/s
where no other work shared the core. Held out: masked-LM accuracy 26.6 %, 4.7 times the
unigram baseline of 5.6 %, at a loss of 5.34; sentence order 70.5 %. The schedule was
laid out for 11,000 steps and cut to 7,000 at step 4,716 (``--accept-changes``), because
the machine had other work to do.

long: 2.0 M tokens in rows of 256, 8 minutes. Masked-LM accuracy on such rows rose from
14.2 to 15.5 % (unigram 5.3 %), sentence order from 52.9 to 61.2 %; on rows of 32 tokens
it fell from 26.4 to 25.3 % and from 71.1 to 66.1 %. What the short rows taught about
neighbours is tied to the positions that they had, and 500 steps do not carry it over to
the others.

One process a core is worth it: two of these, each pinned to a core, trained at 5,630
tokens/s each, one on both cores at 8,800.
"""

from dataclasses import replace

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
        embedding_size=128,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        initializer_range=0.035,
    ),
    corpus=CorpusConfig(sources=("text",), prepared="prepared/small"),
    data=DataConfig(sequence_length=32, batch_size=64, max_pairs=4),
    optimizer=OptimizerConfig(learning_rate=0.005, warmup_steps=500),
    steps=7_000,
    checkpoint=CheckpointConfig(every=1000),
    evaluation=EvaluationConfig(every=1000, rows=2048),
    log_every=50,
)

EXPERIMENTS = {
    "short": SMALL,
    "long": replace(
        SMALL,
        name="small-long",
        init="runs/small",
        data=DataConfig(sequence_length=256, batch_size=16, max_pairs=8),
        optimizer=OptimizerConfig(learning_rate=0.002, warmup_steps=50),
        steps=500,
        checkpoint=CheckpointConfig(every=100),
        evaluation=EvaluationConfig(every=250, rows=512),
    ),
}
