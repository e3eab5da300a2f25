"""Changes by the command line and in Python are in the audit, with who made them and by which way."""

import os
from contextlib import suppress

import pytest

from cgk_tasks import cancel_job, retry_job, send_job
from cgk_tasks.builtin.tenant_settings import remove_tenant_setting, set_tenant_setting
from cgk_tasks.flow.queues import pause_queue, resume_queue
from cgk_tasks.schedules.overrides import override_schedule, reset_schedule
from cgk_tasks.schedules.tenant_schedules import create_schedule, pause_schedule, resume_schedule
from cgk_tasks.sql.postgres import autocommit, fetch, transaction
from cgk_tasks.tenancy import add_tenant, resume_tenant, suspend_tenant
from cgk_tasks.tenancy.audit import by_command_line, forget_program_actions, note, recorded_elsewhere

pytestmark = pytest.mark.usefixtures("database")

PAYLOAD = {"tenantId": "acme", "orderId": "o-1", "totalAmount": 1.0}


@pytest.fixture(autouse=True)
def ada(setting):
    setting(CGK_ACTOR="ada")


@pytest.fixture
def lines():
    """What was written since the test began."""
    with autocommit() as connection:
        begin = fetch(connection, "SELECT coalesce(max(id), 0) AS id FROM cgk.audit")[0]["id"]

    def read():
        with autocommit() as connection:
            return fetch(connection, "SELECT * FROM cgk.audit WHERE id > %(id)s ORDER BY id", {"id": begin})

    return read


def waiting():
    return send_job("order.created", PAYLOAD, delay=3600).id


def test_a_cancelled_run_has_a_line_with_who_and_by_which_way(lines):
    run = waiting()
    cancel_job(run)
    (line,) = lines()
    assert (line["who"], line["via"], line["action"], line["subject"], line["outcome"]) == (
        "ada", "python", "cancel run", run, "done",
    )  # fmt: skip


def test_a_run_that_is_retried_has_a_line_that_names_the_new_one(lines):
    run = waiting()
    cancel_job(run)
    again = retry_job(run)
    cancel_job(again.id)
    line = lines()[1]
    assert (line["action"], line["subject"], line["message"]) == ("retry run", run, f"new run {again.id}")


@pytest.mark.parametrize(
    ("change", "undo"),
    [
        (lambda: suspend_tenant("globex"), lambda: resume_tenant("globex")),
        (lambda: pause_queue("audited", reason="why not"), lambda: resume_queue("audited")),
        (
            lambda: set_tenant_setting("globex", "email_from", "shop@shop.example"),
            lambda: remove_tenant_setting("globex", "email_from"),
        ),
        (
            lambda: override_schedule("ab.hourlyMetrics", "globex", enabled=False),
            lambda: reset_schedule("ab.hourlyMetrics", "globex"),
        ),
    ],
    ids=["tenant", "queue", "setting", "schedule"],
)
def test_each_change_and_its_undoing_have_a_line(lines, change, undo):
    change()
    undo()
    assert [(line["who"], line["outcome"]) for line in lines()] == [("ada", "done")] * 2


def test_undoing_what_is_not_there_has_none(lines):
    resume_queue("nobody-paused-this")
    assert lines() == []


def test_a_tenant_is_noted_when_it_is_new_and_not_when_it_is_added_again(lines):
    tenant_id = f"t{os.urandom(4).hex()}"
    for _ in range(2):
        add_tenant(tenant_id)
    assert [line["action"] for line in lines()] == ["add tenant"]


def test_a_tenants_schedule_that_is_paused_and_resumed_has_a_line_for_each(lines):
    made = create_schedule("acme", "order.created", "0 7 * * *", payload={"orderId": "o-1", "totalAmount": 1.0})
    pause_schedule(made.id)
    pause_schedule(made.id)
    resume_schedule(made.id)
    assert [line["action"] for line in lines()] == ["pause tenant's schedule", "resume tenant's schedule"]


def test_who_is_given_counts_more_than_who_runs_the_process(lines):
    suspend_tenant("globex", by="billing")
    resume_tenant("globex")
    assert [line["who"] for line in lines()] == ["billing", "ada"]


def test_without_the_setting_it_is_the_user_of_the_system(lines, setting):
    import getpass

    setting(CGK_ACTOR="")
    pause_queue("audited")
    resume_queue("audited")
    assert lines()[0]["who"] == getpass.getuser()


def test_a_change_that_does_not_happen_has_no_line(lines):
    with suppress(ZeroDivisionError), transaction() as connection:
        note(connection, "pause queue", "audited")
        _ = 1 / 0
    assert lines() == []


def test_what_somebody_else_records_is_not_written_twice(lines):
    with recorded_elsewhere():
        pause_queue("audited")
        resume_queue("audited")
    assert lines() == []


def test_old_lines_of_programs_are_dropped_and_those_of_people_stay(lines):
    pause_queue("audited")
    with by_command_line():
        resume_queue("audited")
    with autocommit() as connection:
        connection.execute("UPDATE cgk.audit SET at = now() - interval '100 days'")
        forget_program_actions(connection, 90)
    assert [(line["action"], line["via"]) for line in lines()] == [("resume queue", "cli")]
