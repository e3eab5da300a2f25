"""Runs by HTTP: their state and result, lists of them, and what an operator does to them."""

import json
from datetime import datetime

import pytest

from cgk_tasks import cancel_run, create_schedule, get_run, send_job, set_tenant_limits
from cgk_tasks.runs import progress
from cgk_tasks.sql.postgres import autocommit, fetch
from cgk_tasks.tenancy import suspend_tenant
from tests.integration import workflow_jobs  # noqa: F401 - defines test.askedTrip
from tests.support import jobs  # noqa: F401 - defines test.behave
from tests.support.claims import claim_here
from tests.support.waiting import wait_closed


@pytest.fixture(scope="module")
def worker(start_worker):
    return start_worker(["tests.support.jobs", "tests.integration.workflow_jobs"])


def sent(tenant="acme", action="echo", argument="", **options):
    return send_job("test.behave", {"tenantId": tenant, "action": action, "argument": argument}, **options).id


def waiting(tenant="acme", **options):
    """A run that no worker takes."""
    return sent(tenant, queue="nobody-listens", **options)


def test_a_run_is_waited_for_and_has_its_result(api, worker):
    run_id = sent(argument="hello")
    found = api.get(f"/v1/runs/{run_id}/result", params={"wait": "30"})
    assert (found.status_code, found.json()["state"], found.json()["result"]) == (200, "completed", "hello")


def test_a_result_that_is_not_there_yet_is_answered_with_202(api):
    found = api.get(f"/v1/runs/{waiting()}/result")
    assert (found.status_code, found.json()["state"], "result" in found.json()) == (202, "pending", False)


def test_a_run_that_failed_says_why_without_its_traceback(api, worker):
    run_id = sent(action="fail_permanently")
    found = api.get(f"/v1/runs/{run_id}", params={"wait": "30"}).json()
    assert (found["state"], found["errorCode"], found["errors"][0]["message"]) == (
        "failed", "ACCOUNT_NOT_FOUND", "no such account",
    )  # fmt: skip
    assert "Traceback" not in json.dumps(found)


def test_what_a_run_tells_of_itself_is_shown(api):
    run = claim_here(waiting())
    kept = progress.KeptReport(run.id, run.tenant_id, run.attempt)
    kept.report.show(1, 4, "page 1")
    kept.report["file"] = {"rows": 3}
    progress.write([kept])
    found = api.get(f"/v1/runs/{run.id}").json()
    told = {"done": 1, "total": 4, "message": "page 1", "at": found["progress"]["at"]}
    assert (found["progress"], found["metadata"]) == (told, {"file": {"rows": 3}})


def test_a_run_is_shown_as_the_wire_has_it(api):
    run_id = waiting(argument="hello", delay=60)
    found = api.get(f"/v1/runs/{run_id}").json()
    run = get_run(run_id)
    assert found["payload"] == {"tenantId": "acme", "action": "echo", "argument": "hello"}
    assert datetime.fromisoformat(found["runAt"]) == run.run_at
    assert (found["state"], found["queue"], found["attempt"], "result" in found) == (
        "scheduled", "nobody-listens", 0, False,
    )  # fmt: skip


def test_a_wait_ends_when_its_time_is_over(api):
    assert api.get(f"/v1/runs/{waiting()}", params={"wait": "0.1"}).json()["state"] == "pending"


@pytest.mark.parametrize("wait", ["-1", "61", "nan", "inf", "long", ""])
def test_a_wait_is_a_number_of_seconds(api, wait):
    assert api.get(f"/v1/runs/{waiting()}", params={"wait": wait}).status_code == 400


@pytest.mark.parametrize(
    "run_id",
    [
        "nonsense",
        "01995a5e-6c5c-7d2e-8f5a-0e5d8c3a7b11",
        "{01995a5e-6c5c-7d2e-8f5a-0e5d8c3a7b11}",
        "urn:uuid:01995a5e-6c5c-7d2e-8f5a-0e5d8c3a7b11",
        "'; DROP TABLE cgk.runs; --",
        "..%2F..%2Fetc%2Fpasswd",
    ],
)
def test_a_run_that_there_is_not_is_not_found(api, run_id):
    assert api.get(f"/v1/runs/{run_id}").status_code == 404


# Operating


def test_a_waiting_run_is_cancelled(api):
    run_id = waiting()
    done = api.post(f"/v1/runs/{run_id}/cancel")
    assert (done.status_code, done.json()["state"]) == (200, "cancelled")


def test_a_run_that_has_ended_is_not_cancelled(api):
    run_id = waiting()
    cancel_run(run_id)
    refused = api.post(f"/v1/runs/{run_id}/cancel")
    assert (refused.status_code, refused.json()["code"], refused.json()["state"]) == (409, "INVALID_STATE", "cancelled")


def test_what_a_key_does_is_in_the_audit_under_its_prefix(api):
    run_id = waiting()
    api.post(f"/v1/runs/{run_id}/cancel")
    with autocommit() as connection:
        (row,) = fetch(connection, "SELECT who, via FROM cgk.audit WHERE subject = %(id)s", {"id": run_id})
    prefix = api.headers["Authorization"].removeprefix("Bearer ")[:16]
    assert (row["who"], row["via"]) == (f"key {prefix}", "api")


def test_a_closed_run_is_replayed(api):
    run_id = waiting()
    cancel_run(run_id)
    again = api.post(f"/v1/runs/{run_id}/replay")
    assert (again.status_code, get_run(again.json()["id"]).replay_of) == (202, run_id)


def test_a_replay_that_comes_again_with_its_key_makes_one_run(api):
    run_id = waiting()
    cancel_run(run_id)
    ids = [
        api.post(f"/v1/runs/{run_id}/replay", headers={"Idempotency-Key": f"again {run_id}"}).json()["id"]
        for _ in range(2)
    ]
    assert ids[0] == ids[1]


def test_an_open_run_is_not_replayed(api):
    assert api.post(f"/v1/runs/{waiting()}/replay").status_code == 409


@pytest.mark.parametrize("body", [{"fromStep": 5}, {"step": "charge"}, [], {"fromStep": "a\0b"}], ids=str)
def test_a_replay_that_asks_for_something_else_is_refused(api, body):
    run_id = waiting()
    cancel_run(run_id)
    assert api.post(f"/v1/runs/{run_id}/replay", json=body).status_code == 400


def test_a_replay_from_a_step_that_was_not_done_is_refused(api):
    run_id = waiting()
    cancel_run(run_id)
    assert api.post(f"/v1/runs/{run_id}/replay", json={"fromStep": "charge"}).status_code == 422


def test_a_suspended_tenants_runs_are_not_replayed(connect, new_tenant):
    run_id = waiting(new_tenant)
    cancel_run(run_id)
    api = connect(new_tenant)
    suspend_tenant(new_tenant)
    assert api.post(f"/v1/runs/{run_id}/replay").status_code == 403
    assert api.get(f"/v1/runs/{run_id}").status_code == 200


def test_a_workflow_goes_on_with_a_signal(api, worker):
    run_id = send_job("test.askedTrip", {"tenantId": "acme"}).id
    for name in ("ada", "bob"):
        done = api.post(f"/v1/runs/{run_id}/signals/answer", json={"by": name})
        assert (done.status_code, done.json()) == (202, {"delivered": True})
    assert wait_closed(run_id).result == [{"by": "ada"}, {"by": "bob"}]


def test_a_signal_that_comes_again_with_its_key_counts_once(api, worker):
    run_id = send_job("test.askedTrip", {"tenantId": "acme"}).id
    url, headers = f"/v1/runs/{run_id}/signals/answer", {"Idempotency-Key": f"answer {run_id}"}
    answers = [api.post(url, headers=headers, json={"by": "ada"}).json() for _ in range(2)]
    api.post(url, json={"by": "bob"})
    assert answers == [{"delivered": True}] * 2
    assert wait_closed(run_id).result == [{"by": "ada"}, {"by": "bob"}]


@pytest.mark.parametrize("name", ["$begin", "x" * 201, "a%0Ab"])
def test_a_signal_that_cannot_have_this_name_is_refused(api, name):
    assert api.post(f"/v1/runs/{waiting()}/signals/{name}").status_code == 400


def test_a_signal_to_a_run_that_has_ended_is_refused(api):
    run_id = waiting()
    cancel_run(run_id)
    assert api.post(f"/v1/runs/{run_id}/signals/answer", json={}).status_code == 409


# Lists


def test_runs_are_listed_page_by_page(connect, new_tenant):
    api = connect(new_tenant)
    ids = [waiting(new_tenant) for _ in range(5)]
    found, url = [], "/v1/runs?limit=2"
    while url:
        page = api.get(url)
        found.append([run["id"] for run in page.json()["runs"]])
        url = page.links.get("next", {}).get("url")
    assert found == [ids[4:2:-1], ids[2:0:-1], ids[:1]]


def test_the_next_page_is_named_in_the_body_too(connect, new_tenant):
    api = connect(new_tenant)
    first, second = waiting(new_tenant), waiting(new_tenant)
    page = api.get("/v1/runs", params={"limit": "1"}).json()
    assert api.get("/v1/runs", params={"limit": "1", "after": page["next"]}).json() == {
        "runs": [one for one in api.get("/v1/runs").json()["runs"] if one["id"] == first], "next": None,
    }  # fmt: skip
    assert page["runs"][0]["id"] == second


@pytest.mark.parametrize(
    ("given", "which"),
    [
        ({"state": "cancelled"}, [1]),
        ({"event": "order.created"}, [2]),
        ({"text": "o-1"}, [2]),
        ({"since": "2026-01-01T00:00:00Z"}, [2, 1, 0]),
        ({"until": "2026-01-01T00:00:00Z"}, []),
        ({"job": "nothing"}, []),
        ({"errorCode": "NOTHING"}, []),
        ({"state": "completed"}, []),
    ],
    ids=str,
)
def test_runs_are_filtered(connect, new_tenant, given, which):
    ids = [waiting(new_tenant), waiting(new_tenant)]
    order = {"tenantId": new_tenant, "orderId": "o-1", "totalAmount": 5.0}
    ids.append(send_job("order.created", order, queue="nobody-listens").id)
    cancel_run(ids[1])
    found = connect(new_tenant).get("/v1/runs", params=given).json()["runs"]
    assert [run["id"] for run in found] == [ids[number] for number in which]


@pytest.mark.parametrize(
    "given",
    [
        {"state": "lost"}, {"limit": "0"}, {"limit": "201"}, {"limit": "ten"}, {"after": "nonsense"}, {"tenant": "x"},
        {"after": "-5_6ba7b810-9dad-41d1-80b4-00c04fd430c8"}, {"since": "yesterday"}, {"since": "0001-01-01T00:00:00Z"},
        {"until": "9999-12-31T23:59:59Z"}, {"text": "a\0b"}, {"tenantId": "globex"},
    ],
    ids=str,
)  # fmt: skip
def test_a_filter_that_cannot_be_is_refused(api, given):
    assert api.get("/v1/runs", params=given).status_code == 400


def test_a_list_has_no_payloads(connect, new_tenant):
    waiting(new_tenant, argument="secret-thing")
    assert "secret-thing" not in connect(new_tenant).get("/v1/runs").text


# What else a tenant may see


def test_the_log_of_a_run_is_shown(api, start_worker):
    start_worker(["tests.integration.receipt_jobs", "tests.support.jobs"])
    run_id = sent(action="echo", argument="x")
    wait_closed(run_id)
    assert api.get(f"/v1/runs/{run_id}/logs").json() == {"lines": []}


def test_schedules_of_the_tenant_are_shown(connect, new_tenant):
    made = create_schedule(new_tenant, "test.behave", "0 7 * * 1", "Europe/Berlin", {"action": "echo"})
    (shown,) = connect(new_tenant).get("/v1/schedules").json()["schedules"]
    assert (shown["id"], shown["cron"], shown["timezone"], shown["payload"]["action"]) == (
        made.id, "0 7 * * 1", "Europe/Berlin", "echo",
    )  # fmt: skip


def test_limits_of_the_tenant_are_shown_with_where_they_come_from(connect, new_tenant):
    set_tenant_limits(new_tenant, at_once=3, starts=(10, 60))
    shown = connect(new_tenant).get("/v1/limits").json()
    assert (shown["atOnce"], shown["starts"], shown["sources"]["atOnce"], shown["sources"]["weight"]) == (
        3, {"runs": 10, "seconds": 60.0}, "tenant", "default",
    )  # fmt: skip


def test_usage_of_the_tenant_is_shown(connect, new_tenant):
    cancel_run(waiting(new_tenant))
    shown = connect(new_tenant).get("/v1/usage", params={"by": "total"}).json()["usage"]
    assert [(one["runs"], one["failed"]) for one in shown] == [(1, 0)]


@pytest.mark.parametrize(
    "given", [{"by": "week"}, {"since": "2026-12-02T00:00:00Z", "until": "2026-12-01T00:00:00Z"}], ids=str
)
def test_usage_that_cannot_be_asked_for_is_refused(api, given):
    assert api.get("/v1/usage", params=given).status_code in {400, 422}
