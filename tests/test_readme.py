"""The README's Python runs and prints what it says; what it points to is there."""

import re

import jax
import pages
import pytest

from albert_jax.config import AlbertConfig
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.interop.pretrained import save_pretrained
from albert_jax.model.albert import init_params
from albert_jax.model.heads import AlbertForPreTraining

README = (pages.ROOT / "README.md").read_text()
RELEASED, OWN = pages.blocks(README, "python")


def test_a_model_of_ones_own():
    pages.run_and_compare(OWN)


def test_a_released_model_from_the_hubs_cache_without_a_network(tmp_path, data_folder):
    # Base with random weights, where the hub's library would have put the real ones.
    model = AlbertForPreTraining(AlbertConfig.base())
    params = jax.jit(lambda key: init_params(model, key))(jax.random.key(0))
    tokenizer = Tokenizer.load(data_folder / "30k-clean.model")
    home = tmp_path / "models--albert--albert-base-v2"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("0" * 40)
    (home / "snapshots").mkdir()
    folder = home / "snapshots" / ("0" * 40)
    save_pretrained(folder, model, {"params": params}, tokenizer)
    pages.run_and_compare(RELEASED, HF_HUB_CACHE=str(tmp_path), HF_HUB_OFFLINE="1")


def test_files_and_tests_that_it_names_exist():
    assert pages.check_files(README) > 20


@pytest.mark.parametrize("words", pages.commands(README), ids=" ".join)
def test_a_command_that_it_shows_exists(words, monkeypatch):
    pages.check_command(words, monkeypatch)


def test_flags_that_it_names_exist():
    from albert_jax.catalogue import load_experiment
    from albert_jax.config import PretrainingExperiment
    from albert_jax.identity import flatten, to_dict

    own = load_experiment(f"{pages.ROOT}/experiments/own.py:pair")
    fields = set()
    for experiment in (PretrainingExperiment(name="any"), own):
        fields |= flatten(to_dict(experiment)).keys()
    known = {name.replace("_", "-") for name in fields}
    known |= {name.replace(".", ".no-") for name in known}
    for flag in re.findall(r"--([a-z]+(?:\.[a-z-]+)+)", README):
        assert flag in known, flag
