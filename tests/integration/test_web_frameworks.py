"""The tenant of a request, set in one place of a FastAPI or Flask application, is that of what the request sends."""

from contextlib import ExitStack
from typing import Annotated

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Header
from fastapi.testclient import TestClient
from flask import Flask, g, request

from cgk_tasks import get_run, tenant_context
from cgk_tasks.errors import TenantContextError, TenantMissingError
from cgk_tasks.runs.models import run_id_of
from tests.integration import canvas_tasks as tasks

pytestmark = pytest.mark.usefixtures("database")

api = FastAPI()
sent_later = []


def tenant_id_of(x_tenant: Annotated[str, Header()]):
    return x_tenant


async def tenant(tenant_id: Annotated[str, Depends(tenant_id_of)]):
    with tenant_context(tenant_id):
        yield tenant_id


def tenant_in_a_thread(x_tenant: Annotated[str, Header()]):
    with tenant_context(x_tenant):
        yield x_tenant


@api.post("/async")
async def send(_tenant: Annotated[str, Depends(tenant)]):
    return tasks.add.delay(1, 2).id


@api.post("/sync")
def send_in_a_thread(_tenant: Annotated[str, Depends(tenant)]):
    return tasks.add.delay(1, 2).id


def send_later(tenant_id):
    with tenant_context(tenant_id):
        sent_later.append(tasks.add.delay(1, 2).id)


@api.post("/background")
async def send_in_background(tenant_id: Annotated[str, Depends(tenant)], background: BackgroundTasks):
    background.add_task(send_later, tenant_id)


@api.post("/lost")
def send_without(_tenant: Annotated[str, Depends(tenant_in_a_thread)]):
    with pytest.raises(TenantMissingError):
        tasks.add.delay(1, 2)


web = Flask(__name__)


@web.before_request
def enter_tenant():
    g.contexts = ExitStack()
    g.contexts.enter_context(tenant_context(request.headers["X-Tenant"]))


@web.teardown_request
def leave_tenant(_error):
    if "contexts" in g:
        g.contexts.close()


@web.post("/")
def send_from_flask():
    return tasks.add.delay(1, 2).id


def tenant_of(task_id):
    return get_run(run_id_of(task_id)).tenant_id


@pytest.mark.parametrize("path", ["/async", "/sync"])
@pytest.mark.parametrize("tenant_id", ["acme", "globex"])
def test_an_async_dependency_names_the_tenant_of_an_endpoint(path, tenant_id):
    answer = TestClient(api).post(path, headers={"X-Tenant": tenant_id})
    assert tenant_of(answer.json()) == tenant_id


def test_a_background_task_opens_the_tenants_context_again():
    TestClient(api).post("/background", headers={"X-Tenant": "globex"})
    assert tenant_of(sent_later.pop()) == "globex"


def test_a_dependency_in_a_thread_is_told_that_it_was_not_seen():
    with pytest.raises(TenantContextError, match="as async def"):
        TestClient(api).post("/lost", headers={"X-Tenant": "acme"})


@pytest.mark.parametrize("tenant_id", ["acme", "globex"])
def test_flasks_before_request_names_the_tenant(tenant_id):
    answer = web.test_client().post("/", headers={"X-Tenant": tenant_id})
    assert tenant_of(answer.text) == tenant_id
