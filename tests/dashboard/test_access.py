"""Who gets in, what each role may do, and requests that somebody else's page sends."""

import re

import pytest
import requests

from cgk_tasks import get_job_status
from cgk_tasks.monitoring.dashboard import audit
from cgk_tasks.monitoring.dashboard.application import PAGES
from cgk_tasks.tenancy import registry
from tests.dashboard.dashboard_support import PASSWORDS, actions
from tests.monitoring.exposition import free_port
from tests.support.identity import CLIENT, CLIENT_SECRET, identity_provider

ANY_ID = "01a20143-39c3-702f-a327-7b42b6a69ad6"
OUR_PAGES = [
    "/runs",
    "/tenants",
    "/queues",
    "/dead-letters",
    "/schedules",
    "/schedules/of-tenants",
    "/schedules/ops.dailyCleanup",
    "/audit",
]
FLOWERS = ["/", "/workers", "/tasks", "/broker", "/api/workers", "/api/tasks", "/metrics", "/nothing-here"]
CHANGES = [
    f"/runs/{ANY_ID}/retry", f"/runs/{ANY_ID}/cancel", f"/runs/{ANY_ID}/replay", "/tenants/acme/suspend",
    "/tenants/acme/resume",
    "/queues/pause", "/queues/resume", "/dead-letters/action", "/dead-letters/actions/1/abort",
    "/dead-letters/actions/1/go-on",
    "/schedules/ops.dailyCleanup/pause",
    "/schedules/ops.dailyCleanup/resume", "/schedules/ops.dailyCleanup/trigger",
    f"/schedules/of-tenants/{ANY_ID}/pause",
    f"/schedules/of-tenants/{ANY_ID}/resume",
]  # fmt: skip
FLOWERS_CHANGES = [
    "/api/worker/pool/grow/w",
    "/api/task/revoke/x",
    "/api/task/rate-limit/x",
    "/api/worker/queue/add-consumer/w",
]
FOR_ADMINS = ["/api/worker/shutdown/w", "/api/task/send-task/x", "/api/task/async-apply/x", "/api/task/apply/x"]


def token(person):
    person.open("/audit")
    return person.cookies["_xsrf"]


def post(person, path, **fields):
    return person.post(f"{person.base}{path}", data={"_xsrf": token(person), **fields}, timeout=30)


@pytest.fixture(scope="module")
def people(dashboard):
    return {name: dashboard.person(name) for name in PASSWORDS}


def test_every_page_that_changes_something_is_in_the_lists_above():
    changing = {
        path
        for path, page in PAGES
        if hasattr(page, "post") and page.post.__qualname__.partition(".")[0] != "RequestHandler"
    }
    assert all(any(re.fullmatch(path, one) for one in CHANGES) for path in changing)


@pytest.mark.parametrize("path", [*OUR_PAGES, *FLOWERS, f"/runs/{ANY_ID}", "/dead-letters/actions/1"])
def test_nobody_sees_a_page_without_login(dashboard, path):
    answer = dashboard.person().open(path, allow_redirects=False)
    assert (answer.status_code, answer.headers.get("Location", "").partition("?")[0]) == (302, "/login")


@pytest.mark.parametrize("path", [*CHANGES, *FLOWERS_CHANGES, *FOR_ADMINS])
def test_nobody_changes_anything_without_login(dashboard, path):
    stranger = dashboard.person()
    stranger.open("/login")
    answer = stranger.post(f"{stranger.base}{path}", data={"_xsrf": stranger.cookies["_xsrf"]}, timeout=30)
    assert answer.status_code == 401


def test_a_wrong_password_is_refused_without_saying_what_was_wrong(start_dashboard):
    person = start_dashboard().person()
    page = person.open("/login")
    texts = {person.submit(page, "/login", name=name, password="x" * 12).text for name in ("ada", "nobody")}
    assert all("Name or password is wrong." in text for text in texts)
    assert not person.cookies.get("cgk_session")


def test_guessing_is_slowed_down(start_dashboard):
    person = start_dashboard().person()
    page = person.open("/login")
    codes = [
        person.submit(page, "/login", name="ada", password=f"guess-{number}-long").status_code for number in range(6)
    ]
    assert codes == [401] * 5 + [429]
    assert person.submit(page, "/login", name="ada", password=PASSWORDS["ada"]).status_code == 429


@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("/tenants", "/tenants"),
        ("https://evil.example", "/runs"),
        ("//evil.example", "/runs"),
        ("/\\evil.example", "/runs"),
    ],
)
def test_after_login_one_is_where_one_wanted_to_be_on_this_site_only(dashboard, target, place):
    person = dashboard.person()
    page = person.open("/login", params={"next": target})
    answer = person.submit(page, "/login", name="viola", password=PASSWORDS["viola"])
    assert answer.url == f"{person.base}{place}"


def test_the_session_is_out_of_reach_of_scripts_and_other_sites(dashboard):
    person = dashboard.person()
    page = person.open("/login")
    fields = {"_xsrf": person.cookies["_xsrf"], "name": "ada", "password": PASSWORDS["ada"]}
    answer = person.post(f"{person.base}/login", data=fields, allow_redirects=False, timeout=30)
    cookie = answer.headers["Set-Cookie"]
    assert page.ok
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


def test_a_removed_user_is_out_at_once(dashboard, users_file):
    users_file.add("temp", "viewer", "temporary-one")
    person = dashboard.person()
    person.submit(person.open("/login"), "/login", name="temp", password="temporary-one")
    assert person.open("/runs", allow_redirects=False).status_code == 200
    users_file.remove("temp")
    assert person.open("/runs", allow_redirects=False).status_code == 302


def test_logging_out_ends_the_session(dashboard):
    person = dashboard.person("viola")
    person.submit(person.open("/logout"), "/logout")
    assert person.open("/runs", allow_redirects=False).status_code == 302


@pytest.mark.parametrize("path", [*OUR_PAGES, "/", "/tasks", "/api/workers", "/metrics"])
def test_a_viewer_may_look(people, path):
    assert people["viola"].open(path).status_code == 200


@pytest.mark.parametrize("path", [*CHANGES, *FLOWERS_CHANGES, *FOR_ADMINS])
def test_a_viewer_may_change_nothing(people, path):
    answer = post(people["viola"], path)
    assert answer.status_code == 403
    assert "needs the role" in answer.text


@pytest.mark.parametrize("path", OUR_PAGES)
def test_a_viewer_sees_no_buttons(people, path):
    assert actions(people["viola"].open(path).text) == set()


@pytest.mark.parametrize("path", FOR_ADMINS)
def test_an_operator_stops_no_worker_and_sends_no_task(people, path):
    assert post(people["oscar"], path).status_code == 403


@pytest.mark.parametrize("path", ["/tenants/acme/suspend", "/queues/pause", *FLOWERS_CHANGES])
def test_a_request_without_the_token_changes_nothing(people, path):
    before = len(audit.lines())
    answer = people["ada"].post(f"{people['ada'].base}{path}", timeout=30)
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


def test_what_is_done_through_flower_is_in_the_audit(people):
    post(people["oscar"], "/api/task/rate-limit/no.such.task", workername="w", ratelimit="1/s")
    line = audit.lines(limit=1)[0]
    assert (line.who, line.role, line.action) == ("oscar", "operator", "flower POST /api/task/rate-limit/no.such.task")


def test_results_come_through_no_back_door(people, closed_run):
    run_id = closed_run(state="completed", result={"mail": "ada.secret@example.com"})
    assert get_job_status(run_id).result
    for person in people.values():
        assert person.open(f"/api/task/result/{run_id}").status_code == 403


@pytest.mark.parametrize("path", ["/runs", "/login", "/nothing-here", "/tasks"])
def test_pages_come_with_a_policy_that_lets_no_foreign_script_run(people, path):
    headers = people["viola"].open(path).headers
    policy = headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy
    assert "'unsafe-eval'" not in policy
    assert "script-src 'self'" in policy or "default-src 'self'" in policy
    assert headers["Cache-Control"] == "no-store"


def test_ours_have_the_strict_one(people):
    assert (
        people["viola"]
        .open("/runs")
        .headers["Content-Security-Policy"]
        .startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    )


def test_liveness_is_told_to_everybody(dashboard):
    assert requests.get(f"{dashboard.url}/healthcheck", timeout=30).text == "OK"


def test_where_the_operator_said_so_the_machines_own_user_needs_no_login(start_dashboard):
    person = start_dashboard(CGK_DASHBOARD_OPEN_ON_LOOPBACK="true").person()
    assert "loopback" in person.open("/runs").text
    # Another site whose name points to this machine is not this machine's user.
    assert person.open("/runs", headers={"Host": "evil.example"}).status_code == 403
    assert person.post(f"{person.base}/tenants/acme/suspend", timeout=30).status_code == 403


def test_open_on_every_address_does_not_start(start_dashboard):
    dashboard = start_dashboard(options=("--port=0", "--address=0.0.0.0"), CGK_DASHBOARD_OPEN_ON_LOOPBACK="true")
    assert dashboard.process.wait(60) != 0
    assert "CGK_DASHBOARD_OPEN_ON_LOOPBACK" in dashboard.log


def test_without_users_the_login_says_how_to_make_one(start_dashboard, tmp_path):
    dashboard = start_dashboard(CGK_DASHBOARD_USERS_FILE=str(tmp_path / "none.json"))
    assert "cgk-tasks dashboard user add NAME --role admin" in dashboard.person().open("/runs").text
    assert "password" not in dashboard.log


def test_flowers_own_passwords_have_roles_by_rule(start_dashboard):
    dashboard = start_dashboard(options=("--port=0", "--basic_auth=ada:pw1,bo:pw2"), CGK_DASHBOARD_ROLES="ada=admin")
    pages = {
        name: requests.get(f"{dashboard.url}/runs", auth=(name, pw), timeout=30).text
        for name, pw in (("ada", "pw1"), ("bo", "pw2"))
    }
    assert "ada <small>(admin)" in pages["ada"]
    assert "bo <small>(viewer)" in pages["bo"]
    assert requests.get(f"{dashboard.url}/runs", auth=("ada", "pw2"), timeout=30).status_code == 401


def test_under_a_prefix_every_link_has_it(start_dashboard):
    dashboard = start_dashboard(options=("--port=0", "--url_prefix=ops"))
    person = dashboard.person()
    answer = person.open("/runs", allow_redirects=False)
    assert answer.headers["Location"].startswith("/ops/login?next=%2Fops%2Fruns")
    login = person.open("/login")
    fields = {"_xsrf": person.cookies["_xsrf"], "name": "viola", "password": PASSWORDS["viola"]}
    page = person.post(f"{person.base}/login", data=fields, timeout=30)
    assert login.ok
    assert 'href="/ops/tenants"' in page.text
    assert 'href="/tenants"' not in page.text


@pytest.fixture(scope="module")
def provider():
    with identity_provider() as running:
        yield running


@pytest.fixture(scope="module")
def dashboard_with_oauth(start_dashboard, provider):
    port = free_port()
    return start_dashboard(
        options=(
            f"--port={port}", "--auth=.*@example.com", "--auth_provider=flower.views.auth.OktaLoginHandler",
            f"--oauth2_key={CLIENT}", f"--oauth2_secret={CLIENT_SECRET}",
            f"--oauth2_redirect_uri=http://127.0.0.1:{port}/login",
        ),
        FLOWER_OAUTH2_OKTA_BASE_URL=provider.url,
        CGK_DASHBOARD_ROLES="ada@example.com=admin,*@example.com=operator",
    )  # fmt: skip


class TestOAuth:
    """Flower's login with Okta, at a provider on loopback."""

    @pytest.fixture
    def person(self, dashboard_with_oauth):
        return dashboard_with_oauth.person()

    @pytest.mark.parametrize(("email", "role"), [("ada@example.com", "admin"), ("bo@example.com", "operator")])
    def test_who_logs_in_at_the_provider_comes_back_to_the_page_with_a_role(self, provider, person, email, role):
        provider.person = (email, True)
        page = person.open("/tenants")
        assert (page.status_code, page.url) == (200, f"{person.base}/tenants")
        assert re.search(r">(\S+) <small>\((\w+)\)", page.text).groups() == (email, role)

    @pytest.mark.parametrize("account", [("eve@elsewhere.com", True), ("ada@example.com", False)])
    def test_a_stranger_and_an_address_that_nobody_confirmed_stay_outside(self, provider, person, account):
        provider.person = account
        assert person.open("/tenants").status_code == 403
        assert person.open("/tenants", allow_redirects=False).status_code == 302

    def test_a_login_that_somebody_else_began_is_refused(self, provider, person):
        provider.person = ("ada@example.com", True)
        forged = provider.authorize({
            "client_id": CLIENT, "response_type": "code", "redirect_uri": f"{person.base}/login", "state": "forged",
        })  # fmt: skip
        assert person.open(forged.removeprefix(person.base)).status_code in {400, 403}

    def test_an_operator_acts_after_such_a_login_and_the_audit_has_the_address(self, provider, person):
        provider.person = ("bo@example.com", True)
        person.submit(person.open("/tenants"), "/tenants/globex/suspend")
        person.submit(person.open("/tenants"), "/tenants/globex/resume")
        assert "bo@example.com <small>operator" in person.open("/audit").text

    def test_no_address_elsewhere_is_a_way_back(self, provider, person):
        provider.person = ("ada@example.com", True)
        answer = person.open("//elsewhere.example/runs")
        assert answer.url.startswith(f"{person.base}/")
