"""Which runs of a plan travel together: lanes with few runs share a slot, unless a gate counts it."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from cgk_tasks.admission.plan import Expected, Lane, Share, Take
from cgk_tasks.admission.slots import slots_of

EVENTS = {"quick": Expected(0.001, 0.001, 50), "slow": Expected(5.0, 0.5, 1)}
SHARE = Share(1, 0.0, 1.0, [])


def take(lane, runs=1, slots=1, *, event="quick", gates=(), alone=False, priority=5):
    return Take(Lane(lane, event, gates, runs, alone, priority), SHARE, runs, slots)


def together(takes, processes=8):
    """The runs of each slot that several takes share."""
    runs = defaultdict(list)
    for one, slots in zip(takes, slots_of(takes, EVENTS.__getitem__, processes)[0], strict=True):
        runs[slots.first].append(one.runs)
    return [shared for shared in runs.values() if len(shared) > 1]


def test_a_run_of_each_of_many_tenants_travel_together_in_two_packets_a_process():
    packets = together([take(lane) for lane in range(320)])
    assert [sum(runs) for runs in packets] == [20] * 16


def test_no_packet_is_longer_than_its_event_is_short():
    packets = together([take(lane, runs=3) for lane in range(2_000)])
    assert {sum(runs) for runs in packets} <= set(range(45, 51))


def test_few_runs_travel_alone_so_that_all_processes_have_some():
    assert together([take(lane) for lane in range(31)]) == []


def test_runs_that_take_long_travel_alone():
    assert together([take(lane, event="slow") for lane in range(500)]) == []


def test_a_lane_with_more_runs_than_a_packet_has_slots_of_its_own_and_no_more_than_it_needs():
    many = [take(0, runs=400, slots=400), *(take(lane) for lane in range(1, 100))]
    found, _ = slots_of(many, EVENTS.__getitem__, 2)
    assert found[0].size == 8
    assert together(many, 2)


def test_runs_of_different_events_and_priorities_do_not_travel_together():
    takes = [take(lane, priority=lane % 2) for lane in range(600)]
    found, _ = slots_of(takes, EVENTS.__getitem__, 2)
    assert {slot.first for slot in found[::2]} & {slot.first for slot in found[1::2]} == set()


takes_of_any_kind = st.builds(
    lambda event, gates, alone, priority, slots, each: (event, gates, alone, priority, slots, slots * each),
    st.sampled_from(sorted(EVENTS)),
    st.sampled_from([(), (7,), (7, 8)]),
    st.booleans(),
    st.integers(0, 9),
    st.integers(1, 5),
    st.integers(1, 60),
)


@given(st.lists(takes_of_any_kind, max_size=200), st.integers(0, 20))
def test_a_slot_that_a_gate_counts_or_whose_run_is_to_be_alone_is_shared_with_nobody(drawn, processes):
    takes = [
        take(lane, runs, slots, event=event, gates=gates, alone=alone, priority=priority)
        for lane, (event, gates, alone, priority, slots, runs) in enumerate(drawn)
    ]
    found, total = slots_of(takes, EVENTS.__getitem__, processes)
    users = defaultdict(list)
    for one, slots in zip(takes, found, strict=True):
        for slot in range(slots.first, slots.first + slots.size):
            users[slot].append(one)
    assert sorted(users) == list(range(total))
    for slot, those in users.items():
        lanes = [one.lane for one in those]
        assert len(lanes) == 1 or not any(lane.gates or lane.alone for lane in lanes), slot
        assert len({(lane.event, lane.priority) for lane in lanes}) == 1
    for one, slots in zip(takes, found, strict=True):
        assert slots.size == one.slots or (slots.size < one.slots and not one.lane.gates and not one.lane.alone)
