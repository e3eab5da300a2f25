"""Limits how fast passwords can be guessed. Counted in the memory of this process.

Five wrong passwords in a minute for one user from one address, or fifty for any users from one address, and that
address has to wait; the user can still log in from elsewhere. Against guesses from many addresses each further attempt
for a user is delayed, never refused, and not at all where the user has logged in from before.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Final

WINDOW_SECONDS: Final = 60.0
FAILURES_PER_USER_AND_ADDRESS: Final = 5
FAILURES_PER_ADDRESS: Final = 50

DELAY_WINDOW_SECONDS: Final = 900.0
FAILURES_BEFORE_DELAY: Final = 10
DELAY_STEP_SECONDS: Final = 0.5
LONGEST_DELAY_SECONDS: Final = 10.0

MOST_KEYS: Final = 10_000
_LONGEST_NAME = 100


class LoginLimiter:
    """Failed logins by user and address, by address, and by user. The user is a name, whether it exists or not."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._pairs = _Failures(FAILURES_PER_USER_AND_ADDRESS, WINDOW_SECONDS, clock)
        self._addresses = _Failures(FAILURES_PER_ADDRESS, WINDOW_SECONDS, clock)
        most = FAILURES_BEFORE_DELAY + int(LONGEST_DELAY_SECONDS / DELAY_STEP_SECONDS)
        self._users = _Failures(most, DELAY_WINDOW_SECONDS, clock)
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def wait_seconds(self, name: str, address: str) -> float:
        """How long this address must wait before it may try this user again; 0 if it may now."""
        pair = _pair(name, address)
        with self._lock:
            return max(self._pairs.wait_seconds(pair), self._addresses.wait_seconds(pair[1]))

    def delay_seconds(self, name: str, address: str) -> float:
        """How much an attempt for this user is to be delayed."""
        pair = _pair(name, address)
        with self._lock:
            beyond = 0 if pair in self._known else self._users.count(pair[0]) - FAILURES_BEFORE_DELAY
        return min(max(0, beyond) * DELAY_STEP_SECONDS, LONGEST_DELAY_SECONDS)

    def failed(self, name: str, address: str) -> None:
        """Count a wrong password."""
        pair = _pair(name, address)
        with self._lock:
            self._pairs.add(pair)
            self._addresses.add(pair[1])
            self._users.add(pair[0])

    def succeeded(self, name: str, address: str) -> None:
        """Forget the failures of this user from this address. What others tried still delays others."""
        pair = _pair(name, address)
        with self._lock:
            self._pairs.forget(pair)
            self._known[pair] = None
            self._known.move_to_end(pair)
            if len(self._known) > MOST_KEYS:
                self._known.popitem(last=False)


class _Failures:
    """Times of the last failures by key. The keys whose last failure is the oldest make room for new ones."""

    def __init__(self, most: int, window_seconds: float, clock: Callable[[], float]) -> None:
        self._most = most
        self._window_seconds = window_seconds
        self._clock = clock
        self._times: OrderedDict[object, deque[float]] = OrderedDict()

    def add(self, key: object) -> None:
        self._times.setdefault(key, deque(maxlen=self._most)).append(self._clock())
        self._times.move_to_end(key)
        if len(self._times) > MOST_KEYS:
            self._times.popitem(last=False)

    def forget(self, key: object) -> None:
        self._times.pop(key, None)

    def count(self, key: object) -> int:
        since = self._clock() - self._window_seconds
        return sum(moment > since for moment in self._times.get(key, ()))

    def wait_seconds(self, key: object) -> float:
        times = self._times.get(key)
        if times is None or len(times) < self._most:
            return 0.0
        return max(0.0, times[0] + self._window_seconds - self._clock())


def _pair(name: str, address: str) -> tuple[str, str]:
    return name[:_LONGEST_NAME].lower(), _network(address)


def _network(address: str) -> str:
    """The address; of IPv6 the network of 64 bits, all of which usually belong to one client."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    return str(parsed.ipv4_mapped or int(parsed) >> 64)
