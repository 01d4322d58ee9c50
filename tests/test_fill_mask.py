"""Answers in batches are the answers one by one."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import small_corpus
import tiny

from albert_jax.config import UserError
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.model.albert import AlbertModel, init_params
from albert_jax.model.heads import AlbertForMaskedLM, AlbertForPreTraining
from albert_jax.tasks.fill_mask import FillMask


@pytest.fixture(scope="module")
def filled():
    """A model with random weights, and its tokenizer."""
    tokenizer = Tokenizer.load(small_corpus.vocabulary())
    config = dataclasses.replace(
        tiny.config(), vocab_size=tokenizer.vocab_size, max_position_embeddings=64
    )
    model = AlbertForPreTraining(config)
    variables = {"params": init_params(model, jax.random.key(0))}
    return model, variables, tokenizer


TEXTS = [
    "the [MASK] of the river",
    "[MASK] [MASK] and [MASK], in a mountain of twelve presidents",
    "[MASK]",
    "the river. " * 12 + "[MASK] is here",
    "governed by [MASK] in 2010, and not",
]


def test_many_at_once_are_answered_as_one_by_one(filled):
    model, variables, tokenizer = filled
    fill = FillMask(*filled)
    rows = [fill.encode(text) for text in TEXTS]
    apply = jax.jit(model.apply)
    for ids, answer in zip(rows, fill.predict(rows, top=7), strict=True):
        logits = apply(variables, ids[None]).prediction_logits[0]
        (masked,) = np.nonzero(ids == tokenizer.mask_id)
        assert len(answer) == len(masked)
        for position, predictions in zip(masked, answer, strict=True):
            probabilities = np.asarray(jax.nn.softmax(logits[position]))
            found = [p.probability for p in predictions]
            expected = np.sort(probabilities)[::-1][:7]
            np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)
            for p in predictions:
                exact = probabilities[tokenizer.pieces.index(p.piece)]
                assert p.probability == pytest.approx(exact, abs=1e-6)


def test_one_text_is_answered_as_among_many(filled):
    fill = FillMask(*filled)
    together = fill.predict([fill.encode(text) for text in TEXTS], top=3)
    for text, answer in zip(TEXTS, together, strict=True):
        alone = fill(text, top=3)
        assert [[p.piece for p in slot] for slot in alone] == [
            [p.piece for p in slot] for slot in answer
        ]


def test_top_is_at_most_the_vocabulary(filled):
    fill = FillMask(*filled)
    ((predictions,),) = fill.predict([fill.encode("a [MASK]")], top=10_000)
    assert len(predictions) == filled[2].vocab_size
    assert sum(p.probability for p in predictions) == pytest.approx(1, abs=1e-5)


def test_too_long_a_text_is_refused(filled):
    fill = FillMask(*filled)
    with pytest.raises(UserError, match="64 positions"):
        fill("river " * 80 + "[MASK]")


_COMPILE = """
import sys, jax, jax.numpy as jnp
from albert_jax.programs import keep_programs
before = jax.config.jax_compilation_cache_dir
keep_programs(report=print)
def f(x):
    for _ in range(300):
        x = jnp.sin(x) @ x
    return x
jax.jit(f)(jnp.ones((8, 8)))
"""


def compile_with(**variables):
    kept = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _COMPILE],
        env=kept | variables | {"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def files(folder: Path):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*-cache")}


def test_programs_are_kept_where_the_user_keeps_such(tmp_path):
    assert compile_with(XDG_CACHE_HOME=str(tmp_path)) == ""
    first = files(tmp_path / "albert_jax")
    assert first
    compile_with(XDG_CACHE_HOME=str(tmp_path))
    assert files(tmp_path / "albert_jax") == first
    named = tmp_path / "named"
    both = {"XDG_CACHE_HOME": str(tmp_path), "JAX_COMPILATION_CACHE_DIR": str(named)}
    compile_with(**both)
    assert files(named) and files(tmp_path / "albert_jax") == first


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "albert_jax").write_text("a file")
    said = compile_with(XDG_CACHE_HOME=str(tmp_path))
    assert said.startswith("compiled programs are not kept") and said.count("\n") == 1


def test_what_fills_no_mask(filled):
    model, variables, tokenizer = filled
    alone = AlbertForMaskedLM(model.config)
    params = {name: x for name, x in variables["params"].items() if "sop" not in name}
    one, other = (
        FillMask(m, v, tokenizer)(TEXTS[0])
        for m, v in ((model, variables), (alone, {"params": params}))
    )
    assert one == other
    with pytest.raises(UserError, match="AlbertModel has no masked-LM head"):
        FillMask(AlbertModel(model.config), variables, tokenizer)
    with pytest.raises(UserError, match="without a vocabulary there is nothing"):
        FillMask(model, variables, None)
