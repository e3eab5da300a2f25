"""The overview and the search for runs in a headless Chromium: pictures, tables, keys, suggestions."""

from tests.dashboard.browsing import IN_A_BROWSER
from tests.dashboard.sample_runs import count_sample

pytestmark = IN_A_BROWSER


def test_the_overview(sample, visit, picture):
    count_sample()
    page = visit()
    page.goto("/overview?span=24h")
    names = ("Runs accepted", "Runs closed", "Runs that waited, by queue", "The longest wait, by queue")
    for name in names:
        assert page.get_by_role("img", name=name).bounding_box()["height"] > 150
    assert page.locator("table.top tbody th").first.inner_text() == "wayne"
    assert page.locator("#now-dead strong").inner_text() != "0"
    page.set_viewport_size({"width": 1500, "height": 1500})
    picture(page, "overview")
    page.click("#totals .failed")
    page.wait_for_url("**/runs?q=state*")
    assert set(page.locator("tbody .state").all_inner_texts()) == {"failed"}


def test_the_overview_is_read_as_a_table_without_scripts(sample, visit):
    count_sample()
    page = visit(java_script_enabled=False)
    page.click("#span-24h")
    page.click("text=The charts as a table")
    rows = page.locator("#counts tbody tr")
    assert rows.count() == 48
    assert sum(int(row.locator("td").nth(1).inner_text()) for row in rows.all()) > 100


def test_the_overview_of_one_tenant(sample, visit):
    count_sample()
    page = visit()
    page.fill("#tenant", "wayne")
    page.press("#tenant", "Enter")
    page.wait_for_url("**tenant=wayne*")
    assert page.locator("h1").inner_text() == "Overview of wayne"
    assert page.get_by_role("img").count() == 2


def test_the_overview_has_the_colours_of_the_page(sample, visit):
    count_sample()
    colours = set()
    for scheme in ("light", "dark"):
        page = visit(color_scheme=scheme)
        page.goto("/overview?span=24h")
        of = page.locator("svg .series.completed").first
        colours.add(of.evaluate("element => getComputedStyle(element).fill"))
    assert len(colours) == 2


def test_runs_are_gone_through_by_keys(sample, visit):
    page = visit()
    page.goto("/runs?live=0")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    first = page.locator("a.row").first
    assert page.evaluate("document.activeElement.id") == first.get_attribute("id")
    page.keyboard.press("?")
    assert page.locator("#search-help").get_attribute("open") is not None
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.type("j/k")
    assert page.input_value("#q") == "j/k"
    first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("h1 .state")


def test_terms_are_suggested_behind_those_that_are_there(sample, visit):
    page = visit()
    page.goto("/runs")
    page.fill("#q", "tenant:acme state:fa")
    suggested = page.locator("#suggested option").evaluate_all("options => options.map(option => option.value)")
    assert suggested == ["tenant:acme state:failed"]


def test_a_search_that_cannot_be_read_is_pointed_at(sample, visit):
    page = visit(java_script_enabled=False, expects="status of 400")
    page.goto("/runs")
    page.fill("#q", "tenant:acme stat:failed")
    page.click("form.search button")
    assert 'there is no term "stat:". Did you mean "state"?' in page.inner_text("#search-problem")
    assert page.inner_text("#search-problem pre").splitlines()[1].index("^") == 12


def test_chosen_runs_are_retried_and_updates_wait_for_the_choice(sample, visit):
    page = visit()
    page.goto("/runs?q=state:failed")
    page.locator("input[name=id]").first.check()
    page.locator("input[name=id]").nth(1).check()
    ask = "new CustomEvent('htmx:beforeRequest', {bubbles: true, cancelable: true})"
    assert page.evaluate(f"document.getElementById('live').dispatchEvent({ask})") is False
    page.click("text=Retry chosen")
    assert "2 runs retried." in page.inner_text(".flash")
