"""The README's Python runs and prints what it says; what it points to is there."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_python_prints_what_the_comments_say():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    printed = [line.split("#")[1] for line in code.splitlines() if "print(" in line]
    said = [text.split(", from")[0].strip() for text in printed]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == said


def test_files_and_tests_that_it_names_exist():
    named = re.findall(r"(?:experiments|tests|docs|benchmarks)/\w+\.\w+", README)
    assert len(named) > 20
    for name in named:
        assert (ROOT / name).is_file(), name


def test_flags_that_it_names_exist():
    from albert_jax.config import PretrainingExperiment
    from albert_jax.identity import flatten, to_dict

    fields = flatten(to_dict(PretrainingExperiment(name="any")))
    known = {name.replace("_", "-") for name in fields}
    known |= {name.replace(".", ".no-") for name in known}
    for flag in re.findall(r"--([a-z]+\.[a-z-]+)", README):
        assert flag in known, flag
