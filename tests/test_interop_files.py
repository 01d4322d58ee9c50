"""Files of others: what transformers and TensorFlow write we read, and the reverse.

Needs the ``interop-test`` extra: ``make test-interop``.
"""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from albert_jax.config import AlbertConfig, UserError
from albert_jax.interop.hugging_face import to_hugging_face
from albert_jax.interop.names import leaves
from albert_jax.interop.pretrained import from_pretrained, save_pretrained
from albert_jax.model.albert import init_params
from albert_jax.model.table import HEADS, make_head

# Before it starts: it reports the processor to standard error.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
REASON = "no PyTorch and TensorFlow here: make test-interop installs them"
torch = pytest.importorskip("torch", reason=REASON)
transformers = pytest.importorskip("transformers", reason=REASON)
tf = pytest.importorskip("tensorflow", reason=REASON)

THEIRS = [name for name in HEADS if name != "AlbertForQuestionAnsweringWithBeam"]
IDS = np.array([[2, 9, 17, 4, 3], [2, 30, 3, 0, 0]])
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def make(head, seed=0, **fields):
    """A model of that head, and variables none of which is 0 or 1 all over."""
    model = make_head(head, tiny.config(**fields), num_labels=3)
    shapes = init_params(model, jax.random.key(seed))
    random = np.random.default_rng(seed)
    params = jax.tree.map(
        lambda x: jnp.asarray(random.normal(0, 0.2, x.shape), jnp.float32), shapes
    )
    return model, {"params": params}


def outputs(head, model, variables, *arguments):
    output = model.apply(variables, *arguments)
    return {k: np.asarray(v) for k, v in vars(output).items() if v is not None}


def their_outputs(model):
    given = {"input_ids": torch.tensor(IDS), "attention_mask": torch.tensor(MASK)}
    if isinstance(model, transformers.AlbertForMultipleChoice):
        given = {name: value[None] for name, value in given.items()}
    with torch.no_grad():
        return {k: v.numpy() for k, v in model.eval()(**given).items()}


def assert_same_outputs(head, model, variables, theirs):
    ids, mask = IDS, MASK
    if head == "AlbertForMultipleChoice":
        ids, mask = ids[None], mask[None]
    ours, theirs = outputs(head, model, variables, ids, mask), their_outputs(theirs)
    assert ours.keys() == theirs.keys()
    for name in ours:
        error = np.linalg.norm(ours[name] - theirs[name])
        assert error <= 1e-5 * np.linalg.norm(theirs[name]), name


@pytest.mark.parametrize("head", THEIRS)
@pytest.mark.parametrize("share", ["all", "ffn"])
def test_transformers_loads_what_we_write_and_we_what_it_writes(tmp_path, head, share):
    model, variables = make(head, share=share)
    save_pretrained(tmp_path / "ours", model, variables)
    theirs, info = getattr(transformers, head).from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(info.values()), info
    assert_same_outputs(head, model, variables, theirs)

    theirs.save_pretrained(tmp_path / "theirs")
    loaded = from_pretrained(tmp_path / "theirs", share=share, report=[].append)
    assert type(loaded.model) is type(model)
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, variables)


def test_transformers_reads_our_tokenizers(tmp_path, data_folder):
    from albert_jax.data.tokenizer import Tokenizer

    text = "One layer, applied 12 times: naïve?"
    model, variables = make("AlbertModel", vocab_size=30_000)
    tokenizer = Tokenizer.load(data_folder / "30k-clean.model")
    save_pretrained(tmp_path / "saved", model, variables, tokenizer)
    theirs = transformers.AlbertTokenizer.from_pretrained(tmp_path / "saved")
    ours = from_pretrained(tmp_path / "saved", report=pytest.fail).tokenizer
    assert theirs(text)["input_ids"] == ours(text)["input_ids"][0].tolist()

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "一", "层", "##er", "lay"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    model, variables = make("AlbertModel", vocab_size=len(pieces))
    words = Tokenizer.load(tmp_path / "vocab.txt")
    save_pretrained(tmp_path / "zh", model, variables, words)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "zh", use_fast=True)
    ours = from_pretrained(tmp_path / "zh", report=pytest.fail).tokenizer
    assert (
        theirs("一层 Layer")["input_ids"] == ours("一层 Layer")["input_ids"][0].tolist()
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_bin_is_read(tmp_path, dtype):
    model, variables = make("AlbertForMaskedLM")
    save_pretrained(tmp_path / "saved", model, variables)
    (tmp_path / "saved" / "model.safetensors").unlink()
    state = to_hugging_face(variables["params"], model.config)
    state = {k: torch.tensor(v).to(getattr(torch, dtype)) for k, v in state.items()}
    torch.save(state, tmp_path / "saved" / "pytorch_model.bin")
    loaded = from_pretrained(tmp_path / "saved", report=[].append)
    rounded = jax.tree.map(
        lambda x: np.asarray(jax.numpy.asarray(x, dtype).astype("float32")), variables
    )
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, rounded)


class Code:
    """What runs where a pickle is read without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_bin_that_holds_code_is_refused_and_does_not_run(tmp_path):
    model, variables = make("AlbertForMaskedLM")
    folder = tmp_path / "saved"
    save_pretrained(folder, model, variables)
    (folder / "model.safetensors").unlink()
    for value, said in (
        (
            {"predictions.bias": Code(tmp_path / "ran")},
            "is refused: it holds more than",
        ),
        (
            {"optimizer": {"lr": 1.0}},
            "holds a dict under 'optimizer', so it is no state",
        ),
        ([torch.zeros(3)], "holds a list, no state dict"),
    ):
        torch.save(value, folder / "pytorch_model.bin")
        with pytest.raises(UserError, match=said) as raised:
            from_pretrained(folder, report=[].append)
        assert "\n" not in str(raised.value)
    (folder / "pytorch_model.bin").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(UserError, match="pytorch_model.bin cannot be read"):
        from_pretrained(folder, report=[].append)
    assert not (tmp_path / "ran").exists()


# TensorFlow. The names and shapes of the released base model are in test_interop.py.


def official_variables(config, head, seed=0):
    """Random variables of a model of the official code, and what training adds."""
    random = np.random.default_rng(seed)
    model = make_head(head, config)
    shapes = {
        "/".join(str(key.key) for key in path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(
            jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
        )
    }
    variables = {"global_step": np.int64(125_000)}
    for path, leaf in leaves(config, head, "official").items():
        shape = shapes[path][::-1] if leaf.transposed else shapes[path]
        for name in leaf.names:
            variables[name] = random.normal(0, 0.05, shape).astype("f")
            variables[f"{name}/adam_m"] = np.zeros(shape, "f")
    return variables


def write_checkpoint(prefix, variables):
    """As TensorFlow 1 writes one: variables in a graph, and a saver."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        made = {
            name: v1.Variable(value, name=name, use_resource=False)
            for name, value in variables.items()
        }
        session.run(v1.global_variables_initializer())
        v1.train.Saver(made).save(session, str(prefix), write_meta_graph=False)


def transposed_to_hugging_face(variables):
    """By the official names alone: what PyTorch holds for each kernel and bias."""
    block = "bert/encoder/transformer/group_0/inner_group_0/"
    theirs = "albert.encoder.albert_layer_groups.0.albert_layers.0."
    modules = {
        "bert/embeddings/LayerNorm": "albert.embeddings.LayerNorm",
        "bert/encoder/embedding_hidden_mapping_in": (
            "albert.encoder.embedding_hidden_mapping_in"
        ),
        f"{block}attention_1/self/query": f"{theirs}attention.query",
        f"{block}attention_1/self/key": f"{theirs}attention.key",
        f"{block}attention_1/self/value": f"{theirs}attention.value",
        f"{block}attention_1/output/dense": f"{theirs}attention.dense",
        f"{block}LayerNorm": f"{theirs}attention.LayerNorm",
        f"{block}ffn_1/intermediate/dense": f"{theirs}ffn",
        f"{block}ffn_1/intermediate/output/dense": f"{theirs}ffn_output",
        f"{block}LayerNorm_1": f"{theirs}full_layer_layer_norm",
        "bert/pooler/dense": "albert.pooler",
        "cls/predictions/transform/dense": "predictions.dense",
        "cls/predictions/transform/LayerNorm": "predictions.LayerNorm",
    }
    state = {}
    for official, name in modules.items():
        if f"{official}/gamma" in variables:
            state[f"{name}.weight"] = variables[f"{official}/gamma"]
            state[f"{name}.bias"] = variables[f"{official}/beta"]
        else:
            state[f"{name}.weight"] = variables[f"{official}/kernel"].T
            state[f"{name}.bias"] = variables[f"{official}/bias"]
    for table in ("word", "token_type", "position"):
        name = f"embeddings/{table}_embeddings"
        state[f"albert.embeddings.{table}_embeddings.weight"] = variables[
            f"bert/{name}"
        ]
    state["predictions.bias"] = variables["cls/predictions/output_bias"]
    sop = "sop_classifier.classifier"
    state[f"{sop}.weight"] = variables["cls/seq_relationship/output_weights"]
    state[f"{sop}.bias"] = variables["cls/seq_relationship/output_bias"]
    state["predictions.decoder.weight"] = variables["bert/embeddings/word_embeddings"]
    state["predictions.decoder.bias"] = state["predictions.bias"]
    return {k: torch.tensor(np.ascontiguousarray(v)) for k, v in state.items()}


def test_the_official_checkpoint_of_base_gives_hugging_faces_outputs(tmp_path):
    config, head = AlbertConfig.base("v1"), "AlbertForPreTraining"
    variables = official_variables(config, head)
    write_checkpoint(tmp_path / "albert_base" / "model.ckpt-best", variables)
    fields = {
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "embedding_size": 128,
        "hidden_size": 768,
        "initializer_range": 0.02,
        "intermediate_size": 3072,
        "max_position_embeddings": 512,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "num_hidden_groups": 1,
        "net_structure_type": 0,
        "gap_size": 0,
        "num_memory_blocks": 0,
        "inner_group_num": 1,
        "down_scale_factor": 1,
        "type_vocab_size": 2,
        "vocab_size": 30000,
    }
    (tmp_path / "albert_base" / "albert_config.json").write_text(json.dumps(fields))
    said = []
    for source in ("albert_base", "albert_base/model.ckpt-best"):
        loaded = from_pretrained(tmp_path / source, report=said.append)
        assert type(loaded.model).__name__ == head
        assert loaded.model.config == config
    # The step and Adam's slots: as many as the model's own, and one.
    ours = len(leaves(config, head, "official"))
    assert any(f"{ours + 1} variables of training, as " in line for line in said)

    # Theirs, tanh GELU as official.
    known = {k: v for k, v in fields.items() if not k.startswith("net_")}
    theirs = transformers.AlbertForPreTraining(
        transformers.AlbertConfig(**known | {"hidden_act": "gelu_new"})
    )
    missing = theirs.load_state_dict(transposed_to_hugging_face(variables), strict=True)
    assert not missing.missing_keys and not missing.unexpected_keys
    assert_same_outputs(head, loaded.model, loaded.variables, theirs)


@pytest.mark.parametrize("head", ["AlbertForMaskedLM", "AlbertForPreTraining"])
def test_a_tf_hub_module_is_read(tmp_path, head):
    config = tiny.config(num_hidden_groups=2)
    variables = official_variables(config, head)
    del variables["global_step"]
    module = {f"module/{k}": v for k, v in variables.items() if "adam" not in k}
    write_checkpoint(tmp_path / "hub" / "variables" / "variables", module)
    model, _ = make(head, num_hidden_groups=2)
    save_pretrained(
        tmp_path / "out", model, make(head, num_hidden_groups=2)[1], form="official"
    )
    (tmp_path / "hub" / "assets").mkdir()
    written = (tmp_path / "out" / "albert_config.json").read_text()
    (tmp_path / "hub" / "assets" / "albert_config.json").write_text(written)
    loaded = from_pretrained(tmp_path / "hub", report=[].append)
    assert loaded.model == model
    table = loaded.variables["params"]["albert"]["embeddings"]["word_embeddings"]
    expected = variables["bert/embeddings/word_embeddings"]
    np.testing.assert_array_equal(table["embedding"], expected)


@pytest.mark.parametrize("head", HEADS)
def test_what_we_write_for_the_official_code_comes_back(tmp_path, head):
    model, variables = make(head, num_hidden_groups=2)
    save_pretrained(tmp_path / "saved", model, variables, form="official")
    loaded = from_pretrained(tmp_path / "saved", head, report=[].append)
    assert loaded.model == model
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, variables)


def test_the_official_code_restores_what_we_write(tmp_path):
    model, variables = make("AlbertForPreTraining", share="attention")
    save_pretrained(tmp_path / "saved", model, variables, form="official")
    config = json.loads((tmp_path / "saved" / "albert_config.json").read_text())
    assert config["num_hidden_groups"] == config["num_hidden_layers"] == 4
    v1, name = (
        tf.compat.v1,
        "bert/encoder/transformer/group_3/inner_group_0/LayerNorm/beta",
    )
    with tf.Graph().as_default(), v1.Session() as session:
        beta = v1.get_variable(name, shape=[16], use_resource=False)
        v1.train.Saver([beta]).restore(session, str(tmp_path / "saved/model.ckpt-best"))
        restored = session.run(beta)
    shared = variables["params"]["albert"]["encoder"]["attention_0"]["LayerNorm"][
        "bias"
    ]
    np.testing.assert_array_equal(restored, shared)


def test_a_damaged_checkpoint_is_one_line(tmp_path):
    model, variables = make("AlbertModel")
    save_pretrained(tmp_path / "saved", model, variables, form="official")
    data = next((tmp_path / "saved").glob("*.data-*"))
    data.write_bytes(data.read_bytes()[:-9])
    with pytest.raises(UserError, match="model.ckpt-best cannot be read") as raised:
        from_pretrained(tmp_path / "saved", report=[].append)
    assert "\n" not in str(raised.value)
    (tmp_path / "saved" / "model.ckpt-best.index").write_bytes(b"no table")
    with pytest.raises(UserError, match="model.ckpt-best cannot be read"):
        from_pretrained(tmp_path / "saved", report=[].append)


def test_importing_us_starts_neither(tmp_path):
    code = "import sys, albert_jax; albert_jax.from_pretrained; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not {"torch", "tensorflow", "transformers"} & loaded
