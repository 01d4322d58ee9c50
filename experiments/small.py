"""Small: an ALBERT of 4.2 M parameters on real text, in 77 minutes of two cores.

Hardware: two cores.
Expected: no row of the paper; a model that shows what pretraining is good for (see
``small_tasks.py``).
Command: albert-jax pretrain experiments/small.py:short --corpus.sources wiki_en.txt \\
    books_eltec.txt --corpus.vocabulary 30k-clean.model, and then the same of
    experiments/small.py:long
Measured: 2026-11-28, two cores of an AMD EPYC (AVX2), jax 0.10.2, on 412.8 MB: English
Wikipedia (116,645 articles of 2014) and 99 novels of 1840 to 1920, 91.6 M tokens with
the official vocabulary, prepared in 56 s.

short: 21.3 M tokens, nearly a quarter of an epoch, in 60 minutes of training, at 6,100
tokens/s (the median of its log; 7,400 where nothing else ran). Held out: masked-LM
accuracy 27.3 %, 4.8 times the unigram baseline of 5.6 %, at a loss of 5.19; sentence
order 72.3 %. A run before it, of 14.2 M tokens in 53 minutes on one core of an Intel
Xeon, had come to 26.6 and 70.5 %.

long: 5.0 M tokens in rows of 256, 17 minutes. Masked-LM accuracy on such rows rose from
12.7 to 15.8 % (unigram 5.3 %), sentence order from 53.5 to 63.1 %. What the short rows
taught is tied to the positions that they had, and 1,250 steps do not carry it over to
the others; 500 steps at half the rate, in the run before, had come to 15.5 %.

In 100 steps of each, two processes with half of the rows and a core each made 3,500
tokens/s, one process on both cores 6,800, and with 256 rows a step 5,400.
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
    steps=10_500,
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
        optimizer=OptimizerConfig(learning_rate=0.004, warmup_steps=100),
        steps=1_250,
        checkpoint=CheckpointConfig(every=250),
        evaluation=EvaluationConfig(every=250, rows=512),
    ),
}
