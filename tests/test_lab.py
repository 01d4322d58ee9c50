"""The lab's notes are what ``report`` makes of the logs beside them."""

import json

import pages
import pytest

from albert_jax.catalogue import load_study
from albert_jax.identity import to_dict
from albert_jax.study.markdown import markdown
from albert_jax.study.report import describe_study
from albert_jax.study.results import read_study
from albert_jax.study.table import table_csv

NOTES = {path.parent.name: path.parent for path in pages.ROOT.glob("docs/lab/*/*.json")}
parametrized = pytest.mark.parametrize("name", NOTES)


@parametrized
def test_a_note_is_what_its_logs_say(name):
    report = NOTES[name] / "report"
    committed = json.loads((report / "report.json").read_text())
    document = describe_study(read_study(NOTES[name]))
    document["figures"] = committed["figures"]
    assert document == committed
    assert (report / "report.md").read_text() == markdown(document)
    assert (report / "table.csv").read_text() == table_csv(document)
    for figure in document["figures"]:
        assert (report / f"{figure}.png").stat().st_size < 200_000


@parametrized
def test_a_note_is_of_the_study_that_is_in_the_repository(name):
    file = f"experiments/ablations/{name.replace('-', '_')}.py"
    study = to_dict(load_study(str(pages.ROOT / file), "lab"))
    record = json.loads((NOTES[name] / "study.json").read_text())
    assert record["study"] == json.loads(json.dumps(study))
    assert study["seeds"] >= 5


def test_there_are_notes():
    assert NOTES
