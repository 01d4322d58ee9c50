"""What a trained model is for: the task of a run, or of a folder that others wrote."""

from pathlib import Path

from flax import linen as nn

from albert_jax.config import UserError
from albert_jax.config.finetuning import FinetuningExperiment
from albert_jax.config.tasks import KINDS, Task
from albert_jax.identity import from_dict
from albert_jax.interop.pretrained import CONFIG, locate, read_json
from albert_jax.model.table import options_of
from albert_jax.train.run import EXPERIMENT, read_experiment


def task_of(
    source: str | Path,
    model: nn.Module,
    *,
    pairs: bool = False,
    revision: str | None = None,
) -> Task:
    """The task that a model was trained for.

    A fine-tuning run says it. Elsewhere the head tells the kind (one output is a
    number, SQuAD's two heads are SQuAD 1.1's and 2.0's), Hugging Face's ``id2label``
    the labels, or else their numbers; texts, pairs and choices are columns ``text`` and
    ``text_pair``, ``question`` and ``context``, ``article``.

    Args:
      source: what ``from_pretrained`` takes.
      model: what it returned.
      pairs: whether texts come in pairs, where no run says it.
      revision: as for ``from_pretrained``.

    Raises:
      UserError: the model has no head of a task.
    """
    path, _ = locate(str(source), revision)
    if (path / EXPERIMENT).is_file():
        record = read_experiment(path)
        if "model" in record:
            return from_dict(FinetuningExperiment, record["experiment"]).task
    head = type(model).__name__
    kinds = {name: kind for kind, (name, _) in reversed(KINDS.items())}
    kinds["AlbertForQuestionAnsweringWithBeam"] = "span"
    if head not in kinds:
        raise UserError(
            f"{source} is {head}, which has no head of a task yet: fine-tune it first "
            f"(albert-jax finetune EXPERIMENT --init {source})"
        )
    longest = model.config.max_position_embeddings
    fields = {
        "name": str(source),
        "kind": kinds[head],
        "max_length": longest,
        # What Task asks for: room for a text beside them.
        "question_length": min(64, longest // 2),
        "choice_length": min(128, longest // 2),
    }
    if pairs:
        fields["text_pair"] = "text_pair"
    outputs = options_of(model).get("num_labels")
    if outputs == 1:
        fields["kind"] = "regression"
    elif outputs:
        fields["labels"] = _labels(path, outputs)
    if fields["kind"] == "span":
        fields |= {"format": "squad", "unanswerable": head.endswith("WithBeam")}
    if fields["kind"] == "choice":
        fields |= {"format": "race", "labels": ("A", "B", "C", "D")}
    return Task(**fields)


def _labels(path: Path, outputs: int) -> tuple[str, ...]:
    file = path / CONFIG
    said = read_json(file).get("id2label") if file.is_file() else None
    if said is None:
        return tuple(map(str, range(outputs)))
    try:
        labels = tuple(str(said[str(number)]) for number in range(outputs))
    except (KeyError, TypeError):
        labels = ()
    if len(said) != outputs or len(set(labels)) != outputs:
        raise UserError(
            f"{file}: id2label is {said!r:.80}, but it must name {outputs} outputs, "
            f"from '0' to '{outputs - 1}'"
        )
    return labels
