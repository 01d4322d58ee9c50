"""LAMB and AdamW as the official code computes them, and their schedule.

Both differ from Optax's own: the moments' bias is not corrected, and LayerNorm and
biases take no part in weight decay nor, for LAMB, in the trust ratio
(official ``lamb_optimizer.py`` and ``optimization.py``).
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import PyTree

from albert_jax.config import OptimizerConfig

# The official rule, a search in the variable's path.
_EXCLUDED = re.compile("LayerNorm|layer_norm|bias")


def decayed(params: PyTree) -> PyTree:
    """Tree of booleans: which leaves take part in decay and trust ratio."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: not _EXCLUDED.search(jax.tree_util.keystr(path)), params
    )


def linear_schedule(peak: ArrayLike, warmup_steps: int, steps: int) -> optax.Schedule:
    """The official schedule: from 0 to ``peak`` and back to 0, both lines linear.

    The decay counts from step 0, and warm-up replaces it while it lasts: the rate falls
    by ``peak * warmup_steps / steps`` when warm-up ends.
    """

    def rate(step: jax.Array | int) -> jax.Array:
        warmup = step / max(warmup_steps, 1)
        decay = jnp.maximum(1.0 - step / steps, 0.0)
        return peak * jnp.where(step < warmup_steps, warmup, decay)

    return rate


def clip_by_global_norm(bound: float) -> optax.GradientTransformation:
    """Scales gradients down to the global norm ``bound`` where theirs is above it.

    By one factor for all, so that it is fused into what follows; Optax's own divides
    and selects, which XLA writes to memory.
    """

    def update(
        gradients: PyTree, state: optax.EmptyState, params: PyTree = None
    ) -> tuple[PyTree, optax.EmptyState]:
        factor = bound / jnp.maximum(optax.tree.norm(gradients), bound)
        return jax.tree.map(lambda g: factor * g, gradients), state

    return optax.GradientTransformation(optax.init_empty_state, update)


class TrustRatios(NamedTuple):
    """What each leaf of an update was multiplied by, on its way out of the optimizer:
    ``take_trust_ratios`` removes it before the state is kept."""

    ratios: PyTree


def scale_by_trust_ratio(tell: bool = False) -> optax.GradientTransformation:
    """Multiplies every leaf by norm(parameter) / norm(update); 1 where either is 0.

    Each norm is one pass over a leaf; Optax's, made to be differentiated, takes three.
    With ``tell`` the state that an update returns is ``TrustRatios``.
    """

    def ratio(update: ArrayLike, param: ArrayLike) -> jax.Array:
        w, u = optax.tree.norm(param), optax.tree.norm(update)
        return jnp.where((w > 0) & (u > 0), w / jnp.where(u > 0, u, 1.0), 1.0)

    def update(
        updates: PyTree, state: optax.EmptyState, params: PyTree
    ) -> tuple[PyTree, optax.EmptyState | TrustRatios]:
        ratios = jax.tree.map(ratio, updates, params)
        scaled = jax.tree.map(jnp.multiply, ratios, updates)
        return scaled, TrustRatios(ratios) if tell else state

    return optax.GradientTransformation(optax.init_empty_state, update)


def take_trust_ratios(opt_state: PyTree) -> tuple[PyTree, dict[str, jax.Array]]:
    """An optimizer's state as it is without ``tell``, and the ratios that it held: by
    the path of their leaf, ``albert/pooler/kernel``; none without ``tell``."""
    found: dict[str, jax.Array] = {}

    def is_told(node: PyTree) -> bool:
        return isinstance(node, TrustRatios)

    def emptied(node: PyTree) -> PyTree:
        if not is_told(node):
            return node
        for path, ratio in jax.tree_util.tree_leaves_with_path(node.ratios):
            found[jax.tree_util.keystr(path, simple=True, separator="/")] = ratio
        return optax.EmptyState()

    return jax.tree.map(emptied, opt_state, is_leaf=is_told), found


def scale_by_moments(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Adam's direction m / (sqrt(v) + eps), without correcting the moments' bias."""

    def init(params: PyTree) -> optax.ScaleByAdamState:
        # Two trees, not one twice: a donated buffer must have one owner.
        mu, nu = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
        return optax.ScaleByAdamState(jnp.zeros([], jnp.int32), mu, nu)

    def update(
        gradients: PyTree, state: optax.ScaleByAdamState, params: PyTree = None
    ) -> tuple[PyTree, optax.ScaleByAdamState]:
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, gradients)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, gradients)
        direction = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mu, nu)
        return direction, optax.ScaleByAdamState(state.count + 1, mu, nu)

    return optax.GradientTransformation(init, update)


def adamw(
    learning_rate: optax.ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    weight_decay: float = 0.01,
    clip_norm: float = 1.0,
    *,
    bias_correction: bool = False,
) -> optax.GradientTransformation:
    """AdamW for fine-tuning (official ``AdamWeightDecayOptimizer``).

    ``clip_norm`` bounds the global norm of the raw gradient.
    """
    return optax.chain(
        _direction(b1, b2, eps, weight_decay, clip_norm, bias_correction),
        optax.scale_by_learning_rate(learning_rate),
    )


def lamb(
    learning_rate: optax.ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    weight_decay: float = 0.01,
    clip_norm: float = 1.0,
    *,
    bias_correction: bool = False,
    adapt_all: bool = False,
    tell_trust_ratios: bool = False,
) -> optax.GradientTransformation:
    """LAMB for pretraining (You et al., 2020; official ``LAMBOptimizer``).

    For every matrix w with Adam direction u, decay included, the step is
    ``-learning_rate * (norm(w) / norm(u)) * u``, the ratio being 1 where either norm
    is 0. ``bias_correction`` and ``adapt_all`` (the ratio for LayerNorm and biases too)
    are what ``optax.lamb`` does. With ``tell_trust_ratios`` the state that an update
    returns is one for ``take_trust_ratios``.
    """
    ratio = scale_by_trust_ratio(tell_trust_ratios)
    return optax.chain(
        _direction(b1, b2, eps, weight_decay, clip_norm, bias_correction),
        ratio if adapt_all else optax.masked(ratio, decayed),
        optax.scale_by_learning_rate(learning_rate),
    )


def _direction(
    b1: float,
    b2: float,
    eps: float,
    weight_decay: float,
    clip_norm: float,
    bias_correction: bool,
) -> optax.GradientTransformation:
    moments = optax.scale_by_adam if bias_correction else scale_by_moments
    return optax.chain(
        clip_by_global_norm(clip_norm),
        moments(b1, b2, eps),
        optax.add_decayed_weights(weight_decay, mask=decayed),
    )


def freeze(
    optimizer: optax.GradientTransformation, frozen: Callable[[PyTree], PyTree]
) -> optax.GradientTransformation:
    """The optimizer of all leaves but those that are ``frozen``, which stay as they are
    and have no moments, no decay and no part in the clipped norm.

    Args:
      frozen: parameters -> a tree of booleans.
    """

    def kinds(params: PyTree) -> PyTree:
        return jax.tree.map(lambda x: "frozen" if x else "trained", frozen(params))

    return optax.partition({"frozen": optax.set_to_zero(), "trained": optimizer}, kinds)


def make_optimizer(
    config: OptimizerConfig,
    learning_rate: optax.ScalarOrSchedule,
    *,
    tell_trust_ratios: bool = False,
) -> optax.GradientTransformation:
    """The optimizer that ``config`` describes, at the given rate or schedule.

    ``tell_trust_ratios`` is for LAMB; see there.
    """
    settings = dict(
        b1=config.b1,
        b2=config.b2,
        eps=config.eps,
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm,
        bias_correction=config.bias_correction,
    )
    if config.name == "adamw":
        return adamw(learning_rate, **settings)
    return lamb(
        learning_rate,
        **settings,
        adapt_all=config.adapt_all,
        tell_trust_ratios=tell_trust_ratios,
    )


def update_flops(config: OptimizerConfig, parameters: int) -> int:
    """Floating-point operations of a step's update, of so many parameters.

    The few that LayerNorm and biases do without are counted too; roots are not.
    """
    clipped = 2 + 1  # the norm, the factor
    moments = 3 + 4  # each a weighted sum; the second squares
    corrected = 2 if config.bias_correction else 0
    direction = 2 + 2  # epsilon and quotient; decay
    adapted = 2 + 2 + 1 if config.name == "lamb" else 0  # two norms, the ratio
    applied = 1 + 1  # the rate, the sum
    each = clipped + moments + corrected + direction + adapted + applied
    return each * parameters
