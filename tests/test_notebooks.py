"""Every notebook runs whole at a tiny size, and keeps to the rules of notebooks/."""

import ast
import configparser
import re
import sys
from functools import partial
from pathlib import Path

import jax
import nbformat
import pages
import pytest
import small_corpus
import tiny
from nbclient import NotebookClient

import albert_jax
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.interop.pretrained import save_pretrained
from albert_jax.model.albert import init_params

FOLDER = pages.ROOT / "notebooks"
NOTEBOOKS = {path.stem: path for path in sorted(FOLDER.glob("*.ipynb"))}
ALLOWED = {"albert_jax", "jax", "optax", "numpy", "matplotlib"}
parametrized = pytest.mark.parametrize("name", NOTEBOOKS)


def read(name: str) -> nbformat.NotebookNode:
    notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
    nbformat.validate(notebook)
    return notebook


def code_of(notebook: nbformat.NotebookNode) -> list[str]:
    """The code cells, with what only a notebook understands made into Python."""
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return [re.sub(r"^( *)[%!].*", r"\1pass", cell, flags=re.M) for cell in cells]


def address() -> str:
    parser = configparser.ConfigParser()
    parser.read(pages.ROOT / "setup.cfg")
    return parser["metadata"]["url"]


def test_all_notebooks_are_there():
    assert [name[0] for name in NOTEBOOKS] == list("123456")


def write_sources(folder: Path) -> dict[str, str]:
    """What notebook 6 loads: as a released model and a reader of SQuAD would lie."""
    config = tiny.config(
        vocab_size=300, max_position_embeddings=192, num_hidden_layers=3
    )
    tokenizer = Tokenizer.load(small_corpus.vocabulary())
    heads = {"SOURCE": "AlbertForPreTraining", "READER": "AlbertForQuestionAnswering"}
    folders = {}
    for name, head in heads.items():
        model = getattr(albert_jax, head)(config)
        params = jax.jit(partial(init_params, model))(jax.random.key(5))
        folders[f"ALBERT_JAX_{name}"] = str(folder / name)
        save_pretrained(folder / name, model, {"params": params}, tokenizer)
    return folders


@parametrized
def test_a_notebook_runs_from_a_clean_kernel(name, tmp_path, monkeypatch):
    monkeypatch.setenv("ALBERT_JAX_NOTEBOOK", "tiny")
    monkeypatch.setenv("PYTHONPATH", str(pages.ROOT))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # A kernel draws into the notebook, not into nothing.
    monkeypatch.delenv("MPLBACKEND", raising=False)
    if name.startswith("6"):
        for variable, folder in write_sources(tmp_path).items():
            monkeypatch.setenv(variable, folder)
    notebook = read(name)
    work = tmp_path / "work"
    work.mkdir()
    client = NotebookClient(
        notebook,
        timeout=250,
        startup_timeout=250,
        resources={"metadata": {"path": str(work)}},
    )
    client.execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    drawn = [out for out in outputs if "image/png" in out.get("data", {})]
    assert len(drawn) == sum("plt.show()" in code for code in code_of(notebook))


@parametrized
def test_a_notebook_is_short_and_without_outputs(name):
    notebook = read(name)
    assert len(notebook.cells) <= 25
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None
    assert set(notebook.metadata) == {"kernelspec", "language_info"}


@parametrized
def test_a_notebook_opens_in_colab_and_installs_in_one_cell(name):
    notebook = read(name)
    first, second, *rest = notebook.cells
    where = address().removeprefix("https://")
    colab = f"https://colab.research.google.com/{where.replace('.com', '')}/blob/main"
    assert f"({colab}/notebooks/{name}.ipynb)" in first.source
    installs = [cell.source for cell in notebook.cells if "%pip" in cell.source]
    assert installs == [second.source]
    assert f"@ git+{address()}" in second.source
    assert 'if importlib.util.find_spec("albert_jax") is None:' in second.source


@parametrized
def test_a_notebook_uses_public_names_only(name):
    tree = ast.parse("\n".join(code_of(read(name))))
    for node in ast.walk(tree):
        imported = []
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported = [node.module]
        for module in imported:
            top = module.split(".")[0]
            assert top in ALLOWED or top in sys.stdlib_module_names, module
            assert top != "albert_jax" or module == "albert_jax", module
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_"), node.attr
            if isinstance(node.value, ast.Name) and node.value.id == "albert":
                assert node.attr in albert_jax.__all__, node.attr


@parametrized
def test_every_figure_of_a_notebook_says_what_its_axes_are(name):
    figures = [code for code in code_of(read(name)) if "plt.show()" in code]
    assert figures
    for code in figures:
        assert "set_title(" in code
        assert re.search(r"xlabel=|set_xticks", code), code
        assert re.search(r"ylabel=|set_yticks|\.barh\(", code), code


@parametrized
def test_the_documentation_links_to_a_notebook(name):
    for page in ("README.md", "docs/index.md"):
        assert f"{name}.ipynb" in (pages.ROOT / page).read_text()
