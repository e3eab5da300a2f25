"""Built-in jobs are on when their settings are set, and give way to the application's own."""

import pytest

from cgk_tasks import define_job, send_job
from cgk_tasks.jobs.registry import jobs_for, remove_job
from cgk_tasks.testing import LocalJobs

WEBHOOKS = {"webhook.received", "webhook.process", "webhook.retry", "webhook.healthCheck", "webhook.cleanup"}


@pytest.fixture
def own_job():
    """The application's job of an event; forgotten after the test."""
    defined = []

    def define(event):
        @define_job(f"own-{event}", event=event)
        def run(ctx):
            return "own"

        defined.append(f"own-{event}")

    yield define
    for job_id in defined:
        remove_job(job_id)


def ids(event):
    return [job.id for job in jobs_for(event)]


def test_without_settings_there_is_no_built_in_job(builtin_jobs):
    assert builtin_jobs() == ()


def test_a_setting_switches_its_jobs_on(builtin_jobs):
    assert set(builtin_jobs(CGK_WEBHOOKS="true")) == WEBHOOKS


def test_a_built_in_job_names_itself(builtin_jobs):
    builtin_jobs(CGK_WEBHOOKS="true")
    assert ids("webhook.process") == ["builtin.webhook.process"]


def test_registering_again_changes_nothing(builtin_jobs):
    builtin_jobs(CGK_WEBHOOKS="true")
    builtin_jobs(CGK_WEBHOOKS="true")
    assert ids("webhook.process") == ["builtin.webhook.process"]


def test_an_applications_job_that_is_defined_later_replaces_the_built_in_one(builtin_jobs, own_job):
    builtin_jobs(CGK_WEBHOOKS="true")
    own_job("webhook.process")
    assert ids("webhook.process") == ["own-webhook.process"]


def test_an_applications_job_that_is_defined_earlier_replaces_the_built_in_one(builtin_jobs, own_job):
    own_job("webhook.process")
    builtin_jobs(CGK_WEBHOOKS="true")
    assert ids("webhook.process") == ["own-webhook.process"]


def test_a_replaced_job_leaves_its_neighbours_alone(builtin_jobs, own_job):
    builtin_jobs(CGK_WEBHOOKS="true")
    own_job("webhook.process")
    assert ids("webhook.retry") == ["builtin.webhook.retry"]


def test_only_the_applications_job_runs(builtin_jobs, own_job):
    builtin_jobs(CGK_WEBHOOKS="true")
    own_job("webhook.cleanup")
    with LocalJobs() as jobs:
        send_job("webhook.cleanup", {"tenantId": "acme"})
        (run,) = jobs.wait_idle()
    assert (run.state, run.result) == ("completed", "own")


def test_a_handler_of_the_local_provider_replaces_the_built_in_one_as_well(builtin_jobs):
    builtin_jobs(CGK_WEBHOOKS="true")
    with LocalJobs() as jobs:
        jobs.client.register_handler("webhook.cleanup", lambda ctx: "handled")
        send_job("webhook.cleanup", {"tenantId": "acme"})
        (run,) = jobs.wait_idle()
    assert (run.state, run.result) == ("completed", "handled")


@pytest.mark.parametrize(
    ("variables", "events"),
    [
        ({"CGK_SMTP_URL": "smtp://host"}, {"email.send"}),
        ({"CGK_SMTP_URL": "per-tenant"}, {"email.send"}),
        ({"CGK_SMS_URL": "json://host/{to}"}, {"sms.send"}),
        ({"CGK_SLACK_URL": "json://host"}, {"slack.notify"}),
        ({"CGK_PUSH_URL": "json://host/{user_id}"}, {"push.notification"}),
        ({"CGK_ALERT_URLS": '{"default": ["json://host"]}'}, {"system.alert"}),
        ({"CGK_SYSTEM_JOBS": "true"}, {"system.healthCheck", "system.cleanup", "system.syncRecovery"}),
    ],
    ids=lambda value: ",".join(sorted(value)),
)
def test_a_setting_switches_its_own_jobs_on_and_no_others(builtin_jobs, variables, events):
    assert set(builtin_jobs(**variables)) == events
