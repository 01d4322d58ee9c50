"""albert_jax as a contender: its public model, training step, optimizer and stream."""

import json
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from inputs import make_batch
from worker import nothing, serve

import albert_jax
from albert_jax import AlbertConfig, AlbertForPreTraining, lamb
from albert_jax.model.costs import RowShape, forward_flops
from albert_jax.model.losses import objective
from albert_jax.train.pretrain import train_step
from albert_jax.train.state import init_state


def config_of(job: dict) -> AlbertConfig:
    return AlbertConfig(**job["model"], dtype=job["dtype"])


def batch_of(job: dict) -> dict[str, np.ndarray]:
    """The batch, to be predicted at the masked positions alone or at all of them."""
    batch = make_batch(job)
    labels = batch.pop("labels")
    if job.get("all_positions"):
        del batch["masked_positions"]
        batch["masked_labels"] = np.maximum(labels, 0)
        batch["masked_weights"] = (labels >= 0).astype(np.float32)
    else:
        batch["masked_weights"] = np.ones(batch["masked_labels"].shape, np.float32)
    return batch


def flops_of(job: dict) -> int:
    """Floating-point operations of the matrix products, three times for a gradient."""
    predictions = job["length"] if job.get("all_positions") else job["predictions"]
    row = RowShape(job["length"], predictions, pairs=1)
    passes = 1 if job["kind"] == "forward" else 3
    return passes * job["rows"] * sum(forward_flops(config_of(job), row).values())


def compiled(function, *args, **options) -> tuple:
    """The compiled function, its compile time and temporary memory."""
    start = time.perf_counter()
    program = jax.jit(function, **options).lower(*args).compile()
    facts = {"compile_seconds": time.perf_counter() - start}
    if memory := program.memory_analysis():
        facts["temporary_mib"] = memory.temp_size_in_bytes / 2**20
    return program, facts


def training(job: dict) -> tuple:
    """A compiled training step, what it starts from, and its facts."""
    model, optimizer = AlbertForPreTraining(config_of(job)), lamb(1e-3)
    state = jax.jit(partial(init_state, model=model, optimizer=optimizer))(
        jax.random.key(0)
    )
    batch = jax.device_put(batch_of(job))
    train = partial(train_step, model, optimizer)
    program, facts = compiled(train, state, batch, donate_argnums=0)
    return program, state, batch, facts | {"flops": flops_of(job)}


def step(job: dict):
    program, state, batch, facts = training(job)

    def repeat() -> None:
        nonlocal state
        state, sums = jax.block_until_ready(program(state, batch))
        if "check" not in facts:
            facts["check"] = float(objective(sums))

    return repeat, facts


def forward(job: dict):
    model = AlbertForPreTraining(config_of(job))
    state = init_state(jax.random.key(0), model, optax.identity())
    batch = jax.device_put(batch_of(job))

    def apply(params, ids, positions):
        output = model.apply({"params": params}, ids, masked_positions=positions)
        return output.prediction_logits, output.sop_logits

    arguments = state.params, batch["input_ids"], batch.get("masked_positions")
    program, facts = compiled(apply, *arguments)
    facts["flops"] = flops_of(job)

    def repeat() -> None:
        _, order = jax.block_until_ready(program(*arguments))
        facts["check"] = float(np.abs(order).sum())

    return repeat, facts


def optimizer(job: dict):
    """The update alone, for gradients that are there."""
    model, transformation = AlbertForPreTraining(config_of(job)), lamb(1e-3)
    state = init_state(jax.random.key(0), model, transformation)
    gradients = jax.tree.map(lambda leaf: 1e-3 * jnp.ones_like(leaf), state.params)
    params, opt_state = state.params, state.opt_state

    def update(params, opt_state, gradients):
        updates, opt_state = transformation.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    program, facts = compiled(
        update, params, opt_state, gradients, donate_argnums=(0, 1)
    )

    def repeat() -> None:
        nonlocal params, opt_state
        params, opt_state = program(params, opt_state, gradients)
        jax.block_until_ready(params)

    return repeat, facts


def compile_step(job: dict):
    """Tracing and compiling the training step, from nothing, every time."""
    model, optimizer = AlbertForPreTraining(config_of(job)), lamb(1e-3)
    init = partial(init_state, model=model, optimizer=optimizer)
    state, batch = jax.eval_shape(init, jax.random.key(0)), batch_of(job)
    train = partial(train_step, model, optimizer)

    def repeat() -> None:
        jax.clear_caches()
        compiled(train, state, batch, donate_argnums=0)

    return repeat, {"warm": False}


def limit(job: dict):
    """Large matrix products: what the cores can do at most."""
    size, products = job["size"], 3
    a = jnp.ones((size, size), job["dtype"]) / size

    @jax.jit
    def multiply(a):
        product = a
        for _ in range(products):
            product = product @ a
        return product

    def repeat() -> None:
        multiply(a).block_until_ready()

    return repeat, {"flops": products * 2 * size**3}


def export(job: dict):
    """Writes fresh weights as Hugging Face's, for the peers to start from.

    Its facts are the FLOPs of the kind of work ``for``, masked and all positions.
    """
    from albert_jax.interop.hugging_face import hugging_face_config, to_hugging_face

    config, folder = config_of(job | {"dtype": "float32"}), Path(job["scratch"])
    head = job["head"]
    labels = {"num_labels": 2} if head == "AlbertForSequenceClassification" else {}
    state = init_state(
        jax.random.key(0), getattr(albert_jax, head)(config, **labels), optax.identity()
    )
    described = hugging_face_config(config, head)
    (folder / "config.json").write_text(json.dumps(described))
    np.savez(folder / "weights.npz", **to_hugging_face(state.params, config))
    work = job | {"kind": job["for"]}
    flops = {
        "masked": flops_of(work),
        "all": flops_of(work | {"all_positions": True}),
    }
    return nothing(job)[0], {"flops": flops, "warm": False}


VERSIONS = {
    "albert_jax": albert_jax.__version__,
    "jax": jax.__version__,
    "device": jax.devices()[0].device_kind,
}


def device_mib() -> float | None:
    """The most memory that was in use on an accelerator; None on a CPU."""
    stats = jax.local_devices()[0].memory_stats()
    return stats["peak_bytes_in_use"] / 2**20 if stats else None


if __name__ == "__main__":
    serve(
        {
            "step": step,
            "scan": step,
            "forward": forward,
            "optimizer": optimizer,
            "compile": compile_step,
            "limit": limit,
            "import": nothing,
            "export": export,
            "gpu": step,
        },
        VERSIONS,
        device_mib,
    )
