"""Actions on what matches a search, and saved views, in a headless Chromium."""

import pytest

from cgk_tasks.dashboard.data.run_search import RunFilter, find_runs
from cgk_tasks.dashboard.roles import User
from cgk_tasks.dashboard.saved_views import saved_views
from cgk_tasks.runs.models import OPEN_STATES
from cgk_tasks.sql.postgres import autocommit
from tests.dashboard.browsing import IN_A_BROWSER
from tests.dashboard.dashboard_support import ROLES

pytestmark = IN_A_BROWSER


@pytest.fixture(autouse=True)
def no_views(database):
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.saved_views")


def test_what_matches_is_retried_from_the_search_to_the_end(sample, visit, picture):
    page = visit()
    page.goto("/runs")
    page.fill("#q", "event:payout.completed state:failed")
    page.press("#q", "Enter")
    page.click("#retry-matching")
    assert "12 runs of" in page.inner_text("#dry-run")
    picture(page, "matches-plan")
    page.fill("#pace", "2")
    page.click("text=Retry them")
    page.wait_for_function(
        "() => { const bar = document.querySelector('progress'); return bar && 0 < bar.value && bar.value < 12 }"
    )
    picture(page, "matches-progress")
    page.wait_for_selector("text=12 of 12 runs. Done.")
    assert len(find_runs(RunFilter(event="payout.completed", states=OPEN_STATES)).runs) == 12


def test_it_is_stopped_by_its_button_without_scripts_on_a_phone(sample, visit):
    page = visit(java_script_enabled=False)
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto("/runs?q=tenant:wayne+state:open")
    page.click("#cancel-matching")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.fill("#pace", "1")
    page.click("text=Cancel them")
    page.click("#abort")
    assert "It stops after the runs it is at." in page.inner_text(".flash")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_view_is_saved_opened_and_deleted(sample, visit, picture):
    page = visit()
    page.goto("/runs?q=tenant:globex+state:held")
    page.click("text=Save this search as a view")
    page.fill("#view-name", "Globex is held")
    page.check("text=for all users")
    page.press("#view-name", "Enter")
    assert "is saved for all" in page.inner_text(".flash")
    page.goto("/runs")
    page.click("nav.views >> text=Globex is held")
    assert page.input_value("#q") == "tenant:globex state:held"
    assert page.locator("tbody tr").count() == 6
    page.click("[aria-label='Delete the view Globex is held']")
    assert "is deleted" in page.inner_text(".flash")
    assert saved_views(User("oscar", ROLES["oscar"])) == []


def test_the_views_fit_on_a_phone(sample, visit):
    page = visit()
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto("/runs?q=state:running")
    assert page.locator("nav.views a[aria-current]").inner_text() == "Running now"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
