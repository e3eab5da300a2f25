"""What a search for runs means."""

from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks.dashboard.data.run_search import RunFilter
from cgk_tasks.dashboard.run_query import fix_times, only_id, run_filter, search_text, suggestions, with_state
from cgk_tasks.dashboard.saved_views import built_in
from cgk_tasks.dashboard.search_syntax import SearchError
from cgk_tasks.runs.models import CLOSED_STATES, OPEN_STATES

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_every_term_has_its_place_in_the_filter():
    text = (
        "tenant:acme event:order.* job:pay state:FAILED error:HTTP_* queue:slow since:1h until:2026-03-01T11:30 "
        "closed-since:2026-03-01 closed-until:30m o-1"
    )
    assert run_filter(text, NOW) == RunFilter(
        tenant_id="acme", event="order.*", job="pay", state="failed", error_code="HTTP_*", queue="slow",
        since=NOW - timedelta(hours=1), until=datetime(2026, 3, 1, 11, 30, tzinfo=UTC),
        closed_since=datetime(2026, 3, 1, tzinfo=UTC), closed_until=NOW - timedelta(minutes=30), text="o-1",
    )  # fmt: skip


def test_nothing_is_the_filter_of_all_runs():
    assert run_filter("", NOW) == RunFilter()


@pytest.mark.parametrize(
    ("ago", "wanted"),
    [("90s", timedelta(seconds=90)), ("5m", timedelta(minutes=5)), ("2d", timedelta(2)), ("1w", timedelta(7))],
)
def test_times_ago(ago, wanted):
    assert run_filter(f"since:{ago}", NOW).since == NOW - wanted


def test_a_time_with_an_offset_is_taken_by_it():
    assert run_filter("since:2026-03-01T12:00+02:00", NOW).since == NOW - timedelta(hours=2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tenant:acme state:faild", "at character 13, there is no state 'faild'"),
        ("since:yesterday", "at character 1, since: must be a time, not 'yesterday'"),
        ("since:999999w", "at character 1, since: must be a time, not '999999w'"),
        ("state:failed state:held", "at character 14, state: is there twice"),
    ],
)
def test_a_term_that_means_nothing_is_refused_with_its_place(text, said):
    with pytest.raises(SearchError) as caught:
        run_filter(text, NOW)
    assert caught.value.problem == said
    assert caught.value.hint


@pytest.mark.parametrize(
    ("older", "wanted"),
    [
        ({"tenant": "acme", "state": "failed"}, RunFilter(tenant_id="acme", state="failed")),
        ({"event": "order.created", "job": "pay"}, RunFilter(event="order.created", job="pay")),
        ({"error": "NO MAILBOX", "text": "o 1"}, RunFilter(error_code="NO MAILBOX", text="o 1")),
        ({"within": "24h", "since": "2026-01-01"}, RunFilter(since=NOW - timedelta(hours=24))),
        (
            {"within": "nonsense", "until": "2026-03-01T11:30"},
            RunFilter(until=datetime(2026, 3, 1, 11, 30, tzinfo=UTC)),
        ),
    ],
    ids=str,
)
def test_addresses_of_earlier_releases_mean_what_they_meant(older, wanted):
    assert run_filter(search_text("", older), NOW) == wanted


def test_the_state_of_a_search_is_replaced_and_all_else_stays():
    assert with_state('tenant:acme state:failed "a b"', "held") == 'tenant:acme "a b" state:held'
    assert with_state("state:failed o-1", "") == "o-1"


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("", ""),
        ("since:1h state:failed", "since:2026-03-01T11:00:00 state:failed"),
        ("until:30m o-1", "until:2026-03-01T11:30:00 o-1"),
        ("closed-since:2026-03-01T02:00+01:00", "closed-since:2026-03-01T01:00:00"),
        ('closed-until:1d error:"NO MAILBOX"', 'closed-until:2026-02-28T12:00:00 error:"NO MAILBOX"'),
    ],
)
def test_a_search_with_its_times_fixed_means_the_same_whenever_it_is_read(text, fixed):
    assert fix_times(text, NOW) == fixed
    assert run_filter(fixed, NOW + timedelta(days=1)) == run_filter(fixed, NOW)
    assert fix_times(fixed, NOW + timedelta(days=1)) == fixed


def test_a_search_that_cannot_be_read_is_not_fixed_either():
    with pytest.raises(SearchError):
        fix_times("state:faild", NOW)


@pytest.mark.parametrize(
    ("name", "states"), [("waiting", {"pending", "held"}), ("open", OPEN_STATES), ("CLOSED", CLOSED_STATES)]
)
def test_some_states_have_a_name_together(name, states):
    assert run_filter(f"state:{name}", NOW) == RunFilter(states=frozenset(states))
    assert with_state(f"state:{name} o-1", "failed") == "o-1 state:failed"


@pytest.mark.parametrize(
    ("text", "is_open", "is_closed"),
    [("", True, True), ("state:failed", False, True), ("state:waiting", True, False), ("state:closed", False, True)],
)
def test_a_filter_knows_which_states_can_match(text, is_open, is_closed):
    wanted = run_filter(text, NOW)
    assert (wanted.may_be(OPEN_STATES), wanted.may_be(CLOSED_STATES)) == (is_open, is_closed)
    assert not wanted.among(frozenset()).may_be(OPEN_STATES | CLOSED_STATES)


@pytest.mark.parametrize("view", built_in(NOW), ids=lambda view: view.name)
def test_the_views_that_come_with_the_dashboard_can_be_read(view):
    assert run_filter(view.search, NOW) != RunFilter()


def test_an_id_alone_is_a_runs():
    run_id = "01a20143-39c3-702f-a327-7b42b6a69ad6"
    assert only_id(f" {run_id} ") == run_id
    assert only_id(f"tenant:acme {run_id}") is None
    assert only_id("o-4711") is None


def test_every_suggestion_can_be_searched_for_or_begins_a_term():
    found = suggestions(["acme"])
    assert {"state:failed", "since:1h", "tenant:acme", "event:order.created"} <= set(found)
    for text in found:
        run_filter(text if not text.endswith(":") else f"{text}1h", NOW)
