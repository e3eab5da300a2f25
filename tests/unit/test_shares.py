"""Shares over hours, simulated: passes fill the window, processes take packets, and each run takes its time."""

import heapq
from collections import Counter, deque

from hypothesis import given
from hypothesis import strategies as st

from cgk_tasks.admission.plan import Expected, Lane, Share, plan

WINDOW_SECONDS = 0.5
PROCESSES = 4


def expected_of(seconds):
    return Expected(seconds, min(seconds, WINDOW_SECONDS), max(1, int(0.05 / seconds)))


def seconds_of(tenants, hours):
    """The seconds that each tenant's runs had. tenants: how long a run takes, and the tenant's weight, by name."""
    events = {name: expected_of(seconds) for name, (seconds, _) in tenants.items()}
    vtimes, had = dict.fromkeys(tenants, 0.0), Counter()
    dispatched, room = deque(), WINDOW_SECONDS * PROCESSES
    free = [(0.0, process) for process in range(PROCESSES)]
    while free[0][0] < hours * 3600:
        shares = [Share(name, vtimes[name], tenants[name][1], [Lane(name, name, (), 10**6)]) for name in tenants]
        made = plan(shares, {}, {}, events.__getitem__, room=room, now=0.0)
        for name, charge in made.charges.items():
            vtimes[name] += charge
        for name, take in made.takes.items():
            dispatched.extend([(name, take.runs // take.slots)] * take.slots)
        room = made.room
        at, process = heapq.heappop(free)
        name, runs = dispatched.popleft()
        room += runs * events[name].room
        had[name] += runs * events[name].seconds
        heapq.heappush(free, (at + runs * events[name].seconds, process))
    return had


def test_who_has_runs_of_ten_minutes_gets_as_much_time_as_who_has_runs_of_a_second():
    had = seconds_of({"long": (600.0, 1.0), "short": (1.0, 1.0)}, hours=6)
    assert 0.9 <= had["long"] / had["short"] <= 1.1


def test_a_weight_of_four_gives_four_times_as_much_time_however_long_the_runs_are():
    had = seconds_of({"heavy": (60.0, 4.0), "light": (1.0, 1.0)}, hours=1)
    assert 3.6 <= had["heavy"] / had["light"] <= 4.4


@given(
    st.lists(st.tuples(st.sampled_from([0.5, 2.0, 10.0]), st.sampled_from([1.0, 2.0])), min_size=2, max_size=4),
)
def test_tenants_who_never_run_out_of_runs_get_time_by_their_weights(kinds):
    tenants = {str(number): kind for number, kind in enumerate(kinds)}
    had = seconds_of(tenants, hours=0.25)
    by_weight = [had[name] / weight for name, (_, weight) in tenants.items()]
    assert max(by_weight) - min(by_weight) <= 2 * (PROCESSES + 1) * 10.0
