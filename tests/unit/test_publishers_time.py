"""How long one write to Redis or read from it may take: about what is left of the publish."""

import socket
import time
from types import SimpleNamespace

import pytest
import redis

from cgk_tasks.broker.publisher import _wait_until


@pytest.fixture
def sock():
    one, other = socket.socketpair()
    with one, other:
        yield one


def set_by(sock, seconds_left):
    _wait_until(time.monotonic() + seconds_left, SimpleNamespace(_sock=sock))
    return sock.gettimeout()


def test_a_time_out_that_is_nearly_what_is_left_stays(sock):
    sock.settimeout(100.0)
    assert set_by(sock, 99.0) == 100.0


@pytest.mark.parametrize("before", [None, 0.0, 100.0, 1.0])
def test_another_is_set_to_what_is_left(sock, before):
    sock.settimeout(before)
    assert set_by(sock, 50.0) == pytest.approx(50.0, abs=4.0)


def test_nothing_begins_once_the_time_is_over(sock):
    with pytest.raises(redis.TimeoutError):
        set_by(sock, 0.0)
