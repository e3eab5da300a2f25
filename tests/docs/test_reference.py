"""The reference pages that are written by hand say what the code says."""

import re

import pytest

from cgk_tasks.celery_tasks.result_backend import CELERY_STATES
from cgk_tasks.config import CONCERNS, Settings
from cgk_tasks.runs.models import CLOSED_STATES, OPEN_STATES, TRANSITIONS
from tests.docs.pages import ROOT
from tests.docs.settings_table import tables

SETTINGS = (ROOT / "docs/reference/settings.md").read_text()
STATES = (ROOT / "docs/reference/states.md").read_text()


def table_under(heading):
    """The rows below a heading of the page on states, as lists of cells."""
    section = re.split(r"^## ", STATES.partition(f"## {heading}\n")[2], flags=re.MULTILINE)[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names(cell):
    return re.findall(r"`(\w+)`", cell)


@pytest.mark.parametrize(
    ("heading", "rows"), tables().items(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_settings_of_a_concern_are_under_its_heading(heading, rows):
    section = re.split(r"^## ", SETTINGS.partition(f"## {heading}\n")[2], flags=re.MULTILINE)[0]
    assert [line for line in section.splitlines() if line.startswith("| `")] == rows


def test_every_setting_has_a_concern():
    assert {name for concern in CONCERNS for name in concern.model_fields} == set(Settings.model_fields)


def test_every_open_state_is_explained():
    assert {names(row[0])[0] for row in table_under("Open")} == OPEN_STATES


def test_every_closed_state_is_explained():
    assert {names(row[0])[0] for row in table_under("Closed")} == CLOSED_STATES


def test_open_states_go_on_to_what_the_code_says():
    on_page = {names(row[0])[0]: set(names(row[2])) for row in table_under("Open")}
    assert on_page == {state: set(following) for state, following in TRANSITIONS.items()}


def test_every_state_is_shown_as_celery_shows_it():
    assert {names(row[0])[0]: names(row[1])[0] for row in table_under("As Celery shows them")} == CELERY_STATES
