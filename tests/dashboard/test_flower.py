"""Flower's own pages: tasks named by event, the tenant in the arguments, and no personal data anywhere."""

import base64
import os
import re
import subprocess
import sys

import pytest
import redis
import requests

from cgk_tasks import send_job, send_jobs
from cgk_tasks.client import SendItem
from cgk_tasks.events import CustomerCreated
from tests.monitoring.exposition import free_port
from tests.support.waiting import wait_closed, wait_until
from tests.support.workers import ROOT, running_worker

pytestmark = pytest.mark.slow

SECRET = "planted.secret@example.com"

JOBS = """
from cgk_tasks import RetryConfig, define_job

@define_job("greet", event="customer.created", retry=RetryConfig(max_attempts=1))
def greet(ctx):
    if ctx.payload.customer_id.startswith("bad"):
        raise ValueError(f"no mail to {ctx.payload.email}")
    return {"sent_to": ctx.payload.email}
"""


def in_the_open(data):
    """What anybody who sees a message can read: also what is only written in base64."""
    text = data.decode(errors="replace") if isinstance(data, bytes) else str(data)
    bodies = [
        base64.b64decode(body).decode(errors="replace") for body in re.findall(r'"body": ?"([A-Za-z0-9+/=]+)"', text)
    ]
    return " ".join([text, *bodies])


class Listener:
    """Hears everything that goes through Redis."""

    def __init__(self, url):
        self._pubsub = redis.Redis.from_url(url).pubsub()
        self._pubsub.psubscribe("*")
        self.heard = []

    def listen(self):
        while (message := self._pubsub.get_message(timeout=0.01)) is not None:
            self.heard.append(in_the_open(message["data"]))
        return "".join(self.heard)


@pytest.fixture(scope="module")
def traffic(start_dashboard, services, tmp_path_factory):
    """A worker that sends events, a dashboard that hears them, one good run and one bad one."""
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "greeting_jobs.py").write_text(JOBS)
    dashboard = start_dashboard()
    ada = dashboard.browser("ada")
    path, port = f"{folder}{os.pathsep}{ROOT}", free_port()
    with running_worker(
        ["greeting_jobs"], PYTHONPATH=path, CGK_METRICS_PORT=str(port), CGK_EXTERNAL_EVENTS="customer.created"
    ) as worker:
        listener = Listener(services.broker_url)

        def hears():
            """Flower tells workers every few seconds to send events."""
            probe = send_job(CustomerCreated(tenant_id="acme", customer_id="probe", email=SECRET)).id
            wait_closed(probe)
            return probe in ada.open("/flower/api/tasks").text

        wait_until(hears, 60, "Flower hears of tasks")
        good = send_job(CustomerCreated(tenant_id="acme", customer_id="good-1", email=SECRET)).id
        bad = send_job(CustomerCreated(tenant_id="acme", customer_id="bad-1", email=SECRET)).id
        wait_closed(good)
        wait_closed(bad)
        handles = send_jobs(
            [SendItem(CustomerCreated(tenant_id="globex", customer_id=f"bad-{n}", email=SECRET)) for n in range(5)]
        )
        for handle in handles:
            wait_closed(handle.id)
        wait_until(lambda: listener.listen() and good in ada.open("/flower/api/tasks").text, 60, "Flower has the tasks")
        wait_until(
            lambda: listener.listen() and '"FAILURE"' in ada.open("/flower/api/tasks").text,
            60,
            "Flower has the failure",
        )
        yield {
            "ada": ada, "good": good, "bad": bad, "worker": worker, "heard": listener.listen(), "dashboard": dashboard,
            "metrics": f"http://127.0.0.1:{port}/metrics",
        }  # fmt: skip


def test_a_task_has_the_events_name_and_the_runs_id(traffic):
    tasks = traffic["ada"].open("/flower/api/tasks").json()
    assert tasks[traffic["good"]]["name"] == "customer.created"
    assert tasks[traffic["good"]]["args"] == "(tenant=acme)"


def test_the_list_shows_the_tenant_and_the_searchable_fields(traffic):
    ada = traffic["ada"]
    fields = {
        "_xsrf": ada.cookies["_xsrf"], "draw": 1, "start": 0, "length": 50, "order[0][column]": 0,
        "order[0][dir]": "asc",
        "columns[0][data]": "name",
    }  # fmt: skip
    ada.open("/flower/tasks")
    fields["_xsrf"] = ada.cookies["_xsrf"]
    data = ada.post(f"{ada.base}/flower/tasks/datatable", data=fields, timeout=30).json()["data"]
    row = next(row for row in data if row["uuid"] == traffic["good"])
    assert row["args"] == "tenant=acme customerId=good-1"


def test_the_columns_have_the_arguments(traffic):
    assert 'data-column="args"' in traffic["ada"].open("/flower/tasks").text


def test_flower_shows_the_queues_of_our_broker(traffic):
    assert traffic["ada"].open("/flower/broker").status_code == 200


@pytest.mark.parametrize("path", [
    "/flower/api/tasks", "/flower/api/task/info/{good}", "/flower/api/task/info/{bad}", "/flower/task/{good}",
    "/flower/task/{bad}", "/flower/tasks", "/metrics", "/flower/metrics", "/runs", "/runs/{good}", "/runs/{bad}",
    "/dead-letters", "/runs?text=planted", "/audit",
])  # fmt: skip
def test_no_page_has_personal_data(traffic, path):
    answer = traffic["ada"].open(path.format(**traffic))
    assert answer.status_code == 200
    assert SECRET not in answer.text


def test_nothing_that_went_through_the_broker_had_personal_data(traffic):
    assert "task-failed" in traffic["heard"]
    assert SECRET not in traffic["heard"]


def test_nothing_that_lies_in_the_broker_has_personal_data(traffic, services):
    client = redis.Redis.from_url(services.broker_url)
    looks = {
        b"string": client.get, b"hash": client.hgetall, b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1), b"list": lambda key: client.lrange(key, 0, -1),
    }  # fmt: skip
    lying = [in_the_open(repr(look(key))) for key in client.scan_iter() if (look := looks.get(client.type(key)))]
    assert SECRET not in "".join(lying)


def test_no_metrics_have_personal_data(traffic):
    of_the_worker = requests.get(traffic["metrics"], timeout=30).text
    exporter = [sys.executable, "-m", "cgk_tasks.cli", "metrics", "--once"]
    of_the_record = subprocess.run(exporter, capture_output=True, text=True, check=True).stdout
    assert 'event="customer.created"' in of_the_worker
    assert "cgk_" in of_the_record
    assert SECRET not in of_the_worker + of_the_record


def test_no_log_has_personal_data(traffic):
    assert SECRET not in traffic["dashboard"].log
    assert SECRET not in traffic["worker"].log


def test_an_external_clients_payload_is_not_shown(traffic, services):
    """Another producer's message has its payload in the open. Flower does not show it."""
    from celery import Celery

    external = Celery("external", broker=services.broker_url, set_as_current=False)
    queue = os.environ["CGK_DEFAULT_QUEUE"]
    sent = external.send_task(
        "customer.created", kwargs={"tenantId": "acme", "customerId": "far-1", "email": SECRET}, queue=queue
    )
    ada = traffic["ada"]
    wait_closed_task(sent.id)
    wait_until(lambda: sent.id in ada.open("/flower/api/tasks").text, 30)
    assert SECRET not in ada.open("/flower/api/tasks").text
    assert SECRET not in ada.open(f"/flower/task/{sent.id}").text


def wait_closed_task(task_id):
    from cgk_tasks.errors import UnknownRunError

    def closed():
        try:
            return wait_closed(task_id)
        except UnknownRunError:
            return None

    return wait_until(closed, 30)
