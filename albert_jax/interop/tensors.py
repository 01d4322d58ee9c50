"""Named tensors in files: safetensors, PyTorch's ``.bin``, TensorFlow 1 checkpoints.

The only file that imports PyTorch or TensorFlow, each where such a file is read.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from albert_jax.config import UserError

Tensors = dict[str, np.ndarray]

# Hugging Face's files: one, or several whose names are numbered.
SAFETENSORS = "model*.safetensors"
TORCH = "pytorch_model*.bin"


def read_safetensors(files: Sequence[Path]) -> Tensors:
    """The tensors of all the files, each by its name.

    Raises:
      UserError: a file cannot be read, or is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    tensors: Tensors = {}
    for file in files:
        try:
            tensors |= load_file(file)
        except (OSError, SafetensorError, KeyError) as error:
            raise _unreadable(file, error) from error
    return tensors


def write_safetensors(file: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes what ``transformers`` reads, with the framework that it insists on."""
    from safetensors.numpy import save_file

    save_file(dict(tensors), file, metadata={"format": "pt"})


def read_torch(files: Sequence[Path]) -> Tensors:
    """The tensors of state dicts that ``torch.save`` wrote; needs PyTorch.

    A pickle can hold code. ``weights_only`` runs none: a file that asks for anything
    but tensors is refused.

    Raises:
      UserError: no PyTorch here; a file cannot be read, holds code, or anything that is
        no tensor.
    """
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{files[0]} is PyTorch's format, which needs PyTorch: pip install torch "
            "(its CPU build will do), or ask for a model.safetensors"
        ) from None
    from pickle import UnpicklingError

    tensors: Tensors = {}
    for file in files:
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            raise UserError(
                f"{file} is refused: it holds more than tensors, perhaps code that "
                "would run on reading; get the model's safetensors instead"
            ) from error
        except (OSError, RuntimeError, EOFError) as error:
            raise _unreadable(file, error) from error
        if not isinstance(state, dict):
            raise UserError(f"{file} holds a {type(state).__name__}, no state dict")
        for name, value in state.items():
            if not isinstance(value, torch.Tensor):
                kind = type(value).__name__
                raise UserError(
                    f"{file} holds a {kind} under {name!r}, so it is no state dict "
                    "of a model"
                )
            # NumPy has no bfloat16; float32 holds each of its values.
            value = value.float() if value.dtype == torch.bfloat16 else value
            tensors[name] = value.numpy()
    return tensors


def read_tensorflow(prefix: Path) -> Tensors:
    """The variables of a TensorFlow checkpoint; needs TensorFlow.

    Args:
      prefix: its files' common name, ``model.ckpt-best`` of ``model.ckpt-best.index``.

    Raises:
      UserError: no TensorFlow here, no such checkpoint, or a damaged one.
    """
    tf = _tensorflow(prefix)
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        names = reader.get_variable_to_shape_map()
        return {name: np.asarray(reader.get_tensor(name)) for name in names}
    except (tf.errors.OpError, IndexError, ValueError) as error:
        raise _unreadable(prefix, error) from error


def write_tensorflow(prefix: Path, variables: Mapping[str, np.ndarray]) -> None:
    """Writes a checkpoint that ``tf.compat.v1.train.Saver`` restores."""
    tf = _tensorflow(prefix)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(variables),
        shape_and_slices=[""] * len(variables),
        tensors=list(variables.values()),
    )


def _tensorflow(prefix: Path):
    # Before its import: what TensorFlow says of the processor is no news.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import tensorflow
    except ImportError:
        raise UserError(
            f"{prefix} is a TensorFlow checkpoint, which needs TensorFlow: "
            "pip install 'albert_jax[tensorflow]'"
        ) from None
    return tensorflow


def _unreadable(file: Path, error: Exception) -> UserError:
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    return UserError(f"{file} cannot be read ({reason}); get it anew")
