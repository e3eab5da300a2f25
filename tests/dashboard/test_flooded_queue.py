"""The page of a queue while real workers work off a flood."""

import os

import pytest

from cgk_tasks import SendItem, send_job, send_jobs
from cgk_tasks.config import use_settings
from cgk_tasks.dashboard.data.queue_view import queue_view
from cgk_tasks.sql.postgres import autocommit
from tests.support.share_jobs import Nap
from tests.support.waiting import wait_closed, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def flooded(database, start_worker):
    """The queue's name: a tenant has sent many runs at once, another one a few."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CGK_WINDOW_SECONDS", "0.5")
        use_settings(None)
        start_worker(["tests.support.share_jobs"], concurrency=2)
        with autocommit() as connection:
            connection.execute("INSERT INTO cgk.run_times (event, mean_seconds) VALUES ('shares.nap', 0.3)")
        send_jobs(SendItem(Nap(tenant_id="acme", seconds=0.3)) for _ in range(600))
        yield os.environ["CGK_DEFAULT_QUEUE"]
    use_settings(None)


def seen(queue, ready):
    """The view of the queue once it is as wanted."""
    return wait_until(lambda: (view := queue_view(queue)) and ready(view) and view, 60)


def test_lanes_the_window_and_what_was_had(flooded):
    view = seen(flooded, lambda view: view.hour.seconds > 4)
    (lane,) = view.lanes.lines
    assert (lane.tenant_id, lane.state, lane.share) == ("acme", "open", 1.0)
    assert 0 < lane.waiting < 600
    assert (view.window.processes, view.window.seconds, view.window.is_crowded) == (2, 1.0, True)
    assert (view.window.is_fair, view.window.unclaimed <= 4) == (True, True)
    assert "acme" in {line.name for line in view.hour.lines}
    assert sum(line.part for line in view.hour.lines) == pytest.approx(1)


def test_another_tenant_gets_its_share_and_is_seen_to_have_it(flooded):
    runs = [send_job(Nap(tenant_id="globex", seconds=0.3)).id for _ in range(30)]
    view = seen(flooded, lambda view: len(view.hour.lines) == 2)
    shares = {line.tenant_id: line.share for line in view.lanes.lines}
    assert shares.get("globex", 0.5) == shares["acme"] == 0.5
    assert wait_closed(runs[-1], 60).state == "completed"
    with autocommit() as connection:
        rows = connection.execute("SELECT tenant_id, sum(seconds) FROM cgk.used_shares GROUP BY 1").fetchall()
    had = dict(rows)
    assert had["globex"] < 30 * 0.3 + 4
    assert had[""] == pytest.approx(had["acme"] + had["globex"])
