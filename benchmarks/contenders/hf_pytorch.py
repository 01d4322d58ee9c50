"""transformers on PyTorch as a contender: SDPA, eager and compiled."""

import numpy as np
import torch
import transformers
from inputs import length_batches, load_weights, make_batch
from transformers import AlbertConfig
from worker import nothing, serve

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def computing_in(dtype: str) -> torch.autocast:
    """Computation in this type, parameters in float32, as ours."""
    return torch.autocast(DEVICE, getattr(torch, dtype), enabled=dtype != "float32")


def finished() -> None:
    """Waits for the device."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def device_mib() -> float | None:
    """The most memory that was in use on a GPU; None without one."""
    return torch.cuda.max_memory_allocated() / 2**20 if DEVICE == "cuda" else None


def load(job: dict) -> torch.nn.Module:
    torch.set_num_threads(job["threads"])
    config, tensors = load_weights(job)
    config["attn_implementation"] = job.get("attention", "sdpa")
    model = getattr(transformers, job["head"])(AlbertConfig(**config))
    state = {name: torch.from_numpy(value) for name, value in tensors.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or set(missing) - {"albert.embeddings.position_ids"}:
        raise ValueError(f"weights: {missing} are missing, {unexpected} too many")
    return model.to(DEVICE)


def inputs_of(job: dict, labels: bool) -> dict[str, torch.Tensor]:
    arrays = make_batch(job).items()
    batch = {name: torch.from_numpy(array).long().to(DEVICE) for name, array in arrays}
    names = ["input_ids"] + ["labels", "sentence_order_label"] * labels
    return {name: batch[name] for name in names}


def step(job: dict):
    """Training with AdamW, fused, and the gradient's norm clipped, as ours is."""
    model = load(job).train()
    optimizer = adamw(model)
    run = torch.compile(model) if job.get("compile") else model
    batch, facts = inputs_of(job, labels=True), {}

    def repeat() -> None:
        with computing_in(job["dtype"]):
            loss = run(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        facts.setdefault("check", loss.item())
        finished()

    return repeat, facts


def adamw(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, fused=True)


def forward(job: dict):
    model = load(job).eval()
    run = torch.compile(model) if job.get("compile") else model
    batch, facts = inputs_of(job, labels=False), {}

    @torch.inference_mode()
    def repeat() -> None:
        facts["check"] = float(run(**batch).sop_logits.abs().sum())

    return repeat, facts


def optimizer(job: dict):
    """Clipping and AdamW alone, for gradients that are there."""
    model = load(job)
    update = adamw(model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)

    def repeat() -> None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        update.step()

    return repeat, {}


def compile_step(job: dict):
    """``torch.compile`` of forward and backward pass, from nothing, every time."""
    model = load(job).train()
    batch = inputs_of(job, labels=True)

    def repeat() -> None:
        torch._dynamo.reset()
        with torch._inductor.utils.fresh_inductor_cache():
            torch.compile(model)(**batch).loss.backward()

    return repeat, {"warm": False}


def limit(job: dict):
    """Large matrix products through PyTorch's library."""
    torch.set_num_threads(job["threads"])
    size, products = job["size"], 3
    a = torch.ones(size, size, dtype=getattr(torch, job["dtype"])) / size

    @torch.inference_mode()
    def repeat() -> None:
        product = a
        for _ in range(products):
            product = product @ a

    return repeat, {"flops": products * 2 * size**3}


def answer(logits: torch.Tensor, positions: np.ndarray) -> float:
    """A number that stands for what was answered, the same for every contender.

    Of classes [b, k], the sum of the logits' sizes; of pieces [b, t, v], the sum of the
    likeliest piece's log-probability at each row's position.
    """
    if logits.ndim == 2:
        return float(logits.abs().sum())
    chosen = logits[torch.arange(len(logits)), torch.from_numpy(positions).long()]
    return float(chosen.log_softmax(-1).max(-1).values.sum())


def sentences(job: dict):
    """Class logits, or the likeliest piece at [MASK], of every sentence of the text."""
    model = load(job).eval()
    run = torch.compile(model, dynamic=True) if job.get("compile") else model
    batches = [
        (torch.from_numpy(ids).long(), torch.from_numpy(mask).long(), positions)
        for ids, mask, positions in length_batches(job, 1)
    ]

    @torch.inference_mode()
    def repeat() -> float:
        return sum(
            answer(run(ids, attention_mask=mask).logits, positions)
            for ids, mask, positions in batches
        )

    return repeat, {"check": repeat()}


VERSIONS = {"torch": torch.__version__, "transformers": transformers.__version__}

if __name__ == "__main__":
    serve(
        {
            "step": step,
            "forward": forward,
            "optimizer": optimizer,
            "compile": compile_step,
            "limit": limit,
            "import": nothing,
            "classify": sentences,
            "fill-mask": sentences,
            "gpu": step,
        },
        VERSIONS,
        device_mib,
    )
