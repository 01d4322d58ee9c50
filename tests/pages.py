"""What a page in Markdown says, taken apart, run and checked."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from albert_jax import cli

ROOT = Path(__file__).parents[1]

# What a shell block may call beside albert-jax, make and Python files of this tree.
_SHELL = {"source", "cd", "git", "pip"}


def blocks(text: str, language: str) -> list[str]:
    """The code of a page's blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def run_and_compare(code: str, folder: Path | None = None, **environment: str) -> None:
    """Runs Python, and compares what it prints with the comments beside."""
    shown = [line.split("#")[1] for line in code.splitlines() if "print(" in line]
    said = [text.split(", from")[0].strip() for text in shown]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert said and done.stdout.splitlines() == said


def check_files(text: str) -> int:
    """That files of the tree that a page names exist; returns how many it names."""
    kinds = r"experiments|tests|docs|benchmarks|notebooks|constraints"
    named = re.findall(rf"(?:{kinds})/\w[\w/]*\.\w+", text)
    for name in named:
        assert (ROOT / name).is_file(), name
    return len(named)


def commands(text: str) -> list[list[str]]:
    """The words of every command of a page's shell blocks."""
    lines = "".join(blocks(text, "bash")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def check_command(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """That a command, its experiment and all its flags exist; runs nothing."""
    program, *arguments = words
    match program:
        case "albert-jax":
            _parse(arguments, monkeypatch)
        case "make":
            targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
            assert arguments and arguments[0] in targets, words
        case "python":
            assert (ROOT / arguments[0]).is_file(), words
        case _:
            assert program in _SHELL, words


class _Parsed(Exception):
    """The command line was understood."""


def _parse(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's own parsing, and nothing after it."""
    understood = cli.parsing.tyro.cli

    def stop(*args, **options):
        understood(*args, **options)
        raise _Parsed

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(cli.parsing.tyro, "cli", stop)
    command, *rest = arguments
    assert command in cli._COMMANDS, f"there is no command {command}"
    try:
        cli._COMMANDS[command](rest)
    except (_Parsed, SystemExit):  # The latter after --help.
        return
    raise AssertionError(f"{arguments} parsed nothing")
