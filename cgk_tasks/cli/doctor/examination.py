"""All checks in their order; what depends on something broken is left out."""

from __future__ import annotations

from cgk_tasks.cli.doctor import beat, broker, database, hosted, secrets, work
from cgk_tasks.cli.doctor.findings import FAIL, Finding, fail, ok, warn
from cgk_tasks.config import HOSTED_PROVIDERS, Settings, get_settings, misspelt_in_files
from cgk_tasks.errors import CgkTasksError


def examine() -> list[Finding]:
    """Look at everything. Never raises for something that is broken: that is a finding."""
    try:
        settings = get_settings()
        if settings.provider in HOSTED_PROVIDERS:
            return [*_misspelt(), *hosted.check(settings.provider)]
        _ = settings.database, settings.broker
    except CgkTasksError as error:
        return [fail("settings", error.text, error.hint or ""), work.jobs()]
    findings = [_settings(settings), *_misspelt(), *database.check(settings)]
    database_works = not any(f.level == FAIL and f.check in {"database", "migrations"} for f in findings)
    findings += broker.check(settings)
    findings.append(work.jobs())
    if database_works:
        findings += work.check(settings)
        findings += beat.check()
        findings.append(secrets.check())
    return findings


def _settings(settings: Settings) -> Finding:
    if settings.provider == "local":
        return fail(
            "settings",
            "JOBS_PROVIDER is local: jobs run inside the application's process, and workers get nothing.",
            "Set JOBS_PROVIDER=celery, or leave it out.",
        )
    return ok("settings", f"default queue {settings.default_queue}, isolation {settings.tenant_isolation}")


def _misspelt() -> list[Finding]:
    return [warn("settings", problem, "Correct the name, or remove the line.") for problem in misspelt_in_files()]
