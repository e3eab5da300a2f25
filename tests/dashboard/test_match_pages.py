"""The pages of actions on what matches a search, and of views of the list that have a name."""

import json
import re
from datetime import UTC, datetime

import pytest

from cgk_tasks import get_job_status
from cgk_tasks.dashboard import audit, saved_views
from cgk_tasks.dashboard.roles import User
from cgk_tasks.dashboard.saved_views import built_in, delete_view, save_view
from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.sql.postgres import autocommit
from tests.dashboard.dashboard_support import actions
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("empty_record")

MANY_MORE = """
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at, created_at, handed_over_at,
                      hand_overs)
SELECT (left(id::text, 24) || lpad(to_hex(n), 12, '0'))::uuid, tenant_id, event, state, queue, priority, sealed_payload,
       run_at, created_at, handed_over_at, hand_overs
  FROM cgk.runs, generate_series(1, 10005) AS n
"""

OSCAR, ADA = User("oscar", "operator"), User("ada", "admin")


@pytest.fixture(autouse=True)
def no_views(database):
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.saved_views")


def planned(browser, kind, search, **query):
    return browser.open("/runs/matching", params={"do": kind, "q": search, **query})


class TestPlan:
    def test_the_list_leads_operators_to_the_plan_of_its_search(self, oscar, viola, closed_run):
        closed_run()
        address = "/runs/matching?do=retry&amp;q=state%3Afailed"
        assert address in oscar.open("/runs?q=state:failed").text
        assert "/runs/matching" not in viola.open("/runs?q=state:failed").text

    def test_it_says_what_would_happen_and_nothing_does_before_the_button(self, oscar, closed_run, open_run):
        waiting = [open_run(tenant="globex") for _ in range(3)]
        closed_run(tenant="globex")
        page = planned(oscar, "cancel", "tenant:globex")
        assert "3 runs of 1 tenant would be cancelled." in page.text
        assert "Left alone: 1 closed already." in page.text
        assert page.text.count('class="id"') == 3
        assert audit.lines() == []
        progress = oscar.submit(page, "/runs/matching", pace="1000")
        assert re.fullmatch(rf"{oscar.base}/actions/\d+", progress.url)
        wait_until(lambda: "3 of 3 runs. Done." in oscar.get(progress.url, timeout=30).text, 30)
        assert {get_job_status(one).state for one in waiting} == {"cancelled"}

    def test_the_plan_has_no_personal_data(self, oscar, closed_run):
        closed_run(
            "customer.created", payload={"customerId": "c-17", "email": "ada@example.com"}, code="NO_ada@example.com"
        )
        text = planned(oscar, "retry", "state:failed").text
        assert "c-17" in text
        assert "ada@example.com" not in text

    def test_a_viewer_does_not_see_it(self, viola):
        answer = planned(viola, "retry", "state:failed")
        assert answer.status_code == 403
        assert "needs the role operator" in answer.text

    @pytest.mark.parametrize(("kind", "search"), [("discard", "state:failed"), ("", ""), ("retry", "stat:failed")])
    def test_what_makes_no_sense_is_refused(self, oscar, kind, search):
        assert planned(oscar, kind, search).status_code == 400

    def test_where_nothing_can_be_done_there_is_no_button(self, oscar, closed_run):
        closed_run(state="completed")
        page = planned(oscar, "retry", "tenant:acme")
        assert "Left alone: 1 completed." in page.text
        assert "/runs/matching" not in actions(page.text)

    def test_of_very_many_it_says_that_there_may_be_more_and_counts_all_where_it_is_asked(self, oscar, open_run):
        open_run(tenant="globex")
        with autocommit() as connection:
            connection.execute(MANY_MORE)
        page = planned(oscar, "cancel", "tenant:globex")
        assert "10,000+ runs of 1 tenant would be cancelled." in page.text
        assert "Runs a second: at 20 it takes at least 8 min</label>" in page.text
        assert "There may be more: only the newest were counted." in page.text
        assert 'href="/runs/matching?do=cancel&amp;q=tenant%3Aglobex&amp;count=all"' in page.text
        whole = planned(oscar, "cancel", "tenant:globex", count="all").text
        assert "10,006 runs of 1 tenant would be cancelled." in whole
        assert "There may be more" not in whole

    def test_a_search_without_a_term_is_confirmed_by_typing(self, oscar, closed_run):
        closed_run()
        page = planned(oscar, "retry", "")
        refused = oscar.submit(page, "/runs/matching", confirm="yes")
        assert refused.status_code == 400
        assert "every run of every tenant" in refused.text
        assert audit.lines() == []
        assert "Retry matches of a search" in oscar.submit(page, "/runs/matching", confirm="every run").text

    def test_a_form_that_is_sent_twice_replays_once(self, oscar, closed_run):
        closed_run(state="completed")
        page = planned(oscar, "replay", "tenant:acme")
        for _ in range(2):
            progress = oscar.submit(page, "/runs/matching", pace="1000")
            wait_until(lambda url=progress.url: "Done." in oscar.get(url, timeout=30).text, 30)
        assert sorted(line.affected for line in audit.lines() if line.action == "replay matches") == [0, 1]


class TestProgress:
    @pytest.fixture
    def number(self, closed_run):
        closed_run()
        with autocommit() as connection:
            details = {"search": "state:failed", "pace": 20, "position": "1.0_x", "at_least": True}
            return connection.execute(
                "INSERT INTO cgk.audit (who, role, action, subject, expected, affected, outcome, details)"
                " VALUES ('ada', 'admin', 'retry matches', 'state:failed', 9, 4, 'aborted', %s) RETURNING id",
                [json.dumps(details | {"left": {"again": 2, "tenant": 1}})],
            ).fetchone()[0]

    def test_it_is_at_an_address_that_fits_both_kinds_and_the_old_one_leads_there(self, viola, number):
        assert viola.open(f"/dead-letters/actions/{number}").url == f"{viola.base}/actions/{number}"

    def test_it_says_how_far_it_came_and_what_was_left_alone(self, viola, number):
        text = viola.open(f"/actions/{number}").text
        assert "4 of at least 9 runs. Stopped." in text
        assert "Left alone: 2 run again already, 1 of a tenant that is gone." in text

    def test_the_audit_leads_to_the_search_and_to_the_action_and_has_no_position(self, viola, number):
        text = viola.open("/audit").text
        assert 'href="/runs?q=state%3Afailed"' in text
        assert f'href="/actions/{number}"' in text
        assert "1.0_x" not in text

    def test_what_was_no_action_on_many_runs_has_no_such_page(self, oscar, closed_run):
        run_id = closed_run()
        oscar.submit(oscar.open(f"/runs/{run_id}"), f"/runs/{run_id}/retry")
        number = audit.lines(limit=1)[0].id
        assert oscar.open(f"/actions/{number}").status_code == 404
        assert oscar.open("/actions/999999999999").status_code == 404

    @pytest.mark.parametrize("address", ["/actions", "/dead-letters/actions"])
    def test_stopping_what_has_ended_is_said_at_both_addresses(self, oscar, number, address):
        oscar.open(f"/actions/{number}")
        token = {"_xsrf": oscar.cookies["_xsrf"]}
        answer = oscar.post(f"{oscar.base}{address}/{number}/abort", data=token, timeout=30)
        assert "It had ended before." in answer.text
        assert answer.url == f"{oscar.base}/actions/{number}"


class TestViews:
    def test_those_that_come_with_the_dashboard_are_on_the_list(self, viola):
        text = viola.open("/runs?q=state:running").text
        for view in built_in(datetime.now(UTC)):
            assert view.name in text
        assert re.search(r'aria-current="true">Running now</a>', text)

    def test_a_view_is_saved_for_oneself_shown_and_deleted(self, oscar, viola):
        listed = oscar.open("/runs?q=tenant:globex+state:failed")
        page = oscar.submit(listed, "/runs/views", name="Globex fails", shared="")
        assert "The view Globex fails is saved." in page.text
        assert 'href="/runs?q=tenant%3Aglobex+state%3Afailed" aria-current="true">Globex fails</a>' in page.text
        assert "Globex fails" not in viola.open("/runs").text
        (address,) = [one for one in actions(page.text) if one.endswith("/delete")]
        assert "Globex fails</a>" not in oscar.submit(page, address).text
        assert [(line.action, line.affected) for line in audit.lines()] == [("delete view", 1), ("save view", 1)]

    def test_one_for_all_is_seen_by_all_and_deleted_by_operators_alone(self, oscar, viola):
        oscar.submit(oscar.open("/runs?q=queue:slow"), "/runs/views", name="Slow", shared="1")
        seen = viola.open("/runs?q=queue:slow").text
        assert ">Slow</a>" in seen
        assert actions(seen) == set()
        assert audit.lines(limit=1)[0].details == {"search": "queue:slow", "shared": True}

    def test_another_users_own_view_cannot_be_deleted(self, database):
        save_view(ADA, "Mine", "state:failed")
        (view,) = saved_views.saved_views(ADA)
        assert delete_view(OSCAR, view.id) is None
        assert [one.name for one in saved_views.saved_views(ADA)] == ["Mine"]
        assert saved_views.saved_views(OSCAR) == []

    def test_the_same_name_is_the_same_view_with_its_new_search(self, database):
        save_view(OSCAR, "Late", "state:held")
        save_view(OSCAR, " late ", "state:waiting")
        save_view(OSCAR, "Late", "state:failed", shared=True)
        found = saved_views.saved_views(OSCAR)
        assert [(one.name, one.search, one.is_shared) for one in found] == [
            ("Late", "state:failed", True), ("late", "state:waiting", False),
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("name", "search"), [("", ""), ("n" * 61, ""), ("a\x07b", ""), ("a", "stat:failed"), ("a", "o" * 1001)]
    )
    def test_what_is_no_view_is_refused_and_in_the_audit(self, database, name, search):
        with pytest.raises(InvalidOptionError):
            save_view(OSCAR, name, search)
        assert saved_views.saved_views(OSCAR) == []
        assert audit.lines(limit=1)[0].outcome == "refused"

    def test_there_is_a_limit_to_how_many_one_has(self, database, monkeypatch):
        monkeypatch.setattr(saved_views, "MOST_VIEWS", 2)
        for name in ("one", "two", "two"):
            save_view(OSCAR, name, "state:failed")
        with pytest.raises(InvalidOptionError, match="2 views of yours already"):
            save_view(OSCAR, "three", "state:failed")
        save_view(ADA, "three", "state:failed")

    def test_before_the_database_is_migrated_the_list_is_there_without_them(self, oscar, closed_run):
        closed_run()
        with autocommit() as connection:
            connection.execute("ALTER TABLE cgk.saved_views RENAME TO saved_views_later")
        try:
            page = oscar.open("/runs")
        finally:
            with autocommit() as connection:
                connection.execute("ALTER TABLE cgk.saved_views_later RENAME TO saved_views")
        assert page.status_code == 200
        assert "Failed today" in page.text
        assert "/runs/views" not in actions(page.text)
