"""The command line: the only place that prints, asks and exits.

    albert-jax list                                    experiments in ./experiments
    albert-jax inspect   EXPERIMENT [--json]           what it costs; allocates nothing
    albert-jax prepare   EXPERIMENT                    its corpus and vocabulary, once
    albert-jax pretrain  EXPERIMENT [--init SOURCE]    prepares, trains, resumes
    albert-jax finetune  EXPERIMENT --init SOURCE      trains for a task, scores it
    albert-jax evaluate  RUN [--split test] [--json]   scores and predictions again
    albert-jax fill-mask SOURCE ["Text." ... | -]      answers for every [MASK] in it
    albert-jax classify  SOURCE ["Text." ... | -]      what it was fine-tuned to say
    albert-jax answer    SOURCE --question --context   where the answer stands
    albert-jax embed     SOURCE ["Text." ... | -]      vectors of sentences
    albert-jax convert   SOURCE DESTINATION            a folder that others load
    albert-jax depth     RUN [--figure FILE.png]       what happens from layer to layer
    albert-jax study     FILE                          arms and seeds, then the report
    albert-jax report    STUDY [--json]                tables, claims and figures of it

EXPERIMENT is FILE.py or FILE.py:ARM; every field of it is a flag (--help lists them).
SOURCE is a run, a folder with Hugging Face's or the official code's files, or a name on
the hub. STUDY is the folder of a study.

Exit codes: 0 done; 1 a mistake of ours, with a traceback, or a run of a study failed;
2 one of the user's, in one line; 130 interrupted, 143 terminated, both after saving.
"""

import os
import sys
from collections.abc import Callable, Sequence

from albert_jax.cli import (
    convert,
    depth,
    experiments,
    finetuning,
    own_text,
    pretraining,
    report,
    study,
)
from albert_jax.cli.parsing import note
from albert_jax.config import UserError, nearest
from albert_jax.heap import keep_heap

_COMMANDS: dict[str, Callable[[Sequence[str]], int | None]] = {
    "list": experiments.list_experiments,
    "inspect": experiments.inspect,
    "prepare": pretraining.prepare,
    "pretrain": pretraining.pretrain,
    "finetune": finetuning.finetune,
    "evaluate": finetuning.evaluate,
    "fill-mask": own_text.fill_mask,
    "classify": own_text.classify,
    "answer": own_text.answer,
    "embed": own_text.embed,
    "convert": convert.convert,
    "depth": depth.depth,
    "study": study.study,
    "report": report.report,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    keep_heap()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__.strip())
        return 0 if arguments else 2
    try:
        command, *rest = arguments
        if command not in _COMMANDS:
            raise UserError(
                f"there is no command {command!r}; there are {', '.join(_COMMANDS)}"
                + nearest(command, _COMMANDS)
            )
        return _COMMANDS[command](rest) or 0
    except UserError as error:
        note(str(error))
        return 2
    except KeyboardInterrupt:
        note("interrupted")
        return 130
    except BrokenPipeError:
        # The reader of our output has gone, as "| head" does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
