"""What a worker executes, seen in a stream and in the page of docs/examples, in a headless Chromium."""

import json
import os
import shutil

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse
from starlette.routing import Route

from cgk_tasks import cancel_run, get_run, send_job
from cgk_tasks.gateway import application, create_browser_token
from tests.docs.pages import ROOT, blocks
from tests.gateway.gateway_support import secret_of, served
from tests.gateway.stream_jobs import Streamed
from tests.gateway.stream_support import runs_in, stream, until, until_state
from tests.support.waiting import wait_closed

PAGE = ROOT / "docs/examples/progress-bar.html"
HOW_TO = ROOT / "docs/how-to/show-progress-in-a-browser.md"
SECRET = "ada.secret@example.com"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TIMEOUT_MS = 20_000

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def worker(start_worker):
    return start_worker(["tests.gateway.stream_jobs"])


@pytest.fixture
def gate(tmp_path):
    """The job of a run goes on once this file is there."""
    return tmp_path / "gate"


# In a stream


def test_a_run_is_told_from_its_send_to_its_end(worker, api, gate):
    run_id = send_job(Streamed(tenant_id="acme", gate=str(gate), email=SECRET)).id
    with stream(api, f"/v1/runs/{run_id}/stream") as messages:
        told = until(messages, lambda one: one.data["progress"])
        gate.touch()
        told += list(messages)
    states = runs_in(told)[run_id]
    last = told[-1].data
    assert (states[-1], last["isClosed"], last["progress"]["done"], last["progress"]["message"]) == (
        "completed", True, 4, "all sent",
    )  # fmt: skip
    assert sorted(states, key=("pending", "held", "running", "completed").index) == states


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("path", ["/v1/runs/{}/stream", "/v1/stream"])
def test_no_payload_no_result_no_error_and_no_personal_data_are_told(worker, api, gate, fails, path):
    run_id = send_job(Streamed(tenant_id="acme", gate=str(gate), email=SECRET, fails=fails)).id
    with stream(api, path.format(run_id)) as messages:
        told = until(messages, lambda one: one.data["id"] == run_id and one.data["progress"])
        assert told[-1].data["progress"]["message"] == "mail to [redacted]"
        assert told[-1].data["metadata"] == {"rows": {"count": 4, "to": "[redacted]"}}
        gate.touch()
        told += until_state(messages, run_id, "failed" if fails else "completed")
    said = json.dumps([one.data for one in told])
    assert [text for text in (SECRET, str(gate), "sent to", "NOT_KNOWN", "is not known") if text in said] == []


def test_what_a_stream_says_at_the_end_is_what_the_run_says(worker, api, gate):
    gate.touch()
    run_id = send_job(Streamed(tenant_id="acme", gate=str(gate))).id
    with stream(api, f"/v1/runs/{run_id}/stream") as messages:
        last = list(messages)[-1].data
    run = get_run(run_id)
    assert (last["state"], last["attempt"], last["progress"]["done"]) == (run.state, run.attempt, run.progress.done)


# In a browser


@pytest.fixture(scope="module")
def chromium():
    playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on the PATH: apt-get install chromium")
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Shop:
    """An application of its own origin: it serves the page, starts imports, and gives the page its tokens."""

    def __init__(self, gate):
        self.gate, self.gateway, self.runs, self.token_seconds, self.tokens = gate, "", [], 600.0, 0
        self.app = Starlette(
            routes=[
                Route("/", lambda _request: FileResponse(PAGE)),
                Route("/imports", self.start, methods=["POST"]),
                Route("/imports/{id}/stream", self.address),
            ]
        )

    def start(self, _request):
        run = send_job(Streamed(tenant_id="acme", gate=str(self.gate), email=SECRET))
        self.runs.append(run.id)
        return JSONResponse({"id": run.id})

    def address(self, request):
        run_id = request.path_params["id"]
        self.tokens += 1
        token = create_browser_token("acme", run_id, expires=self.token_seconds).token
        return PlainTextResponse(f"{self.gateway}/v1/runs/{run_id}/stream?token={token}")


@pytest.fixture
def shop(worker, gate, setting):
    """The shop and its address, with a gateway that its pages may read."""
    made = Shop(gate)
    with served(made.app) as url:
        setting(CGK_GATEWAY_ORIGINS=url)
        with served(application()) as made.gateway:
            yield made, url


@pytest.fixture
def page(chromium, shop):
    """The page, whose import has begun."""
    _shop, url = shop
    context = chromium.new_context()
    context.set_default_timeout(TIMEOUT_MS)
    opened = context.new_page()
    opened.goto(url)
    opened.click("#start")
    yield opened
    context.close()


def shows(page, text, value):
    page.wait_for_function(
        "([text, value]) => document.querySelector('#text').textContent === text"
        " && Math.abs(document.querySelector('#bar').value - value) < 0.001",
        arg=[text, value],
    )


def test_the_page_of_the_docs_shows_how_far_a_run_is_until_it_has_ended(page, gate):
    shows(page, "mail to [redacted]", 0.25)
    if os.environ.get("SCREENSHOTS"):
        page.screenshot(path=ROOT / "docs/images/progress-bar.png")
    gate.touch()
    shows(page, "completed", 1.0)


def test_the_page_says_that_a_run_was_cancelled(page, shop):
    made, _url = shop
    shows(page, "mail to [redacted]", 0.25)
    cancel_run(made.runs[-1])
    wait_closed(made.runs[-1])
    shows(page, "cancelled", 0.25)


def test_the_page_gets_another_token_when_its_own_is_over(chromium, shop, gate):
    made, url = shop
    made.token_seconds = 1.0
    context = chromium.new_context()
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    page.goto(url)
    page.click("#start")
    shows(page, "mail to [redacted]", 0.25)
    while made.tokens < 2:
        page.wait_for_timeout(50)
    gate.touch()
    shows(page, "completed", 1.0)
    context.close()


def test_a_page_of_another_origin_reads_nothing(chromium, shop):
    made, _url = shop
    other = Shop(made.gate)
    other.gateway = made.gateway
    with served(other.app) as url:
        page = chromium.new_page()
        refused = []
        page.on("console", lambda message: refused.append(message.text))
        page.goto(url)
        page.click("#start")
        while not any("CORS" in text for text in refused):
            page.wait_for_timeout(50)
        assert page.text_content("#text") == ""
        page.close()


# The page of the docs


def test_the_server_of_the_how_to_gives_addresses_that_open_streams(gateway):
    (shown,) = [block for block in blocks(HOW_TO, "python") if "FastAPI" in block.text]
    source = shown.text.replace("https://jobs.example.com", gateway)
    namespace = {}
    exec(compile(source, str(shown), "exec"), namespace)
    with served(namespace["app"]) as url:
        run_id = httpx.post(f"{url}/imports").json()["id"]
        address = httpx.get(f"{url}/imports/{run_id}/stream").text
    answer = httpx.get(f"{address}&wait=0")
    assert (answer.status_code, run_id in answer.text) == (200, True)
    assert secret_of() not in address
