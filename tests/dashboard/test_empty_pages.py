"""A fresh installation, with no tenant, run, worker or schedule that has ticked: each page says what to do next."""

import re

import pytest

from cgk_tasks.dashboard.application import PAGES
from cgk_tasks.dashboard.display import PAGES as IN_THE_BAR
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.tenancy import registry

EVENTS, WORKERS = 'href="/events?only=jobs"', 'href="/workers"'

FRESH = [
    ("/overview", "No worker is alive, so no run starts.", WORKERS),
    ("/overview", "Nothing was sent in this time, and nothing waits.", "<code>cgk-tasks tenants add acme</code>"),
    ("/runs", "No run is on record.", EVENTS),
    ("/runs?q=tenant:acme", "No run matches.", 'href="/runs"'),
    ("/runs/matching?do=retry&q=state:failed", "Back to the runs", 'href="/runs?q=state%3Afailed"'),
    ("/events?only=jobs", "No event has a job here", WORKERS),
    ("/events?only=day", "No event was sent in 24 hours", 'href="/events"'),
    ("/events?text=zzz", "No event matches.", 'href="/events"'),
    ("/jobs", "No job is known.", WORKERS),
    ("/jobs?text=zzz", "No job matches.", 'href="/jobs"'),
    ("/tenants", "No tenant is registered", "<code>cgk-tasks tenants add acme</code>"),
    ("/tenants?id=zzz", "No tenant begins like that.", 'href="/tenants?within=24h"'),
    ("/queues", "No worker that takes runs listens", WORKERS),
    ("/queues/lanes?queue=cgk", "No run waits in a lane", 'href="/runs?q=queue%3Acgk"'),
    ("/workers", "No worker is on record, so no run starts.", "<code>celery -A cgk_tasks worker</code>"),
    ("/dead-letters", "There are none: no run failed for good", 'href="/runs?q=state%3Afailed"'),
    ("/dead-letters/group?event=order.created&fingerprint=f", "There are none left", 'href="/dead-letters"'),
    ("/schedules", "No beat leads, so nothing ticks.", "<code>celery -A cgk_tasks beat</code>"),
    ("/schedules", "None of them has a job, so none ticks.", WORKERS),
    ("/schedules?text=zzz", "No schedule matches.", 'href="/schedules"'),
    ("/schedules/coming-day?text=zzz", "No schedule matches.", 'href="/schedules/coming-day"'),
    ("/schedules/of-tenants", "No tenant has any.", "<code>create_schedule(tenant_id, event, cron)</code>"),
    ("/schedules/of-tenants?tenant=acme", "acme has none.", 'href="/schedules/of-tenants"'),
    ("/audit", "Nobody has done anything yet.", "<code>cgk-tasks</code>"),
]


@pytest.fixture(scope="module")
def oscar(database, dashboard):
    """As an operator, who may act, in a database in which nothing is."""
    browser = dashboard.browser("oscar")
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.tenants, cgk.runs, cgk.run_history, cgk.audit, cgk.workers CASCADE")
    registry.forget_known()
    return browser


@pytest.mark.parametrize(("address", "said", "following"), FRESH, ids=[f"{one[0]}: {one[1][:20]}" for one in FRESH])
def test_a_page_with_nothing_to_show_says_what_to_do_next(oscar, address, said, following):
    answer = oscar.open(address)
    assert answer.status_code == 200
    told = re.findall(r'<(p|div) class="(?:empty|problem|buttons)"[^>]*>(.*?)</\1>', answer.text, re.DOTALL)
    shown = [" ".join(text.split()) for _element, text in told]
    assert [one for one in shown if said in one and following in one], shown


def test_every_page_in_the_bar_is_among_them():
    ours = {path for path, _name in IN_THE_BAR} & {path for path, _page in PAGES}
    assert ours <= {address.partition("?")[0] for address, _said, _following in FRESH}
