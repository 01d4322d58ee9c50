"""The two scales of every study: the paper's, and what two cores finish.

A study is written once, for a scale; what the paper varies by number (E, layers, H) is
mapped here to what stands for it. PAPER is ``experiments/base.py``: 512 tokens, 4,096
rows, 125,000 steps. LAB is the demo's model, six layers deep, on Wikipedia and novels:
put texts into the folder ``text`` (or say ``--corpus.sources``). Its E of 8, 16, 32 and
64 stand for 64, 128, 256 and 768 at H = 768: the widest is H, the others about 1/12,
1/6 and 1/3 of it, in powers of two.

LAB's 2,500 steps were chosen by pilots (one seed, one core of an Intel Xeon,
2026-11-27). Of 5,000 steps the baseline had 13.4 % of masked pieces (the commonest:
5.2 %) and 64.8 % of sentence orders, and 60.3 % of these half-way; the same steps with
half the batch 11.9 % and 59.4 %. At E = H and 1,500 of 2,500 steps, an unshared model
was 0.5 points of masked LM ahead of a shared one. A run takes five minutes on one core.

At both scales all arms are evaluated on the same held-out rows, made by the paper's
recipe, however an arm makes its training rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from albert_jax.config import (
    AlbertConfig,
    CheckpointConfig,
    CorpusConfig,
    EvaluationConfig,
    PretrainingExperiment,
)
from albert_jax.config.finetuning import FinetuningExperiment
from albert_jax.config.study import Claim, Study
from experiments import glue, race, squad
from experiments.base import BASE
from experiments.demo import DEMO

MASKED_LM = "eval/masked_lm_accuracy"
SENTENCE_ORDER = "eval/sentence_order_accuracy"
NEXT_SENTENCE = "eval/next_sentence_accuracy"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What stands for what in the paper's tables."""

    name: str
    base: PretrainingExperiment
    """ALBERT-base: of Tables 3, 4 and 5, and wherever the paper prints no table."""
    large: PretrainingExperiment
    """ALBERT-large: of Tables 11 and 12."""
    xxlarge: PretrainingExperiment
    """ALBERT-xxlarge, with dropout: of Table 8."""
    seeds: int
    tasks: tuple[FinetuningExperiment, ...] = ()
    """What every arm is fine-tuned for: the five tasks of the paper's average."""
    embeddings: Mapping[int, int]
    """E of Tables 3 and 4 -> E here."""
    groups: tuple[int, ...]
    depths: Mapping[int, int]
    """Layers of Table 11 -> layers here, from the shallowest on."""
    widths: Mapping[int, int]
    """H of Table 12 -> H here."""
    shallow: int = 3
    """Layers of Table 12."""
    released_predictions: int
    """What the released code's cap of 20 predictions a row of 512 comes to here."""
    adamw_rates: tuple[float, ...]
    """Peak learning rates to try AdamW with, LAMB's first."""


def vary(
    experiment: PretrainingExperiment,
    model: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    optimizer: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
) -> PretrainingExperiment:
    """The experiment with other values in some of its parts."""
    return replace(
        experiment,
        model=replace(experiment.model, **(model or {})),
        data=replace(experiment.data, **(data or {})),
        optimizer=replace(experiment.optimizer, **(optimizer or {})),
        evaluation=replace(experiment.evaluation, **(evaluation or {})),
    )


def widened(model: AlbertConfig, hidden_size: int) -> dict[str, int]:
    """The fields of a model of another width: heads as wide as before, F = 4H."""
    head = model.hidden_size // model.num_attention_heads
    return {
        "hidden_size": hidden_size,
        "num_attention_heads": hidden_size // head,
        "intermediate_size": 4 * hidden_size,
    }


COLUMNS = ("parameters", "SQuAD 1.1", "SQuAD 2.0", "MNLI", "SST-2", "RACE", "Avg")


def row(*values: float | str) -> dict[str, float | str]:
    """A row of the paper's tables, with or without its parameters. SQuAD's are F1/EM,
    and Avg is the mean of the five tasks, of SQuAD the mean of both."""
    return dict(zip(COLUMNS[-len(values) :], values, strict=True))


def better(arm: str, other: str) -> dict[str, float]:
    """The contrast of a claim that one arm is better than another."""
    return {arm: 1.0, other: -1.0}


def judged(
    source: str, text: str, contrast: Mapping[str, float], **expected: Any
) -> Claim:
    """A claim of the paper about its average of tasks, judged by masked-LM accuracy."""
    text += "; judged by masked-LM accuracy"
    return Claim(
        text=text, source=source, contrast=contrast, metric=MASKED_LM, **expected
    )


def decidable(claims: list[Claim], arms: Mapping[str, Any]) -> tuple[Claim, ...]:
    """The claims about arms that this scale has."""
    return tuple(claim for claim in claims if claim.contrast.keys() <= arms.keys())


def experiments_of(studies: Mapping[str, Study]) -> dict[str, PretrainingExperiment]:
    """Every arm as an experiment of its own: ARM at the paper's scale, lab-ARM at the
    lab's. One that a study starts from another arm goes on from that one's run."""
    experiments = {}
    for scale, study in studies.items():
        mark = "" if scale == PAPER.name else f"{scale}-"
        for arm, experiment in study.arms.items():
            start = study.starts.get(arm)
            experiments[mark + arm] = replace(
                experiment,
                name=f"{study.name}-{mark}{arm}",
                init=start and f"runs/{study.name}-{mark}{start}",
            )
    return experiments


_PAPER = replace(BASE, evaluation=EvaluationConfig(recipe="paper"))
_XXLARGE = AlbertConfig.xxlarge("v1")

PAPER = Scale(
    name="paper",
    base=_PAPER,
    large=replace(_PAPER, model=AlbertConfig.large("v1")),
    xxlarge=replace(
        _PAPER,
        model=replace(
            _XXLARGE, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1
        ),
        steps=1_000_000,
    ),
    # The paper trained every arm once; three are the fewest that show a spread.
    seeds=3,
    tasks=(
        squad.EXPERIMENTS["squad1"],
        squad.EXPERIMENTS["squad2"],
        glue.EXPERIMENTS["mnli"],
        glue.EXPERIMENTS["sst2"],
        race.EXPERIMENTS["race"],
    ),
    embeddings={64: 64, 128: 128, 256: 256, 768: 768},
    groups=(1, 2, 3, 4, 6, 12),
    depths={1: 1, 3: 3, 6: 6, 12: 12, 24: 24, 48: 48},
    widths={1024: 1024, 2048: 2048, 4096: 4096, 6144: 6144},
    released_predictions=20,
    adamw_rates=(0.00176, 0.00044, 0.00011),
)

_LAB = replace(
    DEMO,
    name="lab",
    model=replace(DEMO.model, embedding_size=16, num_hidden_layers=6),
    corpus=CorpusConfig(sources=("text",), prepared="prepared/lab"),
    steps=2500,
    checkpoint=CheckpointConfig(every=500, keep=2),
    evaluation=EvaluationConfig(every=500, rows=4096, recipe="paper"),
    log_every=250,
)

LAB = Scale(
    name="lab",
    base=_LAB,
    large=_LAB,
    xxlarge=vary(
        _LAB, model=dict(hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    ),
    seeds=5,
    embeddings={64: 8, 128: 16, 256: 32, 768: 64},
    groups=(1, 2, 3, 6),
    depths={1: 1, 3: 2, 6: 4, 12: 8, 24: 16},
    widths={1024: 32, 2048: 64, 4096: 128, 6144: 256},
    released_predictions=1,
    adamw_rates=(0.006, 0.0015, 0.000375),
)

SCALES = (PAPER, LAB)
