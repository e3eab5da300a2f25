"""axe-core finds nothing on our pages that hinders people with a screen reader, a keyboard or weak sight."""

import pytest

from cgk_tasks.dashboard.data.dead_letters import dead_letter_groups
from cgk_tasks.dashboard.match_actions import begin_match_action
from cgk_tasks.dashboard.roles import User
from cgk_tasks.dashboard.saved_views import save_view
from tests.dashboard.browsing import IN_A_BROWSER, log_in
from tests.dashboard.sample_runs import count_sample

pytestmark = IN_A_BROWSER

OSCAR = User("oscar", "operator")

PAGES = (
    "/overview?span=24h", "/runs", "/runs/{failed}", "/runs/{held}", "/tenants", "/tenants/wayne", "/queues",
    "/queues/lanes?queue=cgk", "/dead-letters", "/dead-letters/group?event={event}&fingerprint={fingerprint}",
    "/runs?q=state:failed", "/runs/matching?do=retry&q=state:failed", "/runs/matching?do=cancel", "/actions/{action}",
    "/events", "/events/order.created?span=24h", "/events/order.created/send", "/events/order.created/send?as=json",
    "/jobs", "/jobs/send-receipt", "/runs/{failed}?replay=json",
    "/schedules", "/schedules/of-tenants", "/schedules/ops.dailyCleanup", "/schedules/coming-day",
    "/schedules/ops.dailyCleanup/run-now", "/workers", "/audit", "/logout",
)  # fmt: skip

ASTRAY = """() => [...document.querySelectorAll("tbody td.number")].flatMap(cell => {
  const heading = cell.closest("table").tHead?.rows[0].cells[cell.cellIndex];
  return heading && getComputedStyle(heading).textAlign !== "right" ? [heading.textContent] : [];
})"""
"""Headings of columns of figures that are not at the right."""


def violations(page):
    """What axe-core finds, with the elements that it is about."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['help']}: {node['html'][:150]}" for one in found for node in one["nodes"][:3]]


@pytest.fixture
def addresses(sample):
    """Of all pages, each with something to show."""
    count_sample()
    group = dead_letter_groups()[0].group
    save_view(OSCAR, "Globex fails", "tenant:globex state:failed")
    save_view(OSCAR, "All that fail", "state:failed", shared=True)
    action = begin_match_action(OSCAR, "retry", "error:SMTP_*", 1000)
    return [path.format(**sample, event=group.event, fingerprint=group.fingerprint, action=action) for path in PAGES]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_found_on_any_page(addresses, visit, scheme):
    page = visit(color_scheme=scheme)
    page.set_default_timeout(30_000)
    found = {}
    for address in addresses:
        page.goto(address)
        if problems := violations(page):
            found[address] = problems
    assert found == {}


def test_a_heading_of_figures_stands_above_them_at_the_right(addresses, visit):
    page = visit()
    page.set_default_timeout(30_000)
    found = {}
    for address in addresses:
        page.goto(address)
        if names := page.evaluate(ASTRAY):
            found[address] = names
    assert found == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_found_on_a_form_with_problems_in_production(start_dashboard, visit, scheme, closed_run):
    url = start_dashboard(CGK_ENVIRONMENT="production", CGK_JOB_MODULES="tests.support.form_jobs").url
    page = visit(None, expects="400", color_scheme=scheme, base_url=url)
    log_in(page, "oscar")
    run_id = closed_run("parcel.packed", payload={"parcelId": "p-1", "weight": 1.5})
    for path, name in (("/events/parcel.packed/send", "Send"), (f"/runs/{run_id}", "Replay")):
        page.goto(path)
        page.fill('[name="f.weight"]', "heavy")
        page.fill('[name="f.readyAt"]', "2026-03-01T09:00")
        page.get_by_label("This is production").check()
        page.get_by_role("button", name=name, exact=True).click()
        page.wait_for_selector(".field-problem")
        assert violations(page) == []


def test_nothing_is_found_on_a_page_that_says_what_went_wrong(visit):
    page = visit("viola", expects="404")
    page.goto("/nothing-here")
    assert page.locator("h1").inner_text() == "Not found"
    assert violations(page) == []


def test_nothing_is_found_on_the_login(visit):
    page = visit(None)
    page.goto("/login")
    assert violations(page) == []


def test_what_hinders_somebody_is_found(visit):
    page = visit(None)
    page.goto("/login")
    page.evaluate("document.querySelector('label[for=name]').remove()")
    assert [text.partition(":")[0] for text in violations(page)] == ["label"]
