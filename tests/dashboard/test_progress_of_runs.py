"""What a run tells of itself, on its page."""

import re
from typing import Annotated

import pytest

from cgk_tasks import send_job
from cgk_tasks.dashboard.data.told import told_by
from cgk_tasks.events import Sensitive, TenantEvent
from cgk_tasks.events.redaction import Redaction
from cgk_tasks.runs import progress
from tests.support.claims import claim_here

SECRET = "ada.secret@example.com"


class Import(TenantEvent, event="test.import"):
    email: Annotated[str, Sensitive()]


@pytest.fixture
def run(database):
    """One that has told something, with personal data."""
    run = claim_here(send_job(Import(tenant_id="acme", email=SECRET), queue="nobody-listens").id)
    kept = progress.KeptReport(run.id, run.tenant_id, run.attempt)
    kept.report.show(1, 4, f"mail to {SECRET}")
    kept.report["file <b>"] = {"rows": 3, "to": SECRET}
    progress.write([kept])
    return run.id


@pytest.mark.slow
def test_the_page_shows_a_bar_and_the_metadata(oscar, run):
    page = oscar.open(f"/runs/{run}").text
    assert re.search(r'<progress [^>]*value="0\.2500"', page)
    assert ("1 of 4 (25 %) mail to [redacted]" in page, "<dt>file &lt;b&gt;</dt>" in page) == (True, True)
    assert SECRET not in page


@pytest.mark.slow
def test_the_page_of_a_run_that_tells_nothing_has_no_such_part(oscar, database):
    run = send_job(Import(tenant_id="acme", email=SECRET), queue="nobody-listens").id
    assert "<progress" not in oscar.open(f"/runs/{run}").text


def test_personal_data_is_hidden_unless_it_was_asked_for(run):
    hide = Redaction("test.import", {"email": SECRET})
    hidden, shown = told_by(run, hide), told_by(run, None)
    assert (hidden.progress.message, hidden.metadata["file <b>"]) == (
        "mail to [redacted]", {"rows": 3, "to": "[redacted]"}
    )  # fmt: skip
    assert (shown.progress.message, shown.metadata["file <b>"]["to"]) == (f"mail to {SECRET}", SECRET)
