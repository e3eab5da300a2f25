"""Quarantine with a real worker: it looks, pauses the tenant, tells of it, and lets the tenant go on."""

import pytest

from cgk_tasks import end_quarantine, get_job_status, list_pauses, list_quarantines, send_job
from cgk_tasks.runs import store
from tests.monitoring.alert_jobs import Behave
from tests.support.waiting import wait_closed, wait_state, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def worker(start_worker):
    """It looks every two seconds."""
    return start_worker(
        ["tests.monitoring.alert_jobs"],
        CGK_QUARANTINE="true",
        CGK_QUARANTINE_RUNS="10",
        CGK_QUARANTINE_WINDOW_SECONDS="8",
        CGK_QUARANTINE_PACED_SECONDS="1",
        CGK_RULES_REFRESH_SECONDS="0.2",
        CGK_ALERTS="tenant_quarantined",
        CGK_ALERT_INTERVAL_SECONDS="0.2",
    )


def send(action, tenant="acme"):
    return send_job(Behave(tenant_id=tenant, action=action)).id


def test_a_tenant_whose_runs_fail_is_held_told_of_and_goes_on_once_it_is_released(setting):
    setting(CGK_RULES_REFRESH_SECONDS="0.2")
    for run in [send("fail_permanently") for _ in range(10)]:
        wait_closed(run)
    wait_until(lambda: [one.tenant_id for one in list_pauses()] == ["acme"], what="acme is paused")
    (alert,) = wait_until(lambda: store.listing(event="system.alert", limit=10))
    assert get_job_status(alert.id).payload["metadata"]["tenant"] == "acme"
    held = send("echo")
    wait_state(held, "held")
    assert wait_closed(send("echo", "globex")).state == "completed"
    assert get_job_status(held).state == "held"
    end_quarantine("acme", by="ada")
    assert wait_closed(held).state == "completed"
    wait_until(lambda: list_quarantines() == [], what="it has its weight again")
