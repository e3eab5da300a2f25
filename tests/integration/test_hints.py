"""A sender wakes the leader for a run that is due before the leader looks again."""

import threading
import uuid

import pytest
import redis

from cgk_tasks import SendItem, SendOptions, get_run, send_job, send_jobs
from cgk_tasks.broker import hints
from cgk_tasks.broker.hints import Hints, longest_pause, new_hints
from cgk_tasks.config import get_settings, use_settings
from cgk_tasks.events import TenantEvent
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.worker import pace, presence
from cgk_tasks.worker.supervisor import Supervisor
from tests.support.idle_pool import idle_pool
from tests.support.waiting import wait_until


class Hinted(TenantEvent, event="test.hinted"):
    """Of which nobody has a job."""


pytestmark = pytest.mark.usefixtures("database")
SOON, LATER = 0.05, 3600.0


def send(**options):
    return send_job(Hinted(tenant_id="acme"), queue="nobody-listens", **options).id


class Heard:
    """How many hints a listener has heard. Its first call says that it listens."""

    def __init__(self):
        self.calls = 0
        self.hints = Hints(self._call)
        self.hints.start()
        wait_until(lambda: self.hints.are_heard)

    def _call(self):
        self.calls += 1


@pytest.fixture
def heard(monkeypatch):
    monkeypatch.setattr(hints, "_TRY_AGAIN_SECONDS", 0.05)
    one = Heard()
    yield one
    one.hints.close()
    assert not one.hints.is_alive()


def test_only_a_send_that_is_due_soon_gives_a_hint(heard):
    send()
    send(delay=LATER)
    send(delay=SOON)
    send(delay=SOON)
    wait_until(lambda: heard.calls == 3)
    send(delay=LATER)
    send(delay=SOON)  # it is heard after whatever was said before
    wait_until(lambda: heard.calls >= 4)
    assert heard.calls == 4


def test_a_bulk_send_gives_one(heard):
    items = [SendItem(Hinted(tenant_id="acme"), options=SendOptions(delay=delay)) for delay in (SOON, LATER, SOON)]
    send_jobs(items)
    send(delay=SOON)
    wait_until(lambda: heard.calls >= 3)
    assert heard.calls == 3


def test_a_listener_that_has_lost_its_connection_knows_it_and_listens_again(heard):
    calls = heard.calls
    with redis.Redis.from_url(get_settings().broker) as broker:
        broker.client_kill_filter(_type="pubsub")
    wait_until(lambda: heard.calls > calls)  # what was missed meanwhile is looked for
    assert heard.hints.are_heard


def test_a_send_while_redis_is_away_is_accepted(setting):
    setting(CGK_BROKER_URL="redis://127.0.0.1:1/0")
    assert get_run(send(delay=SOON)).state == "scheduled"


def test_with_another_broker_there_are_none(setting):
    setting(CGK_BROKER_URL="amqp://guest@127.0.0.1:1//")
    assert new_hints(lambda: None) is None
    assert get_run(send(delay=SOON)).state == "scheduled"


@pytest.mark.parametrize(
    ("interval", "timeout", "longest"),
    [("0.1", "30", 0.4), ("0.25", "30", 1.0), ("0.5", "30", 1.0), ("20", "30", 20.0), ("0.25", "6", 0.5)],
)
def test_an_idle_leader_looks_once_a_second_or_as_often_as_its_settings_say(setting, interval, timeout, longest):
    setting(CGK_DISPATCH_INTERVAL_SECONDS=interval, CGK_WORKER_TIMEOUT_SECONDS=timeout)
    assert longest_pause() == pytest.approx(longest)


# ---- the leader


@pytest.fixture
def leader(setting):
    """Leaders that look once in so many seconds, unless something wakes them; None: as is set for all tests."""
    started = []

    def start(interval=None):
        if interval is not None:
            setting(CGK_DISPATCH_INTERVAL_SECONDS=interval, CGK_WORKER_TIMEOUT_SECONDS="36000")  # it leads for long
        with autocommit() as connection:
            connection.execute(
                "TRUNCATE cgk.runs, cgk.leases, cgk.lanes, cgk.shares, cgk.gates, cgk.guards, cgk.pauses"
            )
        one = Supervisor(str(uuid.uuid4()), idle_pool())
        started.append(one)
        one.start()
        wait_until(lambda: one.leads and one._hints is not None and one._hints.are_heard)
        return one

    yield start
    for one in started:
        one.stop()
    use_settings(None)


def test_a_hint_wakes_the_leader_which_sleeps_until_the_run_is_due(leader):
    leader(interval="600")
    run = send(delay=0.3)
    wait_until(lambda: get_run(run).state == "pending")


def test_a_run_that_is_due_earlier_than_the_one_it_sleeps_for_is_not_late(leader):
    leader(interval="600")
    last = send(delay=590)
    first = send(delay=SOON)
    wait_until(lambda: get_run(first).state == "pending")
    assert get_run(last).state == "scheduled"


def test_a_hint_that_is_lost_loses_nothing(leader, monkeypatch):
    leader()
    monkeypatch.setattr(hints, "_are_given", lambda: False)
    run = send(delay=SOON)
    wait_until(lambda: get_run(run).state == "pending")


def test_a_leader_that_sleeps_stops_at_once(leader):
    one = leader(interval="600")
    stopping = threading.Thread(target=one.stop)
    stopping.start()
    wait_until(lambda: not one.is_alive())
    stopping.join()


def test_an_idle_leader_makes_fewer_turns(leader, monkeypatch):
    monkeypatch.setattr(presence, "all_guards", list)  # those of other tests, which it would look after
    monkeypatch.setattr(pace, "_RESTLESS_SECONDS", 0.2)
    one = leader()
    wait_until(lambda: one._is_idle)
    turned_at = 0.0
    wait_until(lambda: one._until(turned_at) == longest_pause())


@pytest.mark.parametrize("state", ["pending", "held"])
def test_one_for_whom_something_is_to_be_done_makes_them_often(leader, state):
    one = leader()
    run = send()
    with autocommit() as connection:
        connection.execute("UPDATE cgk.runs SET state = %s WHERE id = %s", [state, run])
    wait_until(lambda: not one._is_idle)
    assert one._until(0.0) == get_settings().dispatch_interval_seconds
