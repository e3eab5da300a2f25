"""What an application loads that only sends. Seconds and megabytes are measured in benchmarks/; here is what causes
them.
"""

import json
import os
import subprocess
import sys

import pytest

from cgk_tasks import get_run

NOT_FOR_A_SEND = [
    "celery", "kombu", "amqp", "structlog", "rich", "typer", "yaml", "sqlalchemy", "alembic", "psycopg_pool", "django",
    "tornado", "flower", "jinja2", "cryptography.hazmat", "httpx", "cronsim", "prometheus_client",
    "opentelemetry.sdk.trace", "cgk_tasks.celery_app", "cgk_tasks.celery_tasks", "cgk_tasks.worker",
    "cgk_tasks.schedules", "cgk_tasks.builtin", "cgk_tasks.monitoring", "cgk_tasks.dashboard", "cgk_tasks.embedded",
    "cgk_tasks.workflows.define", "cgk_tasks.client.local", "cgk_tasks.client.hosted",
    "cgk_tasks.broker.amqp_publisher",
    "cgk_tasks.admission.passes", "cgk_tasks.jobs.context", "cgk_tasks.runs.mails", "cgk_tasks.runs.progress",
    "cgk_tasks.runs.steps", "cgk_tasks.runs.undo", "cgk_tasks.runs.usage", "cgk_tasks.tenancy.adding",
    "cgk_tasks.tenancy.cache", "cgk_tasks.tenancy.rls", "cgk_tasks.tenancy.setup", "cgk_tasks.tenancy.storage",
    "cgk_tasks.tenancy.suspending", "cgk_tasks.tenancy.sync",
    "cgk_tasks.catalog.names", "cgk_tasks.catalog.payloads", "cgk_tasks.catalog.jobs", "cgk_tasks.catalog.creators",
]  # fmt: skip
SEND = """
import json, sys
from cgk_tasks import send_job

run = send_job("order.created", {"tenantId": "acme", "orderId": "light", "totalAmount": 1})
print(json.dumps({"run": run.id, "modules": sorted(sys.modules)}))
"""


def loaded_after(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def sent(database):
    return loaded_after(SEND)


def test_the_send_is_on_record(sent):
    assert get_run(sent["run"]).event == "order.created"


@pytest.mark.parametrize("module", NOT_FOR_A_SEND)
def test_a_send_does_not_load(sent, module):
    assert module not in sent["modules"]


def of_the_catalog(modules):
    return [name for name in modules if name.startswith("cgk_tasks.catalog.")]


def test_a_send_loads_no_other_category_of_events(sent):
    assert of_the_catalog(sent["modules"]) == ["cgk_tasks.catalog.commerce", "cgk_tasks.catalog.index"]


def test_a_model_of_an_event_loads_its_own_category_alone():
    program = "import json, sys\nfrom cgk_tasks.events import ReviewSubmitted\nprint(json.dumps(sorted(sys.modules)))"
    assert of_the_catalog(loaded_after(program)) == ["cgk_tasks.catalog.index", "cgk_tasks.catalog.reviews"]
