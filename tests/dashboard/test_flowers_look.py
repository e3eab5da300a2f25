"""Flower's pages are those of Flower, byte for byte: but for the nonce of the one script that stands in a page."""

import re
import subprocess
import sys

import pytest
import requests
from tornado.web import create_signed_value

from tests.support.waiting import wait_until
from tests.support.workers import ROOT

SECRET = "the-cookies-of-both"
PLAIN = """
import sys
from flower import command, urls
from flower.app import Flower
from tornado.options import options
from cgk_tasks.celery_app import app
from cgk_tasks.dashboard.flower_tasks import COLUMNS

options.tasks_columns = COLUMNS
command.apply_options("flower", sys.argv[1:])
command.extract_settings()
flower = Flower(capp=app, options=options, **urls.settings)
print(f"http://127.0.0.1:{flower.start_http_server()}/flower", flush=True)
flower.start()
"""


@pytest.fixture(scope="module")
def plain(database, tmp_path_factory):
    """Flower as it is installed, at the same address, with ada logged in at its own OAuth."""
    options = (
        "--port=0", "--address=127.0.0.1", "--url_prefix=flower", "--auth=ada", f"--cookie_secret={SECRET}",
        "--auth_provider=flower.views.auth.GoogleAuth2LoginHandler",
    )  # fmt: skip
    log = tmp_path_factory.mktemp("plain") / "log"
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-c", PLAIN, *options], cwd=ROOT, stdout=file, stderr=file)

    def address():
        assert process.poll() is None, log.read_text()
        return re.search(r"(http://\S+)\n", log.read_text())

    session = requests.Session()
    session.headers["Accept"] = "text/html"
    session.base = wait_until(address, 60, "Flower says its address").group(1)
    session.cookies["user"] = create_signed_value(SECRET, "user", "ada").decode()
    yield session
    process.terminate()
    process.wait(15)


@pytest.mark.parametrize("path", [
    "/", "/workers", "/tasks", "/tasks?state=FAILURE", "/task/unknown", "/static/css/flower.css",
    "/static/js/flower.js",
])  # fmt: skip
def test_a_page_is_what_flower_itself_renders(plain, ada, path):
    theirs, ours = plain.get(f"{plain.base}{path}", timeout=30), ada.open(f"/flower{path}")
    assert ours.status_code == theirs.status_code
    assert "Flower" in theirs.text or path.startswith("/static")
    assert re.sub(r'<script nonce="[\w-]{16}"', "<script", ours.text) == theirs.text


def test_the_nonce_is_that_of_the_answer_and_only_where_a_script_stands_in_the_page(ada):
    answers = [ada.open("/flower/workers") for _ in range(2)]
    nonces = [re.findall(r'nonce="([^"]+)"', answer.text) for answer in answers]
    assert [len(found) for found in nonces] == [1, 1]
    assert nonces[0] != nonces[1]
    assert f"'nonce-{nonces[0][0]}'" in answers[0].headers["Content-Security-Policy"]
    assert "nonce=" not in ada.open("/flower/tasks").text


def test_nothing_of_ours_is_in_it(ada):
    for path in ("/workers", "/tasks", "/broker", "/nothing-here"):
        text = ada.open(f"/flower{path}").text
        assert "cgk-header" not in text
        assert 'href="/overview"' not in text
        assert "style.css" not in text


def test_its_logout_is_ours(dashboard):
    browser = dashboard.browser("viola")
    assert "Log out viola" in browser.open("/flower/tasks").text
    page = browser.open("/flower/logout")
    assert page.url == f"{browser.base}/logout"
    browser.submit(page, "/logout")
    assert browser.open("/flower/tasks", allow_redirects=False).status_code == 302
    assert browser.open("/runs", allow_redirects=False).status_code == 302


def test_a_login_on_the_way_to_flower_leads_there(dashboard):
    browser = dashboard.browser()
    page = browser.open("/flower/tasks")
    assert page.url.startswith(f"{browser.base}/login?next=%2Fflower%2Ftasks")
    answer = browser.submit(page, "/login", name="viola", password="viewer-password")
    assert answer.url == f"{browser.base}/flower/tasks"
