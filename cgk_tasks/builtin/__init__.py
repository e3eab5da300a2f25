"""Built-in jobs, for the events whose work is infrastructure: email, messages, webhooks, the platform's housekeeping.

Each is switched on by its settings, and replaced by any job that the application defines for its event. A worker
registers them; an application with the local provider calls `register_builtin_jobs()` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Final

from cgk_tasks.config import Settings, get_settings
from cgk_tasks.extras import require_extra
from cgk_tasks.jobs.registry import Job, add_job

__all__ = ["register_builtin_jobs"]

_SWITCHES: Final[Mapping[str, tuple[str, Callable[[Settings], bool]]]] = {
    "email.send": ("email.jobs", lambda settings: settings.smtp_url is not None),
    "sms.send": ("messages", lambda settings: settings.sms_url is not None),
    "slack.notify": ("messages", lambda settings: settings.slack_url is not None),
    "push.notification": ("messages", lambda settings: settings.push_url is not None),
    "webhook.received": ("webhooks.jobs", lambda settings: settings.webhooks),
    "webhook.process": ("webhooks.jobs", lambda settings: settings.webhooks),
    "webhook.retry": ("webhooks.jobs", lambda settings: settings.webhooks),
    "webhook.healthCheck": ("webhooks.jobs", lambda settings: settings.webhooks),
    "webhook.cleanup": ("webhooks.jobs", lambda settings: settings.webhooks),
    "system.healthCheck": ("system.health", lambda settings: settings.system_jobs),
    "system.cleanup": ("system.cleanup", lambda settings: settings.system_jobs),
    "system.syncRecovery": ("system.sync_recovery", lambda settings: settings.system_jobs),
    "system.alert": ("system.alert", lambda settings: bool(settings.alert_urls)),
}

_EXTRA_OF: Final[Mapping[str, str]] = {
    "email.jobs": "notify",
    "messages": "notify",
    "system.alert": "notify",
    "webhooks.jobs": "webhooks",
}


def register_builtin_jobs() -> tuple[str, ...]:
    """Register the jobs that the settings switch on, and return their events. Safe to repeat."""
    settings = get_settings()
    switched_on = [(event, module) for event, (module, is_on) in _SWITCHES.items() if is_on(settings)]
    for event, module in switched_on:
        add_job(_jobs_of(module, event)[event])
    return tuple(event for event, _module in switched_on)


def _jobs_of(module: str, event: str) -> dict[str, Job]:
    # Imported only when switched on: a worker carries nothing that it does not use.
    extra = _EXTRA_OF.get(module)
    if extra is not None:
        require_extra(extra, f"The built-in job of {event}")
    jobs: tuple[Job, ...] = import_module(f"{__name__}.{module}").JOBS
    return {job.event: job for job in jobs}
