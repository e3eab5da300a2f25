"""`cgk-tasks events`."""

import pytest

from cgk_tasks.cli.event_fields import example
from cgk_tasks.events import EVENT_CATEGORIES, TOTAL_EVENT_COUNT
from cgk_tasks.events.registry import get_event, parse_event

CATALOG = [name for names in EVENT_CATEGORIES.values() for name in names]

pytestmark = pytest.mark.usefixtures("environment")


def test_every_event_of_the_catalog_is_listed(cgk):
    listed = {row["event"] for row in cgk("events", "list", "--json").json}
    assert set(CATALOG) <= listed
    assert len(CATALOG) == TOTAL_EVENT_COUNT


def test_a_category_narrows_the_list(cgk):
    listed = [row["event"] for row in cgk("events", "list", "--category", "webhooks", "--json").json]
    assert listed == list(EVENT_CATEGORIES["webhooks"])


def test_an_unknown_category_is_wrong_usage_and_names_those_there_are(cgk):
    outcome = cgk("events", "list", "--category", "comerce")
    assert (outcome.code, "commerce" in outcome.err) == (2, True)


def test_an_event_is_shown_with_wire_and_python_names(cgk):
    fields = cgk("events", "show", "order.created", "--json").json["fields"]
    amount = next(field for field in fields if field["wire"] == "totalAmount")
    assert amount == {
        "wire": "totalAmount", "python": "total_amount", "type": "number", "required": "yes",
        "meaning": "Amount in major units, such as 19.99.",
    }  # fmt: skip


def test_personal_data_is_marked(cgk):
    fields = cgk("events", "show", "customer.created", "--json").json["fields"]
    assert "Personal data." in next(field for field in fields if field["wire"] == "email")["meaning"]


def test_a_second_spelling_shows_the_event_it_means(cgk):
    assert cgk("events", "show", "review.reminder.scheduled", "--json").json["event"] == "review.reminder"


def test_an_unknown_event_fails_with_the_nearest_name(cgk):
    outcome = cgk("events", "show", "order.craeted")
    assert (outcome.code, 'Did you mean "order.created"?' in outcome.err) == (1, True)


@pytest.mark.parametrize("name", CATALOG)
def test_the_example_of_an_event_validates(name):
    payload = example(get_event(name))
    assert parse_event(name, payload).event_name == name


def test_the_page_for_people_has_a_line_to_send(cgk):
    assert 'cgk-tasks send order.created \'{"tenantId"' in cgk("events", "show", "order.created").out


def test_the_applications_own_event_is_shown_with_its_job(cgk, setting):
    setting(CGK_JOB_MODULES="tests.support.jobs")
    jobs = cgk("events", "show", "test.behave", "--json").json["jobs"]
    assert [(job["id"], job["handler"]) for job in jobs] == [("test-behave", "tests.support.jobs.behave")]


def test_only_the_events_that_have_jobs_are_listed_where_asked_for(cgk, setting):
    setting(CGK_JOB_MODULES="tests.support.jobs")
    listed = {row["event"] for row in cgk("events", "list", "--jobs", "--json").json}
    assert "test.behave" in listed
    assert "ab.scheduleTests" not in listed


def test_where_no_event_has_a_job_that_is_said(cgk):
    outcome = cgk("events", "list", "--jobs", "--category", "abTesting")
    assert (outcome.code, outcome.out, "CGK_JOB_MODULES" in outcome.err) == (0, "", True)


def test_a_job_module_that_is_named_as_a_file_is_told_how_to_name_it(cgk, setting, tmp_path, monkeypatch):
    (tmp_path / "filed_jobs.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    setting(CGK_JOB_MODULES="filed_jobs.py")
    assert "not its file: filed_jobs" in cgk("events", "list").err


def test_a_job_module_that_cannot_be_imported_is_a_warning_and_the_catalog_is_listed(cgk, setting):
    setting(CGK_JOB_MODULES="no_such_module")
    outcome = cgk("events", "list", "--json")
    assert (outcome.code, "no_such_module" in outcome.err, len(outcome.json) > 90) == (0, True, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("from cgk_tasks import define_job\ndefine_job('a', event='order.craeted')", 'no event "order.craeted"'),
    ],
)
def test_the_warning_says_where_a_job_module_failed(cgk, setting, tmp_path, monkeypatch, text, words):
    (tmp_path / "broken_jobs.py").write_text(f"\n{text}\n")
    monkeypatch.syspath_prepend(tmp_path)
    setting(CGK_JOB_MODULES="broken_jobs")
    outcome = cgk("events", "list", "--json")
    line = 1 + len(text.splitlines())
    assert (words in outcome.err, f"broken_jobs.py, line {line})" in outcome.err) == (True, True), outcome.err
