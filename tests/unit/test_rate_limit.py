"""Rate limiters: the same rules in this process and, over all workers, in a real Redis."""

import contextlib
import shutil
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cgk_tasks.config import Settings, use_settings
from cgk_tasks.embedded.redis_server import redis_binary
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.jobs.rate_limit import create_rate_limiter, shared_rate_limiter


@pytest.fixture(scope="module")
def redis_socket():
    folder = Path(tempfile.mkdtemp(prefix="cgk-redis-"))
    socket = folder / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder)]
    process = subprocess.Popen([redis_binary(), *options], stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(unix_socket_path=str(socket)) as client:
            until(lambda: answers(client))
        yield socket
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def answers(client):
    with contextlib.suppress(redis.RedisError):
        return client.ping()
    return False


def until(condition, seconds=10.0):
    """Wait for a condition with a deadline."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not come true in time"
        threading.Event().wait(0.005)


@pytest.fixture
def settings_with_redis(redis_socket):
    use_settings(Settings(_env_file=None, cache_url=f"unix://{redis_socket}", key_prefix="test:"))
    yield
    use_settings(None)


@pytest.fixture
def client(redis_socket, settings_with_redis):
    with redis.Redis(unix_socket_path=str(redis_socket)) as client:
        client.flushall()
        yield client


@pytest.fixture(params=["process", "shared"])
def make(request):
    """A function that makes a limiter; each test runs on both kinds."""
    if request.param == "process":
        return create_rate_limiter
    request.getfixturevalue("client")
    return shared_rate_limiter


def test_no_more_than_max_concurrent_hold_a_place(make):
    limiter = make(max_concurrent=2)
    first, second, third = (limiter.acquire("acme") for _ in range(3))
    assert (first.granted, second.granted, third.granted) == (True, True, False)


def test_a_place_given_back_goes_to_the_next(make):
    limiter = make(max_concurrent=1)
    limiter.release(limiter.acquire("acme"))
    assert limiter.acquire("acme").granted


def test_who_finds_no_place_comes_back_in_about_a_second(make):
    limiter = make(max_concurrent=1)
    limiter.acquire("acme")
    assert 0.5 <= limiter.acquire("acme").wait_seconds <= 1.5


def test_a_refused_permit_frees_nothing(make):
    limiter = make(max_concurrent=1)
    limiter.acquire("acme")
    limiter.release(limiter.acquire("acme"))
    assert not limiter.acquire("acme").granted


def test_a_run_that_comes_again_takes_over_its_own_place(make):
    limiter = make(max_concurrent=1)
    limiter.acquire("acme", holder="run-1")
    assert limiter.acquire("acme", holder="run-1").granted
    assert not limiter.acquire("acme", holder="run-2").granted


def test_no_more_than_max_per_interval_start_in_an_interval(make):
    limiter = make(interval=60, max_per_interval=3)
    assert [limiter.acquire("acme").granted for _ in range(4)] == [True, True, True, False]


def test_who_is_refused_in_an_interval_comes_back_when_its_first_start_is_out_of_it(make):
    limiter = make(interval=60, max_per_interval=1)
    limiter.acquire("acme")
    assert 59 < limiter.acquire("acme").wait_seconds <= 60


def test_those_refused_one_after_another_come_back_one_after_another(make):
    limiter = make(interval=10, max_per_interval=2)
    waits = [limiter.acquire("acme").wait_seconds for _ in range(5)][2:]
    assert waits == pytest.approx([10, 15, 20], abs=0.5)


def test_asking_too_often_does_not_push_the_return_out_for_ever(make):
    limiter = make(interval=60, max_per_interval=1)
    assert max(limiter.acquire("acme").wait_seconds for _ in range(100)) <= 360


def test_giving_a_place_back_gives_no_start_back(make):
    limiter = make(interval=60, max_per_interval=1)
    limiter.release(limiter.acquire("acme"))
    assert not limiter.acquire("acme").granted


def test_a_start_that_finds_no_place_does_not_count(make):
    limiter = make(max_concurrent=1, interval=60, max_per_interval=2)
    held = limiter.acquire("acme")
    assert not limiter.acquire("acme").granted
    limiter.release(held)
    assert limiter.acquire("acme").granted


def test_a_place_without_a_start_is_not_held(make):
    limiter = make(max_concurrent=1, interval=0.05, max_per_interval=1)
    limiter.release(limiter.acquire("acme", holder="run-1"))
    limiter.acquire("acme", holder="run-2")
    until(lambda: limiter.acquire("acme", holder="run-3").granted)


def test_an_interval_may_be_a_timedelta(make):
    limiter = make(interval=timedelta(minutes=1), max_per_interval=1)
    limiter.acquire("acme")
    assert limiter.acquire("acme").wait_seconds > 59


def test_the_interval_passes_in_real_time(make):
    limiter = make(interval=0.2, max_per_interval=1)
    begun = time.monotonic()
    limiter.acquire("acme")
    until(lambda: limiter.acquire("acme").granted)
    assert time.monotonic() - begun >= 0.19


def test_each_tenant_is_counted_apart(make):
    limiter = make(max_concurrent=1, interval=60, max_per_interval=1)
    limiter.acquire("acme")
    assert limiter.acquire("globex").granted


def test_threads_never_get_more_than_there_is(make):
    limiter = make(max_concurrent=7, interval=60, max_per_interval=50)
    with ThreadPoolExecutor(8) as threads:
        permits = list(threads.map(lambda _number: limiter.acquire("acme"), range(40)))
    assert sum(permit.granted for permit in permits) == 7


def test_the_interval_slides_so_that_no_stretch_of_it_has_more_starts():
    now = 0.0
    limiter = create_rate_limiter(interval=10, max_per_interval=2, clock=lambda: now)
    starts = []
    for step in range(600):
        now = step / 10
        if limiter.acquire("acme").granted:
            starts.append(now)
    assert all(later - earlier >= 10 for earlier, later in zip(starts, starts[2:], strict=False))
    assert len(starts) == 12


def test_limiters_of_one_name_share_their_counts_over_processes(client, redis_socket):
    with redis.Redis(unix_socket_path=str(redis_socket)) as other_client:
        here = shared_rate_limiter(name="stripe", max_concurrent=1)
        there = shared_rate_limiter(name="stripe", max_concurrent=1, client=other_client)
        here.acquire("acme")
        assert not there.acquire("acme").granted


def test_limiters_of_different_names_are_counted_apart(client):
    shared_rate_limiter(name="stripe", max_concurrent=1).acquire("acme")
    assert shared_rate_limiter(name="wise", max_concurrent=1).acquire("acme").granted


def test_the_place_of_a_killed_worker_gets_free_when_its_lease_ends(client):
    limiter = shared_rate_limiter(max_concurrent=1, lease=0.2)
    limiter.acquire("acme", holder="killed")
    assert not limiter.acquire("acme", holder="next").granted
    until(lambda: limiter.acquire("acme", holder="next").granted)


def test_an_attempt_that_lost_its_place_does_not_free_that_of_the_next_attempt(client):
    limiter = shared_rate_limiter(max_concurrent=1)
    lost = limiter.acquire("acme", holder="run-1")
    limiter.acquire("acme", holder="run-1")
    limiter.release(lost)
    assert not limiter.acquire("acme", holder="run-2").granted


def test_nothing_stays_in_redis_without_an_end(client):
    limiter = shared_rate_limiter(max_concurrent=2, interval=60, max_per_interval=1)
    limiter.acquire("acme")
    limiter.acquire("acme")
    keys = client.keys("*")
    assert len(keys) == 3
    assert all(client.pttl(key) > 0 for key in keys)


def test_redis_keeps_no_more_starts_than_the_limit(client):
    limiter = shared_rate_limiter(interval=0.001, max_per_interval=2)
    for _ in range(20):
        until(lambda: limiter.acquire("acme").granted)
    assert all(client.llen(key) <= 2 for key in client.keys("*starts"))


def test_keys_carry_the_prefix_of_the_deployment(client):
    shared_rate_limiter(name="stripe", max_concurrent=1).acquire("acme")
    assert client.keys("*") == [b"test:cgk:limit:{stripe:acme}:places"]


def test_while_redis_is_away_nothing_is_granted(settings_with_redis):
    away = redis.Redis(unix_socket_path="/nonexistent/redis.sock", retry=Retry(NoBackoff(), 0))
    with pytest.raises(redis.ConnectionError):
        shared_rate_limiter(max_concurrent=1, client=away).acquire("acme")


def test_a_place_that_cannot_be_given_back_fails_no_job(client):
    permit = shared_rate_limiter(max_concurrent=1).acquire("acme")
    away = redis.Redis(unix_socket_path="/nonexistent/redis.sock", retry=Retry(NoBackoff(), 0))
    shared_rate_limiter(max_concurrent=1, client=away).release(permit)


@pytest.mark.parametrize("make_limiter", [create_rate_limiter, shared_rate_limiter])
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "limits nothing"),
        ({"interval": 1}, "limits nothing"),
        ({"max_per_interval": 1}, "need each other"),
        ({"max_concurrent": 1, "interval": 1}, "need each other"),
        ({"max_concurrent": 0}, "max_concurrent must be a whole number from 1, not 0"),
        ({"max_concurrent": 1.5}, "max_concurrent must be a whole number"),
        ({"max_concurrent": True}, "max_concurrent must be a whole number"),
        ({"interval": 1, "max_per_interval": -1}, "max_per_interval must be a whole number"),
        ({"interval": 0, "max_per_interval": 1}, "interval must be at least 0.001 seconds"),
        ({"interval": float("inf"), "max_per_interval": 1}, "interval must be"),
        ({"interval": "1", "max_per_interval": 1}, "interval must be"),
        ({"max_concurrent": 1, "name": ""}, "name must be a text"),
        ({"max_concurrent": 1, "name": "a{b}"}, "name must be a text"),
    ],
)
def test_limits_that_make_no_sense_are_refused(make_limiter, options, problem):
    with pytest.raises(ConfigurationError, match=problem):
        make_limiter(**options)


def test_a_lease_of_nothing_is_refused():
    with pytest.raises(ConfigurationError, match="lease must be at least"):
        shared_rate_limiter(max_concurrent=1, lease=0)
