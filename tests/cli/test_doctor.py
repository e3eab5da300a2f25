"""`cgk-tasks doctor`: what it finds, with real servers that are broken for a moment."""

from datetime import UTC, datetime, timedelta

import pytest
import redis

from cgk_tasks import cancel_job, send_job
from cgk_tasks.cli.doctor import beat
from cgk_tasks.cli.doctor.broker import open_to_all, redis_version
from cgk_tasks.cli.doctor.database import judge_clock, judge_transaction, revision, rights, transactions, version
from cgk_tasks.cli.doctor.work import dispatcher, workers
from cgk_tasks.config import get_settings
from cgk_tasks.config.broker_url import redis_server
from cgk_tasks.flow.queues import pause_queue, resume_queue
from cgk_tasks.schedules.health import LateSchedule
from cgk_tasks.tenancy.platform import ensure_platform_tenant
from tests.support.jobs import Behave
from tests.support.open_transactions import open_transaction
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("database")

ROLE = {
    "role": "app",
    "database": "shop",
    "has_schema": True,
    "may_create_schemas": True,
    "may_create_roles": True,
}


@pytest.fixture
def examined(cgk):
    """The findings by check."""

    def examine():
        return {finding["check"]: finding for finding in cgk("doctor", "--json").json}

    return examine


@pytest.fixture
def healthy(start_worker, setting):
    """A worker that leads, with jobs, and goes on to on a machine that lets it wait for some seconds."""
    setting(CGK_JOB_MODULES="tests.support.jobs", CGK_WORKER_TIMEOUT_SECONDS="60")
    worker = start_worker(["tests.support.jobs"], CGK_WORKER_TIMEOUT_SECONDS="60")
    wait_until(lambda: "dispatcher_elected" in worker.log)
    yield worker
    worker.stop()


def test_all_is_well_with_servers_a_worker_and_jobs(cgk, examined, healthy):
    levels = {check: finding["level"] for check, finding in examined().items()}
    assert levels == dict.fromkeys(
        ["settings", "database", "rights", "migrations", "clock", "transactions",
         "prepared statements", "broker", "eviction", "persistence", "jobs",
        "tenants",
         "workers", "worker clocks", "dispatcher", "queues", "schedules", "secrets"], "OK",
    )  # fmt: skip
    assert cgk("doctor").code == 0


def test_quiet_prints_nothing_when_all_is_well(cgk, healthy):
    outcome = cgk("doctor", "--quiet")
    assert (outcome.code, outcome.out) == (0, "")


def test_without_a_worker_it_warns_and_says_how_to_start_one(cgk, examined):
    found = examined()
    assert (found["workers"]["level"], found["dispatcher"]["level"]) == ("WARN", "WARN")
    assert "celery -A cgk_tasks worker" in found["workers"]["advice"]
    assert cgk("doctor").code == 0


def test_due_runs_in_a_queue_without_a_worker_fail_with_the_command_to_type(cgk, examined):
    run = send_job(Behave(tenant_id="acme", action="echo"), queue="nobody-listens")
    finding = examined()["queues"]
    code = cgk("doctor").code
    cancel_job(run.id)
    assert (code, finding["level"]) == (1, "FAIL")
    assert "nobody-listens" in finding["advice"]


def test_a_paused_queue_is_a_warning_and_no_queue_that_lacks_a_worker(cgk, examined):
    run = send_job(Behave(tenant_id="acme", action="echo"), queue="nobody-listens")
    pause_queue("nobody-listens", by="ops")
    try:
        found, code = examined(), cgk("doctor").code
    finally:
        resume_queue("nobody-listens")
        cancel_job(run.id)
    assert (code, found["queues"]["level"], found["paused queues"]["level"]) == (0, "OK", "WARN")
    assert "nobody-listens (by ops since " in found["paused queues"]["message"]
    assert found["paused queues"]["advice"].endswith("cgk-tasks queues resume nobody-listens")


def test_a_redis_that_may_evict_messages_fails(examined, services):
    client = redis.Redis.from_url(services.broker_url)
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        finding = examined()["eviction"]
    finally:
        client.config_set("maxmemory-policy", "noeviction")
        client.close()
    assert (finding["level"], "allkeys-lru" in finding["message"]) == ("FAIL", True)


def test_a_database_that_cannot_be_reached_fails_and_the_broker_is_still_examined(examined, setting):
    setting(CGK_DATABASE_URL="postgresql://nobody:secret@127.0.0.1:1/nothing")
    found = examined()
    assert (found["database"]["level"], found["broker"]["level"]) == ("FAIL", "OK")
    assert "secret" not in str(found)


def test_a_broker_that_cannot_be_reached_fails(examined, setting):
    setting(CGK_BROKER_URL="redis://127.0.0.1:1/0")
    assert examined()["broker"]["level"] == "FAIL"


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("redis://redis:6379/0", True), ("redis://10.0.0.1", True), ("rediss://redis", True),
        ("redis://ada@redis", True),
        ("redis://:secret@redis", False), ("redis://redis?password=secret", False), ("redis://127.0.0.1", False),
        ("redis://[::1]:6379", False), ("redis+socket:///run/redis.sock", False),
        ("rediss://redis?ssl_certfile=/etc/client.pem", False),
    ],
)  # fmt: skip
def test_a_redis_that_other_machines_may_reach_should_ask_for_a_password(url, warned):
    assert bool(open_to_all(redis_server(url))) == warned


def test_a_rabbitmq_that_cannot_be_reached_fails(examined, setting):
    setting(CGK_BROKER_URL="amqp://guest:guest@127.0.0.1:1//")
    assert examined()["broker"]["level"] == "FAIL"


def test_the_local_provider_fails(examined, setting):
    setting(JOBS_PROVIDER="local")
    assert examined()["settings"]["level"] == "FAIL"


def test_a_wrong_setting_fails_and_is_named(cgk, examined, setting):
    setting(CGK_DISPATCH_BATCH="many")
    finding = examined()["settings"]
    assert (finding["level"], "CGK_DISPATCH_BATCH" in finding["message"]) == ("FAIL", True)


def test_no_job_module_is_a_warning(examined, setting):
    setting(CGK_JOB_MODULES=None)
    assert examined()["jobs"]["level"] == "WARN"


@pytest.mark.parametrize("text", ["1 / 0", "import no_such_library", "raise SystemExit('bye')"])
def test_a_job_module_that_cannot_be_imported_fails(examined, setting, tmp_path, monkeypatch, text):
    name = f"broken_{abs(hash(text))}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    setting(CGK_JOB_MODULES=name)
    assert examined()["jobs"]["level"] == "FAIL"


@pytest.mark.parametrize(("seconds", "level"), [(0.9, "OK"), (1.1, "WARN"), (5.1, "FAIL")])
def test_the_clocks_may_differ_by_a_second(seconds, level):
    assert judge_clock(timedelta(seconds=seconds)).level == level


def test_a_transaction_that_is_open_for_long_is_a_warning_that_says_whose_it_is_and_how_to_end_it(monkeypatch):
    monkeypatch.setattr("cgk_tasks.cli.doctor.database.LONG_SECONDS", 0.0)
    with open_transaction("SET LOCAL application_name = 'a report'") as connection:
        connection.execute("SELECT FROM cgk.runs")
        pid = connection.info.backend_pid
        found = wait_until(lambda: "a report" in (one := transactions()).message and one)
    assert f"a report (pid {pid}, idle in transaction)" in found.message
    assert f"pg_terminate_backend({pid})" in found.advice


def test_a_prepared_transaction_is_rolled_back_by_its_name():
    found = judge_transaction({"pid": None, "gid": "tx-1", "state": "prepared", "application": "app", "seconds": 90.0})
    assert (found.level, "ROLLBACK PREPARED 'tx-1'" in found.advice) == ("WARN", True)


@pytest.mark.parametrize(("number", "level"), [(150_000, "OK"), (149_999, "FAIL")])
def test_postgresql_must_be_15_or_newer(number, level):
    assert version({"version": "x", "version_number": number, "database": "shop"}).level == level


@pytest.mark.parametrize(("found", "level"), [("6.2.0", "OK"), ("6.0.16", "FAIL"), ("7.2.4", "OK"), ("10.0.1", "OK")])
def test_redis_must_be_6_2_or_newer(found, level):
    assert redis_version({"redis_version": found}).level == level


@pytest.mark.parametrize(
    ("changed", "level"),
    [
        ({}, "OK"),
        ({"may_create_roles": False}, "WARN"),
        ({"may_create_schemas": False}, "WARN"),
        ({"may_create_schemas": False, "has_schema": False}, "FAIL"),
    ],
)
def test_missing_rights_are_a_warning_until_they_stop_the_migration(changed, level):
    assert rights(ROLE | changed, get_settings()).level == level


@pytest.mark.parametrize("current", [None, "0001"])
def test_tables_of_an_earlier_version_fail(current):
    assert revision(current, "0007").level == "FAIL"


def test_a_silent_worker_is_a_warning_that_names_it():
    alive, silent = {"name": "w1", "silent_seconds": 1.0}, {"name": "w2", "silent_seconds": 99.0}
    finding = workers([alive, silent], [alive])
    assert (finding.level, "w2 (99 s)" in finding.message) == ("WARN", True)


def test_workers_of_which_none_leads_fail():
    assert dispatcher(None, workers_alive=True).level == "FAIL"


def test_the_platforms_own_tenant_is_no_customer(cgk):
    before = next(finding for finding in cgk("doctor", "--json").json if finding["check"] == "tenants")
    ensure_platform_tenant()
    assert before in cgk("doctor", "--json").json


def test_a_misspelt_name_in_an_env_file_is_a_warning(cgk, tmp_path, monkeypatch):
    (tmp_path / ".env.local").write_text("CGK_JOB_MODULE=shop\n")
    monkeypatch.chdir(tmp_path)
    found = [finding for finding in cgk("doctor", "--json").json if finding["check"] == "settings"]
    assert [finding["level"] for finding in found] == ["OK", "WARN"]
    assert "Did you mean CGK_JOB_MODULES?" in found[1]["message"]


def test_where_no_beat_leads_the_schedules_are_a_warning_unless_a_clock_outside_may_call():
    without = beat.schedules(3, [], None)
    with_calls = beat.schedules(3, [], None, by_http=True)
    assert (without.level, with_calls.level) == ("WARN", "OK")
    assert "/v1/tick" in with_calls.message


@pytest.mark.parametrize(
    ("leader", "by_http", "said"), [("b1", False, "beat's log"), (None, False, "celery -A"), (None, True, "/v1/tick")]
)
def test_schedules_that_are_late_fail_and_say_who_should_have_called(leader, by_http, said):
    late = LateSchedule("nightly", datetime(2026, 1, 1, tzinfo=UTC), 300.0)
    finding = beat.schedules(3, [late], leader, by_http=by_http)
    assert (finding.level, said in finding.advice) == ("FAIL", True)
