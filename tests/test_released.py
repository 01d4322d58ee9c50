"""The released weights give the published values, wherever they are at hand.

``ALBERT_BASE_V2`` names a folder with ``albert-base-v2`` (Hugging Face's files, or the
official ``albert_base_v2.tar.gz`` unpacked), or its name on the hub. The values are
those that several projects' own tests agree on for that model.
"""

import os

import jax
import numpy as np
import pytest

from albert_jax.interop.pretrained import from_pretrained

SOURCE = os.environ.get("ALBERT_BASE_V2")
pytestmark = pytest.mark.skipif(
    not SOURCE, reason="no released weights: set ALBERT_BASE_V2 to where they are"
)


def rows(head, field, ids, mask=None):
    """Positions 1 to 3, features 1 to 3 of what the released base model returns."""
    model, variables, _ = from_pretrained(SOURCE, head, report=print)
    given = [np.array([ids])] + ([] if mask is None else [np.array([mask])])
    with jax.default_matmul_precision("highest"):
        output = model.apply(variables, *given)
    return getattr(output, field)[0, 1:4, 1:4]


def test_hidden_states_of_the_encoder():
    # transformers' own test, tolerance included; it masks position 0.
    ids = [0, 345, 232, 328, 740, 140, 1695, 69, 6078, 1588, 2]
    expected = [
        [-0.6513, 1.5035, -0.2766],
        [-0.6515, 1.5046, -0.2780],
        [-0.6512, 1.5049, -0.2784],
    ]
    found = rows("AlbertModel", "last_hidden_state", ids, [0] + [1] * 10)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_logits_of_masked_language_modelling():
    # Bumblebee's own test.
    ids = [101, 1996, 3007, 1997, 2605, 2003, 103, 1012, 102]
    expected = [
        [1.0450, -2.2835, -3.8152],
        [1.0635, -2.3124, -3.8890],
        [1.2576, -2.4207, -3.9500],
    ]
    found = rows("AlbertForMaskedLM", "logits", ids)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_tokenizer_of_the_release():
    _, _, tokenizer = from_pretrained(SOURCE, report=print)
    text = (
        "ALBERT: A Lite BERT for Self-supervised Learning of Language Representations"
    )
    expected = "2 2953 45 21 13 10601 11502 26 1119 8 8542 3762 69 2477 16 816 18667 3"
    assert tokenizer(text)["input_ids"][0].tolist() == list(map(int, expected.split()))
