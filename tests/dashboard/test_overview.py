"""The first page: what came in and how it went, what waits, and where each number leads."""

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlparse

import pytest

from cgk_tasks.dashboard.data.overview import SPANS, overview
from cgk_tasks.dashboard.data.run_search import find_runs
from cgk_tasks.dashboard.run_query import run_filter
from cgk_tasks.runs.depths import note_depths
from cgk_tasks.sql.postgres import autocommit
from tests.dashboard.sample_runs import id_at
from tests.support.counting import count_all, forget_all_counts
from tests.support.lanes import note_used


@pytest.fixture(autouse=True)
def nothing(empty_record):
    forget_all_counts(hours=200)
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.used_shares, cgk.used_half_hours")


@pytest.fixture
def history(closed_run):
    """Runs of two tenants, sent and closed so many minutes ago."""

    def close(minutes, state="completed", tenant="acme"):
        at = datetime.now(UTC) - timedelta(minutes=minutes)
        return closed_run(state=state, tenant=tenant, age=60.0 * minutes, run_id=id_at(at))

    return close


def seen(span="1h", tenant=""):
    return overview(SPANS[span], tenant)


def totals(span="1h", tenant=""):
    whole = seen(span, tenant).counted.whole
    return whole.accepted, whole.completed, whole.failed


def test_an_hour_a_day_and_a_week(history):
    for minutes in (5, 120, 26 * 60, 6 * 24 * 60):
        history(minutes)
        history(minutes, "failed", "globex")
    count_all()
    assert [totals(span) for span in SPANS] == [(2, 1, 1), (4, 2, 2), (8, 4, 4)]


def test_of_one_tenant(history):
    history(5)
    history(5, "failed", "globex")
    count_all()
    assert totals(tenant="globex") == (1, 0, 1)


def test_each_bar_has_what_closed_in_it(history):
    history(3)
    history(3, "cancelled")
    history(40, "failed")
    history(40, "expired")
    count_all()
    bars = [bar for bar in seen().counted.bars if bar.accepted]
    assert [(bar.completed, bar.failed, bar.cancelled, bar.other) for bar in bars] == [(0, 1, 0, 1), (1, 0, 1, 0)]
    assert len(seen().counted.bars) == 60


def test_queues_have_their_length_and_the_longest_wait(open_run):
    ago = datetime.now(UTC) - timedelta(minutes=7)
    for _ in range(3):
        open_run(queue="exports", run_at=ago, created_at=ago)
    note_depths()
    view = seen()
    assert (view.queues[0].queue, view.queues[0].waiting) == ("exports", 3)
    assert (view.counted.bars[-1].waiting, round(view.counted.bars[-1].oldest_seconds / 60)) == (3, 7)
    assert any("exports" in chart.picture for chart in view.counted.charts)


def test_tenants_are_ranked_by_what_they_had_and_by_failures(history):
    note_used("q", "acme", {5: 30.0})
    note_used("q", "globex", {5: 10.0})
    history(5, "failed")
    history(5, "failed", "globex")
    history(5, "failed", "globex")
    count_all()
    counted = seen().counted
    assert [(one.tenant_id, one.amount, one.part) for one in counted.busiest] == [
        ("acme", 30.0, 0.75),
        ("globex", 10.0, 0.25),
    ]
    assert [(one.tenant_id, one.amount) for one in counted.failing] == [("globex", 2), ("acme", 1)]


@pytest.mark.parametrize("span", ["24h", "7d"])
def test_what_tenants_had_is_that_of_hours_that_are_over_and_of_the_one_that_goes_on(span):
    note_used("q", "acme", {150: 30.0, 0: 12.0})
    forget_all_counts(hours=6)
    count_all()
    assert [one.amount for one in seen(span).counted.busiest] == [42.0]


def test_it_says_how_far_has_been_counted(history):
    history(5)
    assert seen().counted.is_behind
    count_all()
    assert not seen().counted.is_behind


def test_a_database_that_is_not_migrated_yet_has_the_rest_of_the_page(open_run):
    open_run()
    with autocommit() as connection:
        connection.execute("ALTER TABLE cgk.count_progress RENAME TO count_progress_away")
    try:
        view = seen()
    finally:
        with autocommit() as connection:
            connection.execute("ALTER TABLE cgk.count_progress_away RENAME TO count_progress")
    assert (view.counted, view.open) == (None, {"pending": 1})


def links(text):
    """The searches that the page's links lead to, by their texts."""
    found = re.findall(r'<a[^>]* href="([^"]*)"[^>]*>(.*?)</a>', text)
    return {
        re.sub("<[^>]*>", "", said).strip(): parse_qs(urlparse(href.replace("&amp;", "&")).query)
        for href, said in found
    }


def test_every_number_leads_to_the_runs_that_it_counts(history, dashboard):
    failed = history(5, "failed")
    done = [history(20), history(3)]
    history(90, "failed")
    count_all()
    found = links(dashboard.browser("viola").open("/overview").text)
    wanted = {"failed 1": [failed], "completed 2": done[::-1], "3 accepted": [done[1], failed, done[0]]}
    for said, ids in wanted.items():
        (query,) = found[said]["q"]
        assert [run.id for run in find_runs(run_filter(query, datetime.now(UTC))).runs] == ids


def test_it_is_the_first_page(dashboard):
    viola = dashboard.browser("viola")
    assert viola.open("/").url == f"{viola.base}/overview"
    page = viola.open("/overview").text
    assert 'aria-current="page">Overview' in page
    assert 'href="/flower/"' in page


def test_a_tenant_that_is_not_there_is_said(dashboard):
    answer = dashboard.browser("viola").open("/overview?tenant=nobody")
    assert answer.status_code == 404
    assert "nobody" in answer.text


def test_names_from_outside_are_shown_as_text(dashboard, open_run):
    open_run(queue="<script>alert(1)</script>")
    note_depths()
    assert "<script>alert" not in dashboard.browser("viola").open("/overview").text
