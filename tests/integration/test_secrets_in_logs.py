"""A real worker's output holds no password, whatever is wrong with its servers."""

import dataclasses
import json
from urllib.parse import quote

import psycopg
import pytest
import redis

from cgk_tasks import send_job
from cgk_tasks.config import get_settings
from cgk_tasks.config.broker_url import redis_server
from tests.support.jobs import Behave
from tests.support.waiting import wait_closed, wait_until
from tests.support.workers import Worker

pytestmark = pytest.mark.slow

PASSWORD = "p@ss/w#rd:%41?&[x]+ =é\"'\\n$HOME;~`|<>{}^*()!,"
"""Every special character."""


def forms():
    told = (PASSWORD, quote(PASSWORD, safe=""), quote(PASSWORD), repr(PASSWORD)[1:-1])
    return {*told, *(json.dumps(one)[1:-1] for one in told), "p@ss", "w#rd", "p%40ss", "w%23rd"}


def assert_silent(output):
    assert not [one for one in forms() if one in output]


@pytest.fixture
def odd_user():
    """A user of Redis with such a password; the URL of the broker for it."""
    own = redis_server(get_settings().broker)
    with redis.Redis.from_url(get_settings().broker) as client:
        client.execute_command("ACL", "SETUSER", "odd", "on", f">{PASSWORD}", "~*", "&*", "+@all")
        yield dataclasses.replace(own, user="odd", password=PASSWORD).for_celery()
        client.execute_command("ACL", "DELUSER", "odd")


@pytest.fixture
def start(database):
    started = []

    def make(**env):
        worker = Worker(["tests.support.jobs"], concurrency=1, **env)
        started.append(worker)
        return worker

    yield make
    for worker in started:
        worker.stop()


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_worker_that_works_and_whose_job_quotes_the_url(start, odd_user, form):
    worker = start(CGK_BROKER_URL=odd_user, CGK_LOG_FORMAT=form).wait_ready()
    run = send_job(Behave(tenant_id="acme", action="fail", argument=f"no answer from {odd_user}, {PASSWORD}"))
    wait_closed(run.id)
    wait_until(lambda: "ValueError" in worker.log)
    assert worker.stop() == 0
    assert_silent(worker.log)


def test_a_worker_whose_password_for_the_broker_is_wrong(start):
    own = redis_server(get_settings().broker)
    worker = start(CGK_BROKER_URL=dataclasses.replace(own, user="nobody", password=PASSWORD).for_celery())
    wait_until(lambda: "Cannot connect to" in worker.log, 30)
    worker.stop()
    assert_silent(worker.log)


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_worker_whose_broker_cannot_be_reached(start, scheme):
    worker = start(CGK_BROKER_URL=f"{scheme}://ada:{quote(PASSWORD, safe='')}@127.0.0.1:1/0")
    wait_until(lambda: "Cannot connect to" in worker.log, 30)
    worker.stop()
    assert_silent(worker.log)


def test_a_worker_whose_login_at_postgresql_is_refused(start):
    found = psycopg.conninfo.conninfo_to_dict(get_settings().database)
    place = f"{quote(found['host'], safe='')}/{found['dbname']}?port={found.get('port', 5432)}"
    worker = start(CGK_DATABASE_URL=f"postgresql://nobody:{quote(PASSWORD, safe='')}@{place}")
    wait_until(lambda: "heartbeat_failed" in worker.log, 30)
    worker.stop()
    assert_silent(worker.log)


@pytest.mark.parametrize("name", ["CGK_BROKER_URL", "CGK_DATABASE_URL"])
def test_a_worker_whose_url_has_the_password_as_it_is(start, name):
    scheme = "redis" if name == "CGK_BROKER_URL" else "postgresql"
    worker = start(**{name: f"{scheme}://ada:{PASSWORD}@127.0.0.1/x"})
    wait_until(lambda: worker.process.poll() is not None, 30)
    assert name in worker.log
    assert_silent(worker.log)
