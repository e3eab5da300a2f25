"""The jobs of the catalog: the table, and what definitions take from it."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from cgk_tasks import JobClient, RetryConfig, create_job_client, define_cron_job, define_job
from cgk_tasks.catalog.jobs import JOBS
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.events import OnDemand, OrderCreated, TenantEvent, get_event, parse_event
from cgk_tasks.events.own_events import ON_DEMAND, own_event_name
from cgk_tasks.jobs import catalog_jobs
from cgk_tasks.jobs.catalog_jobs import CatalogJob, known_jobs, only_where
from cgk_tasks.jobs.registry import Job, find_job, remove_job
from cgk_tasks.schedules.lookup import all_schedules
from cgk_tasks.schedules.schedule import add_schedules, remove_schedule

SCHEDULED = [job for job in JOBS if job.schedule]
REPLACING = {task: entry for entry in all_schedules().values() for task in entry.replaces}


def by_id(job: CatalogJob) -> str:
    return job.id


@pytest.fixture
def defined() -> Iterator[Callable[..., Job]]:
    """Define a job for one test: `defined(define_job, "onboarding-check", timeout=30)`."""
    before = dict(all_schedules())
    ids: list[str] = []

    def define(decorator: Callable[..., Any], job_id: str, **options: Any) -> Job:
        def handler(ctx: object) -> str:
            return "done"

        decorator(job_id, **options)(handler)
        ids.append(job_id)
        job = find_job(job_id)
        assert job is not None
        return job

    yield define
    for job_id in ids:
        remove_job(job_id)
    for name in set(all_schedules()) - set(before):
        remove_schedule(name)
    add_schedules(*before.values())


@pytest.fixture
def in_charge(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Put another catalog in charge for one test, by its module of jobs."""

    def put(jobs: object) -> None:
        monkeypatch.setattr(catalog_jobs, "catalog_jobs", lambda: jobs)
        known_jobs.cache_clear()

    yield put
    monkeypatch.undo()
    known_jobs.cache_clear()


# The table


def test_158_jobs_and_their_67_scheduled_tasks_are_known_by_id() -> None:
    assert (len(JOBS), len(SCHEDULED), len(known_jobs())) == (158, 67, 225)


@pytest.mark.parametrize("job", JOBS, ids=by_id)
def test_the_event_of_a_job_exists_and_has_what_the_job_looks_for(job: CatalogJob) -> None:
    model = get_event(job.event)
    assert model.durable
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    assert all(value in get_args(fields[name].annotation) for name, value in job.where.items())


@pytest.mark.parametrize("job", [job for job in JOBS if job.event.startswith(ON_DEMAND)], ids=by_id)
def test_a_job_that_no_other_event_means_has_one_of_its_own(job: CatalogJob) -> None:
    assert job.event == own_event_name(ON_DEMAND, job.id)
    assert issubclass(get_event(job.event), OnDemand)


@pytest.mark.parametrize("job", SCHEDULED, ids=by_id)
def test_a_schedule_starts_each_job_that_a_scheduled_task_did(job: CatalogJob) -> None:
    assert job.schedule is not None
    entry = REPLACING[job.schedule]
    assert (entry.event, {**entry.payload, **job.where}) == (job.event, dict(entry.payload))


def test_every_scheduled_task_that_a_schedule_replaces_has_a_job() -> None:
    assert set(REPLACING) == {job.schedule for job in SCHEDULED}


def test_scheduled_jobs_with_the_same_event_do_not_do_each_others_work() -> None:
    runs = [(job.event, tuple(job.where.items())) for job in SCHEDULED if job.id != "platform-health-check-matrix"]
    assert len(runs) == len(set(runs))


# Definitions


def test_a_job_of_the_catalog_needs_its_id_alone(defined: Callable[..., Job]) -> None:
    job = defined(define_job, "analytics-send-ga4-purchase")
    assert (job.event, job.retry) == ("order.created", RetryConfig(3, initial_delay=2, max_delay=30))


def test_a_time_limit_comes_from_the_catalog(defined: Callable[..., Job]) -> None:
    assert defined(define_job, "ops-health-check-critical").timeout == 30


def test_what_is_given_overrides_the_catalog(defined: Callable[..., Job]) -> None:
    job = defined(define_job, "ops-health-check-full", event=OrderCreated, retry=RetryConfig(max_attempts=9), timeout=7)
    assert (job.event, job.retry.max_attempts, job.timeout) == ("order.created", 9, 7)


def test_an_event_alone_leaves_the_policy_of_the_catalog(defined: Callable[..., Job]) -> None:
    job = defined(define_job, "commerce-sync-order", event="order.created")
    assert (job.event, job.retry.max_attempts) == ("order.created", 5)


def test_an_id_that_the_catalog_does_not_know_needs_an_event() -> None:
    with pytest.raises(ConfigurationError, match='Did you mean "analytics-send-ga4-purchase"') as refused:
        define_job("analytics-send-ga4-purchas")
    assert "event=" in str(refused.value)


def test_a_job_and_its_scheduled_task_are_not_both_defined(defined: Callable[..., Job]) -> None:
    defined(define_cron_job, "onboarding-check-scheduled")
    with pytest.raises(ConfigurationError, match="'onboarding-check' and 'onboarding-check-scheduled' are the same"):
        define_job("onboarding-check")


def test_a_scheduled_task_with_an_event_of_its_own_stands_beside_its_job(defined: Callable[..., Job]) -> None:
    defined(define_job, "onboarding-check")
    job = defined(define_cron_job, "onboarding-check-scheduled", schedule="0 6 * * *", event="escalation.check")
    assert job.event == "escalation.check"


@pytest.mark.parametrize("job_id", ["digest-admin-daily", "digest-admin-daily-scheduled"])
def test_a_cron_job_of_the_catalog_ticks_as_the_catalog_says(defined: Callable[..., Job], job_id: str) -> None:
    before = dict(all_schedules())
    assert defined(define_cron_job, job_id).event == "digest.send"
    assert dict(all_schedules()) == before


def test_times_that_are_given_change_the_catalogs_entry(defined: Callable[..., Job]) -> None:
    defined(define_cron_job, "digest-admin-daily", schedule="0 7 * * *", spread=5)
    entry = all_schedules()["digest.adminDaily"]
    assert (entry.cron, entry.spread, entry.timezone, entry.payload) == (
        "0 7 * * *", 5, "America/New_York", {"digest": "adminDaily"},
    )  # fmt: skip


def test_a_cron_job_with_an_event_of_its_own_has_an_entry_of_its_own(defined: Callable[..., Job]) -> None:
    defined(define_cron_job, "digest-admin-daily", schedule="0 7 * * *", event="onboarding.check")
    assert all_schedules()["digest-admin-daily"].event == "onboarding.check"
    assert all_schedules()["digest.adminDaily"].cron == "0 8 * * 1-5"


def test_a_job_that_no_clock_starts_needs_times() -> None:
    with pytest.raises(ConfigurationError, match='Did you mean "onboarding-check"'):
        define_cron_job("onbording-check")


# Runs


@pytest.fixture
def client() -> Iterator[JobClient]:
    client = create_job_client("local")
    yield client
    client.close()


def test_a_job_that_is_called_by_its_id_runs_with_free_data(defined: Callable[..., Job], client: JobClient) -> None:
    defined(define_job, "commerce-sync-order")
    sent = {"tenantId": "acme", "data": {"orderId": "o-1"}}
    assert client.trigger_and_wait("job.commerceSyncOrder", sent).unwrap() == "done"


def test_each_job_of_a_shared_event_does_its_own_runs(defined: Callable[..., Job], client: JobClient) -> None:
    defined(define_job, "bri-gmail-sync")
    own = client.trigger_and_wait("bri.sync", {"tenantId": "acme", "source": "gmail"})
    other = client.trigger_and_wait("bri.sync", {"tenantId": "acme", "source": "slack"})
    assert (own.data, other.data) == ("done", {"skipped": "bri-gmail-sync is not for source 'slack'"})


# Jobs that share an event


def run_with(job_id: str, payload: TenantEvent) -> Any:
    context: Any = SimpleNamespace(payload=payload)
    return only_where(known_jobs()[job_id])(context, lambda: "done")


def test_a_job_runs_for_what_is_its_own() -> None:
    payload = parse_event("attribution.sync", {"tenantId": "acme", "platform": "google"})
    assert run_with("analytics-sync-google-ads-spend", payload) == "done"


def test_a_run_of_another_job_with_the_same_event_is_skipped_and_its_result_says_why() -> None:
    payload = parse_event("attribution.sync", {"tenantId": "acme", "platform": "meta"})
    assert run_with("analytics-sync-google-ads-spend", payload) == {
        "skipped": "analytics-sync-google-ads-spend is not for platform 'meta'"
    }


def test_the_definition_puts_that_around_the_job(defined: Callable[..., Job]) -> None:
    assert defined(define_job, "analytics-sync-meta-ads-spend").around is not None
    assert defined(define_job, "onboarding-check").around is None


# Other catalogs


def test_without_a_catalog_no_job_is_known(in_charge: Callable[..., None]) -> None:
    in_charge(None)
    assert dict(known_jobs()) == {}
    with pytest.raises(ConfigurationError, match="names no event"):
        define_job("onboarding-check")


def test_a_catalog_of_ones_own_brings_its_jobs(in_charge: Callable[..., None], defined: Callable[..., Job]) -> None:
    own = CatalogJob("count-stock", "shop", "inventory.sync", RetryConfig(max_attempts=7))
    in_charge(SimpleNamespace(JOBS=(own,)))
    assert defined(define_job, "count-stock").retry.max_attempts == 7
