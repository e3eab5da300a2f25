"""One run with its timeline."""

import json
import logging
from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks import cancel_job, retry_job, send_job
from cgk_tasks.dashboard.data.log_lines import log_lines
from cgk_tasks.dashboard.data.run_record import run_record
from cgk_tasks.dashboard.data.tenants import tenant_counts
from cgk_tasks.errors import UnknownRunError
from cgk_tasks.runs.log_writing import write
from cgk_tasks.runs.logs import RunLog
from tests.support.counting import count_all, forget_all_counts

NOW = datetime.now(UTC)
SECRET = "ada.secret@example.com"


def states(run_id):
    return [moment.state for moment in run_record(run_id).timeline]


def test_a_waiting_run_was_accepted_and_handed_over(database):
    run_id = send_job("order.created", {"tenantId": "acme", "orderId": "o-1", "totalAmount": 1.5}).id
    assert states(run_id) == ["accepted", "pending"]
    cancel_job(run_id)
    assert states(run_id) == ["accepted", "pending", "cancelled", "cancelling"] or states(run_id)[2:] == [
        "cancelling",
        "cancelled",
    ]


def test_every_failed_attempt_is_in_the_timeline_with_its_reason(open_run):
    errors = [
        {
            "attempt": 1,
            "kind": "transient",
            "code": "HTTP_502",
            "message": "away",
            "at": (NOW - timedelta(minutes=3)).isoformat(),
        },
        {
            "attempt": 2,
            "kind": "death",
            "code": "WORKER_DIED",
            "message": "killed",
            "at": (NOW - timedelta(minutes=2)).isoformat(),
        },
    ]
    run_id = open_run(
        state="retrying", attempt=3, deaths=1, errors=json.dumps(errors), created_at=NOW - timedelta(minutes=4),
        handed_over_at=None, run_at=NOW + timedelta(minutes=5),
    )  # fmt: skip
    timeline = run_record(run_id).timeline
    assert [moment.state for moment in timeline] == ["accepted", "retrying", "pending", "pending"]
    assert timeline[1].text == "Attempt 1 failed with HTTP_502: away"
    assert timeline[2].text == "Its process died: killed"
    assert timeline[3].text == "Due."


def test_a_held_run_says_since_when_and_why(open_run):
    run_id = open_run(state="held", created_at=NOW - timedelta(minutes=1), handed_over_at=NOW)
    assert [(moment.state, moment.at) for moment in run_record(run_id).timeline][1:] == [("held", NOW)]


def test_replays_and_children_are_relatives(closed_run):
    run_id = closed_run()
    child = closed_run(parent_id=run_id, job="a-job")
    again = retry_job(run_id).id
    found = {(one.id, one.relation) for one in run_record(run_id).relatives}
    assert found == {(child, "child"), (again, "replay")}


def test_personal_data_is_left_out_of_payload_result_and_errors(closed_run):
    run_id = closed_run(
        "customer.created", message=f"no mail to {SECRET}", payload={"customerId": "c-1", "email": SECRET},
        result={"sent": [SECRET]},
    )  # fmt: skip
    record = run_record(run_id)
    assert SECRET not in repr(record)
    assert record.payload == {"tenantId": "acme", "customerId": "c-1", "email": "[redacted]"}
    assert record.has_hidden


def test_keys_and_codes_that_quote_personal_data_are_redacted(closed_run):
    payload = {"customerId": "c-1", "email": SECRET}
    run_id = closed_run(
        "customer.created", code=f"NO_MAIL_{SECRET}", payload=payload, idempotency_key=f"welcome:{SECRET}"
    )
    closed_run("customer.created", code=f"CHILD_{SECRET}", payload=payload, parent_id=run_id)
    record = run_record(run_id)
    assert SECRET not in repr(record)
    assert record.facts["idempotency_key"] == "welcome:[redacted]"
    assert (record.errors[0]["code"], record.facts["error_code"]) == ("NO_MAIL_[redacted]", "NO_MAIL_[redacted]")
    assert record.relatives[0].error_code == "CHILD_[redacted]"
    shown = run_record(run_id, show_sensitive=True)
    assert (shown.facts["idempotency_key"], shown.relatives[0].error_code) == (f"welcome:{SECRET}", f"CHILD_{SECRET}")


def test_personal_data_is_there_for_those_who_may(closed_run):
    run_id = closed_run("customer.created", payload={"customerId": "c-1", "email": SECRET})
    assert run_record(run_id, show_sensitive=True).payload["email"] == SECRET


def test_log_lines_that_quote_what_is_not_known_here_are_hidden(closed_run):
    run_id = closed_run("shop.unknown", payload={"args": [SECRET], "kwargs": {}})
    logged = RunLog(run_id, "acme", 1, None)
    logged.add(
        logging.makeLogRecord({"msg": {"message": f"for {SECRET}", "to": SECRET}, "levelname": "INFO", "name": "shop"})
    )
    write([logged])
    (line,) = log_lines(run_id, run_record(run_id).hide)
    assert (line.message, line.fields, line.level) == ("for [redacted]", {"to": "[redacted]"}, "info")
    assert log_lines(run_id)[0].message == f"for {SECRET}"


def test_a_hidden_value_in_the_time_of_an_error_does_no_harm(closed_run):
    run_id = closed_run("shop.unknown", message=f"in {NOW.year}", payload={"year": NOW.year, "month": f"{NOW:%Y-%m}"})
    assert run_record(run_id).errors[0]["message"] == "in [redacted]"


@pytest.mark.parametrize("run_id", ["5f3c1f7e-0d3a-4c86-9d8e-2d4c2f1f6a10", "x"])
def test_an_unknown_run_is_an_error(database, run_id):
    with pytest.raises(UnknownRunError):
        run_record(run_id)


def test_the_figures_of_a_tenant(empty_record, closed_run, open_run):
    for _ in range(3):
        closed_run(tenant="globex", state="completed")
    closed_run(tenant="globex")
    closed_run(tenant="globex", age=90_000)
    ten_minutes_ago = datetime.now(UTC) - timedelta(minutes=10)
    open_run(tenant="globex", run_at=ten_minutes_ago, created_at=ten_minutes_ago)
    open_run(tenant="globex", state="held")
    forget_all_counts()
    count_all()
    busiest = tenant_counts()[0]
    assert (busiest.id, busiest.open, busiest.pending, busiest.held, busiest.closed, busiest.failed) == (
        "globex",
        2,
        1,
        1,
        4,
        1,
    )
    assert busiest.failure_rate == 0.25
    assert busiest.waiting_seconds == pytest.approx(600, abs=60)
    assert {one.id for one in tenant_counts(busiest=False, after="acme")} >= {"globex", "initech"}
    assert [one.id for one in tenant_counts(starts_with="ini")] == ["initech"]
