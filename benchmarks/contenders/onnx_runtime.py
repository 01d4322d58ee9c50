"""ONNX Runtime as a contender: transformers' model, exported by PyTorch."""

import tempfile
from pathlib import Path

import hf_pytorch
import numpy as np
import onnxruntime
import torch
from inputs import length_batches
from onnxruntime.transformers import optimizer
from worker import serve


def session_of(job: dict) -> tuple[onnxruntime.InferenceSession, dict]:
    """The model as a session, its graph fused by ONNX Runtime's own optimizer.

    Returns:
      The session, and how many operators were fused into which.
    """
    model = hf_pytorch.load(job).eval()
    ids = torch.ones(2, 16, dtype=torch.long)
    axes = {0: "rows", 1: "length"}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        torch.onnx.export(
            model,
            (ids, ids),
            path,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes},
            dynamo=False,
        )
        fused = optimizer.optimize_model(
            path,
            model_type="bert",
            num_heads=model.config.num_attention_heads,
            hidden_size=model.config.hidden_size,
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    session = onnxruntime.InferenceSession(
        fused.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session, fused.get_fused_operator_statistics()


def sentences(job: dict):
    """What ``hf_pytorch.sentences`` does."""
    session, fused = session_of(job)
    batches = length_batches(job, 1)

    def repeat() -> float:
        total = 0.0
        for ids, mask, positions in batches:
            feed = {"input_ids": ids, "attention_mask": mask}
            feed = {name: value.astype(np.int64) for name, value in feed.items()}
            logits = torch.from_numpy(session.run(None, feed)[0])
            total += hf_pytorch.answer(logits, positions)
        return total

    return repeat, {"check": repeat(), "fused": fused}


if __name__ == "__main__":
    serve(
        {"classify": sentences, "fill-mask": sentences},
        hf_pytorch.VERSIONS | {"onnxruntime": onnxruntime.__version__},
    )
