"""Who gets in, what each role may do, and requests that somebody else's page sends."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
import requests

from cgk_tasks import get_job_status
from cgk_tasks.dashboard import audit
from cgk_tasks.dashboard.access.users import save_user, set_role
from cgk_tasks.dashboard.application import PAGES
from cgk_tasks.dashboard.data.dead_letters import dead_letter_groups
from cgk_tasks.schedules.tenant_schedules import create_schedule, delete_schedule
from cgk_tasks.tenancy import registry
from tests.dashboard.dashboard_support import PASSWORDS, actions
from tests.monitoring.exposition import free_port
from tests.support.identity import CLIENT, CLIENT_SECRET, identity_provider
from tests.support.waiting import wait_exit

NOW = datetime.now(UTC)
ANY_ID = "01a20143-39c3-702f-a327-7b42b6a69ad6"
OUR_PAGES = [
    "/overview",
    "/runs.csv",
    "/runs",
    "/tenants",
    "/tenants/acme",
    "/queues",
    "/dead-letters",
    "/schedules",
    "/schedules/of-tenants",
    "/schedules/ops.dailyCleanup",
    "/schedules/coming-day",
    "/workers",
    "/events",
    "/events/order.created",
    "/jobs",
    "/audit",
]
FLOWERS = [
    "/flower/", "/flower/workers", "/flower/tasks", "/flower/broker", "/flower/api/workers", "/flower/api/tasks",
    "/flower/metrics", "/flower/nothing-here", "/metrics",
]  # fmt: skip
CHANGES = [
    "/runs/selected", "/runs/matching", "/runs/views", "/runs/views/1/delete", "/events/order.created/send",
    f"/runs/{ANY_ID}/retry", f"/runs/{ANY_ID}/cancel", f"/runs/{ANY_ID}/replay",
    f"/runs/{ANY_ID}/signal", f"/runs/{ANY_ID}/replay-from", "/tenants/acme/suspend",
    "/tenants/acme/resume", "/tenants/acme/end-quarantine", "/tenants/acme/keys",
    f"/tenants/acme/keys/{ANY_ID}/rotate", f"/tenants/acme/keys/{ANY_ID}/revoke",
    "/queues/pause", "/queues/resume", "/dead-letters/action", "/actions/1/abort", "/actions/1/resume",
    "/schedules/ops.dailyCleanup/pause",
    "/schedules/ops.dailyCleanup/resume", "/schedules/ops.dailyCleanup/trigger",
    f"/schedules/of-tenants/{ANY_ID}/pause",
    f"/schedules/of-tenants/{ANY_ID}/resume",
    f"/workers/{ANY_ID}/drain", f"/workers/{ANY_ID}/resume",
]  # fmt: skip
FLOWERS_CHANGES = [
    "/flower/api/worker/shutdown/w", "/flower/api/worker/pool/restart/w", "/flower/api/worker/pool/grow/w",
    "/flower/api/worker/pool/shrink/w", "/flower/api/worker/pool/autoscale/w",
    "/flower/api/worker/queue/add-consumer/w", "/flower/api/worker/queue/cancel-consumer/w",
    "/flower/api/task/apply/x", "/flower/api/task/async-apply/x", "/flower/api/task/send-task/x",
    "/flower/api/task/abort/x", "/flower/api/task/timeout/x", "/flower/api/task/rate-limit/x",
    "/flower/api/task/revoke/x",
]  # fmt: skip


def token(browser):
    browser.open("/audit")
    return browser.cookies["_xsrf"]


def post(browser, path, **fields):
    return browser.post(f"{browser.base}{path}", data={"_xsrf": token(browser), **fields}, timeout=30)


@pytest.fixture(scope="module")
def browsers(dashboard):
    return {name: dashboard.browser(name) for name in PASSWORDS}


def test_every_page_that_changes_something_is_in_the_lists_above():
    changing = {
        path
        for path, page in PAGES
        if hasattr(page, "post") and page.post.__qualname__.partition(".")[0] != "RequestHandler"
    }
    assert all(any(re.fullmatch(path, one) for one in CHANGES) for path in changing)


@pytest.mark.parametrize(
    "path", [*OUR_PAGES, *FLOWERS, "/", "/nothing-here", f"/runs/{ANY_ID}", "/actions/1", "/runs/matching"]
)
def test_nobody_sees_a_page_without_login(dashboard, path):
    answer = dashboard.browser().open(path, allow_redirects=False)
    assert (answer.status_code, answer.headers.get("Location", "").partition("?")[0]) == (302, "/login")


@pytest.mark.parametrize("path", [*CHANGES, *FLOWERS_CHANGES])
def test_nobody_changes_anything_without_login(dashboard, path):
    stranger = dashboard.browser()
    stranger.open("/login")
    answer = stranger.post(f"{stranger.base}{path}", data={"_xsrf": stranger.cookies["_xsrf"]}, timeout=30)
    assert answer.status_code == 401


def test_a_wrong_password_is_refused_without_saying_what_was_wrong(start_dashboard):
    browser = start_dashboard().browser()
    page = browser.open("/login")
    texts = {browser.submit(page, "/login", name=name, password="x" * 12).text for name in ("ada", "nobody")}
    assert all("Name or password is wrong." in text for text in texts)
    assert not browser.cookies.get("cgk_session")


@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("/tenants", "/tenants"),
        ("https://evil.example", "/overview"),
        ("//evil.example", "/overview"),
        ("/\\evil.example", "/overview"),
    ],
)
def test_after_login_one_is_where_one_wanted_to_be_on_this_site_only(dashboard, target, place):
    browser = dashboard.browser()
    page = browser.open("/login", params={"next": target})
    answer = browser.submit(page, "/login", name="viola", password=PASSWORDS["viola"])
    assert answer.url == f"{browser.base}{place}"


def test_the_session_is_out_of_reach_of_scripts_and_other_sites(dashboard):
    browser = dashboard.browser()
    page = browser.open("/login")
    fields = {"_xsrf": browser.cookies["_xsrf"], "name": "ada", "password": PASSWORDS["ada"]}
    answer = browser.post(f"{browser.base}/login", data=fields, allow_redirects=False, timeout=30)
    cookie = answer.headers["Set-Cookie"]
    assert page.ok
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


@pytest.mark.parametrize(
    "path", [*OUR_PAGES, "/", "/flower/tasks", "/flower/api/workers", "/flower/metrics", "/metrics"]
)
def test_a_viewer_may_look(browsers, path):
    assert browsers["viola"].open(path).status_code == 200


@pytest.mark.parametrize("path", [*CHANGES, *FLOWERS_CHANGES])
def test_a_viewer_may_change_nothing(browsers, path):
    answer = post(browsers["viola"], path)
    assert answer.status_code == 403
    assert "needs the role" in answer.text


@pytest.mark.parametrize("path", OUR_PAGES)
def test_a_viewer_sees_no_buttons(browsers, path):
    assert actions(browsers["viola"].open(path).text) == set()


@pytest.mark.parametrize("path", FLOWERS_CHANGES)
def test_an_operator_changes_nothing_through_flower(browsers, path):
    assert post(browsers["oscar"], path).status_code == 403


@pytest.mark.parametrize("path", ["/tenants/acme/suspend", "/queues/pause", *FLOWERS_CHANGES])
def test_a_request_without_the_token_changes_nothing(browsers, path):
    before = len(audit.lines())
    answer = browsers["ada"].post(f"{browsers['ada'].base}{path}", timeout=30)
    assert answer.status_code == 403
    assert len(audit.lines()) == before
    assert registry.require("acme").status == "active"


def test_a_password_in_a_browsers_request_is_no_way_around_the_token(dashboard):
    answer = requests.post(
        f"{dashboard.url}/tenants/acme/suspend", auth=("ada", PASSWORDS["ada"]), headers={"Origin": "https://evil.example"},
        timeout=30,
    )  # fmt: skip
    assert answer.status_code == 403


def test_a_program_may_come_with_a_password(dashboard):
    assert requests.get(f"{dashboard.url}/metrics", auth=("viola", PASSWORDS["viola"]), timeout=30).ok
    assert requests.get(f"{dashboard.url}/metrics", auth=("viola", "wrong-password"), timeout=30).status_code == 401


@pytest.fixture
def quoted(closed_run, open_run):
    """Keys, codes and messages that quote a sensitive field. Returns the runs and the field's value."""
    secret = "planted.secret@example.com"
    payload = {"customerId": "c-1", "email": secret}
    failed = closed_run(
        "customer.created", payload=payload, code=f"NO_MAIL_{secret}", message=f"no mail to {secret}",
        idempotency_key=f"welcome:{secret}",
    )  # fmt: skip
    child = closed_run("customer.created", payload=payload, code=f"CHILD_{secret}", parent_id=failed)
    error = {
        "attempt": 1,
        "kind": "transient",
        "code": f"AGAIN_{secret}",
        "type": "E",
        "message": secret,
        "at": NOW.isoformat(),
    }
    waiting = open_run(
        "customer.created", state="retrying", payload=payload, attempt=1, errors=json.dumps([error]),
        run_at=NOW + timedelta(hours=1),
    )  # fmt: skip
    schedule = create_schedule("acme", "customer.created", "0 9 * * *", payload=payload, dedup_key=f"daily:{secret}")
    yield {"secret": secret, "failed": failed, "child": child, "waiting": waiting}
    delete_schedule(schedule.id)


@pytest.mark.parametrize("path", [
    "/runs", "/runs?state=failed", "/runs/{failed}", "/runs/{child}", "/runs/{waiting}", "/dead-letters",
    "/dead-letters/group?event=customer.created&fingerprint={fingerprint}", "/schedules/of-tenants", "/audit",
])  # fmt: skip
@pytest.mark.parametrize("name", ["viola", "ada"])
def test_keys_codes_and_messages_that_quote_personal_data_are_redacted(browsers, quoted, path, name):
    groups = [one.group.fingerprint for one in dead_letter_groups() if one.group.event == "customer.created"]
    for fingerprint in groups if "fingerprint" in path else groups[:1]:
        answer = browsers[name].open(path.format(fingerprint=fingerprint, **quoted))
        assert answer.status_code == 200
        assert quoted["secret"] not in answer.text
        assert quoted["secret"].replace("@", "%40") not in answer.text


def test_results_come_through_no_back_door(browsers, closed_run):
    run_id = closed_run(state="completed", result={"mail": "ada.secret@example.com"})
    assert get_job_status(run_id).result
    for browser in browsers.values():
        assert browser.open(f"/flower/api/task/result/{run_id}").status_code == 403


@pytest.mark.parametrize("path", ["/runs", "/login", "/nothing-here", "/flower/tasks"])
def test_pages_come_with_a_policy_that_lets_no_foreign_script_run(browsers, path):
    headers = browsers["viola"].open(path).headers
    policy = headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy
    assert "'unsafe-eval'" not in policy
    assert "script-src 'self'" in policy or "default-src 'self'" in policy
    assert headers["Cache-Control"] == "no-store"


def test_ours_have_the_strict_one(browsers):
    assert (
        browsers["viola"]
        .open("/runs")
        .headers["Content-Security-Policy"]
        .startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    )


def test_liveness_is_told_to_everybody(dashboard):
    assert requests.get(f"{dashboard.url}/healthcheck", timeout=30).text == "OK"


def test_where_the_operator_said_so_the_machines_own_user_needs_no_login(start_dashboard):
    browser = start_dashboard(CGK_DASHBOARD_OPEN_ON_LOOPBACK="true").browser()
    assert "loopback" in browser.open("/runs").text
    # Another site whose name points to this machine is not this machine's user.
    for path in ("/runs", "/flower/tasks", "/nothing-here"):
        assert browser.open(path).status_code == (404 if path == "/nothing-here" else 200)
        assert browser.open(path, headers={"Host": "evil.example"}).status_code == 403
    assert browser.post(f"{browser.base}/tenants/acme/suspend", timeout=30).status_code == 403


def test_open_on_every_address_does_not_start(start_dashboard):
    dashboard = start_dashboard(options=("--port=0", "--address=0.0.0.0"), CGK_DASHBOARD_OPEN_ON_LOOPBACK="true")
    assert wait_exit(dashboard.process, 60) != 0
    assert "CGK_DASHBOARD_OPEN_ON_LOOPBACK" in dashboard.log


def test_under_a_prefix_every_link_has_it(start_dashboard):
    dashboard = start_dashboard(options=("--port=0", "--url_prefix=ops"))
    browser = dashboard.browser()
    answer = browser.open("/runs", allow_redirects=False)
    assert answer.headers["Location"].startswith("/ops/login?next=%2Fops%2Fruns")
    login = browser.open("/login")
    fields = {"_xsrf": browser.cookies["_xsrf"], "name": "viola", "password": PASSWORDS["viola"]}
    page = browser.post(f"{browser.base}/login", data=fields, timeout=30)
    assert login.ok
    assert 'href="/ops/tenants"' in page.text
    assert 'href="/tenants"' not in page.text


@pytest.fixture(scope="module")
def provider():
    with identity_provider() as running:
        yield running


@pytest.fixture(scope="module")
def dashboard_with_oauth(start_dashboard, provider):
    save_user("ada@example.com", "admin", None)
    save_user("*@example.com", "operator", None)
    port = free_port()
    return start_dashboard(
        options=(
            f"--port={port}", "--auth=.*@example.com", "--auth_provider=flower.views.auth.OktaLoginHandler",
            f"--oauth2_key={CLIENT}", f"--oauth2_secret={CLIENT_SECRET}",
            f"--oauth2_redirect_uri=http://127.0.0.1:{port}/login",
        ),
        FLOWER_OAUTH2_OKTA_BASE_URL=provider.url,
    )  # fmt: skip


class TestOAuth:
    """Flower's login with Okta, at a provider on loopback."""

    @pytest.fixture
    def browser(self, dashboard_with_oauth):
        return dashboard_with_oauth.browser()

    @pytest.mark.parametrize(("email", "role"), [("ada@example.com", "admin"), ("Bo@example.com", "operator")])
    def test_who_logs_in_at_the_provider_comes_back_to_the_page_with_a_role(self, provider, browser, email, role):
        provider.person = (email, True)
        page = browser.open("/tenants")
        assert (page.status_code, page.url) == (200, f"{browser.base}/tenants")
        assert re.search(r">(\S+) <small>\((\w+)\)", page.text).groups() == (email, role)

    def test_the_same_login_is_good_at_flower(self, provider, browser):
        provider.person = ("bo@example.com", True)
        page = browser.open("/flower/tasks")
        assert (page.status_code, page.url) == (200, f"{browser.base}/flower/tasks")
        assert "Log out bo@example.com" in page.text
        assert browser.open("/runs").url == f"{browser.base}/runs"
        token = {"_xsrf": browser.cookies["_xsrf"]}
        assert browser.post(f"{browser.base}/flower/api/worker/shutdown/w", data=token, timeout=30).status_code == 403

    def test_who_begins_at_the_login_comes_to_the_overview(self, provider, browser):
        provider.person = ("bo@example.com", True)
        assert browser.open("/login").url == f"{browser.base}/overview"

    @pytest.mark.parametrize("account", [("eve@elsewhere.com", True), ("ada@example.com", False)])
    def test_a_stranger_and_an_address_that_nobody_confirmed_stay_outside(self, provider, browser, account):
        provider.person = account
        answer = browser.open("/tenants")
        assert answer.status_code == 403
        assert "Access denied" in answer.text
        assert 'class="cgk-header"' in answer.text
        assert browser.open("/tenants", allow_redirects=False).status_code == 302

    def test_after_the_logout_the_cookie_is_worth_nothing(self, provider, browser):
        provider.person = ("bo@example.com", True)
        browser.open("/tenants")
        stolen = dict(browser.cookies)
        assert "Logged out" in browser.submit(browser.open("/logout"), "/logout").text
        answer = requests.get(f"{browser.base}/tenants", cookies=stolen, allow_redirects=False, timeout=30)
        assert answer.status_code == 401

    def test_a_change_of_the_role_ends_the_sessions_of_all_it_was_for(self, provider, browser):
        provider.person = ("bo@example.com", True)
        browser.open("/tenants")
        set_role("*@example.com", "operator")
        assert browser.open("/tenants", allow_redirects=False).status_code == 302

    def test_a_session_of_an_address_that_may_log_in_no_more_counts_no_more(self, provider, browser, start_dashboard):
        provider.person = ("bo@example.com", True)
        browser.open("/tenants")
        narrower = start_dashboard(options=("--port=0", "--auth=ada@example.com"))
        answer = requests.get(f"{narrower.url}/tenants", cookies=dict(browser.cookies), timeout=30)
        assert answer.status_code == 401
        assert "--auth_provider" in requests.get(f"{narrower.url}/login", timeout=30).text

    def test_flowers_own_cookie_is_no_login(self, provider, browser):
        """It holds the address alone, for thirty days, and no logout ends it."""
        provider.person = ("bo@example.com", True)
        browser.open("/tenants")
        assert "user" not in browser.cookies

    def test_a_login_that_somebody_else_began_is_refused(self, provider, browser):
        provider.person = ("ada@example.com", True)
        forged = provider.authorize({
            "client_id": CLIENT, "response_type": "code", "redirect_uri": f"{browser.base}/login", "state": "forged",
        })  # fmt: skip
        answer = browser.open(forged.removeprefix(browser.base))
        assert answer.status_code == 403
        assert "Log in again" in answer.text

    def test_an_operator_acts_after_such_a_login_and_the_audit_has_the_address(self, provider, browser):
        provider.person = ("bo@example.com", True)
        browser.submit(browser.open("/tenants"), "/tenants/globex/suspend")
        browser.submit(browser.open("/tenants"), "/tenants/globex/resume")
        assert "bo@example.com <small>operator" in browser.open("/audit").text

    def test_no_address_elsewhere_is_a_way_back(self, provider, browser):
        provider.person = ("ada@example.com", True)
        answer = browser.open("//elsewhere.example/runs")
        assert answer.url.startswith(f"{browser.base}/")
