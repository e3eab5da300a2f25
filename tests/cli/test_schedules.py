"""`cgk-tasks schedules` and `cgk-tasks admin`."""

import threading
from datetime import UTC, datetime

import httpx
import pytest

from cgk_tasks import define_job
from cgk_tasks.jobs.registry import remove_job
from cgk_tasks.runs.job_events import Route, note_job_events
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.tenancy import resume_tenant, suspend_tenant

NAME = "subscription.dailyBilling"
TASKS = "/django_celery_beat/periodictask/"
NO_TASKS = {"periodictask_set-TOTAL_FORMS": "0", "periodictask_set-INITIAL_FORMS": "0"}
"""A crontab's page has a table of its tasks, which stays empty."""


@pytest.fixture(autouse=True)
def clean(django_tables):
    from django_celery_beat.models import PeriodicTask

    PeriodicTask.objects.all().delete()
    with autocommit() as connection:
        connection.execute(
            "TRUNCATE cgk.schedules, cgk.schedule_ticks, cgk.schedule_overrides, cgk.runs, cgk.job_events"
        )


def test_the_list_shows_every_schedule_of_the_table(cgk):
    from cgk_tasks import SCHEDULES

    rows = cgk("schedules", "list", "--json").json
    assert {row["name"] for row in rows} >= set(SCHEDULES)
    assert next(row for row in rows if row["name"] == "ab.hourlyMetrics")["cron"] == "15 * * * *"


def test_the_list_shows_which_schedules_have_a_job(cgk):
    define_job("bill", event="subscription.billing")(print)
    rows = {row["name"]: row for row in cgk("schedules", "list", "--json").json}
    remove_job("bill")
    assert (rows[NAME]["jobs"], rows[NAME]["state"]) == (1, "active")
    other = rows["ab.hourlyMetrics"]
    assert (other["jobs"], other["state"], other["next_tick"]) == (0, "no job", None)


def test_a_schedule_is_shown_with_its_policies(cgk):
    shown = cgk("schedules", "show", NAME, "--json").json
    assert (shown["misfire"], shown["overlap"], shown["payload"]) == ("once", "skip", {})


def test_an_unknown_name_is_an_error_that_offers_the_nearest(cgk):
    outcome = cgk("schedules", "show", "subscription.dailyBiling")
    assert outcome.code == 1
    assert NAME in outcome.err


def test_a_part_of_a_name_offers_the_name_that_has_it(cgk):
    assert 'Did you mean "ab.nightlyReconciliation"?' in cgk("schedules", "show", "nightly").err


def test_a_schedule_that_is_paused_by_command_is_in_the_audit(cgk):
    cgk("schedules", "pause", NAME)
    with autocommit() as connection:
        row = connection.execute("SELECT via, action, subject FROM cgk.audit ORDER BY id DESC LIMIT 1").fetchone()
    assert row == ("cli", "pause schedule", NAME)


def test_a_preview_shows_local_and_utc_time_through_the_change_of_the_clocks(cgk):
    lines = cgk(
        "schedules", "preview", "ab.dailySummary", "--from", "2026-03-07T00:00:00Z", "--days", "3"
    ).out.splitlines()
    assert [line.split("  ")[1] for line in lines] == [
        "2026-03-07T13:00:00Z",
        "2026-03-08T12:00:00Z",
        "2026-03-09T12:00:00Z",
    ]


@pytest.mark.slow
def test_a_paused_schedule_stays_paused_when_beat_comes(cgk):
    from cgk_tasks import SCHEDULES
    from cgk_tasks.schedules.engine import Engine

    cgk("schedules", "pause", NAME)
    Engine(SCHEDULES).reload()
    shown = cgk("schedules", "show", NAME, "--json").json
    assert (shown["state"], shown["overridden"]) == ("paused", True)


@pytest.mark.slow
def test_a_resumed_schedule_is_no_longer_overridden(cgk):
    from cgk_tasks import SCHEDULES
    from cgk_tasks.schedules.engine import Engine

    for action in ("pause", "resume"):
        cgk("schedules", action, NAME)
        Engine(SCHEDULES).reload()
    shown = cgk("schedules", "show", NAME, "--json").json
    assert (shown["state"], shown["overridden"]) == ("no job", False)


def test_a_triggered_schedule_makes_its_runs_at_once_for_one_tenant_or_all(cgk):
    one = cgk("schedules", "trigger", NAME, "--tenant", "acme", "--json").json
    everyone = cgk("schedules", "trigger", NAME, "--json").json
    assert (one["runs"], everyone["overlapping"]) == (1, 1)
    assert everyone["runs"] >= 2


def test_coverage_names_the_tenants_without_a_run_and_why(cgk):
    from cgk_tasks import SCHEDULES, override_schedule
    from cgk_tasks.schedules.fan_out import fire

    suspend_tenant("globex")
    override_schedule(NAME, "initech", enabled=False)
    fire(SCHEDULES[NAME], datetime(2026, 3, 2, 6, tzinfo=UTC))
    resume = cgk("schedules", "coverage", NAME, "--json").json
    resume_tenant("globex")
    reasons = {row["tenant_id"]: row["reason"] for row in resume["tenants"]}
    assert reasons | {"globex": "suspended", "initech": "switched off"} == reasons
    assert "acme" not in reasons


def test_the_doctor_fails_while_a_schedule_is_late(cgk):
    with autocommit() as connection:
        note_job_events(connection, {"system.cleanup": Route()})
        connection.execute(
            """INSERT INTO cgk.schedules VALUES ('ops.dailyCleanup', 'system.cleanup', '* * * * *', 'UTC', true, true,
                                                 '* * * * *', 'UTC', true, now() - interval '1 hour')"""
        )
    findings = cgk("doctor", "--json").json
    assert [one["level"] for one in findings if one["check"] == "schedules"] == ["FAIL"]


def test_the_doctor_counts_the_schedules_that_have_no_job_apart(cgk):
    from cgk_tasks import SCHEDULES
    from cgk_tasks.schedules.engine import Engine

    Engine({NAME: SCHEDULES[NAME]}).reload()
    with autocommit() as connection:
        connection.execute("INSERT INTO cgk.leases VALUES ('beat', gen_random_uuid(), now() + interval '1 minute')")
    findings = cgk("doctor", "--json").json
    (schedules,) = [one for one in findings if one["check"] == "schedules"]
    assert (schedules["level"], "1 do not" in schedules["message"]) == ("OK", True)


def test_a_trigger_of_a_schedule_without_a_job_warns(cgk):
    assert "nobody has a job for subscription.billing" in cgk("schedules", "trigger", NAME, "--tenant", "acme").err


# The admin


@pytest.fixture
def admin_pages():
    """The admin, served by a thread on a free port."""
    from django.contrib.staticfiles.handlers import StaticFilesHandler
    from django.core.servers.basehttp import (
        ThreadedWSGIServer,
        WSGIRequestHandler,
        get_internal_wsgi_application,
    )

    server = ThreadedWSGIServer(("127.0.0.1", 0), WSGIRequestHandler)
    server.set_app(StaticFilesHandler(get_internal_wsgi_application()))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def operator(admin_pages):
    """A browser that has logged in, and sends forms with the token that it was given."""
    from cgk_tasks.schedules.admin_server import ensure_login

    with httpx.Client(base_url=f"{admin_pages}/admin", follow_redirects=True, timeout=60) as browser:

        def send(path, **fields):
            headers = {"Referer": f"{admin_pages}/admin{path}"}
            return browser.post(
                path, data={**fields, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}, headers=headers
            )

        browser.send_form = send
        assert "Log in" in browser.get(TASKS).text
        send("/login/", username="admin", password=ensure_login(reset=True), next=f"/admin{TASKS}")
        yield browser


@pytest.mark.slow
def test_the_admin_shows_the_schedules_after_a_login(operator):
    assert "Select periodic task to change" in operator.get(TASKS).text


@pytest.mark.slow
def test_a_schedule_that_is_disabled_in_the_admin_is_paused(cgk, operator):
    from django_celery_beat.models import PeriodicTask

    from cgk_tasks import SCHEDULES
    from cgk_tasks.schedules.engine import Engine

    Engine(SCHEDULES).reload()
    entry = PeriodicTask.objects.get(name=NAME)
    operator.get(TASKS)
    operator.send_form(TASKS, action="disable_tasks", _selected_action=str(entry.pk))
    Engine(SCHEDULES).reload()
    shown = cgk("schedules", "show", NAME, "--json").json
    assert (shown["state"], shown["overridden"]) == ("paused", True)


def filled_in(entry):
    """The form of an entry, as its page shows it."""
    from django.forms.models import model_to_dict

    shown = {name: value for name, value in model_to_dict(entry).items() if value not in {None, False}}
    return {name: "on" if value is True else str(value) for name, value in shown.items()}


@pytest.mark.slow
def test_a_schedule_that_gets_another_crontab_in_the_admin_is_moved(cgk, operator):
    from django_celery_beat.models import CrontabSchedule, PeriodicTask

    from cgk_tasks import SCHEDULES
    from cgk_tasks.schedules.engine import Engine

    Engine(SCHEDULES).reload()
    operator.get("/django_celery_beat/crontabschedule/add/")
    operator.send_form(
        "/django_celery_beat/crontabschedule/add/", minute="30", hour="4", day_of_week="*", day_of_month="*",
        month_of_year="*", timezone="Europe/Berlin", **NO_TASKS,
    )  # fmt: skip
    made = CrontabSchedule.objects.get(minute="30", hour="4")
    entry = PeriodicTask.objects.get(name=NAME)
    path = f"{TASKS}{entry.pk}/change/"
    operator.get(path)
    operator.send_form(path, **{**filled_in(entry), "crontab": str(made.pk)})
    Engine(SCHEDULES).reload()
    shown = cgk("schedules", "show", NAME, "--json").json
    assert (shown["cron"], shown["timezone"], shown["overridden"]) == ("30 4 * * *", "Europe/Berlin", True)


def test_the_password_is_made_once():
    from cgk_tasks.schedules.admin_server import ensure_login

    ensure_login(reset=True)
    assert ensure_login() is None
