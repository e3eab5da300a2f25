"""The buttons, as an operator presses them; each leaves a line in the audit."""

import json
from contextlib import suppress

import pytest

from cgk_tasks import get_job_status
from cgk_tasks.dashboard import audit
from cgk_tasks.dashboard.data.dead_letters import dead_letter_groups
from cgk_tasks.dashboard.roles import User
from cgk_tasks.errors import PayloadInvalidError
from cgk_tasks.events.redaction import Redaction
from cgk_tasks.flow.queues import paused_queues, resume_queue
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.tenancy import store
from tests.support.waiting import wait_until

SECRET = "ada.secret@example.com"


def last_line():
    return audit.lines(limit=1)[0]


def new_run(answer):
    return get_job_status(answer.url.rpartition("/")[2])


def test_retry_makes_a_new_run_that_names_the_old_one(oscar, closed_run):
    run_id = closed_run()
    answer = oscar.submit(oscar.open(f"/runs/{run_id}"), f"/runs/{run_id}/retry")
    assert new_run(answer).replay_of == run_id
    assert f"It repeats run {run_id}." in answer.text
    line = last_line()
    assert (line.who, line.action, line.subject, line.tenant_id, line.affected, line.outcome) == (
        "oscar", "retry run", run_id, "acme", 1, "done",
    )  # fmt: skip


def test_cancel_closes_a_waiting_run(oscar, open_run):
    run_id = open_run()
    oscar.submit(oscar.open(f"/runs/{run_id}"), f"/runs/{run_id}/cancel")
    assert get_job_status(run_id).state == "cancelled"
    assert (last_line().action, last_line().subject) == ("cancel run", run_id)


def test_what_is_refused_is_said_and_in_the_audit(oscar, open_run, closed_run):
    page, closed = oscar.open(f"/runs/{closed_run()}"), closed_run()
    token = {"_xsrf": oscar.cookies["_xsrf"]}
    answer = oscar.post(f"{oscar.base}/runs/{closed}/cancel", data=token, timeout=30)
    assert page.ok
    assert answer.status_code == 409
    assert "Only open runs can be cancelled" in answer.text
    assert last_line().outcome == "refused"


def test_an_action_that_another_dashboard_left_unfinished_resumes_by_a_button(oscar, dashboard, closed_run):
    closed_run(message="left over", code="LEFT")
    group = next(one.group for one in dead_letter_groups() if one.error_code == "LEFT")
    with autocommit() as connection:
        number = connection.execute(
            "INSERT INTO cgk.audit (who, role, action, subject, expected, details, seen_at) VALUES"
            " ('ada', 'admin', 'retry dead letters', %s, 3, %s, now() - interval '2 minutes') RETURNING id",
            (group.event, json.dumps({"fingerprint": group.fingerprint, "pace": 1000})),
        ).fetchone()[0]
    action = f"/actions/{number}/resume"
    assert action not in dashboard.browser("viola").open(f"/actions/{number}").text
    oscar.submit(oscar.open(f"/actions/{number}"), action)
    line = wait_until(lambda: last_line() if last_line().outcome == "done" else None, 20, "the rest is done")
    assert (line.who, line.affected, line.details["resumes"]) == ("oscar", 1, number)
    assert "Resume" not in oscar.open(f"/actions/{number}").text


def test_replay_with_another_payload_is_checked_and_keeps_what_is_hidden(oscar, closed_run):
    run_id = closed_run("customer.created", payload={"customerId": "c-1", "email": SECRET})
    page = oscar.open(f"/runs/{run_id}")
    assert SECRET not in page.text
    edited = json.dumps({"tenantId": "acme", "customerId": "c-2", "email": "[redacted]"})
    run = new_run(oscar.submit(page, f"/runs/{run_id}/replay", payload=edited))
    assert run.payload == {"tenantId": "acme", "customerId": "c-2", "email": SECRET}
    assert run.replay_of == run_id
    assert last_line().message == f"new run {run.id}, changed: customerId"


@pytest.mark.parametrize(
    ("edited", "problem"),
    [
        ("not json", "it is not JSON"), ("[]", "it must be an object"), ('{"tenantId": "acme"}', "orderId"),
        ('{"tenantId": "acme", "orderId": "o", "totalAmount": 1, "x": 1}', "x"),
        ('{"tenantId": "globex", "orderId": "o", "totalAmount": 1}', "A replay stays with its tenant"),
    ],
)  # fmt: skip
def test_a_payload_that_does_not_fit_comes_back_with_what_is_wrong(oscar, closed_run, edited, problem):
    run_id = closed_run()
    answer = oscar.submit(oscar.open(f"/runs/{run_id}"), f"/runs/{run_id}/replay", payload=edited)
    assert answer.status_code == 400
    assert problem in answer.text
    assert last_line().outcome == "refused"


def test_an_error_that_quotes_a_payload_is_in_the_audit_without_personal_data(database):
    """As a validator of an application's own event may, which the edited payload did not pass."""
    payload = {"tenantId": "acme", "customerId": "c-1", "email": SECRET}
    with suppress(PayloadInvalidError), audit.recorded(User("oscar", "operator"), "replay") as entry:
        entry.hide = Redaction("customer.created", payload).text
        raise PayloadInvalidError("customer.created", [f"{SECRET} is no address"])
    assert last_line().outcome == "refused"
    assert "[redacted] is no address" in last_line().message


def test_a_tenant_is_suspended_by_name_and_resumed(oscar):
    oscar.submit(oscar.open("/tenants"), "/tenants/initech/suspend")
    assert store.find("initech").status == "suspended"
    page = oscar.open("/tenants", params={"id": "initech"})
    assert "by oscar" in page.text
    oscar.submit(page, "/tenants/initech/resume")
    assert store.find("initech").status == "active"
    assert [line.action for line in audit.lines(limit=2)] == ["resume tenant", "suspend tenant"]


@pytest.fixture
def queue(open_run):
    """A queue with a run, whose name no address could have."""
    name = "mails / <slow> & quiet"
    open_run(queue=name)
    yield name
    resume_queue(name)


def test_a_queue_is_paused_by_name_with_a_reason_and_resumed(oscar, queue):
    page = oscar.submit(oscar.open("/queues"), "/queues/pause", queue=queue, reason="no <b>mail</b> server")
    assert "by oscar" in page.text
    assert "no &lt;b&gt;mail&lt;/b&gt; server" in page.text
    assert [(one.paused_by, one.reason) for one in paused_queues() if one.queue == queue] == [
        ("oscar", "no <b>mail</b> server")
    ]
    line = last_line()
    assert (line.who, line.action, line.subject, line.affected, line.outcome, line.message) == (
        "oscar", "pause queue", queue, 1, "done", "no <b>mail</b> server",
    )  # fmt: skip
    oscar.submit(page, "/queues/resume", queue=queue)
    assert queue not in [one.queue for one in paused_queues()]
    assert [line.action for line in audit.lines(limit=2)] == ["resume queue", "pause queue"]


def test_what_is_no_name_of_a_queue_is_refused(oscar, queue):
    answer = oscar.submit(oscar.open("/queues"), "/queues/pause", queue="")
    assert answer.status_code == 400
    assert "must be a name of 1 to 200 printable characters" in answer.text
    assert last_line().outcome == "refused"


def test_a_group_is_counted_first_and_nothing_happens_before_the_button(oscar, empty_record, closed_run):
    for number in range(12):
        closed_run(message=f"order {number}", tenant=("acme", "globex")[number % 2])
    group = dead_letter_groups()[0].group
    page = oscar.open(
        "/dead-letters/action", params={"event": group.event, "fingerprint": group.fingerprint, "kind": "discard"}
    )
    assert "12 runs of 2 tenants" in page.text
    assert dead_letter_groups()[0].runs == 12
    progress = oscar.submit(page, "/dead-letters/action", pace="1000")
    wait_until(lambda: "Done." in oscar.get(progress.url, timeout=30).text, 20)
    assert "12 of 12 runs" in oscar.get(progress.url, timeout=30).text
    assert dead_letter_groups() == []


def test_a_group_action_is_stopped_by_its_button(oscar, empty_record, closed_run):
    for number in range(20):
        closed_run(message=f"order {number}")
    group = dead_letter_groups()[0].group
    page = oscar.open(
        "/dead-letters/action", params={"event": group.event, "fingerprint": group.fingerprint, "kind": "discard"}
    )
    progress = oscar.submit(page, "/dead-letters/action", pace="1")
    path = progress.url.removeprefix(oscar.base)
    oscar.submit(progress, f"{path}/abort")
    wait_until(lambda: "Stopped." in oscar.open(path).text, 20)
    assert dead_letter_groups()[0].runs >= 10


@pytest.fixture
def no_new_runs(database):
    """PostgreSQL refuses every run that is sent, in words that nobody expects."""
    with autocommit() as connection:
        connection.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no more'; END $$;"
            "CREATE TRIGGER refuse BEFORE INSERT ON cgk.runs FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    yield
    with autocommit() as connection:
        connection.execute("DROP FUNCTION refuse CASCADE")


def test_a_group_action_that_fails_leaves_no_payload_in_the_log(
    dashboard, oscar, empty_record, closed_run, no_new_runs
):
    closed_run("customer.created", payload={"customerId": "c-1", "email": SECRET})
    group = dead_letter_groups()[0].group
    page = oscar.open(
        "/dead-letters/action", params={"event": group.event, "fingerprint": group.fingerprint, "kind": "retry"}
    )
    progress = oscar.submit(page, "/dead-letters/action", pace="1000")
    wait_until(lambda: "It failed." in oscar.get(progress.url, timeout=30).text, 20)
    wait_until(lambda: "long_action_failed" in dashboard.log, 20)
    assert "Traceback" in dashboard.log
    assert SECRET not in dashboard.log


@pytest.fixture(scope="module")
def django_tables(database):
    """`cgk-tasks migrate` makes them."""
    import subprocess
    import sys

    subprocess.run([sys.executable, "-m", "cgk_tasks.cli", "migrate"], check=True)


def test_a_schedule_is_paused_resumed_and_triggered(oscar, django_tables):
    path = "/schedules/ab.hourlyMetrics"
    page = oscar.submit(oscar.open(path), f"{path}/pause")
    assert "ab.hourlyMetrics is paused." in page.text
    # Beat takes it over at its next look; until then its own table has the pause.
    assert last_line().action == "pause schedule"
    token = {"_xsrf": oscar.cookies["_xsrf"]}
    assert "ab.hourlyMetrics ticks again" in oscar.post(f"{oscar.base}{path}/resume", data=token, timeout=30).text
    page = oscar.submit(oscar.open(f"{path}/run-now?tenant=acme"), f"{path}/trigger")
    assert "Ticked now: 1 run." in page.text
    assert (last_line().action, last_line().tenant_id, last_line().affected) == ("trigger schedule", "acme", 1)


def test_a_tenants_own_schedule_is_paused_and_resumed(oscar):
    from cgk_tasks import create_schedule
    from cgk_tasks.schedules.tenant_schedules import get_schedule

    made = create_schedule("acme", "product.sync", "0 7 * * 1")
    oscar.submit(oscar.open("/schedules/of-tenants"), f"/schedules/of-tenants/{made.id}/pause")
    assert get_schedule(made.id).is_paused
    oscar.submit(oscar.open("/schedules/of-tenants"), f"/schedules/of-tenants/{made.id}/resume")
    assert not get_schedule(made.id).is_paused


def test_what_people_did_is_on_the_runs_page_and_on_the_page_of_the_audit(oscar, closed_run):
    run_id = closed_run()
    oscar.submit(oscar.open(f"/runs/{run_id}"), f"/runs/{run_id}/retry")
    assert "What people did" in oscar.open(f"/runs/{run_id}").text
    assert run_id in oscar.open("/audit").text


def test_personal_data_is_shown_to_admins_where_it_is_allowed_and_each_look_is_recorded(start_dashboard, closed_run):
    dashboard = start_dashboard(CGK_DASHBOARD_SHOW_SENSITIVE="true")
    run_id = closed_run(
        "customer.created", payload={"customerId": "c-1", "email": SECRET}, message=f"no mail to {SECRET}"
    )
    ada, oscar = dashboard.browser("ada"), dashboard.browser("oscar")
    assert SECRET not in ada.open(f"/runs/{run_id}").text
    assert SECRET not in oscar.open(f"/runs/{run_id}?show=personal").text
    assert audit.lines(subject=run_id) == []
    assert SECRET in ada.open(f"/runs/{run_id}?show=personal").text
    assert [(line.who, line.action) for line in audit.lines(subject=run_id)] == [("ada", "look at personal data")]


def test_without_the_setting_nobody_sees_personal_data(dashboard, closed_run):
    run_id = closed_run(
        "customer.created", payload={"customerId": "c-1", "email": SECRET}, message=f"no mail to {SECRET}"
    )
    assert SECRET not in dashboard.browser("ada").open(f"/runs/{run_id}?show=personal").text


def test_texts_of_others_cannot_write_into_the_page(oscar, closed_run):
    evil = "<script>alert(1)</script>"
    run_id = closed_run(message=evil, payload={"orderId": evil}, result=evil)
    for path in (f"/runs/{run_id}", "/runs", "/dead-letters", "/runs?text=%3Cscript%3E"):
        assert "<script>alert" not in oscar.open(path).text
