"""Private servers live exactly as long as the process that started them."""

import os
import signal

import psycopg
import pytest

from cgk_tasks import embedded
from cgk_tasks.embedded import processes
from cgk_tasks.errors import EmbeddedError
from tests.embedded.embedded_support import servers_in, wait_until

pytestmark = pytest.mark.slow


def test_servers_stop_when_their_owner_comes_to_its_end(used_folder, start_owner):
    owner = start_owner(used_folder)
    owner.report()
    assert len(servers_in(used_folder)) >= 2
    owner.leave()
    assert not servers_in(used_folder)


def test_servers_stop_when_their_block_ends(folder, start_owner):
    owner = start_owner(folder, "block", "redis-only")
    owner.report()
    owner.leave()  # the owner kills itself after the block
    assert not servers_in(folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_servers_stop_when_their_owner_is_ended_by_a_signal(folder, start_owner, number):
    owner = start_owner(folder, "redis-only")
    owner.report()
    owner.child.send_signal(number)
    wait_until(lambda: not servers_in(folder))
    wait_until(lambda: not (folder / "services.json").exists())


def test_a_killed_owner_of_temporary_services_leaves_no_folder_behind(folder, start_owner):
    owner = start_owner(folder, "temporary")
    place = type(folder)(owner.report()["folder"])
    owner.child.kill()
    wait_until(lambda: not place.exists())
    assert not servers_in(place)


def test_servers_outlive_the_thread_that_started_them(folder, start_owner):
    owner = start_owner(folder, "thread", "redis-only")
    report = owner.report()  # the thread has ended
    assert embedded.find(folder).redis.pid == report["redis_pid"]


def test_a_ctrl_c_in_the_terminal_does_not_reach_the_servers(folder):
    with embedded.start(folder, postgres=False) as services:
        watchdog = services._watchdog.pid
        assert os.getpgid(services.redis.pid) != os.getpgrp()
        assert os.getpgid(watchdog) != os.getpgrp()


def test_another_process_finds_the_servers_without_owning_them(used_folder, start_owner):
    owner = start_owner(used_folder)
    report = owner.report()
    found = embedded.find(used_folder)
    assert (found.database_url, found.broker_url) == (report["database_url"], report["broker_url"])
    assert (found.postgres.pid, found.redis.pid) == (report["postgres_pid"], report["redis_pid"])
    assert (found.owned, found.owner_pid) == (False, owner.pid)
    found.close()
    assert found.running
    with pytest.raises(EmbeddedError, match=f"belongs to process {owner.pid}"):
        found.redis.stop()


def test_a_server_that_has_ended_under_a_living_owner_keeps_its_address(folder, start_owner):
    report = start_owner(folder, "redis-only").report()
    os.kill(report["redis_pid"], signal.SIGKILL)
    wait_until(lambda: not embedded.find(folder).running)
    assert embedded.find(folder).broker_url == report["broker_url"]


def test_nothing_is_found_where_nothing_runs(folder):
    assert embedded.find(folder) is None


def test_a_start_beside_a_living_owner_is_refused_by_name(folder, start_owner):
    owner = start_owner(folder, "redis-only")
    owner.report()
    with pytest.raises(EmbeddedError, match=rf"belong to process {owner.pid}.*embedded\.find\(\)"):
        embedded.start(folder)


def test_of_two_starts_at_once_one_wins_and_the_other_is_refused(folder, start_owner):
    owners = [start_owner(folder, "redis-only") for _ in range(2)]
    reports = [owner.report() for owner in owners]
    refused = [report["error"] for report in reports if "error" in report]
    assert len(refused) == 1
    winner = next(owner for owner, report in zip(owners, reports, strict=True) if "error" not in report)
    assert f"belong to process {winner.pid}" in refused[0]


def test_servers_that_a_killed_run_left_running_are_taken_over(used_folder, start_owner):
    owner = start_owner(used_folder)
    report = owner.report()
    with psycopg.connect(report["database_url"]) as connection:
        connection.execute("CREATE TABLE letters AS SELECT 'kept' AS text")
    os.kill(report["watchdog"], signal.SIGKILL)
    owner.child.kill()
    owner.child.wait()
    assert len(servers_in(used_folder)) >= 2
    assert embedded.find(used_folder) is None
    with embedded.start(used_folder) as services:
        assert services.database_url == report["database_url"]
        assert services.broker_url == report["broker_url"]
        with psycopg.connect(services.database_url) as connection:
            assert connection.execute("SELECT text FROM letters").fetchone() == ("kept",)
    assert not servers_in(used_folder)


def test_a_start_right_after_a_kill_is_not_disturbed_by_the_old_watchdog(folder, start_owner):
    owner = start_owner(folder, "redis-only")
    watchdog = owner.report()["watchdog"]
    owner.child.kill()
    owner.child.wait()
    with embedded.start(folder, postgres=False) as services:
        pid = services.redis.pid
        wait_until(lambda: processes.started_at(watchdog) is None)
        assert services.redis.pid == pid
