"""What admins change through Flower's API, and how the audit has it."""

import json

import pytest
from flower.urls import handlers
from tornado.web import RequestHandler

from cgk_tasks.dashboard import audit
from cgk_tasks.dashboard.access.flower_actions import _ACTIONS
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def ada(dashboard):
    browser = dashboard.browser("ada")
    browser.open("/audit")
    return browser


def post(browser, path, **fields):
    return browser.post(f"{browser.base}{path}", data={"_xsrf": browser.cookies["_xsrf"], **fields}, timeout=30)


def classes():
    for handler in handlers:
        yield handler.handler_class if hasattr(handler, "handler_class") else handler[1]


def test_every_handler_of_flower_that_changes_something_has_a_name_in_the_audit():
    changing = {
        one for one in classes()
        if any(getattr(one, name) is not getattr(RequestHandler, name) for name in ("post", "put", "delete", "patch"))
    }  # fmt: skip
    assert {one.__name__ for one in changing - set(_ACTIONS)} == {"TasksDataTable", "NotFoundErrorHandler"}


@pytest.mark.parametrize(("path", "fields", "action", "subject", "details"), [
    ("/flower/api/worker/queue/cancel-consumer/w@h", {"queue": "orders"}, "cancel consumer", "w@h",
     {"queue": "orders"}),
    ("/flower/api/worker/pool/shrink/w@h?n=3", {}, "shrink worker pool", "w@h", {"n": "3"}),
    ("/flower/api/worker/pool/grow/w@h", {}, "grow worker pool", "w@h", {"n": "1"}),
    ("/flower/api/worker/pool/autoscale/w@h", {"min": "1", "max": "9"}, "autoscale worker pool", "w@h",
     {"min": "1", "max": "9"}),
    ("/flower/api/task/rate-limit/x.y", {"workername": "w@h", "ratelimit": "1/s"}, "set rate limit of task", "x.y",
     {"workername": "w@h", "ratelimit": "1/s"}),
    ("/flower/api/task/timeout/x.y", {"workername": "w@h", "soft": "5"}, "set time limits of task", "x.y",
     {"workername": "w@h", "soft": "5"}),
    ("/flower/api/task/revoke/t-1", {"terminate": "true"}, "revoke task", "t-1",
     {"terminate": "true", "signal": "SIGTERM"}),
    ("/flower/api/worker/shutdown/w@h", {}, "shut down worker", "w@h", {}),
])  # fmt: skip
def test_an_action_is_in_the_audit_with_its_details(ada, path, fields, action, subject, details):
    answer = post(ada, path, **fields)
    line = wait_until(lambda: next((one for one in audit.lines(limit=1) if one.outcome != "begun"), None), 10)
    assert (line.who, line.action, line.subject, line.details) == ("ada", action, subject, details)
    assert line.outcome == ("done" if answer.status_code < 400 else "refused")
    page = ada.open("/audit").text
    assert all(f"{name}={value}" in page for name, value in details.items())


def test_a_task_that_is_sent_leaves_no_payload_in_the_audit(ada):
    body = {"args": ["planted-secret"], "kwargs": {"email": "planted-secret"}, "queue": "orders"}
    ada.post(
        f"{ada.base}/flower/api/task/apply/no.such", data=json.dumps(body),
        headers={"X-Xsrftoken": ada.cookies["_xsrf"]}, timeout=30,
    )  # fmt: skip
    line = audit.lines(limit=1)[0]
    assert (line.action, line.subject) == ("apply task", "no.such")
    assert line.details == {"queue": "orders", "args": 1, "kwargs": ["email"]}


@pytest.mark.slow
def test_a_worker_changes_for_an_admin_alone(start_worker, dashboard, ada):
    worker = start_worker(["tests.support.jobs"], concurrency=2)
    name = wait_until(
        lambda: next(iter(ada.open("/flower/api/workers?refresh=True").json()), None), 30, "Flower sees the worker"
    )
    oscar = dashboard.browser("oscar")
    page = oscar.open(f"/flower/worker/{name}")
    assert page.ok
    assert "Shut Down" not in page.text
    assert "Shut Down" in ada.open(f"/flower/worker/{name}").text
    assert post(oscar, f"/flower/api/worker/pool/grow/{name}", n="1").status_code == 403
    assert post(ada, f"/flower/api/worker/pool/grow/{name}", n="1").status_code == 200
    line = wait_until(lambda: next((one for one in audit.lines(limit=1) if one.outcome == "done"), None), 10)
    assert (line.action, line.subject, line.details) == ("grow worker pool", name, {"n": "1"})
    assert worker.process.poll() is None
