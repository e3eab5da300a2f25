"""Runs whose large payload is not there any more, as after a restore of some tables: they are shown without it."""

import uuid

import pytest

from cgk_tasks.dashboard.data.run_record import run_record
from cgk_tasks.monitoring.why import why
from cgk_tasks.sql.postgres import autocommit

SECRET = "ada.secret@example.com"


def lose_payload(run_id, table="run_history"):
    """What stands in the row refers to nothing."""
    reference = b"\xfe" + uuid.UUID(run_id).bytes + uuid.uuid4().bytes
    with autocommit() as connection:
        connection.execute(f"UPDATE cgk.{table} SET sealed_payload = %s WHERE id = %s", [reference, run_id])
    return run_id


@pytest.fixture
def lost_run(empty_record, closed_run):
    return lose_payload(closed_run("customer.created", message=f"no mail to {SECRET}", code=f"NO_MAIL {SECRET}"))


@pytest.mark.parametrize("address", ["/runs", "/runs?event=customer.created", "/dead-letters"])
def test_a_list_with_such_a_run_shows_all_of_them(viola, lost_run, closed_run, address):
    closed_run("customer.created", message="no mail", code="NO_MAIL")
    page = viola.open(address).text
    assert "NO_MAIL" in page
    assert SECRET not in page


def test_the_list_of_runs_has_such_a_run_and_the_others(viola, lost_run, closed_run):
    other = closed_run()
    page = viola.open("/runs").text
    assert lost_run in page
    assert other in page


def test_the_page_of_such_a_run_says_that_its_payload_is_gone_and_shows_the_rest(viola, lost_run):
    page = viola.open(f"/runs/{lost_run}").text
    assert "It is not there any more" in page
    assert "ValueError" in page


def test_since_nobody_can_tell_what_quotes_the_payload_no_text_that_may_is_shown(viola, lost_run):
    assert SECRET not in viola.open(f"/runs/{lost_run}").text


def test_who_may_see_personal_data_sees_the_error(lost_run):
    assert SECRET in run_record(lost_run, show_sensitive=True).errors[0]["message"]


def test_an_open_run_without_its_payload_still_says_why_it_waits(empty_record, open_run):
    run_id = lose_payload(open_run(state="held"), "runs")
    assert why(run_id).state == "held"


def test_such_a_run_cannot_be_run_again_which_the_page_says(oscar, lost_run):
    answer = oscar.submit(oscar.open(f"/runs/{lost_run}"), f"/runs/{lost_run}/retry")
    assert "is not there any more" in answer.text
