"""The pages of events and jobs: what they are, and how their runs went."""

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, quote, urlparse

import pytest

from cgk_tasks.admission.guards import Guard
from cgk_tasks.admission.rules import AtOnce, Throttle
from cgk_tasks.admission.send_rules import Batch, Debounce, RateLimit, Singleton
from cgk_tasks.dashboard.data.job_words import exactly, facts_of_job
from cgk_tasks.dashboard.data.run_search import find_runs
from cgk_tasks.dashboard.data.work import SPANS, day_of_events, day_of_jobs, work_of_event, work_of_job
from cgk_tasks.dashboard.run_query import run_filter
from cgk_tasks.jobs.registry import Job
from cgk_tasks.jobs.retry import RetryConfig
from cgk_tasks.runs.job_events import Route, note_job_events, note_rules
from cgk_tasks.sql.postgres import autocommit
from tests.dashboard.sample_runs import id_at
from tests.support.counting import count_all, forget_all_counts

WORKER = "01a20143-39c3-702f-a327-7b42b6a69ad6"


@pytest.fixture(scope="module")
def dashboard(start_dashboard):
    return start_dashboard(CGK_JOB_MODULES="tests.support.form_jobs")


@pytest.fixture(autouse=True)
def nothing(empty_record):
    forget_all_counts(hours=200)
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.job_events")


@pytest.fixture
def history(closed_run):
    """Runs of an event and job, sent and closed so many minutes ago."""

    def close(minutes, state="completed", event="order.created", job="parcel-receipt", ran=0.5, waited=0.1, **columns):
        at = datetime.now(UTC) - timedelta(minutes=minutes)
        started = at - timedelta(seconds=ran)
        due = started - timedelta(seconds=waited)
        times = {"run_at": due, "created_at": due, "started_at": started, "closed_at": at}
        return closed_run(event, state=state, job=job, run_id=id_at(at), worker_id=WORKER, **times, **columns)

    return close


def counted(work):
    whole = work.whole.counts
    return whole.accepted, whole.completed, whole.failed, whole.cancelled


@pytest.mark.parametrize(("span", "runs"), [("1h", 1), ("24h", 2), ("7d", 3)])
def test_the_runs_of_an_event_over_an_hour_a_day_and_a_week(history, span, runs):
    for minutes in (5, 120, 26 * 60):
        history(minutes)
        history(minutes, "failed", event="order.fulfilled")
    count_all()
    assert counted(work_of_event("order.created", SPANS[span])) == (runs, runs, 0, 0)
    assert counted(work_of_event("order.fulfilled", SPANS[span])) == (runs, 0, runs, 0)


def test_a_job_has_the_runs_that_were_its_own_whatever_their_event(history):
    history(5)
    history(5, "failed", job="other")
    history(5, "cancelled", event="order.fulfilled")
    count_all()
    work = work_of_job("parcel-receipt", SPANS["1h"])
    assert counted(work) == (0, 1, 0, 1)
    assert len(work.bars) == 60


def test_each_bar_has_what_closed_in_it(history):
    history(3)
    history(3, "failed")
    history(40, "failed")
    count_all()
    bars = [bar for bar in work_of_event("order.created", SPANS["1h"]).bars if bar.counts.accepted]
    assert [(bar.counts.completed, bar.counts.failed, bar.failure_rate) for bar in bars] == [(0, 1, 1.0), (1, 1, 0.5)]


def test_percentiles_of_how_long_runs_took_and_waited(history):
    for _ in range(18):
        history(5, ran=0.2, waited=1.0)
    history(5, "failed", ran=4.0, waited=30.0)
    history(5, "failed", ran=50.0, waited=30.0)
    history(5, "cancelled", ran=3000.0)
    count_all()
    whole = work_of_event("order.created", SPANS["24h"]).whole
    assert whole.ran.runs == 20
    assert [whole.ran.p50, whole.ran.p95, whole.ran.p99] == [pytest.approx(one, rel=0.1) for one in (0.2, 4, 50)]
    assert [whole.waited.p50, whole.waited.p99] == [pytest.approx(1, rel=0.1), pytest.approx(30, rel=0.1)]
    assert whole.failure_rate == 0.1


def test_without_runs_nothing_is_said_about_them():
    count_all()
    whole = work_of_event("order.created", SPANS["1h"]).whole
    assert (whole.failure_rate, whole.ran.p50, whole.waited.p99) == (None, None, None)


def test_it_says_since_when_is_counted_where_that_is_not_long_ago():
    count_all()
    assert work_of_event("order.created", SPANS["7d"]).counted_from is not None
    with autocommit() as connection:
        connection.execute("UPDATE cgk.count_progress SET by_work_since = now() - interval '8 days'")
    assert work_of_event("order.created", SPANS["7d"]).counted_from is None


def test_a_day_of_all_events_and_jobs(history):
    history(5)
    history(120, "failed", ran=2.0)
    history(30 * 60, "failed")
    count_all()
    events, jobs = day_of_events(), day_of_jobs()
    assert (events["order.created"].accepted, events["order.created"].failed) == (2, 1)
    assert (jobs["parcel-receipt"].completed, jobs["parcel-receipt"].events) == (1, ("order.created",))
    assert jobs["parcel-receipt"].ran.p95 == pytest.approx(2.0, rel=0.1)


def test_before_the_migration_the_page_is_there_without_the_figures(viola):
    with autocommit() as connection:
        connection.execute("ALTER TABLE cgk.work_counts RENAME TO work_counts_away")
    try:
        answers = [viola.open(path) for path in ("/events", "/events/order.created", "/jobs", "/jobs/tell-carrier")]
    finally:
        with autocommit() as connection:
            connection.execute("ALTER TABLE cgk.work_counts_away RENAME TO work_counts")
    assert [answer.status_code for answer in answers] == [200] * 4
    assert "run cgk-tasks migrate" in answers[1].text


def test_the_list_of_events_has_their_jobs_and_their_day(viola, history):
    history(5, "failed")
    count_all()
    text = viola.open("/events", params={"text": "order.created"}).text
    row = re.search(r'<tr>\s*<th scope="row"><a href="/events/order.created".*?</tr>', text, re.DOTALL)[0]
    assert "parcel-receipt" in row
    assert ">100 %<" in row


def test_the_list_of_events_can_be_narrowed(viola, history):
    history(5)
    count_all()
    assert set(named(viola, "/events?only=day")) == {"order.created"}
    assert {"order.created", "parcel.packed"} <= set(named(viola, "/events?only=jobs"))
    assert set(named(viola, "/events?text=tell-carrier")) == {"parcel.packed"}


def named(browser, path):
    return re.findall(r'<th scope="row"><a href="/events/([^"]*)"', browser.open(path).text)


def test_an_events_page_has_its_fields_with_what_is_personal(viola):
    text = viola.open("/events/parcel.packed").text
    assert "A parcel is ready for its carrier." in text
    rows = re.findall(r'<tr><th scope="row">([\w.]+)</th><td class="wrap">(.*?)</td><td>(.*?)</td><td>(.*?)</td>', text)
    fields = {name: (kind, required, bool(personal)) for name, kind, required, personal in rows}
    assert fields["weight"] == ("number", "yes", False)
    assert fields["carrier"] == ("one of &quot;post&quot;, &quot;courier&quot;", "", False)
    assert fields["address.street"] == ("text", "yes", True)
    assert "Weight in kg" in text
    assert "more than 0, at most 30" in text


def test_a_viewer_has_no_link_to_the_form(viola, dashboard):
    assert 'id="send"' not in viola.open("/events/parcel.packed").text
    assert 'id="send"' in dashboard.browser("oscar").open("/events/parcel.packed").text


def test_an_event_that_nobody_knows_is_not_found(viola):
    answer = viola.open("/events/order.creatd")
    assert answer.status_code == 404
    assert "There is no event" in answer.text


def test_an_event_that_is_on_record_alone_has_its_figures(viola, history):
    history(5, event="shop.tasks.resize", job=None)
    count_all()
    text = viola.open("/events/shop.tasks.resize?span=1h").text
    assert "1 accepted" in text
    assert "not known here" in text


def test_its_dead_letters_and_schedules_are_on_its_page(viola, closed_run):
    closed_run("ops.cleanup", message="no room", code="NO_ROOM")
    closed_run(message="other", code="OTHER")
    text = viola.open("/events/order.created").text
    groups = re.findall(r'href="/dead-letters/group\?([^"]*)"', text)
    assert [parse_qs(one.replace("&amp;", "&"))["event"] for one in groups] == [["order.created"]]
    assert ">OTHER</a>" in text
    assert "/schedules/ops.dailyCleanup" in viola.open(f"/events/{scheduled_event()}").text


def scheduled_event():
    from cgk_tasks.schedules.lookup import find_schedule

    return find_schedule("ops.dailyCleanup").event


def test_a_jobs_page_says_in_words_what_it_wants(viola):
    text = viola.open("/jobs/tell-carrier").text
    for said in (
        "Tells the carrier that a parcel waits.", "5 attempts", "1 min; a job that ignores it",
        "at most 3 of each tenant", "at most one open run of each tenant and parcelId", "1 h after it is due",
    ):  # fmt: skip
        assert said in text
    assert "/events/parcel.packed" in text


def test_a_job_that_workers_alone_know_has_what_they_said(viola):
    limits = (
        '{"job": "of-workers", "limits": [{"kind": "at_once", "limit": 2, "per": "all", "key": null, "lend_to": null}]}'
    )
    routes = {"order.fulfilled": Route("slow", 3, limits, None)}
    with autocommit() as connection:
        note_job_events(connection, routes)
        note_rules(connection, routes)
    text = viola.open("/jobs/of-workers").text
    assert "at most 2 of all tenants together" in text
    assert "Its code is not known here" in text
    assert "/jobs/of-workers" in viola.open("/jobs").text
    assert "/jobs/of-workers" in viola.open("/events/order.fulfilled").text


def test_a_job_with_any_name_has_a_page(viola, history):
    name = "a/b: c"
    history(5, job=name)
    count_all()
    answer = viola.open(f"/jobs/{quote(name, safe='')}?span=1h")
    assert answer.status_code == 200
    assert "completed 1" in answer.text
    assert set(found(links(answer.text))) == {1}
    assert viola.open("/jobs/nobody-has-it").status_code == 404


@pytest.mark.parametrize("path", ["/events/order.created", "/jobs/parcel-receipt"])
@pytest.mark.parametrize("span", ["1h", "24h", "7d"])
def test_each_number_leads_to_the_runs_that_it_counts(viola, history, path, span):
    for minutes in (5, 45):
        history(minutes)
        history(minutes, "failed")
        history(minutes, "cancelled")
        history(minutes, event="order.fulfilled", job="other")
    count_all()
    text = viola.open(path, params={"span": span}).text
    numbers = links(text)
    assert len(numbers) >= 4
    assert found(numbers) == [count for _, count in numbers]


def links(text):
    """Where numbers lead, and what they say."""
    pattern = r'href="/runs\?([^"]*)">(?:completed |failed |cancelled )?([\d,]+)(?: accepted)?</a>'
    return [(query.replace("&amp;", "&"), int(count)) for query, count in re.findall(pattern, text) if count != "0"]


def found(numbers):
    queries = [parse_qs(urlparse(f"?{query}").query)["q"][0] for query, _ in numbers]
    return [len(find_runs(run_filter(query, datetime.now(UTC))).runs) for query in queries]


def job(**options):
    return Job("a-job", "order.created", lambda ctx: None, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retry": RetryConfig(max_attempts=1)}, "none: one attempt"),
        (
            {"retry": RetryConfig(max_attempts=4, initial_delay=10, factor=3, max_delay=600, jitter=False)},
            "4 attempts; after the first failure 10 s, then 3 times as long each time, at most 10 min",
        ),
        (
            {"retry": RetryConfig(backoff="fixed", initial_delay=90, max_delay=90, max_elapsed=7200, jitter=False)},
            "3 attempts; after the first failure 90 s, then always as long; no attempt later than 2 h",
        ),
        ({"timeout": 60.0}, "1 min; a job that ignores it is ended after"),
        ({"limits": (AtOnce(5, lend_to=8),)}, "at most 5 of each tenant; up to 8 while nobody else waits"),
        ({"limits": (Throttle(10, every=60, burst=3, per="all"),)}, "at most 10 starts in 1 min of all tenants"),
        ({"limits": (Guard("bank", 4),)}, "bank: at most 4 at once of all tenants together"),
        ({"send_rules": (Singleton(on_conflict="cancel_old"),)}, "a further send cancels it"),
        ({"send_rules": (Debounce(30, max_wait=300),)}, "30 s after the last send, at most 5 min after the first"),
        ({"send_rules": (Batch(100, max_wait=10),)}, "one run for 100 sends of each tenant, or 10 s after the first"),
        ({"send_rules": (RateLimit(5, every=3600),)}, "at most 5 sends accepted in 1 h of each tenant"),
        ({"ttl": 86_400.0}, "1 d after it is due"),
        ({"redelivery": False}, "fails with WORKER_LOST"),
        ({"shares_transaction": True}, "shared with other runs"),
        ({"queue": "slow"}, "slow"),
        ({"priority": 9}, "9"),
    ],
)  # fmt: skip
def test_what_a_job_declares_in_words(options, said):
    assert any(said in fact.text for fact in facts_of_job(job(**options)))


def test_lengths_are_said_as_somebody_wrote_them():
    assert [exactly(one) for one in (0.5, 90, 120, 3600, 86_400)] == ["0.5 s", "90 s", "2 min", "1 h", "1 d"]
