"""From layer to layer: distances, angles, entropies, and gradients pass by pass."""

import dataclasses
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_corpus
import small_run
import tiny

from albert_jax.cli import main
from albert_jax.config import UserError
from albert_jax.data.prepare import prepare
from albert_jax.model.encoder import sharing_plan
from albert_jax.model.heads import AlbertForPreTraining
from albert_jax.model.losses import (
    MODEL_INPUTS,
    objective,
    pretraining_losses,
    pretraining_weights,
)
from albert_jax.study.depth import _Run, depth_of_runs
from albert_jax.study.passes import (
    KINDS,
    PassGradients,
    gradients_by_pass,
    pass_gradients,
)
from albert_jax.study.profile import compare, depth_profile
from albert_jax.train.pretrain import pretrain


def made(**fields):
    """A tiny model, quick to compile, and variables whose every leaf is drawn."""
    model = AlbertForPreTraining(tiny.config(remat="nothing", **fields))
    params = model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"]
    rng = np.random.default_rng(0)
    shaken = jax.tree.map(lambda x: x + 0.1 * rng.normal(size=x.shape), params)
    return model, {"params": jax.tree.map(jnp.float32, shaken)}


def test_a_block_compared_by_hand():
    before = jnp.array([[[1.0, 0], [1, 1], [3, 0], [0, 0], [1, 0]]])
    after = jnp.array([[[0.0, 2], [1, 1], [-1, 0], [0, 5], [1, 1e-4]]])
    half, one, third = [0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [1 / 3] * 3
    attention = jnp.array([[[half, one, one, one, third]]])
    found = compare(before, after, attention)
    np.testing.assert_allclose(found["distance"], [[5**0.5, 0, 4, 5, 1e-4]])
    # No direction is at no angle; a small angle keeps its digits.
    angles = [[90, 0, 180, 0, math.degrees(1e-4)]]
    np.testing.assert_allclose(found["angle"], angles, rtol=1e-5)
    entropies = [[[math.log(2), 0, 0, 0, math.log(3)]]]
    np.testing.assert_allclose(found["entropy"], entropies, rtol=1e-6)


def halves(batch):
    """Its first row, and the rest."""
    return [
        {name: np.asarray(x)[rows] for name, x in batch.items()}
        for rows in (slice(1), slice(1, None))
    ]


def padded(batch, columns, rows):
    """The same rows, longer, before others that hold nothing."""
    wider = {
        name: np.pad(x, [(0, rows), (0, columns)])
        for name, x in batch.items()
        if np.shape(x)[1:] == (10,)
    }
    rest = {
        name: np.pad(x, [(0, rows)] + [(0, 0)] * (x.ndim - 1))
        for name, x in batch.items()
        if name not in wider
    }
    return rest | wider


@pytest.fixture(scope="module")
def inner():
    """Four layers of two blocks, in two groups; what each block does, kept whole."""
    model, variables = made(num_hidden_groups=2, inner_group_num=2)
    batch = tiny.batch()
    inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}
    keep = {"output_hidden_states": True, "output_attentions": True}
    output = jax.jit(lambda v: model.apply(v, **inputs, **keep))(variables)
    return model, variables, batch, jax.device_get(output)


def test_a_profile_is_the_mean_over_tokens(inner):
    model, variables, batch, output = inner
    states = output.hidden_states.astype(np.float64)
    before, after = states[:-1], states[1:]
    lengths = [np.linalg.norm(x, axis=-1) for x in (before, after, after - before)]
    cosine = (before * after).sum(-1) / (lengths[0] * lengths[1])
    p = output.attentions.astype(np.float64)
    found = depth_profile(model, variables, [batch])
    assert found.tokens == 40 and found.distance.shape == (8,)
    np.testing.assert_allclose(found.distance, lengths[2].mean((1, 2)), rtol=1e-5)
    angles = np.degrees(np.arccos(cosine)).mean((1, 2))
    np.testing.assert_allclose(found.angle, angles, rtol=1e-4)
    entropy = -(p * np.log(p)).sum(-1).mean((1, 3))
    np.testing.assert_allclose(found.entropy, entropy, rtol=1e-5)
    assert found.uniform_entropy == pytest.approx(math.log(10), rel=1e-6)


def test_padding_and_batches_change_no_profile(inner):
    model, variables, batch, _ = inner
    whole = depth_profile(model, variables, [batch])
    parts = [padded(half, 3, 5 - len(half["input_ids"])) for half in halves(batch)]
    found = depth_profile(model, variables, parts)
    for name, value in vars(whole).items():
        np.testing.assert_allclose(vars(found)[name], value, rtol=1e-5, err_msg=name)
    with pytest.raises(ValueError, match="no token"):
        depth_profile(model, variables, [])


def test_a_query_sees_its_own_pair_only():
    model, variables = made(num_hidden_layers=1)
    batch = {
        "input_ids": np.full((1, 7), 9),
        "attention_mask": np.array([[1] * 6 + [0]], bool),
        "segment_ids": np.array([[1, 1, 2, 2, 2, 2, 0]]),
    }
    found = depth_profile(model, variables, [batch])
    uniform = (2 * math.log(2) + 4 * math.log(4)) / 6
    assert found.uniform_entropy == pytest.approx(uniform)
    # Alike but for their places: nearly, and never more than, uniform.
    assert (found.entropy <= uniform).all() and (found.entropy > 0.8 * uniform).all()


def loss_gradient(model, params, batch):
    """The encoder's gradient as ``jax.grad`` has it."""
    inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}

    def loss(params):
        output = model.apply({"params": params}, **inputs)
        return objective(pretraining_losses(output, batch))

    return jax.jit(jax.grad(loss))(params)["albert"]["encoder"]


def assert_close(ours, theirs):
    """Each leaf, to 1e-5 of all leaves' norm."""
    scale = 1e-5 * max(float(jnp.abs(x).max()) for x in jax.tree.leaves(theirs))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=scale),
        ours,
        theirs,
    )


@pytest.mark.parametrize(
    ("share", "groups", "blocks"),
    [("all", 2, 2), ("attention", 1, 1), ("ffn", 2, 1), ("none", 1, 1)],
)
def test_gradients_by_pass_are_those_of_an_unshared_copy(share, groups, blocks):
    fields = {"num_hidden_layers": 3, "inner_group_num": blocks}
    model, variables = made(share=share, num_hidden_groups=groups, **fields)
    params, batch = variables["params"], tiny.batch()
    weights = pretraining_weights(batch)
    ours = jax.jit(lambda p: gradients_by_pass(model, p, batch, weights))(params)
    plan = [block for layer in sharing_plan(model.config) for block in layer]
    shared = params["albert"]["encoder"]
    if share != "none":
        # The sum over depth is what the shared weights get.
        summed = loss_gradient(model, params, batch)
        for kind, owners in zip(KINDS, np.array(plan).T, strict=True):
            for owner in set(owners):
                users = np.flatnonzero(owners == owner)
                total = jax.tree.map(lambda x, u=users: x[u].sum(0), ours[kind])
                assert_close(total, summed[f"{kind}_{owner}"])
    copies = {
        f"{kind}_{i}": shared[f"{kind}_{block[k]}"]
        for i, block in enumerate(plan)
        for k, kind in enumerate(KINDS)
    }
    unshared = AlbertForPreTraining(dataclasses.replace(model.config, share="none"))
    copied = params | {"albert": params["albert"] | {"encoder": copies}}
    theirs = loss_gradient(unshared, copied, batch)
    for i in range(len(plan)):
        for kind in KINDS:
            one = jax.tree.map(lambda x, i=i: x[i], ours[kind])
            assert_close(one, theirs[f"{kind}_{i}"])


def test_products_norms_and_batches():
    model, variables = made(num_hidden_layers=3, share="attention")
    batch = tiny.batch()
    step = jax.jit(lambda p, b, w: gradients_by_pass(model, p, b, w))
    whole = step(variables["params"], batch, pretraining_weights(batch))
    # Row 0 has fewer predictions: means of halves would not do.
    parts = [padded(half, 0, 3 - len(half["input_ids"])) for half in halves(batch)]
    for part, half in zip(parts, halves(batch), strict=True):
        rows = len(half["input_ids"])
        part["sentence_order_weights"] = np.float32(np.arange(3) < rows)
    found = pass_gradients(model, variables, parts)
    for kind in KINDS:
        leaves = [np.reshape(x, (3, -1)) for x in jax.tree.leaves(whole[kind])]
        vectors = np.concatenate(leaves, axis=1).astype(np.float64)
        products = vectors @ vectors.T
        np.testing.assert_allclose(found.products[kind], products, rtol=1e-4, atol=1e-7)
    assert found.owners["attention"].tolist() == [0, 0, 0]
    assert found.owners["ffn"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="no batch"):
        pass_gradients(model, variables, [])


def by_hand():
    """Gradients (3, 0), (0, 4), (0, -1) of one attention; (1), (2), (2) of two ffn."""
    attention, ffn = np.array([[3.0, 0], [0, 4], [0, -1]]), np.array([[1.0], [2], [2]])
    return PassGradients(
        products={"attention": attention @ attention.T, "ffn": ffn @ ffn.T},
        owners={"attention": np.zeros(3, int), "ffn": np.array([0, 1, 1])},
    )


def test_cosines_and_agreement_by_hand():
    gradients = by_hand()
    np.testing.assert_allclose(gradients.norms("attention"), [3, 4, 1])
    np.testing.assert_allclose(gradients.norms("ffn"), [1, 2, 2])
    cosines = gradients.cosines("attention")
    np.testing.assert_allclose(cosines, [[1, 0, 0], [0, 1, -1], [0, -1, 1]])
    nan = math.nan
    cosines = gradients.cosines("ffn")
    np.testing.assert_allclose(cosines, [[1, nan, nan], [nan, 1, 1], [nan, 1, 1]])
    # Passes 2 and 3 share both: (0, 4, 2) and (0, -1, 2) are orthogonal.
    both = gradients.cosines()
    np.testing.assert_allclose(both, np.eye(3), atol=1e-12)
    agreement = gradients.agreement("attention")
    assert agreement == {0: pytest.approx(math.hypot(3, 3) / 8)}
    assert gradients.agreement("ffn") == {1: pytest.approx(1.0)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A shared run that logs trust ratios, and an unshared one, of few steps."""
    home = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        made = small_run.make(home)
        made = dataclasses.replace(
            made,
            model=dataclasses.replace(
                made.model, remat="nothing", hidden_dropout_prob=0.0
            ),
            steps=4,
            evaluation=dataclasses.replace(made.evaluation, every=4),
            log_trust_ratios=True,
        )
        pretrain(made, "shared")
        other = dataclasses.replace(made.model, share="none")
        pretrain(
            dataclasses.replace(made, model=other, log_trust_ratios=False), "unshared"
        )
    return home, made


@pytest.fixture
def home(runs, monkeypatch):
    monkeypatch.chdir(runs[0])
    monkeypatch.setattr("albert_jax.programs.keep_programs", lambda report: None)
    return runs[0]


def test_trust_ratios_are_in_the_log_and_out_of_the_identity(home, runs):
    lines = (home / "shared/metrics.jsonl").read_text().splitlines()
    every = [{n for n in json.loads(x) if n.startswith("train/trust_")} for x in lines]
    logged = [names for names in every if names]
    names = {
        "train/trust_ratio/albert/encoder/attention_0/query/kernel",
        "train/trust_ratio/albert/embeddings/word_embeddings/embedding",
        "train/trust_ratio/sop_classifier/kernel",
    }
    assert [len(found) for found in logged] == [13, 13]
    assert names < logged[-1]
    # The run may go on without.
    plain = dataclasses.replace(runs[1], log_trust_ratios=False)
    assert pretrain(plain, "shared")["step"] == 4


def test_depth_of_runs(home, capsys, monkeypatch):
    found = []

    def once(folders, *arguments, **options):
        """What is found is kept, and found no second time."""
        if not found:
            found.extend(depth_of_runs(folders, *arguments, **options))
        return found[: len(folders)]

    monkeypatch.setattr("albert_jax.study.depth.depth_of_runs", once)
    arguments = ["depth", "shared", "--against", "unshared", "--rows", "5", "--json"]
    assert main([*arguments, "--figure", "both.svg"]) == 0
    document = json.loads(capsys.readouterr().out)
    shared, unshared = found
    assert document == json.loads(json.dumps(shared.as_dict())) | {
        "against": json.loads(json.dumps(unshared.as_dict()))
    }
    assert document["rows"] == 5 and [x["layer"] for x in document["layers"]] == [
        "1",
        "2",
    ]
    assert len(document["gradient_agreement"]["ffn"]) == 1
    assert document["against"]["gradient_cosines"] == [[1.0, None], [None, 1.0]]
    assert len(document["trust_ratio"]) == 13
    assert (home / "both.svg").read_text().startswith("<?xml")
    assert main(["depth", "shared", "--rows", "5", "--figure", "one.png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "5 held-out rows" in lines[0] and "the figure is one.png" in lines[-1]
    assert (home / "one.png").read_bytes().startswith(b"\x89PNG")
    cells = lines[5].split()
    assert cells[:2] == ["1", f"{shared.profile.distance[0]:.2f}"]
    assert sum("2 passes" in line for line in lines) == 2


def fails(capsys, *arguments):
    assert main(["depth", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("albert-jax: ") and said.count("\n") == 1
    return said


def test_mistakes_are_said_in_a_line(home, capsys, monkeypatch, tmp_path):
    assert "nowhere is not a run" in fails(capsys, "nowhere")
    assert "rows is 0" in fails(capsys, "shared", "--rows", "0")
    assert "seed is 3, but shared has 0" in fails(capsys, "shared", "--seed", "3")
    assert "must end in .png or .svg" in fails(capsys, "shared", "--figure", "a.pdf")
    assert "cannot write no/a.png" in fails(capsys, "shared", "--figure", "no/a.png")
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "experiment.json").write_text('{"model": {}}')
    assert "fine-tuning" in fails(capsys, str(tmp_path / "tuned"))
    (tmp_path / "other").mkdir()
    for name in ("checkpoints", "tokenizer.model"):
        (tmp_path / "other" / name).symlink_to(home / "shared" / name)
    record = json.loads((home / "shared/experiment.json").read_text())
    gone = tmp_path / "gone"
    record["experiment"]["corpus"]["prepared"] = str(gone)
    (tmp_path / "other/experiment.json").write_text(json.dumps(record))
    other = str(tmp_path / "other")
    assert "gone' does not exist" in fails(capsys, other)
    # A corpus of other documents, where the run's was.
    mended = small_corpus.config(tmp_path, vocabulary="prepared/tokenizer.model")
    prepare(
        dataclasses.replace(mended, prepared=str(tmp_path / "gone")), 56, processes=1
    )
    assert "is not the corpus that" in fails(capsys, other)


def test_runs_that_cannot_read_each_others_rows(home):
    long = _Run.open(Path("shared"), None, pytest.fail)
    model = AlbertForPreTraining(tiny.config(max_position_embeddings=16))
    short = dataclasses.replace(long, folder=Path("short"), model=model)
    long.refuse_rows_of(short)
    with pytest.raises(UserError, match="has rows of 32 tokens, but short has 16"):
        short.refuse_rows_of(long)
    with pytest.raises(UserError, match="different prepared corpora"):
        long.refuse_rows_of(dataclasses.replace(long, corpus="another"))


def test_a_setting_for_lamb_alone():
    plain = small_run.experiment("unread")
    adamw = dataclasses.replace(plain.optimizer, name="adamw")
    with pytest.raises(UserError, match="adamw has no trust ratio"):
        dataclasses.replace(plain, optimizer=adamw, log_trust_ratios=True)
