"""The list of runs: what it finds, and how it goes on from page to page."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks.dashboard.data.queries import QueryTimeoutError, read_transaction
from cgk_tasks.dashboard.data.run_search import Key, RunFilter, find_runs
from cgk_tasks.runs.models import new_run_id
from cgk_tasks.sql.postgres import autocommit, fetch

pytestmark = pytest.mark.usefixtures("empty_record")


def ids(limit=50, **wanted):
    return [run.id for run in find_runs(RunFilter(**wanted), limit=limit).runs]


def id_at(moment):
    """A UUIDv7 of that time."""
    return str(uuid.UUID(f"{int(moment.timestamp() * 1000):012x}" + new_run_id().replace("-", "")[12:]))


def test_the_last_sent_comes_first_whether_open_or_closed(closed_run, open_run):
    sent = [closed_run(), open_run(), closed_run(state="completed")]
    assert ids() == sent[::-1]


@pytest.mark.parametrize(
    "wanted",
    [
        {"tenant_id": "globex"}, {"event": "payout.completed"}, {"job": "pay"}, {"error_code": "TIMEOUT"},
        {"tenant_id": "globex", "event": "payout.completed", "state": "failed", "error_code": "TIMEOUT", "job": "pay"},
    ],
    ids=str,
)  # fmt: skip
def test_a_filter_leaves_the_others_out(closed_run, wanted):
    closed_run()
    match = closed_run("payout.completed", "globex", code="TIMEOUT", job="pay")
    assert ids(**wanted) == [match]


@pytest.mark.parametrize("state", ["pending", "held", "completed", "failed"])
def test_one_state_alone(closed_run, open_run, state):
    runs = {one: open_run(state=one) for one in ("pending", "held")}
    runs |= {one: closed_run(state=one) for one in ("completed", "failed")}
    assert ids(state=state) == [runs[state]]


def test_the_error_code_of_an_open_run_is_that_of_its_last_attempt(open_run):
    match = open_run(state="retrying", errors='[{"code": "A"}, {"code": "HTTP_502"}]')
    assert ids(error_code="HTTP_502") == [match]
    assert ids(error_code="A") == []


def test_a_second_spelling_of_an_event_finds_its_runs(closed_run):
    match = closed_run("video.uploadCompleted")
    assert ids(event="video.upload.completed") == [match]


def test_pages_go_on_where_the_last_one_ended(closed_run, open_run):
    sent = [closed_run() if number % 2 else open_run() for number in range(7)]
    first = find_runs(RunFilter(), limit=3)
    second = find_runs(RunFilter(), first.next, limit=3)
    third = find_runs(RunFilter(), second.next, limit=3)
    assert [run.id for page in (first, second, third) for run in page.runs] == sent[::-1]
    assert third.next is None


def test_pages_go_on_also_among_ids_of_other_producers(closed_run, open_run):
    """Those tell no time, so they are sorted in by when they came."""
    made = []
    for age in range(8):
        at = datetime.now(UTC) - timedelta(minutes=age)
        run_id = str(uuid.uuid4()) if age % 2 else id_at(at)
        made.append(open_run(run_id=run_id, created_at=at) if age % 3 else closed_run(run_id=run_id, created_at=at))
    found, key = [], None
    while True:
        page = find_runs(RunFilter(), key, limit=3)
        found += [run.id for run in page.runs]
        if page.next is None:
            break
        key = Key.parse(str(page.next))
    assert found == made


def test_a_span_of_time(closed_run):
    now = datetime.now(UTC)
    runs = [closed_run(run_id=id_at(now - timedelta(hours=hours)), created_at=now) for hours in (1, 5, 9)]
    external = closed_run(run_id=str(uuid.uuid4()), created_at=now - timedelta(hours=5))
    assert set(ids(since=now - timedelta(hours=7), until=now - timedelta(hours=3))) == {runs[1], external}


def test_text_is_found_in_the_searchable_fields(closed_run, open_run):
    closed_run(payload={"orderId": "o-7"})
    match = closed_run(payload={"orderId": "o-4711", "totalAmount": 1})
    also = open_run(payload={"orderId": "o-1", "customerId": "c-4711"})
    assert ids(text="4711") == [also, match]


def test_text_is_not_found_in_other_fields(closed_run):
    closed_run("customer.created", payload={"customerId": "c-1", "email": "ada@example.com"})
    closed_run("order.cancelled", payload={"orderId": "o-1", "reason": "ada@example.com"})
    closed_run("shop.unknown", payload={"orderId": "ada@example.com"})
    assert ids(text="ada@example.com") == []


def test_the_trace_beside_the_searchable_fields_is_none_of_them(closed_run, open_run):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    runs = [open_run(payload={"orderId": "o-4bf92"}, trace=trace), closed_run(payload={"orderId": "o-1"}, trace=trace)]
    assert (ids(text="4bf92"), ids(text="traceparent")) == (runs[:1], [])


@pytest.mark.parametrize("text", ['o-"1"', "o-\\1", "o-ß%_", "o-'1"])
def test_text_with_odd_characters_is_taken_as_it_is(closed_run, text):
    closed_run()
    assert ids(text=text) == []
    match = closed_run(payload={"orderId": text})
    assert ids(text=text) == [match]


def test_a_line_of_the_list_has_the_searchable_fields_and_no_others(closed_run):
    closed_run("customer.created", payload={"customerId": "c-1", "email": "ada@example.com"})
    assert find_runs(RunFilter()).runs[0].summary == {"customerId": "c-1"}


def test_a_question_that_takes_too_long_says_what_to_do(database):
    with pytest.raises(QueryTimeoutError, match="Narrow it down"), read_transaction(seconds=0.05) as connection:
        connection.execute("SELECT pg_sleep(5)")


ODD = "5f3c1f7e-0d3a-4c86-9d8e-2d4c2f1f6a10"


def test_each_question_is_planned_for_what_it_asks(database):
    plan_cache_mode = "SELECT current_setting('plan_cache_mode') AS mode"
    with read_transaction() as connection:
        assert fetch(connection, plan_cache_mode)[0]["mode"] == "force_custom_plan"
    with autocommit() as connection:
        assert fetch(connection, plan_cache_mode)[0]["mode"] == "auto"


@pytest.mark.parametrize("text", ["", "x", "1_2", "nan_x", f"9e99_{ODD}", f"inf_{ODD}"])
def test_a_key_that_is_none_is_left_alone(text):
    assert Key.parse(text) is None
