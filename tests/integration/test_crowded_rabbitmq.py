"""RabbitMQ does not tell senders how much waits, so PostgreSQL does."""

import pytest

from cgk_tasks import reset_job_client, send_job
from cgk_tasks.sql.postgres import autocommit
from tests.support.rabbitmq import RabbitServer, find_rabbitmq
from tests.support.share_jobs import Nap


@pytest.fixture
def rabbitmq(database, setting):
    program = find_rabbitmq()
    if program is None:
        pytest.skip("there is no rabbitmq-server on this machine")
    server = RabbitServer(program)
    setting(CGK_BROKER_URL=server.url, CGK_WINDOW_SECONDS="0.5")
    reset_job_client()
    yield
    reset_job_client()
    server.close()


@pytest.mark.slow
def test_what_the_window_does_not_hold_waits_in_lanes(rabbitmq):
    with autocommit() as connection:
        connection.execute("INSERT INTO cgk.run_times (event, mean_seconds) VALUES ('shares.nap', 0.1)")
    for _ in range(30):
        send_job(Nap(tenant_id="acme"))
    with autocommit() as connection:
        states = dict(connection.execute("SELECT state, count(*) FROM cgk.runs GROUP BY 1").fetchall())
    assert (4 <= states["pending"] <= 6, sum(states.values())) == (True, 30)
