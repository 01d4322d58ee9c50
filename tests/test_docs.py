"""What the documentation's pages show runs, and all public names are in it.

Links and the pages' own order ``make docs`` checks, which CI runs.
"""

import re

import pages
import pytest

import albert_jax

DOCS = pages.ROOT / "docs"
PAGES = {
    path.relative_to(DOCS).as_posix().removesuffix(".md"): path.read_text()
    for path in sorted(DOCS.rglob("*.md"))
}
WITH_PYTHON = [name for name, text in PAGES.items() if "```python" in text]
COMMANDS = [
    pytest.param(words, id=f"{name}: {' '.join(words)}")
    for name, text in PAGES.items()
    for words in pages.commands(text)
]


@pytest.mark.parametrize("name", WITH_PYTHON)
def test_python_on_a_page_runs_and_prints_what_it_says(name, tmp_path):
    # In one program, since later blocks go on with what earlier ones made.
    code = "\n".join(pages.blocks(PAGES[name], "python"))
    pages.run_and_compare(code, tmp_path)


def test_pages_have_python():
    assert set(WITH_PYTHON) >= {"data", "pretraining", "studies", "tasks"}


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_on_a_page_exists(words, monkeypatch):
    pages.check_command(words, monkeypatch)


@pytest.mark.parametrize("name", PAGES)
def test_files_that_a_page_names_exist(name):
    pages.check_files(PAGES[name])


def test_code_is_in_no_other_language():
    for name, text in PAGES.items():
        languages = set(re.findall(r"^```(\w+)", text, re.MULTILINE))
        assert languages <= {"python", "bash"}, name


def test_every_public_name_is_in_the_reference():
    shown = "\n".join(text for page, text in PAGES.items() if "reference/" in page)
    for name, module in albert_jax._PUBLIC.items():
        assert f"\n::: {module}.{name}\n" in shown + "\n", name
