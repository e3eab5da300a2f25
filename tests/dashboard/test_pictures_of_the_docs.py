"""Pages of which the docs have a picture that no other test takes. `make pictures` takes all of them."""

import pytest

from tests.dashboard.browsing import IN_A_BROWSER
from tests.dashboard.sample_runs import make_sample_workflow

pytestmark = IN_A_BROWSER


@pytest.fixture(scope="module")
def dashboard(start_dashboard):
    """With the window that is usual, which the pages show."""
    return start_dashboard(CGK_WINDOW_SECONDS="0.5")


def test_a_search_shows_what_matches_by_state(sample, visit, picture):
    page = visit()
    page.goto("/runs?q=event:payout.completed+state:failed+since:24h")
    assert set(page.locator("tbody .state").all_inner_texts()) == {"failed"}
    picture(page, "runs-search")


def test_a_workflow_that_waits_says_for_what_and_takes_a_decision(empty_record, open_run, closed_run, visit, picture):
    page = visit()
    page.goto(f"/runs/{make_sample_workflow(open_run, closed_run)}")
    assert page.locator("form[action$='/signal']").count() == 1
    assert "approve-extra-cost" in page.inner_text("main")
    page.set_viewport_size({"width": 1180, "height": 1400})
    picture(page, "workflow-waits")


def test_a_tenant_has_its_turns_in_each_queue(crowded_queue, visit, picture):
    page = visit()
    page.goto("/tenants/initech")
    assert crowded_queue in page.inner_text("main")
    page.set_viewport_size({"width": 1180, "height": 1400})
    picture(page, "tenant")
