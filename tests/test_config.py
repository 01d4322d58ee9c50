"""Configurations: the released ones exactly, and contradictions named."""

import dataclasses

import pytest

from albert_jax.config import (
    AlbertConfig,
    DataConfig,
    MeshConfig,
    PretrainingExperiment,
    UserError,
)

# Layers, H, heads, dropout of v1 (v2: none), heads and sigma of zh (paper, Table 1;
# the released configuration files; the TF-Hub modules for xlarge's heads).
RELEASED = {
    "base": (12, 768, 12, 0.1, 12, 0.02),
    "large": (24, 1024, 16, 0.1, 16, 0.02),
    "xlarge": (24, 2048, 32, 0.1, 16, 0.014),
    "xxlarge": (12, 4096, 64, 0.0, 16, 0.01),
}


@pytest.mark.parametrize("size", RELEASED)
@pytest.mark.parametrize("version", ["v1", "v2", "zh"])
def test_released_configurations(size, version):
    layers, width, heads, dropout, zh_heads, zh_sigma = RELEASED[size]
    config = getattr(AlbertConfig, size)(version)
    zh = version == "zh"
    expected = dict(
        num_hidden_layers=layers,
        hidden_size=width,
        intermediate_size=4 * width,
        embedding_size=128,
        num_attention_heads=zh_heads if zh else heads,
        vocab_size=21_128 if zh else 30_000,
        hidden_act="relu" if zh else "gelu",
        hidden_dropout_prob=dropout if version == "v1" else 0.0,
        attention_probs_dropout_prob=dropout if version == "v1" else 0.0,
        initializer_range=zh_sigma if zh else 0.02,
        layer_norm_eps=1e-12,
        share="all",
        num_hidden_groups=1,
    )
    assert {name: getattr(config, name) for name in expected} == expected


MISTAKES = {
    "hidden_size is 30, which num_attention_heads = 4 does not divide": lambda: (
        AlbertConfig(hidden_size=30, num_attention_heads=4)
    ),
    "num_hidden_groups is 3, but it must be at most": lambda: AlbertConfig(
        num_hidden_layers=2, num_hidden_groups=3
    ),
    "hidden_dropout_prob is 1.0, but it must be": lambda: AlbertConfig(
        hidden_dropout_prob=1.0
    ),
    "size is 'bse'.*did you mean 'base'": lambda: AlbertConfig.released("bse"),
    "version is 'v3'": lambda: AlbertConfig.base("v3"),
    "mask_fraction is 0.0": lambda: DataConfig(mask_fraction=0.0),
    "at most one axis may be -1": lambda: MeshConfig(data=-1, fsdp=-1),
    "sequence_length is 600, longer than": lambda: PretrainingExperiment(
        name="x", data=DataConfig(sequence_length=600)
    ),
    "warmup_steps is 3125, more than steps = 10": lambda: PretrainingExperiment(
        name="x", steps=10
    ),
}


@pytest.mark.parametrize("said", MISTAKES)
def test_a_contradiction_is_named(said):
    with pytest.raises(UserError, match=said) as raised:
        MISTAKES[said]()
    assert "\n" not in str(raised.value)


def test_values_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        AlbertConfig().hidden_size = 3
