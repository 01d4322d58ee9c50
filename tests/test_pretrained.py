"""Any ALBERT, from wherever it is: what loads, what is said, what is refused."""

import dataclasses
import json
import os
import subprocess
import sys
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import jax
import numpy as np
import pytest
import small_run
import tiny

from albert_jax.config import UserError
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.interop.pretrained import from_pretrained, save_pretrained
from albert_jax.model.albert import init_params
from albert_jax.model.table import HEADS, make_head

IDS = np.array([[2, 9, 17, 4, 3], [2, 30, 3, 0, 0]])
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
THEIRS = [name for name in HEADS if name != "AlbertForQuestionAnsweringWithBeam"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """A vocabulary of 56 pieces."""
    folder = tmp_path_factory.mktemp("vocabulary")
    text = small_run.write_corpus(folder / "corpus.txt").read_text()
    return Tokenizer.train(text.splitlines(), folder / "tokenizer.model", 56)


def make(head="AlbertForPreTraining", labels=3, seed=0, **fields):
    """A model of that head, and random variables."""
    config = tiny.config(vocab_size=56, **fields)
    model = make_head(head, config, num_labels=labels)
    return model, {"params": init_params(model, jax.random.key(seed))}


def refused(source, *arguments, **options):
    """The one line that is said instead of loading."""
    with pytest.raises(UserError) as raised:
        from_pretrained(source, *arguments, report=[].append, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(partial(np.testing.assert_array_equal, strict=True), a, b)


def rewrite(folder, **fields):
    """Changes fields of a folder's config.json; None takes one out."""
    path = folder / "config.json"
    values = json.loads(path.read_text()) | fields
    kept = {name: value for name, value in values.items() if value is not None}
    path.write_text(json.dumps(kept))


@pytest.mark.parametrize("head", THEIRS)
def test_what_is_saved_is_loaded_to_the_bit(tmp_path, tokenizer, head):
    model, variables = make(head)
    save_pretrained(tmp_path / "saved", model, variables, tokenizer)
    said = []
    loaded = from_pretrained(tmp_path / "saved", report=said.append)
    assert loaded.model == model
    assert_same(loaded.variables, variables)
    assert loaded.tokenizer.fingerprint == tokenizer.fingerprint
    assert loaded.tokenizer.encode("river winter") == tokenizer.encode("river winter")
    assert said == []


def test_case_and_accents_are_kept_where_the_source_keeps_them(tmp_path, tokenizer):
    model, variables = make("AlbertModel")
    cased = Tokenizer.load(tokenizer.path, lower_case=False, keep_accents=True)
    save_pretrained(tmp_path / "saved", model, variables, cased)
    read = from_pretrained(tmp_path / "saved", report=pytest.fail).tokenizer
    assert read.rules == cased.rules != tokenizer.rules
    file = tmp_path / "saved" / "tokenizer_config.json"
    file.write_text(json.dumps({"strip_accents": False}))
    read = from_pretrained(tmp_path / "saved", report=pytest.fail).tokenizer
    assert read.rules.lower_case and read.rules.keep_accents
    file.write_text("not JSON")
    assert "tokenizer_config.json cannot be read" in refused(tmp_path / "saved")
    file.unlink()
    read = from_pretrained(tmp_path / "saved", report=pytest.fail).tokenizer
    assert read.rules == tokenizer.rules


@pytest.mark.parametrize(
    "fields",
    [
        {"share": "attention"},
        {"share": "none", "inner_group_num": 2},
        {"share": "ffn", "num_hidden_groups": 2},
        {"embedding_size": 16},
        {"embedding_size": 16, "project_equal_sizes": True},
        {"hidden_act": "gelu_erf", "layer_norm_eps": 1e-6},
        {"num_hidden_layers": 18, "num_hidden_groups": 14},
    ],
    ids=str,
)
def test_a_saved_folder_remembers_the_plan(tmp_path, fields):
    model, variables = make(**fields)
    # Not even the name of a release makes a file of ours mean something else.
    save_pretrained(tmp_path / "albert-base-v1", model, variables)
    said = []
    loaded = from_pretrained(tmp_path / "albert-base-v1", report=said.append)
    assert loaded.model == model
    assert_same(loaded.variables, variables)
    (line,) = said
    assert "no vocabulary, so there is no tokenizer" in line
    assert loaded.tokenizer is None


def test_a_folder_is_read_as_any_head(tmp_path, tokenizer):
    model, variables = make()
    save_pretrained(tmp_path / "saved", model, variables, tokenizer)
    said = []
    loaded = from_pretrained(tmp_path / "saved", "AlbertModel", report=said.append)
    hidden = loaded.model.apply(loaded.variables, IDS, MASK).last_hidden_state
    whole = model.apply(variables, IDS, MASK, output_hidden_states=True)
    np.testing.assert_array_equal(hidden, whole.hidden_states[-1])
    (line,) = said
    assert line == "AlbertModel has no predictions, sop_classifier: ignored"

    said.clear()
    classifier = from_pretrained(
        tmp_path / "saved",
        "AlbertForSequenceClassification",
        num_labels=5,
        report=said.append,
    )
    assert classifier.model.apply(classifier.variables, IDS, MASK).logits.shape == (
        2,
        5,
    )
    assert_same(classifier.variables["params"]["albert"], variables["params"]["albert"])
    assert said[1].startswith("classifier of AlbertForSequenceClassification drawn")
    head = "AlbertForSequenceClassification"
    assert "num_labels is not given" in refused(tmp_path / "saved", head)
    other = from_pretrained(
        tmp_path / "saved", head, num_labels=5, seed=1, report=said.append
    )
    kernels = [
        x.variables["params"]["classifier"]["kernel"] for x in (classifier, other)
    ]
    assert not np.array_equal(*kernels)


def test_a_heads_dropout_is_that_of_the_file(tmp_path):
    head = "AlbertForSequenceClassification"
    config = tiny.config(vocab_size=56)
    model = make_head(head, config, num_labels=2, classifier_dropout_prob=0.3)
    params = init_params(model, jax.random.key(0))
    save_pretrained(tmp_path / "saved", model, {"params": params})
    load = partial(from_pretrained, tmp_path / "saved", report=[].append)
    assert load().model == model
    other = load("AlbertForTokenClassification").model
    assert other.classifier_dropout_prob == 0.3
    assert load("AlbertModel").model == make_head("AlbertModel", config)
    rewrite(tmp_path / "saved", classifier_dropout_prob=None)
    assert load().model.classifier_dropout_prob == 0.1
    rewrite(tmp_path / "saved", classifier_dropout_prob="0.3")
    assert "classifier_dropout_prob is '0.3', but" in refused(tmp_path / "saved")


def test_what_a_source_says_it_has_is_never_drawn(tmp_path):
    from safetensors.numpy import load_file, save_file

    save_pretrained(tmp_path / "saved", *make("AlbertForMaskedLM"))
    file = tmp_path / "saved" / "model.safetensors"
    encoder = {k: v for k, v in load_file(file).items() if k.startswith("albert.")}
    save_file(encoder, file)
    line = refused(tmp_path / "saved")
    assert "tensor predictions.dense.weight is missing" in line
    # Unless it is asked for by name, and then it is said.
    from_pretrained(tmp_path / "saved", "AlbertForMaskedLM", report=(said := []).append)
    assert said[0].startswith("predictions of AlbertForMaskedLM drawn afresh")


def test_without_architectures_the_tensors_decide(tmp_path):
    model, variables = make("AlbertForQuestionAnswering")
    save_pretrained(tmp_path / "saved", model, variables)
    for architectures in (None, ["MyOwnAlbert"]):
        rewrite(tmp_path / "saved", architectures=architectures)
        said = []
        loaded = from_pretrained(tmp_path / "saved", report=said.append)
        assert loaded.model == model
        assert ("'MyOwnAlbert', unknown here" in said[0]) == bool(architectures)


def test_the_encoder_alone_becomes_any_head(tmp_path):
    model, variables = make("AlbertModel")
    save_pretrained(tmp_path / "saved", model, variables)
    loaded = from_pretrained(
        tmp_path / "saved", "AlbertForMaskedLM", report=(said := []).append
    )
    found = loaded.variables["params"]["albert"]
    pooler = variables["params"].pop("pooler")
    assert pooler and "pooler" not in found
    assert_same(found, variables["params"])
    assert any(line.startswith("predictions of AlbertForMaskedLM") for line in said)


def test_several_files_are_one_model(tmp_path):
    from safetensors.numpy import load_file, save_file

    model, variables = make()
    save_pretrained(tmp_path / "saved", model, variables)
    whole = tmp_path / "saved" / "model.safetensors"
    tensors = sorted(load_file(whole).items())
    for i, part in enumerate((tensors[:9], tensors[9:]), start=1):
        save_file(dict(part), whole.with_stem(f"model-0000{i}-of-00002"))
    whole.unlink()
    loaded = from_pretrained(tmp_path / "saved", report=[].append)
    assert_same(loaded.variables, variables)


def test_overrides_hold_and_are_fields(tmp_path):
    model, variables = make()
    save_pretrained(tmp_path / "saved", model, variables)
    loaded = from_pretrained(tmp_path / "saved", remat="layer", report=[].append)
    assert loaded.model.config == dataclasses.replace(model.config, remat="layer")
    line = refused(tmp_path / "saved", hiden_act="relu")
    assert "no field 'hiden_act'; did you mean 'hidden_act'?" in line


def test_a_folder_is_whole_or_not_there(tmp_path, monkeypatch):
    model, variables = make()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="taken exists already"):
        save_pretrained(tmp_path / "taken", model, variables)
    assert [p.name for p in (tmp_path / "taken").iterdir()] == ["notes.txt"]

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("albert_jax.interop.tensors.write_safetensors", full)
    with pytest.raises(UserError, match="new cannot be written: No space left"):
        save_pretrained(tmp_path / "new", model, variables)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["taken"]


def test_the_beam_head_is_not_hugging_faces(tmp_path):
    model, variables = make("AlbertForQuestionAnsweringWithBeam")
    with pytest.raises(UserError, match="Hugging Face has no head like"):
        save_pretrained(tmp_path / "saved", model, variables)
    assert not (tmp_path / "saved").exists()


# The hub: its library, and a cache as that library leaves it.


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub's library, and no way to the hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "cache"


def put(cache, repository, model, variables, tokenizer):
    """What fetching a model leaves in the cache."""
    home = cache / f"models--{repository.replace('/', '--')}"
    commit = "0" * 40
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(commit)
    (home / "snapshots").mkdir()
    folder = home / "snapshots" / commit
    save_pretrained(folder, model, variables, tokenizer)
    return folder


@pytest.mark.parametrize("name", ["albert-base-v2", "albert/albert-base-v2"])
def test_a_name_on_the_hub_is_found_in_the_cache(cache, tokenizer, name):
    model, variables = make()
    put(cache, "albert/albert-base-v2", model, variables, tokenizer)
    loaded = from_pretrained(name, report=pytest.fail)
    assert_same(loaded.variables, variables)
    assert loaded.tokenizer.fingerprint == tokenizer.fingerprint


def test_a_released_v1_has_tanh_gelu_by_its_name(cache, tokenizer):
    model, variables = make()
    folder = put(cache, "albert/albert-base-v1", model, variables, tokenizer)
    # As the file on the hub is: without what we add, and with exact GELU.
    rewrite(folder, albert_jax=None, hidden_act="gelu")
    said = []
    loaded = from_pretrained("albert-base-v1", report=said.append)
    assert loaded.model.config.hidden_act == "gelu"
    assert "hidden_act corrected to 'gelu' for albert-base-v1" in said[0]
    own = from_pretrained("albert-base-v1", hidden_act="gelu_erf", report=pytest.fail)
    assert own.model.config.hidden_act == "gelu_erf"


def test_what_the_hub_cannot_give(cache, tmp_path, monkeypatch):
    line = refused("albert-base-v2")
    assert "the hub cannot be reached" in line and "HF_HUB_OFFLINE=1" in line
    assert "'runs/demo' is no folder here" in refused("runs/demo")
    assert refused(tmp_path / "none") == f"there is no folder {tmp_path / 'none'}"
    for path in ("./none", "../none", "a/b/c", "-x"):
        assert refused(path) == f"there is no folder {path}"
    (tmp_path / "folder").mkdir()
    line = refused(tmp_path / "folder", revision="main")
    assert "revision is 'main', but" in line
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'albert_jax[hub]'" in refused("albert-base-v2")


COMMIT = "1" * 40


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does, about one model; its files are set on the server."""

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.wfile.write(self.answer())

    def answer(self) -> bytes:
        model, files = "albert/albert-base-v2", self.server.files
        if self.path.startswith(f"/api/models/{model}/revision/main"):
            siblings = [{"rfilename": name} for name in files]
            about = {"id": model, "sha": COMMIT, "siblings": siblings}
            return self.say(200, json.dumps(about).encode())
        # Version 2 of the library asks for this.
        if self.path.startswith(f"/api/models/{model}/tree/"):
            tree = [
                {"type": "file", "path": name, "size": len(body), "oid": name}
                for name, body in files.items()
            ]
            return self.say(200, json.dumps(tree).encode())
        if self.path.startswith(f"/api/models/{model}/"):
            return self.say(404, b"", {"X-Error-Code": "RevisionNotFound"})
        before, _, name = self.path.partition(f"/{model}/resolve/{COMMIT}/")
        if not before and name in files:
            about = {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT}
            return self.say(200, files[name], about)
        return self.say(404, b"", {"X-Error-Code": "RepoNotFound"})

    def say(self, status, body, headers=()) -> bytes:
        self.send_response(status)
        for name, value in {**dict(headers), "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        return body

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    """A server on this machine that answers as the hub."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.files = {}
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def fetch(server, cache, *arguments, **environment):
    """What fetching prints, in a process whose library knows the server as the hub."""
    code = (
        "import sys; from albert_jax.interop.hub import fetch, UserError\n"
        "try: print(fetch(*sys.argv[1:]))\n"
        "except UserError as error: print(error)"
    )
    environment |= {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}",
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_DISABLE_XET": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_model_is_fetched_once_and_then_needs_no_network(hub, tmp_path):
    wanted = {"config.json", "model.safetensors", "spiece.model"}
    others = {"pytorch_model.bin", "tf_model.h5", "README.md"}
    hub.files = {name: name.encode() for name in wanted | others}
    folder = Path(fetch(hub, tmp_path, "albert-base-v2"))
    assert {file.name for file in folder.iterdir()} == wanted
    assert all(file.read_text() == file.name for file in folder.iterdir())
    hub.files = {}
    again = fetch(hub, tmp_path, "albert-base-v2", HF_HUB_OFFLINE="1")
    assert Path(again) == folder
    # Without safetensors it is the other format that is fetched.
    hub.files = {"config.json": b"", "pytorch_model.bin": b""}
    folder = Path(fetch(hub, tmp_path / "other", "albert-base-v2"))
    assert {file.name for file in folder.iterdir()} == set(hub.files)


def test_what_the_hub_does_not_have(hub, tmp_path):
    line = fetch(hub, tmp_path, "albert-base-v3")
    assert "nor a model on the hub that you may read; did you mean 'albert-" in line
    line = fetch(hub, tmp_path, "albert-base-v2", "old")
    assert line.startswith("revision is 'old', but albert-base-v2 has no such branch")


# Folders that cannot be loaded.


@pytest.fixture
def saved(tmp_path, tokenizer):
    """A folder with all of its files."""
    save_pretrained(tmp_path / "saved", *make(), tokenizer)
    return tmp_path / "saved"


def test_a_folder_without_a_configuration_or_weights(saved):
    line = refused(saved / "model.safetensors")
    assert "model.safetensors is a file; name the folder" in line
    (saved / "config.json").rename(saved / "other.json")
    assert "saved has no config.json, so what it holds is unknown" in refused(saved)
    (saved / "other.json").rename(saved / "config.json")
    (saved / "model.safetensors").unlink()
    assert "saved holds no weights: neither model.safetensors" in refused(saved)


def test_a_checkpoint_of_another_size(saved):
    rewrite(saved, hidden_size=32)
    assert "has shape [16, 12], but albert/embedding_hidden_mapping" in refused(saved)


def test_a_vocabulary_of_another_size(saved, tmp_path):
    text = small_run.write_corpus(tmp_path / "corpus.txt").read_text().splitlines()
    other = tmp_path / "other.model"
    Tokenizer.train(text, other, 52)
    line = refused(saved, vocabulary=other)
    assert "has 52 pieces, but the model's vocab_size is 56" in line
    right = (saved / "spiece.model").rename(tmp_path / "right.model")
    loaded = from_pretrained(saved, vocabulary=right, report=pytest.fail)
    assert loaded.tokenizer.vocab_size == 56
    (saved / "a.model").write_bytes(b"")
    (saved / "vocab.txt").write_bytes(b"")
    line = refused(saved)
    assert "several vocabularies; name one" in line and "vocab.txt" in line


def test_damaged_weights(saved):
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    line = refused(saved)
    assert "model.safetensors cannot be read (Error while deserializing" in line


def test_what_needs_a_package_that_is_missing_says_which(saved, monkeypatch):
    (saved / "model.safetensors").rename(saved / "pytorch_model.bin")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "needs PyTorch: pip install torch" in refused(saved)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    (saved / "pytorch_model.bin").rename(saved / "model.ckpt-best.index")
    for source in (saved, saved / "model.ckpt-best"):
        assert "pip install 'albert_jax[tensorflow]'" in refused(source)
    (saved / "model.ckpt-7.index").write_bytes(b"")
    assert "several checkpoints; name one: " in refused(saved)
    with pytest.raises(UserError, match="pip install 'albert_jax.tensorflow"):
        save_pretrained(saved.with_name("out"), *make(), form="official")


def test_what_the_official_code_cannot_compute_is_not_written(tmp_path):
    for fields, said in (
        ({"hidden_act": "gelu_erf"}, "hidden_act is 'gelu_erf', but the official code"),
        ({"layer_norm_eps": 1e-6}, "layer_norm_eps is 1e-06"),
        ({"embedding_size": 16, "project_equal_sizes": True}, "project_equal_sizes is"),
    ):
        with pytest.raises(UserError, match=said):
            save_pretrained(tmp_path / "out", *make(**fields), form="official")
    assert not (tmp_path / "out").exists()


def test_a_head_and_a_form_that_do_not_exist(saved):
    assert "did you mean 'AlbertForMaskedLM'" in refused(saved, "AlbertForMaskLM")
    with pytest.raises(UserError, match="form is 'offical'.*did you mean 'official'"):
        save_pretrained(saved.with_name("out"), *make(), form="offical")
