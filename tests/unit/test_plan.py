"""The plan of a pass: limits are kept, nothing that may start is left while there is room, and shares are fair."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from cgk_tasks.admission.buckets import Bucket
from cgk_tasks.admission.plan import Expected, Gate, Lane, Share, plan

NOW = 1_800_000_000.0
EVENTS = {"quick": Expected(0.001, 0.001, 50), "slow": Expected(5.0, 0.5, 1), "middling": Expected(0.05, 0.05, 4)}

buckets = st.builds(
    Bucket,
    rate=st.integers(1, 100),
    period=st.floats(0.5, 60),
    burst=st.integers(1, 20),
    tat=st.floats(NOW - 10, NOW + 10),
)


@st.composite
def situations(draw):
    """Shares with lanes, gates that some of those pass, what is used of the gates, and room."""
    gates = {
        number: Gate(
            number,
            draw(st.none() | st.integers(1, 6)),
            draw(st.none() | buckets),
            draw(st.none() | st.sampled_from([NOW - 1, NOW + 1])),
        )
        for number in range(draw(st.integers(0, 6)))
    }
    some_gates = st.lists(st.sampled_from(sorted(gates)), unique=True, max_size=3) if gates else st.just([])
    shares, lane_id = [], 0
    for number in range(draw(st.integers(0, 8))):
        lanes = []
        for _ in range(draw(st.integers(1, 4))):
            lane_id += 1
            event, waiting = draw(st.sampled_from(sorted(EVENTS))), draw(st.integers(1, 400))
            lanes.append(Lane(lane_id, event, draw(some_gates), waiting, draw(st.booleans())))
        shares.append(Share(number, draw(st.floats(0, 10)), draw(st.sampled_from([0.5, 1.0, 4.0])), lanes))
    used = {number: draw(st.integers(0, 6)) for number in gates}
    return shares, gates, used, draw(st.floats(0, 20))


def planned(situation):
    shares, gates, used, room = situation
    return plan(shares, gates, dict(used), EVENTS.__getitem__, room=room, now=NOW, most=1_000_000)


@given(situations())
def test_no_gate_gives_more_slots_than_its_limit(situation):
    _, gates, used, _ = situation
    given_out = Counter(used)
    for take in planned(situation).takes.values():
        given_out.update(dict.fromkeys(take.lane.gates, take.slots))
    for gate in gates.values():
        if gate.at_once is not None:
            assert given_out[gate.id] <= max(gate.at_once, used[gate.id])


@given(situations())
def test_no_bucket_lets_more_start_than_it_has(situation):
    _, gates, _, _ = situation
    started = Counter()
    for take in planned(situation).takes.values():
        started.update(dict.fromkeys(take.lane.gates, take.runs))
    for gate in gates.values():
        if gate.bucket is not None:
            assert started[gate.id] <= max(0, gate.bucket.free(NOW))


@given(situations())
def test_nobody_passes_a_gate_before_its_time(situation):
    _, gates, _, _ = situation
    for take in planned(situation).takes.values():
        assert all(gates[one].opens_at is None or gates[one].opens_at <= NOW for one in take.lane.gates)


@given(situations())
def test_while_there_is_room_a_lane_is_left_only_if_a_gate_refuses_it_or_it_is_through(situation):
    shares, _, _, _ = situation
    made = planned(situation)
    if made.room <= 0:
        return
    for share in shares:
        for lane in share.lanes:
            taken = made.takes[lane.id].runs if lane.id in made.takes else 0
            assert lane.id in made.refusals or taken == lane.waiting


@given(situations())
def test_a_lane_waits_at_a_gate_that_lets_nobody_through(situation):
    _, gates, used, _ = situation
    made = planned(situation)
    given_out = Counter(used)
    for take in made.takes.values():
        given_out.update(dict.fromkeys(take.lane.gates, take.slots))
    for refusal in made.refusals.values():
        gate = gates[refusal.gate]
        if refusal.status == "full":
            assert given_out[gate.id] >= gate.at_once
        else:
            bucket = made.buckets.get(gate.id, gate.bucket)
            is_empty = bucket is not None and bucket.free(NOW) <= 0
            assert is_empty or gate.opens_at > NOW
            assert made.opens[gate.id] >= NOW - 1e-3


@given(situations())
def test_no_more_is_taken_than_waits_and_a_slot_has_at_least_one_run(situation):
    for take in planned(situation).takes.values():
        assert take.lane.waiting >= take.runs >= take.slots >= 1
        assert take.slots == take.runs or not take.lane.alone


@given(situations())
def test_what_does_not_fit_into_the_window_is_one_run_at_most(situation):
    *_, room = situation
    made = planned(situation)
    assert made.room >= -max(one.room for one in EVENTS.values())
    taken = sum(take.runs * EVENTS[take.lane.event].room for take in made.takes.values())
    assert abs(room - taken - made.room) < 1e-6


backlogs = st.lists(
    st.tuples(st.sampled_from(sorted(EVENTS)), st.sampled_from([0.5, 1.0, 2.0, 4.0])), min_size=2, max_size=8
)


@given(backlogs, st.floats(10, 100))
def test_who_never_runs_out_of_runs_gets_its_share_within_one_packet(backlog, room):
    shares = [
        Share(number, 0.0, weight, [Lane(number, event, (), 10_000_000)])
        for number, (event, weight) in enumerate(backlog)
    ]
    made = plan(shares, {}, {}, EVENTS.__getitem__, room=room, now=NOW, most=1_000_000)
    vtimes = [made.charges.get(share.id, 0.0) for share in shares]
    packets = [EVENTS[event].seconds * EVENTS[event].packet / weight for event, weight in backlog]
    assert max(vtimes) - min(vtimes) <= max(packets) + 1e-6


def test_a_weight_of_four_gives_four_times_the_seconds():
    shares = [
        Share(1, 0.0, 4.0, [Lane(1, "middling", (), 10**6)]),
        Share(2, 0.0, 1.0, [Lane(2, "middling", (), 10**6)]),
    ]
    taken = plan(shares, {}, {}, EVENTS.__getitem__, room=1000.0, now=NOW).takes
    assert abs(taken[1].runs / taken[2].runs - 4.0) < 0.01


def test_who_has_long_runs_gets_as_many_seconds_as_who_has_short_ones():
    shares = [Share(1, 0.0, 1.0, [Lane(1, "slow", (), 10**6)]), Share(2, 0.0, 1.0, [Lane(2, "quick", (), 10**6)])]
    taken = plan(shares, {}, {}, EVENTS.__getitem__, room=60.0, now=NOW).takes
    assert abs(5.0 * taken[1].runs - 0.001 * taken[2].runs) <= 5.0


def test_a_share_that_had_less_comes_first():
    shares = [Share(1, 9.0, 1.0, [Lane(1, "slow", (), 5)]), Share(2, 3.0, 1.0, [Lane(2, "slow", (), 5)])]
    made = plan(shares, {}, {}, EVENTS.__getitem__, room=0.5, now=NOW)
    assert (list(made.takes), made.clock) == ([2], 3.0)


def test_a_lane_behind_a_full_gate_does_not_keep_the_next_lane_of_its_share():
    gates = {1: Gate(1, at_once=2)}
    share = Share(1, 0.0, 1.0, [Lane(1, "slow", (1,), 5), Lane(2, "slow", (), 5)])
    made = plan([share], gates, {1: 2}, EVENTS.__getitem__, room=1.0, now=NOW)
    assert (list(made.takes), made.refusals[1].gate) == ([2], 1)


def test_short_runs_under_a_limit_share_its_places_in_packets():
    share = Share(1, 0.0, 1.0, [Lane(1, "quick", (1,), 1000)])
    made = plan([share], {1: Gate(1, at_once=2)}, {}, EVENTS.__getitem__, room=10.0, now=NOW)
    assert (made.takes[1].slots, made.takes[1].runs, made.refusals[1].status) == (2, 100, "full")


def test_few_runs_are_not_put_into_one_packet_while_there_are_places():
    share = Share(1, 0.0, 1.0, [Lane(1, "quick", (1,), 10)])
    made = plan([share], {1: Gate(1, at_once=5)}, {}, EVENTS.__getitem__, room=10.0, now=NOW)
    assert (made.takes[1].slots, made.takes[1].runs) == (5, 10)


def test_a_pass_admits_no_more_than_so_many_runs_and_a_packet():
    shares = [Share(number, 0.0, 1.0, [Lane(number, "quick", (), 4000)]) for number in range(3)]
    made = plan(shares, {}, {}, EVENTS.__getitem__, room=100.0, now=NOW, most=500)
    runs = sum(take.runs for take in made.takes.values())
    assert (500 <= runs < 500 + EVENTS["quick"].packet, made.left <= 0) == (True, True)


def test_short_runs_that_have_one_place_travel_together():
    share = Share(1, 0.0, 1.0, [Lane(1, "quick", (1,), 10)])
    made = plan([share], {1: Gate(1, at_once=1)}, {}, EVENTS.__getitem__, room=10.0, now=NOW)
    assert (made.takes[1].slots, made.takes[1].runs) == (1, 10)


def test_a_gate_that_is_gone_limits_nothing():
    share = Share(1, 0.0, 1.0, [Lane(1, "slow", (7,), 3)])
    assert plan([share], {}, {}, EVENTS.__getitem__, room=10.0, now=NOW).takes[1].runs == 3
