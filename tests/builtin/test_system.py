"""`system.healthCheck`, `system.alert`, `system.cleanup`, `system.syncRecovery`."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cgk_tasks import (
    PermanentError,
    RetryConfig,
    TransientError,
    define_job,
    send_job,
    tenant_cache,
    tenant_storage_path,
)
from cgk_tasks.broker.publisher import close_publishers
from cgk_tasks.builtin.system import alert, cleanup, health, sync_recovery
from cgk_tasks.flow.queues import pause_queue, resume_queue
from cgk_tasks.jobs import registry
from cgk_tasks.jobs.registry import add_job, remove_job
from cgk_tasks.runs.models import new_run_id
from cgk_tasks.schedules.lookup import SCHEDULES
from cgk_tasks.schedules.schedule import EVERY_TENANT
from cgk_tasks.sql.postgres import autocommit, execute, fetch
from cgk_tasks.tenancy import tenant_context
from cgk_tasks.testing import LocalJobs, run_job
from tests.support.receiver import in_turn, status

pytestmark = pytest.mark.usefixtures("database")

(ALERT,), (CLEANUP,), (HEALTH,), (RECOVERY,) = alert.JOBS, cleanup.JOBS, health.JOBS, sync_recovery.JOBS


def open_runs(tenant_id, event):
    with autocommit() as connection:
        rows = fetch(
            connection,
            "SELECT id::text, sealed_payload, replay_of::text FROM cgk.runs WHERE tenant_id = %(t)s "
            "AND event = %(e)s ORDER BY created_at, id",
            {"t": tenant_id, "e": event},
        )
    return [{**row, "payload": json.loads(row["sealed_payload"])} for row in rows]


def close_run(tenant_id, state, *, days_ago=0.0, event="order.created", **columns):
    """A run on record as if it had closed so many days ago."""
    run_id = new_run_id()
    payload = {"tenantId": tenant_id, "orderId": "o-1", "totalAmount": 5}
    values = {"parent_id": None, "replay_of": None, **columns}
    with autocommit() as connection:
        execute(
            connection,
            "INSERT INTO cgk.run_history (id, tenant_id, event, state, queue, priority, sealed_payload, run_at,"
            " created_at, closed_at, parent_id, replay_of)"
            " SELECT %(id)s::uuid, %(tenant)s, %(event)s, %(state)s, 'cgk', 5, convert_to(%(payload)s, 'UTF8'),"
            " at, at, at, %(parent_id)s::uuid, %(replay_of)s::uuid"
            " FROM (SELECT now() - make_interval(secs => %(days)s * 86400) AS at) AS moment",
            {
                "id": run_id, "tenant": tenant_id, "event": event, "state": state, "days": days_ago,
                "payload": json.dumps(payload), **values,
            },
        )  # fmt: skip
    return run_id


class TestHealthCheck:
    @pytest.fixture
    def check(self, tenant_id):
        return lambda kind: run_job(HEALTH, {"tenantId": tenant_id, "checkType": kind}, tenant=tenant_id)

    def test_the_critical_check_looks_at_the_servers(self, check):
        result = check("critical")
        assert (result["healthy"], set(result["checks"])) == (True, {"database", "broker"})

    def test_the_full_check_looks_at_workers_queues_and_schedules_too(self, check):
        assert set(check("full")["checks"]) == {"database", "broker", "workers", "dispatcher", "queues", "schedules"}

    def test_without_a_worker_the_full_check_is_unhealthy(self, check):
        result = check("full")
        assert (result["healthy"], result["checks"]["workers"]["problem"]) == (False, "no worker is alive")

    def test_a_broker_that_does_not_answer_is_named(self, check, setting):
        close_publishers()
        setting(CGK_BROKER_URL="redis://127.0.0.1:9/0")
        result = check("critical")
        close_publishers()
        assert (result["checks"]["database"]["healthy"], result["checks"]["broker"]["healthy"]) == (True, False)

    def test_a_check_that_stumbles_is_unwell_without_its_text_and_the_others_are_made(self, check, monkeypatch):
        monkeypatch.setitem(health.FULL, "broker", lambda: urlsplit("redis://user:plan/ted@127.0.0.1").port)
        result = check("full")
        assert (result["checks"]["database"]["healthy"], result["checks"]["broker"]["problem"]) == (True, "ValueError")
        assert "schedules" in result["checks"]

    def test_a_run_that_waits_too_long_is_named_unless_its_queue_is_paused(self, tenant_id, check):
        with autocommit() as connection:
            execute(
                connection,
                "INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at) VALUES"
                " (gen_random_uuid(), %(t)s, 'order.created', 'pending', 'unserved', 5, '{}', "
                "now() - interval '1 hour')",
                {"t": tenant_id},
            )
            problem = check("full")["checks"]["queues"]["problem"]
            pause_queue("unserved")
            while_paused = check("full")["checks"]["queues"]["problem"]
            resume_queue("unserved")
            execute(connection, "DELETE FROM cgk.runs WHERE tenant_id = %(t)s", {"t": tenant_id})
        assert "in the queue unserved" in problem
        assert while_paused is None

    def test_what_is_not_well_is_alerted_once(self, check, tenant_id):
        add_job(ALERT)
        check("full")
        check("full")
        remove_job(ALERT.id)
        (sent,) = open_runs(tenant_id, "system.alert")
        assert (sent["payload"]["severity"], "workers" in sent["payload"]["title"]) == ("critical", True)

    def test_without_a_job_for_alerts_none_is_sent(self, check, tenant_id, monkeypatch):
        monkeypatch.setitem(registry._by_event, "system.alert", ())  # other tests may have defined one
        check("full")
        assert open_runs(tenant_id, "system.alert") == []


class TestAlert:
    @pytest.fixture
    def channels(self, setting, receiver):
        """Set the channels: `channels(critical=["/a", "/b"])`."""

        def choose(**paths):
            urls = {
                severity: [f"json://127.0.0.1:{receiver.port}{path}" for path in own] for severity, own in paths.items()
            }
            setting(CGK_ALERT_URLS=json.dumps(urls))

        return choose

    def payload(self, severity):
        return {
            "tenantId": "acme", "severity": severity, "title": "Disk full", "message": "On db1",
            "metadata": {"planted": "secret-7"},
        }  # fmt: skip

    def test_an_alert_goes_to_every_channel_of_its_severity(self, channels, receiver):
        channels(critical=["/pager", "/chat"], default=["/mail"])
        run_job(ALERT, self.payload("critical"))
        assert {request.path for request in receiver.requests} == {"/pager", "/chat"}

    def test_a_severity_without_channels_of_its_own_goes_to_the_default(self, channels, receiver):
        channels(critical=["/pager"], default=["/mail"])
        run_job(ALERT, self.payload("warning"))
        assert [request.path for request in receiver.requests] == ["/mail"]

    def test_a_severity_may_be_silent(self, channels, receiver):
        channels(info=[], default=["/mail"])
        assert run_job(ALERT, self.payload("info")) == {"channels": 0}

    def test_it_says_what_where_and_how_bad_but_not_the_metadata(self, channels, receiver):
        channels(default=["/mail"])
        run_job(ALERT, self.payload("error"))
        (request,) = receiver.requests
        assert (request.json["title"], request.json["type"]) == ("[error] Disk full", "failure")
        assert request.json["message"].startswith("On db1\n\ntenant acme, run ")
        assert b"secret-7" not in request.body

    def test_one_broken_channel_does_not_keep_it_from_the_others(self, channels, receiver):
        channels(default=["/broken", "/well"])
        receiver.answers["/broken"] = status(404)
        with pytest.raises(TransientError, match="1 of 2 channels"):
            run_job(ALERT, self.payload("error"))
        assert len(receiver.at("/well")) == 1

    @pytest.mark.parametrize(
        "url", ["", "nonsense", "planted-7://x", "json://[planted-7", "json://planted-7:x@127.0.0.1:99999/"]
    )
    def test_a_channel_whose_url_is_wrong_does_not_keep_it_from_the_others(self, setting, receiver, url):
        setting(CGK_ALERT_URLS=json.dumps({"default": [url, f"json://127.0.0.1:{receiver.port}/well"]}))
        with pytest.raises(TransientError, match="1 of 2 channels") as error:
            run_job(ALERT, self.payload("error"))
        assert len(receiver.at("/well")) == 1
        assert "planted-7" not in str(error.value).replace("planted-7://", "")

    def test_a_channel_that_has_it_does_not_get_it_again(self, channels, receiver):
        channels(default=["/broken", "/well"])
        receiver.answers["/broken"] = in_turn(status(500), status(200))
        define_job("alert-here", event="system.alert", retry=RetryConfig(2, initial_delay=0.01))(alert.alert)
        with LocalJobs() as jobs:
            send_job("system.alert", self.payload("error"))
            (run,) = jobs.wait_idle()
        remove_job("alert-here")
        assert run.state == "completed", run.errors
        assert (len(receiver.at("/broken")), len(receiver.at("/well"))) == (2, 1)


class TestCleanup:
    @pytest.fixture
    def clean(self, tenant_id):
        def once(target, days=30):
            payload = {"tenantId": tenant_id, "target": target, "olderThanDays": days}
            return run_job(CLEANUP, payload, tenant=tenant_id)["deleted"]

        return once

    @staticmethod
    def left(tenant_id):
        with autocommit() as connection:
            rows = fetch(connection, "SELECT id::text FROM cgk.run_history WHERE tenant_id = %(t)s", {"t": tenant_id})
        return {row["id"] for row in rows}

    def test_runs_that_went_well_go_when_they_are_old(self, clean, tenant_id):
        for state in ("completed", "cancelled", "expired"):
            close_run(tenant_id, state, days_ago=31)
        young = close_run(tenant_id, "completed", days_ago=29)
        assert (clean("logs"), self.left(tenant_id)) == (3, {young})

    @pytest.mark.parametrize("state", ["failed", "unhandled"])
    def test_dead_letters_stay(self, clean, tenant_id, state):
        dead = close_run(tenant_id, state, days_ago=60)
        assert (clean("logs"), self.left(tenant_id)) == (0, {dead})

    @staticmethod
    def logged(tenant_id, *, days_ago):
        """An attempt that logged so many days ago."""
        run_id = new_run_id()
        with autocommit() as connection:
            execute(
                connection,
                "INSERT INTO cgk.run_logs (run_id, tenant_id, attempt, logged_at, size, line_count, sealed_lines)"
                " VALUES (%(run)s, %(t)s, 1, now() - make_interval(days => %(days)s), 2, 0, '[]')",
                {"run": run_id, "t": tenant_id, "days": days_ago},
            )
        return str(run_id)

    @staticmethod
    def logs_left(tenant_id):
        with autocommit() as connection:
            rows = fetch(connection, "SELECT run_id::text FROM cgk.run_logs WHERE tenant_id = %(t)s", {"t": tenant_id})
        return {row["run_id"] for row in rows}

    def test_what_runs_logged_goes_when_it_is_old(self, clean, tenant_id):
        self.logged(tenant_id, days_ago=31)
        young = self.logged(tenant_id, days_ago=29)
        assert (clean("logs"), self.logs_left(tenant_id)) == (1, {young})

    def test_what_another_tenants_runs_logged_stays(self, clean, database):
        other = self.logged("acme", days_ago=60)
        clean("logs")
        assert other in self.logs_left("acme")

    def test_for_the_platform_what_all_tenants_logged_is_cleaned(self, tenant_id):
        self.logged(tenant_id, days_ago=60)
        run_job(CLEANUP, {"tenantId": "platform", "target": "logs", "olderThanDays": 30}, tenant="platform")
        assert self.logs_left(tenant_id) == set()

    def test_another_tenants_runs_stay(self, clean, database):
        other = close_run("acme", "completed", days_ago=60)
        clean("logs")
        assert other in self.left("acme")

    def test_for_the_platform_all_tenants_are_cleaned(self, tenant_id):
        close_run(tenant_id, "completed", days_ago=60)
        run_job(CLEANUP, {"tenantId": "platform", "target": "logs", "olderThanDays": 30}, tenant="platform")
        assert self.left(tenant_id) == set()

    def test_less_than_a_day_is_refused(self, clean):
        with pytest.raises(PermanentError, match="at least 1 day"):
            clean("logs", days=0)

    def test_expired_idempotency_keys_go_and_others_stay(self, clean, tenant_id):
        for key in ("gone", "stays"):
            send_job("order.cancelled", {"tenantId": tenant_id, "orderId": key}, idempotency_key=key)
        with autocommit() as connection:
            execute(
                connection,
                "UPDATE cgk.idempotency_keys SET expires_at = now() WHERE tenant_id = %(t)s AND key = 'gone'",
                {"t": tenant_id},
            )
        assert clean("sessions") == 1

    def test_files_in_the_tenants_tmp_folder_go_when_they_are_old(self, clean, tenant_id, setting, tmp_path):
        setting(CGK_STORAGE_ROOT=str(tmp_path))
        with tenant_context(tenant_id):
            old, young, kept = (
                tenant_storage_path(*parts) for parts in (("tmp", "a", "old"), ("tmp", "young"), ("old",))
            )
        for path in (old, young, kept):
            path.write_text("x")
        for path in (old, kept):
            os.utime(path, (0, 0))
        assert (clean("temp"), old.exists(), young.exists(), kept.exists()) == (1, False, True, True)

    def test_a_file_that_cannot_be_deleted_keeps_no_others(self, clean, tenant_id, setting, tmp_path, monkeypatch):
        setting(CGK_STORAGE_ROOT=str(tmp_path))
        with tenant_context(tenant_id):
            paths = [tenant_storage_path("tmp", name) for name in ("a", "b", "c")]
        for path in paths:
            path.write_text("x")
            os.utime(path, (0, 0))
        real = Path.unlink

        def unlink(path, *args):
            if path.name == "b":
                raise PermissionError(1, "Operation not permitted", str(path))
            real(path, *args)

        monkeypatch.setattr(Path, "unlink", unlink)
        assert (clean("temp"), [path.exists() for path in paths]) == (2, [False, True, False])

    def test_a_link_is_not_followed(self, clean, tenant_id, setting, tmp_path):
        setting(CGK_STORAGE_ROOT=str(tmp_path / "storage"))
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "old").write_text("x")
        os.utime(outside / "old", (0, 0))
        with tenant_context(tenant_id):
            tenant_storage_path("tmp", "x").parent.joinpath("link").symlink_to(outside)
        assert (clean("temp"), (outside / "old").exists()) == (0, True)

    def test_cache_entries_that_are_used_or_expire_stay(self, clean, tenant_id):
        with tenant_context(tenant_id):
            tenant_cache().set("for-ever", "x")
            tenant_cache().set("for-a-while", "x", seconds=60)
            assert clean("cache") == 0
            assert (tenant_cache().get("for-ever"), tenant_cache().get("for-a-while")) == (b"x", b"x")

    def test_cache_entries_that_nobody_uses_go(self, clean, tenant_id, monkeypatch):
        monkeypatch.setattr(cleanup, "_DAY_SECONDS", 0.0)
        with tenant_context(tenant_id), tenant_context(tenant_id):
            tenant_cache().set("for-ever", "x")
            tenant_cache().set("for-a-while", "x", seconds=60)
            assert clean("cache") == 1
            assert tenant_cache().get("for-a-while") == b"x"


class TestSyncRecovery:
    @pytest.fixture
    def recover(self, tenant_id):
        def once(sync_type, **fields):
            return run_job(RECOVERY, {"tenantId": tenant_id, "syncType": sync_type, **fields}, tenant=tenant_id)

        return once

    def test_failed_and_unhandled_runs_of_an_event_are_repeated(self, recover, tenant_id):
        dead = [close_run(tenant_id, "failed", days_ago=0.2), close_run(tenant_id, "unhandled", days_ago=0.1)]
        close_run(tenant_id, "completed")
        assert recover("order.created")["runs"] == 2
        assert [run["replay_of"] for run in open_runs(tenant_id, "order.created")] == dead

    def test_a_run_that_cannot_be_repeated_keeps_no_others(self, recover, tenant_id, setting):
        large = {"tenantId": tenant_id, "orderId": "o" * 300, "totalAmount": 5}
        odd = close_run(tenant_id, "failed", days_ago=0.3, payload=json.dumps(large))
        well = close_run(tenant_id, "failed", days_ago=0.1)
        setting(CGK_MAX_PAYLOAD_BYTES="250")
        assert recover("order.created") == {
            "runs": 1, "more": False, "refused": 1, "refusals": [{"run": odd, "code": "PAYLOAD_TOO_LARGE"}],
        }  # fmt: skip
        assert [run["replay_of"] for run in open_runs(tenant_id, "order.created")] == [well]

    def test_only_those_since_the_last_success(self, recover, tenant_id):
        close_run(tenant_id, "failed", days_ago=3)
        since = datetime.now(UTC) - timedelta(days=2)
        assert recover("order.created", lastSuccessAt=since.isoformat())["runs"] == 0

    def test_a_run_is_repeated_once(self, recover, tenant_id):
        close_run(tenant_id, "failed")
        assert [recover("order.created")["runs"], recover("order.created")["runs"]] == [1, 0]

    def test_a_run_whose_repetition_has_closed_is_left_alone(self, recover, tenant_id):
        first = close_run(tenant_id, "failed", days_ago=0.2)
        close_run(tenant_id, "completed", replay_of=first)
        assert recover("order.created")["runs"] == 0

    def test_of_a_run_with_children_the_failed_child_is_repeated(self, recover, tenant_id):
        parent = close_run(tenant_id, "failed")
        child = close_run(tenant_id, "failed", parent_id=parent)
        recover("order.created")
        assert [run["replay_of"] for run in open_runs(tenant_id, "order.created")] == [child]

    def test_another_tenants_runs_are_left_alone(self, recover, database):
        other = close_run("acme", "failed")
        recover("order.created")
        assert other not in [run["replay_of"] for run in open_runs("acme", "order.created")]

    def test_of_a_schedule_the_tenant_gets_a_tick_now(self, recover, tenant_id):
        schedule = next(one for one in SCHEDULES.values() if one.scope == EVERY_TENANT)
        assert recover(schedule.name) == {"runs": 1, "repeated": False}
        assert len(open_runs(tenant_id, schedule.event)) == 1

    def test_a_schedule_of_the_platform_is_not_a_customers(self, recover):
        with pytest.raises(PermanentError, match="works for the tenant 'platform' only"):
            recover("ops.dailyCleanup")

    def test_an_unknown_type_fails_with_the_nearest_name(self, recover):
        with pytest.raises(PermanentError, match=r'Did you mean "order\.created"'):
            recover("order.create")
