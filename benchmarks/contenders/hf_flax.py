"""transformers 4's Flax ALBERT as a contender, trained with Optax's AdamW."""

import time
from functools import partial

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import transformers
from flax.traverse_util import flatten_dict, unflatten_dict
from inputs import load_weights, make_batch
from transformers import AlbertConfig, FlaxAlbertForPreTraining
from worker import nothing, serve


def load(job: dict) -> tuple[FlaxAlbertForPreTraining, dict]:
    """The model, and its parameters out of PyTorch's names."""
    config, tensors = load_weights(job)
    model = FlaxAlbertForPreTraining(
        AlbertConfig(**config), dtype=jnp.dtype(job["dtype"]), _do_init=False
    )
    shapes = jax.eval_shape(
        partial(model.init_weights, input_shape=(1, 1)), jax.random.key(0)
    )
    leaves = {"kernel": "weight", "scale": "weight", "embedding": "weight"}
    params = {}
    for path, shape in flatten_dict(shapes).items():
        *modules, leaf = (part for part in path if part != "layers")
        if leaf not in leaves and leaf != "bias":
            raise ValueError(f"{path} has no known counterpart")
        value = tensors[".".join([*modules, leaves.get(leaf, leaf)])]
        value = value.T if leaf == "kernel" else value
        if value.shape != shape.shape:
            raise ValueError(f"{path}: {value.shape} is not {shape.shape}")
        params[path] = jnp.asarray(value)
    return model, unflatten_dict(params)


def step_of(job: dict):
    """A training step, and what it begins with: parameters, moments and batch."""
    model, params = load(job)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(1e-3, weight_decay=0.01)
    )
    batch = make_batch(job)

    def loss_of(params, batch):
        output = model.module.apply(
            {"params": params},
            batch["input_ids"],
            jnp.ones_like(batch["input_ids"]),
            jnp.zeros_like(batch["input_ids"]),
            jnp.broadcast_to(jnp.arange(job["length"]), batch["input_ids"].shape),
            deterministic=False,
        )
        logits, weights = output.prediction_logits, batch["labels"] >= 0
        losses = optax.softmax_cross_entropy_with_integer_labels(
            logits.astype(jnp.float32), jnp.maximum(batch["labels"], 0)
        )
        order = optax.softmax_cross_entropy_with_integer_labels(
            output.sop_logits.astype(jnp.float32), batch["sentence_order_label"]
        )
        return (losses * weights).sum() / weights.sum() + order.mean()

    def train(params, moments, batch):
        loss, gradients = jax.value_and_grad(loss_of)(params, batch)
        updates, moments = optimizer.update(gradients, moments, params)
        return optax.apply_updates(params, updates), moments, loss

    return train, params, optimizer.init(params), batch


def step(job: dict):
    train, params, moments, batch = step_of(job)
    batch = jax.device_put(batch)
    start = time.perf_counter()
    program = jax.jit(train, donate_argnums=(0, 1)).lower(params, moments, batch)
    program = program.compile()
    seconds = time.perf_counter() - start
    facts = {"compile_seconds": seconds}

    def repeat() -> None:
        nonlocal params, moments
        params, moments, loss = jax.block_until_ready(program(params, moments, batch))
        facts.setdefault("check", float(loss))

    return repeat, facts


def forward(job: dict):
    model, params = load(job)
    ids = jax.device_put(make_batch(job)["input_ids"])

    @jax.jit
    def apply(params, ids):
        output = model(ids, params=params)
        return output.prediction_logits, output.sop_logits

    facts = {}

    def repeat() -> None:
        _, order = jax.block_until_ready(apply(params, ids))
        facts["check"] = float(np.abs(order).sum())

    return repeat, facts


def compile_step(job: dict):
    train, *arguments = step_of(job)

    def repeat() -> None:
        jax.clear_caches()
        jax.jit(train, donate_argnums=(0, 1)).lower(*arguments).compile()

    return repeat, {"warm": False}


if __name__ == "__main__":
    serve(
        {
            "step": step,
            "forward": forward,
            "compile": compile_step,
            "import": nothing,
        },
        {
            "flax": flax.__version__,
            "jax": jax.__version__,
            "numpy": np.__version__,
            "transformers": transformers.__version__,
        },
    )
