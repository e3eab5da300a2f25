"""A dashboard with three users, on the module's database; runs of many kinds made by hand."""

import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cgk_tasks.dashboard.access.passwords import hash_password
from cgk_tasks.dashboard.access.users import import_accounts
from cgk_tasks.dashboard.roles import Account
from cgk_tasks.runs.codec import encode
from cgk_tasks.runs.models import new_run_id
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.tenancy import resume_tenant, suspend_tenant
from tests.dashboard.browsing import CHROMIUM, TIMEOUT_MS, Pictures, are_wanted, log_in
from tests.dashboard.dashboard_support import PASSWORDS, ROLES, Dashboard
from tests.dashboard.sample_runs import make_sample_lanes, make_sample_runs
from tests.support.content import insert


@pytest.fixture(scope="session")
def accounts():
    """Viola may look, Oscar may act, Ada may do everything. Hashes are slow to make: once a session."""
    return [Account(name, role, "", hash_password(PASSWORDS[name])) for name, role in ROLES.items()]


@pytest.fixture(scope="module")
def start_dashboard(database, accounts, tmp_path_factory):
    import_accounts(accounts)
    started = []

    def start(**options):
        dashboard = Dashboard(tmp_path_factory.mktemp("dashboard") / "log", **options)
        started.append(dashboard)
        return dashboard

    yield start
    for dashboard in started:
        dashboard.stop()


@pytest.fixture(scope="module")
def dashboard(start_dashboard):
    return start_dashboard()


@pytest.fixture
def empty_record(database):
    """No runs, no audit."""
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.runs, cgk.run_history, cgk.audit, cgk.discarded_runs RESTART IDENTITY")


@pytest.fixture
def closed_run(database):
    """Make closed runs, as they would be after their job: `closed_run(state="failed", message="...")`."""

    def make(event="order.created", tenant="acme", state="failed", message="cannot be done", code="INVALID_STATE",
    age=60.0,
             payload=None, run_id=None, result=None, **columns):  # fmt: skip
        at = datetime.now(UTC) - timedelta(seconds=age)
        error = {
            "attempt": 1, "kind": "permanent", "code": code, "type": "ValueError", "message": message,
            "at": at.isoformat(),
            "traceback": f"Traceback (most recent call last):\nValueError: {message}",
        }  # fmt: skip
        values = {
            "id": run_id or new_run_id(), "tenant_id": tenant, "event": event, "state": state, "queue": "cgk",
            "priority": 5,
            "payload": encode({"tenantId": tenant, **(payload or {"orderId": "o-1", "totalAmount": 1.5})}),
            "attempt": 1, "run_at": at, "created_at": at, "started_at": at, "closed_at": at,
            "result": json.dumps(result),
            "errors": json.dumps([error] if state == "failed" else []),
            "error_code": code if state == "failed" else None, **columns,
        }  # fmt: skip
        with autocommit() as connection:
            insert(connection, "run_history", values)
        return str(values["id"])

    return make


@pytest.fixture
def open_run(database):
    """Make open runs that nobody claims."""

    def make(event="order.created", tenant="acme", state="pending", payload=None, run_id=None, **columns):
        now = datetime.now(UTC)
        values = {
            "id": run_id or new_run_id(), "tenant_id": tenant, "event": event, "state": state,
            "queue": f"q-{uuid.uuid4().hex[:6]}",
            "priority": 5,
            "payload": encode({"tenantId": tenant, **(payload or {"orderId": "o-1", "totalAmount": 1.5})}),
            "run_at": now, "created_at": now, "handed_over_at": now, "hand_overs": 1, **columns,
        }  # fmt: skip
        with autocommit() as connection:
            insert(connection, "runs", values)
        return str(values["id"])

    return make


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def sample(empty_record, closed_run, open_run):
    suspend_tenant("globex", by="billing")
    yield make_sample_runs(closed_run, open_run)
    resume_tenant("globex")


@pytest.fixture
def visit(chromium, dashboard):
    """Open a browser as somebody. Whatever a page complains of fails the test, but for what is expected."""
    contexts, complaints, expected = [], [], []

    def enter(name="oscar", expects="", **options):
        expected.append(expects)
        options = {"base_url": dashboard.url, "viewport": {"width": 1180, "height": 680}, **options}
        context = chromium.new_context(**options)
        context.set_default_timeout(TIMEOUT_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        if name:
            log_in(page, name)
        return page

    yield enter
    for context in contexts:
        context.close()
    assert [text for text in complaints if not any(one and one in text for one in expected)] == []


@pytest.fixture
def picture(tmp_path):
    return Pictures(tmp_path)


def pytest_collection_modifyitems(config, items):
    """Where pictures are taken for the docs, of the dashboard's tests those alone that take some."""
    if are_wanted():
        here = [one for one in items if one.path.is_relative_to(Path(__file__).parent)]
        others = [one for one in here if "picture" not in one.fixturenames]
        items[:] = [one for one in items if one not in others]
        config.hook.pytest_deselected(items=others)


@pytest.fixture
def crowded_queue(empty_record, setting):
    """The name of a queue in which tenants wait."""
    setting(CGK_WINDOW_SECONDS=None)
    with autocommit() as connection:
        connection.execute(
            "TRUNCATE cgk.lanes, cgk.shares, cgk.gates, cgk.rules, cgk.used_shares, cgk.used_half_hours CASCADE"
        )
        connection.execute("UPDATE cgk.passes SET known = '{}', clocks = '{}'")
    yield make_sample_lanes()
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.workers WHERE name = 'w'")


@pytest.fixture(scope="module")
def viola(dashboard):
    """A browser of the viewer."""
    return dashboard.browser("viola")


@pytest.fixture(scope="module")
def oscar(dashboard):
    """A browser of the operator."""
    return dashboard.browser("oscar")


@pytest.fixture(scope="module")
def ada(dashboard):
    """A browser of the admin."""
    return dashboard.browser("ada")
