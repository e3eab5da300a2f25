"""The page of one tenant: what it may, what is paused, what it used, and who changed what."""

import pytest

from cgk_tasks import AtOnce, pause, resume, set_limit, set_plan, set_tenant_limits
from cgk_tasks.sql.postgres import autocommit


@pytest.fixture
def viola(dashboard):
    """Who may look, and nothing else."""
    return dashboard.browser("viola")


@pytest.fixture
def page(viola, setting):
    """The page's text, without what is set for other tests."""
    setting(CGK_JOB_MODULES="tests.support.limits_jobs")
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.plans, cgk.tenant_limits, cgk.job_limits, cgk.tenant_usage CASCADE")

    def read(tenant="acme"):
        answer = viola.open(f"/tenants/{tenant}")
        return answer.status_code, " ".join(answer.text.split())

    return read


def test_limits_are_shown_with_where_they_come_from(page):
    set_plan("pro", weight=4, starts=(1000, 60))
    set_tenant_limits("acme", plan="pro", at_once=80, by="ada", reason="their migration")
    status, text = page()
    assert status == 200
    assert "Plan <strong>pro</strong>" in text
    assert '<th scope="row">Runs at once</th><td class="number">80</td><td>tenant</td>' in text
    assert '<td class="number">1,000 in 60 s</td><td>plan</td>' in text
    assert '<th scope="row">Sends a day</th><td class="number">no limit</td><td>default</td>' in text
    assert "their migration" in text


def test_limits_of_jobs_and_pauses_are_shown_with_who_and_why(page):
    set_limit("limits-single", AtOnce(10), tenant="acme", by="ada", reason="slow <interface>")
    pause(tenant="acme", job="limits-single", by="bob", reason="broken")
    try:
        _, text = page()
    finally:
        resume(tenant="acme", job="limits-single")
    assert "10 at once" in text
    assert "slow &lt;interface&gt;" in text
    assert "tenant acme, event limits.single" in text
    assert "broken" in text


def test_usage_of_the_month_is_shown(page):
    with autocommit() as connection:
        connection.execute(
            "INSERT INTO cgk.tenant_usage (tenant_id, hour, runs, failed, run_seconds, rejected)"
            " VALUES ('acme', date_trunc('hour', now(), 'UTC'), 1234567, 1, 7200, 3)"
        )
    _, text = page()
    assert '<td class="number">1,234,5' in text
    assert "2 h" in text


def test_an_unknown_tenant_has_no_page(page):
    assert page("nobody")[0] == 404


def test_the_list_leads_to_it(viola):
    assert 'href="/tenants/acme"' in viola.open("/tenants").text
