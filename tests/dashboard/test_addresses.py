"""Two applications at one port: which addresses are whose, what became of older ones, and what is at no address."""

import http.client
import re
import socket
import uuid

import pytest
import requests
import trustme

from cgk_tasks.sql.postgres import autocommit
from tests.dashboard.dashboard_support import PASSWORDS
from tests.support.waiting import wait_until

TASK = "01a20143-39c3-702f-a327-7b42b6a69ad6"
NOBODY = str(uuid.UUID(int=0))
OUR_BAR = 'class="cgk-header"'


@pytest.mark.parametrize(
    "path", ["/nothing-here", "/worker", "/flowers", "/runs/x/y", "/static/none.css", "/favicon.ico"]
)
def test_an_address_that_nothing_has_is_a_page_of_ours_that_leads_on(viola, path):
    answer = viola.open(path)
    assert answer.status_code == 404
    assert OUR_BAR in answer.text
    assert re.search(r'<p class="problem" role="alert">\w[^<]+</p>', answer.text)
    assert 'href="/overview">To the overview' in answer.text


def test_so_it_is_for_one_who_may_only_look_and_sends_something(viola):
    answer = viola.post(f"{viola.base}/nothing-here", timeout=30)
    assert answer.status_code == 404
    assert OUR_BAR in answer.text


def test_a_program_is_told_in_json_or_in_a_line(dashboard):
    def ask(accept):
        login = ("viola", PASSWORDS["viola"])
        return requests.get(f"{dashboard.url}/nothing-here", headers={"Accept": accept}, auth=login, timeout=30)

    answer = ask("application/json")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json() == {"title": "Not Found", "status": 404, "detail": "There is no page at this address."}
    assert ask("*/*").text == "There is no page at this address.\n"


def test_an_address_of_a_button_says_so_where_somebody_looks_at_it(oscar):
    answer = oscar.open(f"/runs/{TASK}/retry")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert "open the page that has it" in answer.text
    assert OUR_BAR in answer.text


def test_a_role_that_is_missing_is_told_on_a_page_of_ours(viola):
    token = {"_xsrf": viola.cookies["_xsrf"]}
    answer = viola.post(f"{viola.base}/tenants/acme/suspend", data=token, timeout=30)
    assert answer.status_code == 403
    assert "needs the role operator" in answer.text
    assert OUR_BAR in answer.text


def test_a_form_without_the_token_is_told_what_to_do(oscar):
    answer = oscar.post(f"{oscar.base}/tenants/acme/suspend", timeout=30)
    assert answer.status_code == 403
    assert "Open its page again" in answer.text


def test_a_fault_of_the_server_is_told_on_a_page_of_ours_without_its_details(viola):
    with autocommit() as connection:
        connection.execute("ALTER TABLE cgk.audit RENAME COLUMN details TO details_away")
    try:
        answer = viola.open("/audit")
    finally:
        with autocommit() as connection:
            connection.execute("ALTER TABLE cgk.audit RENAME COLUMN details_away TO details")
    assert answer.status_code == 500
    assert "details_away" not in answer.text
    assert "log has the details" in answer.text
    assert OUR_BAR in answer.text


@pytest.mark.parametrize(("old", "new"), [
    ("/tasks", "/flower/tasks"),
    ("/tasks?state=FAILURE&name=a%20b", "/flower/tasks?state=FAILURE&name=a%20b"),
    (f"/task/{TASK}", f"/flower/task/{TASK}"),
    ("/worker/celery%40here%2F1", "/flower/worker/celery%40here%2F1"),
    ("/broker", "/flower/broker"),
    ("/api/workers?refresh=True", "/flower/api/workers?refresh=True"),
    ("/workers-now", "/workers"),
    ("/workers-now?text=w&live=0", "/workers?text=w&live=0"),
    ("/dead-letters/actions/7", "/actions/7"),
    ("/runs/", "/runs"),
])  # fmt: skip
def test_an_address_of_earlier_releases_leads_to_the_one_of_today(viola, old, new):
    answer = viola.open(old, allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (308, new)
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(("old", "new"), [
    (f"/workers-now/{NOBODY}/drain", f"/workers/{NOBODY}/drain"),
    (f"/workers-now/{NOBODY}/resume", f"/workers/{NOBODY}/resume"),
    ("/dead-letters/actions/1/abort", "/actions/1/abort"),
    ("/dead-letters/actions/1/resume", "/actions/1/resume"),
    ("/api/worker/pool/grow/w", "/flower/api/worker/pool/grow/w"),
])  # fmt: skip
def test_what_is_sent_there_is_sent_again_and_authorized_at_the_new_one(viola, old, new):
    answer = viola.post(f"{viola.base}{old}", data={"_xsrf": viola.cookies["_xsrf"]}, timeout=30)
    assert [(one.status_code, one.headers["Location"]) for one in answer.history] == [(308, new)]
    assert answer.request.method == "POST"
    assert answer.status_code == 403
    assert "needs the role" in answer.text


def test_a_form_of_an_earlier_page_does_what_it_did(oscar):
    token = {"_xsrf": oscar.cookies["_xsrf"], "reason": "kernel"}
    answer = oscar.post(f"{oscar.base}/workers-now/{NOBODY}/drain", data=token, timeout=30)
    assert answer.status_code == 400
    assert "no worker" in answer.text.lower()


@pytest.mark.parametrize("path", ["/healthcheck", "/flower/healthcheck"])
def test_probes_find_it_alive_at_both_without_a_login(dashboard, path):
    answer = requests.get(f"{dashboard.url}{path}", timeout=30, allow_redirects=False)
    assert (answer.status_code, answer.text) == (200, "OK")


@pytest.mark.parametrize("path", ["/metrics", "/flower/metrics"])
def test_prometheus_finds_flowers_metrics_at_both_with_a_password(dashboard, path):
    answer = requests.get(
        f"{dashboard.url}{path}", auth=("viola", PASSWORDS["viola"]), timeout=30, allow_redirects=False
    )
    assert answer.status_code == 200
    assert "# TYPE flower_" in answer.text
    assert requests.get(f"{dashboard.url}{path}", timeout=30).status_code == 401


def test_flower_is_the_last_link_of_the_bar(viola):
    bar = re.search(r"<nav class=\"cgk-header\".*?</nav>", viola.open("/runs").text, re.DOTALL).group()
    links = re.findall(r'<li><a href="([^"]+)"', bar)
    assert links[-1] == "/flower/"
    assert viola.open("/flower/").ok
    assert len(links) == len(set(links))


@pytest.mark.parametrize("path", ["/flower", "/flower/"])
def test_flower_begins_at_its_own_address(viola, path):
    answer = viola.open(path)
    assert answer.url == f"{viola.base}/flower/"
    assert '<body class="app-body">' in answer.text


def test_both_say_where_they_are(dashboard):
    wait_until(lambda: f"flower: {dashboard.url}/flower/\n" in dashboard.log, 10)


def test_under_a_prefix_both_are_below_it(start_dashboard):
    dashboard = start_dashboard(options=("--port=0", "--url_prefix=/ops.v2/"))
    assert dashboard.url.endswith("/ops.v2")
    viola = dashboard.browser()
    login = viola.open("/login")
    fields = {"_xsrf": viola.cookies["_xsrf"], "name": "viola", "password": PASSWORDS["viola"]}
    page = viola.post(f"{viola.base}/login", data=fields, timeout=30)
    assert login.ok
    assert 'href="/ops.v2/flower/"' in page.text
    assert viola.open("", allow_redirects=False).headers["Location"] == "/ops.v2/overview"
    flowers = viola.open("/flower/tasks")
    assert flowers.ok
    assert 'value="ops.v2/flower" id="url_prefix"' in flowers.text
    for address in (*re.findall(r'(?:src|href)="(/[^"]+)"', flowers.text), *re.findall(r'"(/[^"]+)"', page.text)):
        assert address.startswith("/ops.v2/")
    for asset in re.findall(r'(?:src|href)="/ops\.v2(/[^"]+\.(?:js|css|svg|ico)\?[^"]+)"', flowers.text + page.text):
        assert viola.open(asset).ok
    assert viola.open("/tasks", allow_redirects=False).headers["Location"] == "/ops.v2/flower/tasks"
    assert viola.open("/healthcheck").text == "OK"
    assert viola.open("/metrics").ok
    root = dashboard.url.removesuffix("/ops.v2")
    assert requests.get(f"{root}/flower/tasks", timeout=30).status_code == 401


def test_both_answer_at_a_unix_socket(start_dashboard, tmp_path):
    path = tmp_path / "d.sock"
    dashboard = start_dashboard(options=(f"--unix_socket={path}",))
    wait_until(lambda: f"flower: {path}:/flower/\n" in dashboard.log, 60, "it listens")

    class Connection(http.client.HTTPConnection):
        def connect(self):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(str(path))

    def status(method, target, **headers):
        connection = Connection("localhost", timeout=30)
        connection.putrequest(method, target)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status

    assert status("GET", "/login") == 200
    assert status("GET", "/runs") == 401
    assert status("GET", "/flower/healthcheck") == 200
    assert status("GET", "/flower/tasks") == 401
    for target in ("/login", "/flower/api/task/send-task/x"):
        assert status("POST", target, **{"Content-Length": "1048577"}) == 413


def test_both_speak_tls_where_it_is_asked_for(start_dashboard, tmp_path):
    authority, files = trustme.CA(), [tmp_path / name for name in ("ca.pem", "server.pem", "server.key")]
    server = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(files[0]))
    server.cert_chain_pems[0].write_to_path(str(files[1]))
    server.private_key_pem.write_to_path(str(files[2]))
    dashboard = start_dashboard(options=("--port=0", f"--certfile={files[1]}", f"--keyfile={files[2]}"))
    url = wait_until(lambda: re.search(r"flower: (https://\S+)/flower/\n", dashboard.log), 60, "it listens").group(1)
    for path in ("/healthcheck", "/flower/healthcheck"):
        assert requests.get(f"{url}{path}", verify=str(files[0]), timeout=30).text == "OK"
