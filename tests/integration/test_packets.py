"""Runs that travel together: what one of them does or suffers is no matter of the others."""

import pytest

from cgk_tasks import SendItem, SendOptions, cancel_job, get_job_status, send_jobs
from cgk_tasks.broker import packets
from cgk_tasks.flow import accept
from cgk_tasks.sql.postgres import autocommit, fetch
from tests.support.jobs import Behave, Slow
from tests.support.waiting import wait_closed, wait_state, wait_until

pytestmark = pytest.mark.slow  # they start workers, or kill them

HASTY = "q-packets-hasty"


@pytest.fixture(scope="module", autouse=True)
def worker(start_worker):
    return start_worker(["tests.support.jobs"], concurrency=1, CGK_PACKET_BUDGET_SECONDS="60")


@pytest.fixture
def messages(monkeypatch):
    """How many runs each message of this test carried."""
    sent, as_it_is = [], accept.packet_message
    monkeypatch.setattr(packets, "packet_length", lambda _event, waiting: waiting)
    monkeypatch.setattr(accept, "packet_message", lambda packet: sent.append(len(packet)) or as_it_is(packet))
    return sent


@pytest.fixture
def send_packet(messages):
    """Send events in one message; returns the ids of their runs."""

    def send(*items):
        ids = [handle.id for handle in send_jobs(items)]
        assert messages == [len(items)]
        return ids

    return send


def do(action, argument="", tenant="acme", **options):
    return SendItem(Behave(tenant_id=tenant, action=action, argument=argument), options=SendOptions(**options))


def outcomes(runs):
    return [(status.state, status.result) for status in map(wait_closed, runs)]


def test_a_run_that_fails_fails_alone(send_packet):
    runs = send_packet(do("echo", "before"), do("fail_permanently"), do("not_json"), do("echo", "after"))
    assert outcomes(runs) == [("completed", "before"), ("failed", None), ("failed", None), ("completed", "after")]


def test_a_run_that_is_retried_comes_back_alone(send_packet, messages):
    runs = send_packet(do("echo", "x"), do("fail_then_succeed", "1"))
    assert outcomes(runs) == [("completed", "x"), ("completed", 2)]


def test_each_run_is_in_its_own_tenants_context(send_packet):
    tenants = ["acme", "globex", "acme", "initech"]
    runs = send_packet(*(do("describe", tenant=tenant) for tenant in tenants))
    told = [result for _state, result in outcomes(runs)]
    assert [(one["tenant"], one["run_id"], one["attempt"]) for one in told] == [
        (tenant, run, 1) for tenant, run in zip(tenants, runs, strict=True)
    ]


def test_each_run_writes_in_its_own_tenants_schema_and_once(send_packet):
    tenants = ["acme", "globex", "initech", "globex"]
    runs = send_packet(*(do("note", "packet", tenant=tenant) for tenant in tenants))
    assert [state for state, _result in outcomes(runs)] == ["completed"] * 4
    for tenant in {*tenants}:
        mine = [run for run, one in zip(runs, tenants, strict=True) if one == tenant]
        with autocommit() as connection:
            rows = fetch(connection, f"SELECT run_id FROM tenant_{tenant}.orders WHERE note = 'packet'")
        assert sorted(row["run_id"] for row in rows) == sorted(mine)


def test_a_failed_runs_writes_are_rolled_back_and_its_neighbours_stay(send_packet):
    runs = send_packet(do("note", "kept 1"), do("write_and_fail", "lost", max_attempts=1), do("note", "kept 2"))
    outcomes(runs)
    with autocommit() as connection:
        rows = fetch(connection, "SELECT note FROM tenant_acme.orders WHERE run_id = ANY(%(ids)s)", {"ids": runs})
    assert {row["note"] for row in rows} == {"kept 1", "kept 2"}


def test_a_time_limit_counts_for_each_run_alone(send_packet):
    within = Slow(tenant_id="acme", seconds=0.15)
    runs = send_packet(within, within, within, Slow(tenant_id="acme", seconds=30), within)
    states = [wait_closed(run) for run in runs]
    assert [one.state for one in states] == ["completed", "completed", "completed", "failed", "completed"]
    assert states[3].error_code == "TIMEOUT"


def test_a_hard_time_limit_kills_the_process_and_costs_the_other_runs_nothing(send_packet):
    within = Slow(tenant_id="acme", seconds=0.01)
    runs = send_packet(within, Slow(tenant_id="acme", seconds=30, stubborn=True), within)
    ends = [wait_closed(run) for run in runs]
    assert [(one.state, one.error_code) for one in ends] == [
        ("completed", None), ("failed", "TIMEOUT"), ("completed", None)
    ]  # fmt: skip
    assert [one.deaths for one in ends] == [0, 0, 0]


def test_a_run_that_is_cancelled_while_its_neighbour_runs_does_not_run(send_packet, tmp_path):
    release = tmp_path / "release"
    first, second, third = send_packet(do("wait_for_file", str(release)), do("note", "cancelled"), do("echo", "x"))
    wait_until(release.with_suffix(".started").exists)
    wait_state(second, "running")
    cancel_job(second)
    # The worker's main process has told the child by the time that it cancels the first one too.
    cancel_job(first)
    assert outcomes([first, second, third]) == [("cancelled", None), ("cancelled", None), ("completed", "x")]
    with autocommit() as connection:
        assert not fetch(connection, "SELECT 1 FROM tenant_acme.orders WHERE run_id = %(id)s", {"id": second})


def test_a_run_whose_time_to_live_passes_while_its_neighbour_runs_does_not_run(send_packet):
    first, second, third = send_packet(do("sleep", "0.8"), do("note", "expired", expires=0.5), do("echo", "x"))
    assert outcomes([first, second, third]) == [("completed", "slept"), ("expired", None), ("completed", "x")]
    assert get_job_status(second).error_code == "EXPIRED"


def test_a_run_that_kills_the_process_is_found_and_its_neighbours_complete(send_packet, messages):
    runs = send_packet(do("echo", "a"), do("poison"), do("echo", "b"), do("note", "c"))
    assert [state for state, _result in outcomes(runs)] == ["completed", "failed", "completed", "completed"]
    assert get_job_status(runs[1]).error_code == "POISON_PILL"


def test_what_a_packet_has_no_time_for_goes_back_and_costs_no_attempt(send_packet, start_worker):
    start_worker(["tests.support.jobs"], concurrency=1, CGK_PACKET_BUDGET_SECONDS="0.05", CGK_DEFAULT_QUEUE=HASTY)
    runs = send_packet(*(do("sleep", "0.1", queue=HASTY, max_attempts=1) for _ in range(3)))
    statuses = [wait_closed(run) for run in runs]
    assert [(one.state, one.attempt) for one in statuses] == [("completed", 1)] * 3


@pytest.fixture
def times(database, monkeypatch):
    """What a new process measures, written at once."""
    monkeypatch.setattr(packets, "_NOTE_SECONDS", 0.0)
    return packets.RunTimes()


def test_a_processs_first_runs_do_not_make_packets_short(times):
    times.measured("test.warm", 1, 2.0)
    times.measured("test.warm", 10, 0.02)
    times.note_now_and_then()
    assert times.mean_seconds("test.warm") == pytest.approx(0.002)


def test_a_slow_run_makes_packets_short_at_once(times):
    for seconds in (0.001, 0.001, 2.0):
        times.measured("test.slower", 1, seconds)
        times.note_now_and_then()
    assert times.mean_seconds("test.slower") == pytest.approx(2.0)


def test_what_a_process_measures_of_a_new_event_is_on_record_at_once(database):
    times = packets.RunTimes()
    times.measured("test.new", 1, 2.0)
    times.measured("test.new", 5, 0.01)
    times.note_now_and_then()
    assert packets.RunTimes().mean_seconds("test.new") == pytest.approx(0.002)


def test_who_dispatches_an_event_that_nobody_has_measured_looks_again_soon(database, times, monkeypatch):
    monkeypatch.setattr(packets, "_TRUST_SECONDS", 3600.0)  # of what is known
    reader = packets.RunTimes()
    assert reader.mean_seconds("test.newer") is None
    for _ in range(2):
        times.measured("test.newer", 1, 0.001)
    times.note_now_and_then()
    wait_until(lambda: reader.mean_seconds("test.newer") is not None)
