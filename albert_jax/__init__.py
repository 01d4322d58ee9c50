"""ALBERT (Lan et al., 2020) in JAX: one encoder layer, applied L times."""

import importlib

__version__ = "0.1.0"

# Public name -> the module that defines it, loaded when the name is first used.
_PUBLIC = {
    "AlbertConfig": "albert_jax.config",
    "PretrainingExperiment": "albert_jax.config",
    "FinetuningExperiment": "albert_jax.config.finetuning",
    "CorpusConfig": "albert_jax.config",
    "DataConfig": "albert_jax.config",
    "OptimizerConfig": "albert_jax.config",
    "MeshConfig": "albert_jax.config",
    "CheckpointConfig": "albert_jax.config",
    "EvaluationConfig": "albert_jax.config",
    "Study": "albert_jax.config.study",
    "Claim": "albert_jax.config.study",
    "Task": "albert_jax.config.tasks",
    "Split": "albert_jax.config.tasks",
    "UserError": "albert_jax.config",
    "AlbertModel": "albert_jax.model.albert",
    "AlbertForPreTraining": "albert_jax.model.heads",
    "AlbertForMaskedLM": "albert_jax.model.heads",
    "AlbertForSequenceClassification": "albert_jax.model.classification",
    "AlbertForTokenClassification": "albert_jax.model.classification",
    "AlbertForMultipleChoice": "albert_jax.model.classification",
    "AlbertForQuestionAnswering": "albert_jax.model.question_answering",
    "AlbertForQuestionAnsweringWithBeam": "albert_jax.model.question_answering",
    "sharing_plan": "albert_jax.model.encoder",
    "pretraining_losses": "albert_jax.model.losses",
    "span_losses": "albert_jax.model.losses",
    "answerable_span_losses": "albert_jax.model.losses",
    "Tokenizer": "albert_jax.data.tokenizer",
    "PreparedCorpus": "albert_jax.data.shards",
    "prepare": "albert_jax.data.prepare",
    "PretrainingData": "albert_jax.data.pipeline",
    "lamb": "albert_jax.train.optimizer",
    "adamw": "albert_jax.train.optimizer",
    "make_mesh": "albert_jax.train.sharding",
    "shardings": "albert_jax.train.sharding",
    "pretrain": "albert_jax.interop.pretraining",
    "finetune": "albert_jax.finetuning.finetune",
    "evaluate_run": "albert_jax.finetuning.evaluation",
    "load_run": "albert_jax.train.run",
    "FillMask": "albert_jax.tasks.fill_mask",
    "TaskModel": "albert_jax.tasks.task_model",
    "Embedder": "albert_jax.tasks.embed",
    "task_of": "albert_jax.interop.task",
    "depth_profile": "albert_jax.study.profile",
    "pass_gradients": "albert_jax.study.passes",
    "from_pretrained": "albert_jax.interop.pretrained",
    "save_pretrained": "albert_jax.interop.pretrained",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
