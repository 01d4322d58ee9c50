"""Parts of a model that training leaves as they are, by name."""

import re
from collections.abc import Callable, Sequence

import jax
from jaxtyping import PyTree

from albert_jax.config import AlbertConfig, UserError
from albert_jax.model.encoder import sharing_plan


def frozen_leaves(
    config: AlbertConfig, parts: Sequence[str]
) -> Callable[[PyTree], PyTree]:
    """What tells for each parameter of a head whether it belongs to ``parts``.

    Args:
      config: of the model.
      parts: ``embeddings``, with the map from E to H; ``layers``; ``layer_0`` and so
        on, with what others share with them; ``base_model``, all but the head.

    Raises:
      UserError: the model has no such layer.
    """
    prefixes = [prefix for part in parts for prefix in _prefixes(config, part)]
    pattern = re.compile("|".join(prefixes) if prefixes else r"(?!)")

    def frozen(params: PyTree) -> PyTree:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: bool(pattern.match(_name(path))), params
        )

    return frozen


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _prefixes(config: AlbertConfig, part: str) -> list[str]:
    whole = {
        "embeddings": ["albert/embedding"],  # the tables' module, and the map after it
        "layers": ["albert/encoder/"],
        "base_model": ["albert/"],
    }
    if part in whole:
        return whole[part]
    plan, layer = sharing_plan(config), int(part.removeprefix("layer_"))
    if layer >= len(plan):
        raise UserError(
            f"frozen has {part!r}, but the model's layers go from 'layer_0' to "
            f"'layer_{len(plan) - 1}'"
        )
    return [
        f"albert/encoder/{kind}_{number}/"
        for block in plan[layer]
        for kind, number in zip(("attention", "ffn"), block, strict=True)
    ]
