"""Configuration files of others: read as they are, and nothing about them is silent."""

import dataclasses
import json

import pytest

from albert_jax.config import AlbertConfig, UserError
from albert_jax.identity import to_dict

SIZES = ("base", "large", "xlarge", "xxlarge")

# What the released albert_config.json has beside what the model reads.
OFFICIAL_EXTRAS = {
    "down_scale_factor": 1,
    "gap_size": 0,
    "layers_to_keep": [],
    "net_structure_type": 0,
    "num_memory_blocks": 0,
}
# And what Hugging Face's config.json adds to that.
HUGGING_FACE_EXTRAS = OFFICIAL_EXTRAS | {
    "bos_token_id": 2,
    "dtype": "float16",
    "eos_token_id": 3,
    "pad_token_id": 0,
    "torch_dtype": "float32",
    "transformers_version": "4.57.6",
}


def official(config: AlbertConfig) -> dict:
    """The fields of an official file, which knows none of our own."""
    ours = ("share", "project_equal_sizes", "dtype", "scan_layers", "remat")
    fields = {k: v for k, v in to_dict(config).items() if k not in ours}
    del fields["layer_norm_eps"]
    return fields | OFFICIAL_EXTRAS


def hugging_face(config: AlbertConfig, **changes) -> dict:
    """The fields of Hugging Face's file, its mistakes included where asked."""
    fields = official(config) | HUGGING_FACE_EXTRAS | {"layer_norm_eps": 1e-12}
    act = {"gelu": "gelu_new", "gelu_erf": "gelu"}.get(config.hidden_act)
    act = act or config.hidden_act
    kind = {
        "model_type": "albert",
        "architectures": ["AlbertForMaskedLM"],
        # Read where the head is made.
        "classifier_dropout_prob": 0.1,
    }
    return fields | kind | {"hidden_act": act} | changes


def write(folder, fields, name="config.json"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(fields))
    return folder / name


def read(path, **options):
    """The configuration and what was said about it."""
    said = []
    return AlbertConfig.from_json(path, report=said.append, **options), said


@pytest.mark.parametrize("version", ["v1", "v2", "zh"])
@pytest.mark.parametrize("size", SIZES)
def test_an_official_file_is_the_released_configuration(tmp_path, size, version):
    expected = AlbertConfig.released(size, version)
    config, said = read(write(tmp_path, official(expected), "albert_config.json"))
    assert config == expected
    assert len(said) == 1 and all(name in said[0] for name in OFFICIAL_EXTRAS)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("size", SIZES)
def test_hugging_faces_released_files_are_corrected_and_it_is_said(
    tmp_path, size, version
):
    expected = AlbertConfig.released(size, version)
    mistakes = {"hidden_act": "gelu"} if version == "v1" else {}
    if size == "xlarge":
        mistakes["num_attention_heads"] = 16
    fields = hugging_face(expected, **mistakes)
    folder = tmp_path / f"albert-{size}-{version}"
    config, (ignored, *corrected) = read(write(folder, fields))
    assert config == expected
    assert all(name in ignored for name in HUGGING_FACE_EXTRAS)
    assert [line.split(": ")[1].split()[0] for line in corrected] == list(mistakes)

    # The same by a hub's name, whatever the folder is called.
    path = write(tmp_path / "snapshot", fields)
    by_name, _ = read(path, name=f"albert/albert-{size}-{version}")
    assert by_name == expected

    # The user overrules, and then there is nothing to say.
    own = {"hidden_act": "gelu_erf", "num_attention_heads": 16}
    overruled = {name: own[name] for name in mistakes}
    config, said = read(folder / "config.json", **overruled)
    assert config == dataclasses.replace(expected, **overruled)
    assert len(said) == 1


def test_only_the_released_are_corrected(tmp_path):
    # A file that is right, a model of one's own, and the Chinese one with 16 heads.
    right = AlbertConfig.xlarge("v2")
    for name, fields, heads in (
        ("albert-xlarge-v2", hugging_face(right), 32),
        ("my-albert", hugging_face(right, num_attention_heads=16), 16),
        ("albert-xlarge-zh", hugging_face(AlbertConfig.xlarge("zh")), 16),
    ):
        config, said = read(write(tmp_path / name, fields))
        assert config.num_attention_heads == heads
        assert len(said) == 1


# In a file with model_type, in one without.
ACTIVATIONS = {
    "gelu": ("gelu_erf", "gelu"),
    "gelu_new": ("gelu", None),
    "gelu_pytorch_tanh": ("gelu", None),
    "gelu_erf": (None, "gelu_erf"),
    "relu": ("relu", "relu"),
    "tanh": ("tanh", "tanh"),
    "swish": (None, None),
}


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("foreign", [True, False])
def test_an_activation_means_what_its_file_means(tmp_path, act, foreign):
    make = hugging_face if foreign else official
    path = write(tmp_path, make(AlbertConfig.base()) | {"hidden_act": act})
    expected = ACTIVATIONS[act][not foreign]
    if expected:
        assert read(path)[0].hidden_act == expected
        return
    with pytest.raises(UserError, match=f"config.json: hidden_act is '{act}', but"):
        read(path)


def test_the_official_empty_activation_is_none_at_all(tmp_path):
    path = write(tmp_path, official(AlbertConfig.base()) | {"hidden_act": ""})
    assert read(path)[0].hidden_act == "linear"


@pytest.mark.parametrize("embedding_size", [128, 768])
def test_hugging_face_always_projects(tmp_path, embedding_size):
    ours = AlbertConfig.base(embedding_size=embedding_size)
    theirs, _ = read(write(tmp_path, hugging_face(ours)))
    assert theirs.has_projection
    assert theirs == dataclasses.replace(ours, project_equal_sizes=theirs != ours)
    assert read(write(tmp_path, official(ours)))[0] == ours


def test_our_own_file_reads_back_whole(tmp_path):
    config = AlbertConfig(share="ffn", dtype="bfloat16", layer_norm_eps=1e-6)
    assert read(write(tmp_path, to_dict(config))) == (config, [])


def test_what_a_file_leaves_out_is_official_and_said(tmp_path):
    fields = official(AlbertConfig.xxlarge())
    del fields["hidden_size"], fields["num_attention_heads"]
    config, said = read(write(tmp_path, fields))
    assert config == AlbertConfig.xxlarge()
    assert "hidden_size = 4096, num_attention_heads = 64" in said[1]


def test_reports_are_warnings_by_default(tmp_path):
    path = write(tmp_path, official(AlbertConfig.base()))
    with pytest.warns(UserWarning, match="ignored down_scale_factor"):
        AlbertConfig.from_json(path)


MISTAKES = {
    "hidden_size is '768', but it must be a whole number": {"hidden_size": "768"},
    "num_hidden_layers is True, but": {"num_hidden_layers": True},
    "hidden_dropout_prob is 1.5, but it must be at least 0": {
        "hidden_dropout_prob": 1.5
    },
    "which num_attention_heads = 7 does not divide": {"num_attention_heads": 7},
    "model_type is 'bert', but it must be 'albert'": {"model_type": "bert"},
    "position_embedding_type is 'relative_key'": {
        "position_embedding_type": "relative_key"
    },
    "tie_word_embeddings is False": {"tie_word_embeddings": False},
    "hidden_act is 'geul_new'.*did you mean 'gelu_new'": {"hidden_act": "geul_new"},
    "no use for 'hiden_size' = 768; did you mean 'hidden_size'": {
        "hiden_size": 768,
        "hidden_size": None,
    },
    "does not say vocab_size": {"vocab_size": None},
}


@pytest.mark.parametrize("said", MISTAKES)
def test_a_mistake_names_file_field_and_cure(tmp_path, said):
    fields = hugging_face(AlbertConfig.base()) | MISTAKES[said]
    fields = {k: v for k, v in fields.items() if v is not None}
    path = write(tmp_path, fields)
    with pytest.raises(UserError, match=said) as raised:
        read(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(UserError, match="config.json cannot be read: No such file"):
        read(tmp_path / "config.json")
    for text, said in (("{", "is not JSON"), ("[]", "holds no JSON object")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UserError, match=said):
            read(tmp_path / "config.json")
