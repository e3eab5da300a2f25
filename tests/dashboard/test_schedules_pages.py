"""The pages of schedules: the coming day, what became of the last ticks, and actions in each row."""

import html
import re
from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks.dashboard import audit
from cgk_tasks.runs.job_events import Route, note_job_events
from cgk_tasks.runs.sealing import seal
from cgk_tasks.runs.tick_outcomes import count_outcomes
from cgk_tasks.schedules.fan_out import fire
from cgk_tasks.schedules.history import coverage_in_short, last_coverage
from cgk_tasks.schedules.lookup import all_schedules, find_schedule
from cgk_tasks.schedules.overrides import override_schedule, reset_schedule
from cgk_tasks.schedules.reach import reach_of_tick, tenants_reached
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.tenancy import resume_tenant, suspend_tenant

NAME = "ab.hourlyMetrics"
PLATFORM = "ops.dailyCleanup"


@pytest.fixture(autouse=True)
def clean(database):
    with autocommit() as connection:
        connection.execute(
            "TRUNCATE cgk.runs, cgk.run_history, cgk.schedule_ticks, cgk.schedules, cgk.idempotency_keys,"
            " cgk.job_events"
        )


@pytest.fixture
def with_jobs(database):
    """Some worker has a job for each event of the table."""
    with autocommit() as connection:
        note_job_events(connection, {one.event: Route() for one in all_schedules().values()})


@pytest.fixture
def suspended(database):
    suspend_tenant("globex", by="billing")
    yield
    resume_tenant("globex")


def text_of(answer):
    assert answer.status_code == 200, answer.text
    return " ".join(answer.text.split())


def row_of(text, name):
    return next(row for row in re.findall(r"<tr>.*?</tr>", text) if f'href="/schedules/{name}"' in row)


def put(name, **columns):
    """An entry as beat has seen it."""
    one = find_schedule(name)
    values = {
        "name": name, "event": one.event, "cron": one.cron, "timezone": one.timezone, "is_enabled": True,
        "is_listed": True, "seeded_cron": one.cron, "seeded_timezone": one.timezone, "seeded_enabled": True,
        "done_until": datetime.now(UTC), **columns,
    }  # fmt: skip
    names = ", ".join(values)
    marks = ", ".join(f"%({column})s" for column in values)
    with autocommit() as connection:
        connection.execute(f"INSERT INTO cgk.schedules ({names}) VALUES ({marks})", values)


def test_the_day_has_every_entry_and_the_picture_leads_to_each(viola, with_jobs):
    text = text_of(viola.open("/schedules/coming-day"))
    assert len(re.findall(r'<a href="/schedules/[^"]+" aria-label=', text)) == len(all_schedules())
    assert '<svg class="chart day"' in text


def test_the_times_are_those_in_force(viola, with_jobs):
    put(NAME, cron="17 3 * * *", timezone="UTC")
    assert '<td class="number">1</td>' in row_of(text_of(viola.open("/schedules/coming-day")), NAME)


def test_who_is_paused_or_has_no_job_is_told_apart_and_makes_no_runs(viola):
    put(NAME, is_enabled=False)
    text = text_of(viola.open("/schedules/coming-day"))
    assert ">paused<" in row_of(text, NAME)
    assert f"{NAME} (paused)" in text
    other = next(name for name in all_schedules() if name != NAME)
    assert ">no job<" in row_of(text, other)
    assert "<strong>0</strong> ticks of 0 schedules, which make at most <strong>0</strong> runs" in text


def test_only_matching_entries_are_in_the_day(viola, with_jobs):
    text = text_of(viola.open(f"/schedules/coming-day?text={NAME}"))
    assert "1 entries" in text
    assert PLATFORM not in text


def test_runs_are_ticks_times_the_tenants_that_a_tick_reaches(suspended):
    override_schedule(NAME, "acme", enabled=False)
    try:
        found = tenants_reached([find_schedule(NAME), find_schedule(PLATFORM)])
    finally:
        reset_schedule(NAME, "acme")
    assert found == {NAME: 1, PLATFORM: 1}  # of acme, globex and initech one is suspended, and one has switched it off


def test_what_a_tick_would_reach_now_is_what_it_reaches(suspended):
    schedule = find_schedule(NAME)
    fire(schedule, datetime.now(UTC), tenant_id="acme", by_hand=True)
    expected = reach_of_tick(schedule)
    tick = fire(schedule, datetime.now(UTC) + timedelta(seconds=1), by_hand=True)
    assert (expected.runs, expected.suspended, expected.overlapping) == (tick.runs, tick.suspended, tick.overlapping)
    assert (tick.runs, tick.suspended, tick.overlapping) == (1, 1, 1)


def test_the_list_has_a_strip_with_words_for_each_entry_that_has_ticked(viola):
    put(NAME)
    now = datetime.now(UTC)
    for hour in range(3):
        fire(find_schedule(NAME), now - timedelta(hours=3 - hour), tenant_id="acme")
        with autocommit() as connection:
            connection.execute("DELETE FROM cgk.runs")
    fire(find_schedule(NAME), now - timedelta(seconds=5))
    count_outcomes()
    row = row_of(text_of(viola.open("/schedules")), NAME)
    assert 'aria-label="Last 4 ticks: 1 with open runs, 3 completed. The last one: 3 open"' in row
    assert re.findall(r'<i class="(\w+)"', row) == ["completed"] * 3 + ["open"]


def test_the_page_of_an_entry_has_the_counts_of_its_ticks(viola):
    put(NAME)
    fire(find_schedule(NAME), datetime.now(UTC) - timedelta(hours=1))
    text = text_of(viola.open(f"/schedules/{NAME}"))
    assert "not counted yet" in text
    count_outcomes()
    text = text_of(viola.open(f"/schedules/{NAME}"))
    assert "not counted yet" not in text
    assert 'class="strip"' in text


def test_a_viewer_sees_no_buttons_and_nobody_asks_him_whether_to_run(viola):
    text = text_of(viola.open("/schedules"))
    assert "run-now" not in text
    assert "/pause" not in text
    assert viola.open(f"/schedules/{NAME}/run-now").status_code == 403


def test_run_now_says_first_how_many_tenants_it_reaches(oscar, suspended, with_jobs):
    text = text_of(oscar.open("/schedules"))
    assert f'href="/schedules/{NAME}/run-now"' in row_of(text, NAME)
    page = oscar.open(f"/schedules/{NAME}/run-now")
    assert '<strong id="reach">2 tenants</strong>' in page.text
    assert "1 suspended" in page.text
    with autocommit() as connection:
        assert connection.execute("SELECT count(*) FROM cgk.runs").fetchone()[0] == 0
    answer = oscar.submit(page, f"/schedules/{NAME}/trigger")
    assert "Ticked now: 2 runs." in answer.text
    line = audit.lines(limit=1)[0]
    assert (line.action, line.subject, line.affected) == ("trigger schedule", NAME, 2)


def test_run_now_for_one_tenant(oscar, with_jobs):
    page = oscar.open(f"/schedules/{NAME}/run-now?tenant=acme")
    assert "1 tenant</strong>, acme alone" in page.text
    oscar.submit(page, f"/schedules/{NAME}/trigger")
    with autocommit() as connection:
        assert connection.execute("SELECT tenant_id FROM cgk.runs").fetchall() == [("acme",)]


def test_run_now_says_that_nobody_has_a_job(oscar):
    assert "would end as unhandled" in oscar.open(f"/schedules/{NAME}/run-now").text


def test_run_now_of_one_for_the_platform_reaches_the_platform(oscar, with_jobs):
    assert "the platform, 1 run" in oscar.open(f"/schedules/{PLATFORM}/run-now").text


@pytest.mark.parametrize(("path", "status"), [("no.such/run-now", 404), (f"{NAME}/run-now?tenant=nobody", 404)])
def test_what_is_not_there_cannot_be_run(oscar, path, status):
    assert oscar.open(f"/schedules/{path}").status_code == status


def test_pause_and_resume_in_the_list_stay_in_the_list(oscar, django_tables):
    page = oscar.submit(oscar.open("/schedules?text=ab."), f"/schedules/{NAME}/pause")
    assert page.url.endswith("/schedules?text=ab.")
    assert f"{NAME} is paused." in page.text
    assert audit.lines(limit=1)[0].action == "pause schedule"
    token = {"_xsrf": oscar.cookies["_xsrf"], "from": "list"}
    answer = oscar.post(f"{oscar.base}/schedules/{NAME}/resume", data=token, timeout=30)
    assert f"{NAME} ticks again" in answer.text


@pytest.fixture(scope="module")
def django_tables(database):
    """`cgk-tasks migrate` makes them."""
    import subprocess
    import sys

    subprocess.run([sys.executable, "-m", "cgk_tasks.cli", "migrate"], check=True)


@pytest.fixture
def ticked(with_jobs, suspended):
    """A tick for all of three tenants but one that is suspended and one that has switched the schedule off."""
    override_schedule(NAME, "initech", enabled=False)
    fire(find_schedule(NAME), datetime.now(UTC).replace(minute=0, second=0, microsecond=0))
    yield
    reset_schedule(NAME, "initech")


def test_the_page_says_which_tenants_the_last_tick_did_not_reach(viola, ticked):
    text = text_of(viola.open(f"/schedules/{NAME}"))
    assert "<strong>1 of 3</strong> tenants" in text
    assert "<td>globex</td><td>suspended</td>" in text
    assert "<td>initech</td><td>switched off</td>" in text


@pytest.mark.parametrize("run", ["open", "closed"])
def test_the_page_and_the_command_say_the_same_of_a_tick(ticked, run):
    if run == "closed":
        with autocommit() as connection:
            connection.execute(
                "WITH gone AS (DELETE FROM cgk.runs RETURNING *) INSERT INTO cgk.run_history (id, tenant_id, event,"
                " state, queue, priority, sealed_payload, run_at, schedule, scheduled_for) SELECT id, tenant_id, event,"
                " 'completed', queue, priority, sealed_payload, run_at, schedule, scheduled_for FROM gone"
            )
    at, rows = last_coverage(find_schedule(NAME))
    found = coverage_in_short(find_schedule(NAME), most=1)
    missed = [{"tenant_id": row["tenant_id"], "reason": row["reason"]} for row in rows if row["run_id"] is None]
    assert (found.scheduled_for, found.tenants, found.reached) == (at, len(rows), len(rows) - len(missed))
    assert found.missed == missed[:1]


def test_a_schedule_that_has_not_ticked_has_no_coverage(viola):
    assert coverage_in_short(find_schedule(NAME), most=1) is None
    assert "It has not ticked yet." in text_of(viola.open(f"/schedules/{NAME}"))


@pytest.fixture
def many_of_tenants(database):
    """101 schedules that acme made, and one of globex."""
    made = (
        "INSERT INTO cgk.tenant_schedules (id, tenant_id, event, sealed_payload, cron, timezone, misfire, overlap,"
        " max_age, done_until, next_at) SELECT gen_random_uuid(), tenant, 'email.send', %s, '0 7 * * *', 'UTC',"
        " 'latest', 'skip', 60, now(), now() + interval '1 day' FROM (SELECT CASE WHEN n = 1 THEN 'globex' ELSE 'acme'"
        " END AS tenant FROM generate_series(1, 102) AS n) AS tenants"
    )
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.tenant_schedules")
        connection.execute(made, [seal("acme", "payload", "{}")])
    yield
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.tenant_schedules")


def test_schedules_of_tenants_come_page_by_page(viola, many_of_tenants):
    first = viola.open("/schedules/of-tenants")
    assert "The first 100 of 102, by tenant." in text_of(first)
    (following,) = re.findall(r'rel="next" href="([^"]+)"', first.text)
    second = text_of(viola.open(html.unescape(following)))
    assert (second.count('<th scope="row">acme</th>'), second.count('<th scope="row">globex</th>')) == (1, 1)
    assert 'rel="next"' not in second


def test_schedules_of_one_tenant_are_its_own(viola, many_of_tenants):
    text = text_of(viola.open("/schedules/of-tenants?tenant=globex"))
    assert "The first 1 of 1, by tenant." in text
    assert "acme" not in text[text.index("<main") :]
