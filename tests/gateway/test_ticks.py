"""`/v1/tick`: a clock outside makes the schedules tick, as beat does, each once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from cgk_tasks import define_job, list_schedules
from cgk_tasks.jobs.registry import remove_job
from cgk_tasks.schedules import schedule as known_schedules
from cgk_tasks.schedules.schedule import Schedule, add_schedules
from cgk_tasks.schedules.tenant_schedules import create_schedule
from cgk_tasks.sql.postgres import autocommit, execute, fetch
from tests.support import signing
from tests.support.jobs import Behave

SECRET = "0123456789abcdef0123456789abcdef"
ORIGIN = "https://jobs.example.com"
NAME = "test.everyMinute"


@pytest.fixture(scope="module", autouse=True)
def switched_on(django_tables):
    from cgk_tasks.config import use_settings

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRON_SECRET", SECRET)
        patch.setenv("QSTASH_CURRENT_SIGNING_KEY", "sig_current")
        patch.setenv("QSTASH_NEXT_SIGNING_KEY", "sig_next")
        patch.setenv("CGK_GATEWAY_URL", ORIGIN)
        use_settings(None)
        yield
    use_settings(None)


@pytest.fixture
def schedule(switched_on):
    """One that ticks every minute, and was done until three minutes ago."""
    add_schedules(Schedule(NAME, "* * * * *", "UTC", Behave.event_name, {"action": "echo"}, overlap="allow"))
    define_job("test-ticked", event=Behave)(lambda ctx: None)
    yield NAME
    known_schedules.remove_schedule(NAME)
    remove_job("test-ticked")
    from django_celery_beat.models import PeriodicTask

    PeriodicTask.objects.filter(name=NAME).delete()
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.schedules, cgk.schedule_ticks, cgk.runs, cgk.idempotency_keys")


def call(nobody, secret=SECRET, method="GET", **headers):
    return nobody.request(method, "/v1/tick", headers={"Authorization": f"Bearer {secret}"} | headers)


def signed(nobody, key="sig_current", url=f"{ORIGIN}/v1/tick", **claims):
    return nobody.post("/v1/tick", headers=signing.qstash(b"", key, url=url, **claims))


def behind(seconds):
    """As if nobody had called for so long."""
    with autocommit() as connection:
        execute(
            connection,
            "UPDATE cgk.schedules SET done_until = now() - make_interval(secs => %(seconds)s) WHERE name = %(name)s",
            {"seconds": seconds, "name": NAME},
        )


def runs():
    with autocommit() as connection:
        return fetch(connection, "SELECT tenant_id, scheduled_for FROM cgk.runs WHERE schedule = %(n)s", {"n": NAME})


def of_ours(answer):
    assert answer.status_code == 200, answer.text
    return [one for one in answer.json()["ticks"] if one["schedule"] == NAME]


def test_the_first_call_makes_nothing_up(nobody, schedule):
    assert (of_ours(call(nobody)), runs()) == ([], [])


def test_a_call_makes_the_tick_that_is_due_for_every_tenant(nobody, schedule):
    call(nobody)
    behind(60)
    (tick,) = of_ours(call(nobody))
    made = runs()
    assert (tick["runs"], len(made), len({run["tenant_id"] for run in made})) == (3, 3, 3)
    assert {run["scheduled_for"] for run in made} == {datetime.fromisoformat(tick["scheduledFor"])}


def test_a_call_that_comes_again_in_the_minute_makes_nothing(nobody, schedule):
    call(nobody)
    behind(60)
    first, again = call(nobody), call(nobody)
    behind(60)  # as a second gateway that knows nothing of the first
    beside = call(nobody)
    assert len(of_ours(first)) == 1
    minutes = {run["scheduled_for"] for run in runs()}
    assert len(runs()) == 3 * len(minutes)
    assert len(of_ours(again)) + len(of_ours(beside)) == len(minutes) - 1  # but for a minute that has passed meanwhile


def test_calls_at_the_same_time_make_each_tick_once(nobody, schedule):
    call(nobody)
    behind(60)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: call(nobody), range(6)))
    made = runs()
    minutes = {run["scheduled_for"] for run in made}
    assert sum(len(of_ours(answer)) for answer in answers) == len(minutes)
    assert len(made) == 3 * len(minutes)


def test_after_a_pause_of_the_caller_the_misfire_policy_decides(nobody, schedule):
    call(nobody)
    behind(600)
    call(nobody)
    minutes = {run["scheduled_for"] for run in runs()}
    assert 1 <= len(minutes) <= 2  # the last one, and one that came meanwhile
    assert datetime.now(UTC) - min(minutes) < timedelta(minutes=2)


def test_schedules_that_tenants_made_tick_too(nobody, schedule):
    made = create_schedule("acme", "test.behave", "* * * * *", payload={"action": "echo"})
    with autocommit() as connection:
        execute(
            connection,
            "UPDATE cgk.tenant_schedules SET next_at = now() - interval '1 s', done_until = now() - interval '1 min'"
            " WHERE id = %(id)s::uuid",
            {"id": made.id},
        )
    assert call(nobody).status_code == 200
    (found,) = [one for one in list_schedules("acme") if one.id == made.id]
    assert found.next_at > datetime.now(UTC) - timedelta(seconds=1)
    with autocommit() as connection:
        rows = fetch(connection, "SELECT 1 FROM cgk.runs WHERE schedule = %(n)s", {"n": f"tenant:{made.id}"})
    assert len(rows) == 1


def test_a_paused_schedule_does_not_tick(nobody, schedule):
    from cgk_tasks.schedules.periodic_tasks import set_enabled

    call(nobody)
    behind(60)
    set_enabled(NAME, enabled=False)
    assert (of_ours(call(nobody)), runs()) == ([], [])


def test_qstash_may_call_with_either_key(nobody, schedule):
    assert [signed(nobody, key).status_code for key in ("sig_current", "sig_next")] == [200, 200]


@pytest.mark.parametrize(
    "options",
    [
        {"key": "sig_other"},
        {"url": f"{ORIGIN}/v1/webhooks/events"},
        {"url": "https://other.example.com/v1/tick"},
        {"at": 1_600_000_000},
        {"body": "AAAA"},
    ],
    ids=str,
)
def test_a_call_that_qstash_did_not_sign_for_this_is_refused(nobody, options):
    assert signed(nobody, **options).status_code == 401


@pytest.mark.parametrize("secret", ["x", "other", SECRET[:-1], f"{SECRET}0"])
def test_a_call_with_another_secret_is_refused(nobody, secret):
    answer = call(nobody, secret)
    assert (answer.status_code, answer.json()["code"]) == (401, "BAD_SIGNATURE")


def test_a_key_of_a_tenant_is_no_secret_for_it(api):
    assert api.get("/v1/tick").status_code == 401


def test_each_of_several_secrets_counts(nobody, setting):
    setting(CRON_SECRET=f"{'a' * 32},{SECRET}")
    assert [call(nobody, secret).status_code for secret in ("a" * 32, SECRET)] == [200, 200]


def test_without_a_secret_there_is_nothing_at_the_path(nobody, setting):
    setting(CRON_SECRET=None, QSTASH_CURRENT_SIGNING_KEY=None, QSTASH_NEXT_SIGNING_KEY=None)
    assert call(nobody).status_code == 404


def test_a_secret_that_is_too_short_lets_nobody_in(nobody, setting):
    setting(CRON_SECRET="short")
    answer = call(nobody, "short")
    assert (answer.status_code, "short" in answer.text) == (500, False)


def test_looking_whether_it_is_there_ticks_nothing(nobody, schedule):
    call(nobody)
    behind(60)
    assert (call(nobody, method="HEAD").status_code, runs()) == (405, [])


def test_a_database_that_is_away_is_said_so_that_the_caller_comes_again(nobody, schedule, monkeypatch):
    from cgk_tasks.schedules import engine

    def refuses(*_arguments, **_options):
        from django.db import OperationalError

        raise OperationalError("the server closed the connection")

    monkeypatch.setattr(engine, "reconcile", refuses)
    answer = call(nobody)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
